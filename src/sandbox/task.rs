//! Things done on the host with the rights of the container's root, and nothing run.

use super::protocol::{Failure, Report, Trying, send};
use super::spec::{Identity, Root, Spec, Task};
use super::{Sandbox, SandboxError};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

impl Task {
    /// Does it, in a user namespace of its own where the caller has subordinate numbers. `program` is the `layerfs` that knows the hidden
    /// verb, where this process runs another one.
    pub fn carry_out(self, program: Option<&Path>) -> Result<(), SandboxError> {
        if !matches!(Identity::detect(), Identity::Ranges { .. }) {
            return Ok(self.perform()?);
        }
        let mut sandbox = Sandbox::new(Spec::new(Root::Task(self), Vec::new()));
        if let Some(program) = program {
            sandbox = sandbox.program(program);
        }
        sandbox.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?.wait().map(drop)
    }

    fn perform(&self) -> Result<(), Failure> {
        match self {
            Self::Remove(path) => {
                let path = Path::new(path);
                crate::sys::remove_tree(path).trying(|| format!("remove {}", path.display()))
            }
            // Who has a single number has only files of that number.
            Self::Own { .. } if Identity::detect() == Identity::Single => Ok(()),
            Self::Own { path, uid, gid } => std::os::unix::fs::chown(Path::new(path), Some(*uid), Some(*gid))
                .trying(|| format!("give away {}", path.display())),
        }
    }
}

/// In the stage, as root of the user namespace.
pub(super) fn main(task: &Task, control: &OwnedFd) -> Result<i32, Failure> {
    task.perform()?;
    for report in [Report::Running, Report::Exited(0)] {
        send(control, &report, None).trying(|| "report the end".into())?;
    }
    Ok(0)
}
