//! What is known of a container while it runs, for those who want to join it: `running.json` beside its record.

use super::{RunError, failed};
use crate::sandbox::{Capabilities, Identity, Limits};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A container that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunningState {
    /// The first process inside, as the host numbers it.
    pub init: i32,
    /// When that was started, in ticks since boot: tells it from a later process of the same number.
    pub started: u64,
    pub identity: Identity,
    pub env: Vec<OsString>,
    pub cwd: OsString,
    /// The user as it was asked for; looked up again by whoever joins.
    pub user: String,
    pub capabilities: Capabilities,
    pub seccomp: bool,
    #[serde(default)]
    pub limits: Limits,
}

/// The file, taken away at the end.
#[derive(Debug)]
pub struct Recorded {
    path: PathBuf,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

fn file(container: &Path) -> PathBuf {
    container.join("running.json")
}

/// Writes down that the container in the directory `container` runs.
pub fn record(container: &Path, state: &RunningState) -> Result<Recorded, RunError> {
    let path = file(container);
    let what = format!("write {}", path.display());
    let bytes = serde_json::to_vec(state).map_err(|error| failed(what.clone())(io::Error::other(error)))?;
    let mut staged = tempfile::NamedTempFile::new_in(container).map_err(failed(what.clone()))?;
    staged.write_all(&bytes).map_err(failed(what.clone()))?;
    staged.persist(&path).map_err(|error| failed(what)(error.error))?;
    Ok(Recorded { path })
}

/// The state of the container in the directory `container`; `None` when it does not run.
pub fn read(container: &Path) -> Result<Option<RunningState>, RunError> {
    let path = file(container);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed(format!("read {}", path.display())))?,
    };
    let state: RunningState = serde_json::from_slice(&bytes)
        .map_err(|error| failed(format!("read {}", path.display()))(io::Error::other(error)))?;
    // Left behind by a crash, perhaps.
    Ok((started(state.init) == Some(state.started)).then_some(state))
}

/// When a process was started, in ticks since boot (proc_pid_stat(5), field 22).
pub fn started(process: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_believed_as_long_as_its_process_lives() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = std::process::id() as i32;
        let mut state = RunningState {
            init: own,
            started: started(own).expect("we run"),
            identity: Identity::Single,
            env: vec!["A=b".into()],
            cwd: "/".into(),
            user: String::new(),
            capabilities: Capabilities::docker(),
            seccomp: true,
            limits: Limits::default(),
        };
        let recorded = record(dir.path(), &state).expect("recorded");
        assert_eq!(read(dir.path()).expect("read").map(|state| state.init), Some(own));
        drop(recorded);
        assert!(read(dir.path()).expect("read").is_none());
        state.started += 1;
        let _recorded = record(dir.path(), &state).expect("recorded");
        assert!(read(dir.path()).expect("read").is_none(), "another process of that number");
    }
}
