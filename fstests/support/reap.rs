//! Finds and ends what belongs to a scene: mounts below its directory, processes that carry its mark.
//!
//! Nothing here looks at a mount itself (a stat of a hanging mount hangs): only `/proc` and `/sys` are read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The environment variable that every process of a scene carries; its value is the scene's directory.
pub(crate) const MARK: &str = "LAYERFS_TEST_SCENE";

/// One mount below a scene's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MountLine {
    /// The mount point.
    pub(crate) point: PathBuf,
    /// The type, as `/proc/self/mountinfo` has it.
    pub(crate) kind: String,
    /// The minor device number: for FUSE the number of the connection in `/sys/fs/fuse/connections`.
    pub(crate) minor: u32,
}

/// The mounts at or below `directory` in the mount namespace of the process `pid` (or `self`), topmost last.
pub(crate) fn mounts_of(pid: &str, directory: &Path) -> Vec<MountLine> {
    let text = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_mount)
        .filter(|mount| mount.point.starts_with(directory))
        .collect()
}

fn parse_mount(line: &[u8]) -> Option<MountLine> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.split(' ');
    let device = fields.nth(2)?;
    let point = fields.nth(1)?;
    let kind = line.split(" - ").nth(1)?.split(' ').next()?;
    let minor = device.split(':').nth(1)?.parse().ok()?;
    Some(MountLine { point: unescape(point).into(), kind: kind.to_owned(), minor })
}

/// Undoes the kernel's `\040` for blanks and the like.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The living processes of the scene in `directory`, this one and `except` left out, with their command lines.
pub(crate) fn processes(directory: &Path, except: Option<u32>) -> Vec<(u32, String)> {
    let mark = [MARK.as_bytes(), b"=", directory.as_os_str().as_bytes()].concat();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == own || Some(pid) == except {
            continue;
        }
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark);
        let named = command.windows(directory.as_os_str().len()).any(|part| part == directory.as_os_str().as_bytes());
        if (marked || named) && !is_dead(pid) {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

fn is_dead(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
}

/// Waits up to `patience` for the processes of a scene to end, and returns those that did not.
pub(crate) fn wait_for_end(directory: &Path, except: Option<u32>, patience: Duration) -> Vec<(u32, String)> {
    let end = Instant::now() + patience;
    loop {
        let left = processes(directory, except);
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Aborts the FUSE connections of a scene's mounts, kills its processes and unmounts. Blocks on nothing.
pub(crate) fn clear(directory: &Path, except: Option<u32>) {
    abort_all(&mounts_of("self", directory).into_iter().collect());
    let processes = processes(directory, except);
    abort_all(&processes.iter().flat_map(|(pid, _)| mounts_of(&pid.to_string(), directory)).collect());
    for (pid, _) in &processes {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid as i32) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    for _ in 0..64 {
        let left = mounts_of("self", directory);
        let Some(last) = left.last() else { break };
        detach(&last.point);
    }
}

/// Aborts the FUSE connections of a scene's mounts; tells for each how many requests had no answer.
pub(crate) fn abort_connections(directory: &Path) -> Vec<(u32, String)> {
    let mounts: BTreeSet<MountLine> = mounts_of("self", directory).into_iter().collect();
    let waiting = |mount: &MountLine| {
        let path = format!("/sys/fs/fuse/connections/{}/waiting", mount.minor);
        (mount.minor, fs::read_to_string(path).unwrap_or_default().trim().to_owned())
    };
    let told = mounts.iter().filter(|mount| mount.kind.starts_with("fuse")).map(waiting).collect();
    abort_all(&mounts);
    told
}

/// Aborts the FUSE connections among `mounts`. Comes before anything else is asked of a process that hangs on one: its
/// command line and its environment may hang with it.
fn abort_all(mounts: &BTreeSet<MountLine>) {
    for mount in mounts.iter().filter(|mount| mount.kind.starts_with("fuse")) {
        abort(mount.minor);
    }
}

/// Aborts a FUSE connection: everything that waits for its server fails at once.
fn abort(connection: u32) {
    let control = Path::new("/sys/fs/fuse/connections");
    if !control.join(connection.to_string()).exists() {
        // Works for root, where nothing is mounted there yet.
        let _ = rustix::mount::mount("none", control, "fusectl", rustix::mount::MountFlags::empty(), None);
    }
    // Gone already, or there is no fusectl: killing the server ends the connection as well.
    let _ = fs::write(control.join(connection.to_string()).join("abort"), "1");
}

/// Takes a mount out of the tree at once, whatever still uses it.
fn detach(point: &Path) {
    if rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).is_err() {
        // A plain user's way; what stays mounted is seen and reported by the caller.
        let _ = std::process::Command::new("fusermount3").arg("-uz").arg(point).status();
    }
}
