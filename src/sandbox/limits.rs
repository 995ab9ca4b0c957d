//! Limits: resource limits of the command, and a control group for everything inside where one can be made.
//!
//! Owns the groups it makes, named after the process that made them. Version 1 hierarchies (pids, memory) and version 2 are understood.

use super::protocol::{Failure, Trying};
use super::spec::{Limits, Spec};
use rustix::process::{Pid, Resource, Rlimit, setrlimit, test_kill_process};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const HIERARCHY: &str = "/sys/fs/cgroup";

/// Control groups that exist as long as this does.
#[derive(Debug, Default)]
pub(super) struct ControlGroup {
    directories: Vec<PathBuf>,
    /// Controllers whose limit could not be set.
    failed: Vec<(&'static str, io::Error)>,
}

const MEMORY: &str = "memory";

fn name_for(pid: i32) -> String {
    format!("{PREFIX}{pid}")
}

const PREFIX: &str = "layerfs-";

/// A group younger than this may be one that a process is about to enter, in seconds.
const YOUNG: u64 = 60;

/// Where groups are made.
fn parents(hierarchy: &Path) -> [PathBuf; 3] {
    [hierarchy.to_owned(), hierarchy.join("pids"), hierarchy.join(MEMORY)]
}

/// The groups that were made for `pid`.
fn groups_of(hierarchy: &Path, pid: i32) -> Vec<PathBuf> {
    let all = parents(hierarchy).map(|parent| parent.join(name_for(pid)));
    all.into_iter().filter(|directory| directory.exists()).collect()
}

/// Removes groups that are left because everybody who was to do so was killed: the first process is gone, and all others with it.
fn sweep(hierarchy: &Path) {
    for entry in parents(hierarchy).iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        let is_gone = test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_gone && age().is_some_and(|age| age.as_secs() >= YOUNG) {
            // One that others use, as seen from another PID namespace, is busy and stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Puts the process `pid` into the groups of the container whose first process is `init`, where it has any.
pub(super) fn join_groups(init: i32, pid: i32) -> io::Result<()> {
    for directory in groups_of(Path::new(HIERARCHY), init) {
        match fs::write(directory.join("cgroup.procs"), pid.to_string()) {
            // It has ended already, and tells why itself.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            // Its container has ended, and the group with it: joining that will tell.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Warns as Docker does where it discards a limit.
pub(super) fn warn_of_memory(reason: &str) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| log::warn!("memory is not limited: no control group can be made for it: {reason}"));
}

impl ControlGroup {
    /// Puts the process `pid` and all it will start under `limits`, as far as this machine and the caller's rights allow.
    pub(super) fn enclose(pid: i32, limits: &Limits) -> Self {
        Self::enclose_below(Path::new(HIERARCHY), pid, limits)
    }

    /// The groups that were made for `pid`, to be removed by whoever is left when their maker is gone.
    pub(super) fn left_by(pid: i32) -> Self {
        Self { directories: groups_of(Path::new(HIERARCHY), pid), failed: Vec::new() }
    }

    fn enclose_below(hierarchy: &Path, pid: i32, limits: &Limits) -> Self {
        let mut group = Self::default();
        if limits.processes.is_none() && limits.memory.is_none() {
            return group;
        }
        sweep(hierarchy);
        let name = name_for(pid);
        let unified = hierarchy.join("cgroup.controllers").exists();
        let wanted = [
            ("pids", "pids.max", limits.processes),
            (MEMORY, if unified { "memory.max" } else { "memory.limit_in_bytes" }, limits.memory),
        ];
        for (controller, file, limit) in wanted {
            let Some(limit) = limit else { continue };
            let parent = if unified { hierarchy.to_owned() } else { hierarchy.join(controller) };
            if let Err(error) = group.limit(&parent.join(&name), file, limit, pid) {
                log::debug!("no control group for {controller}: {error}");
                group.failed.push((controller, error));
            }
        }
        group
    }

    /// Says, once in the life of this process, that memory was to be limited and is not: nothing else limits it.
    pub(super) fn warn(&self) {
        for (_, error) in self.failed.iter().filter(|(controller, _)| *controller == MEMORY) {
            warn_of_memory(&error.to_string());
        }
    }

    fn limit(&mut self, directory: &Path, file: &str, limit: u64, pid: i32) -> io::Result<()> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !self.directories.iter().any(|known| known == directory) {
            self.directories.push(directory.to_owned());
        }
        fs::write(directory.join(file), limit.to_string())?;
        fs::write(directory.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            // The last process may not be reaped yet in the kernel's books: try for a moment.
            for _ in 0..50 {
                match fs::remove_dir(directory) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// In the command's process: its resource limits. The number of processes is also limited here, for machines without control groups;
/// the kernel counts a user namespace's processes on their own, and exempts the host's root.
pub(super) fn apply(spec: &Spec) -> Result<(), Failure> {
    if let Some(processes) = spec.limits.processes
        && spec.identity.is_mapped()
    {
        // A lower limit of the caller stays.
        let current = rustix::process::getrlimit(Resource::Nproc);
        let maximum = current.maximum.map_or(processes, |maximum| maximum.min(processes));
        set(Resource::Nproc, maximum, maximum)?;
    }
    for &(number, soft, hard) in &spec.limits.resources {
        let resource = RESOURCES
            .get(number as usize)
            .ok_or_else(|| Failure::new(format!("set resource limit {number}"), rustix::io::Errno::INVAL))?;
        set(*resource, soft, hard)?;
    }
    Ok(())
}

fn set(resource: Resource, soft: u64, hard: u64) -> Result<(), Failure> {
    let limit = |value: u64| (value != u64::MAX).then_some(value);
    setrlimit(resource, Rlimit { current: limit(soft), maximum: limit(hard) })
        .trying(|| format!("set the limit {resource:?} to {soft}:{hard}"))
}

/// The names of [`RESOURCES`] in an OCI runtime's configuration, with those of `limits` that hold for the command itself.
pub(super) fn as_oci(spec: &Spec) -> Vec<serde_json::Value> {
    let mut all: Vec<serde_json::Value> = Vec::new();
    let resource = |number: u32| RESOURCES.get(number as usize).copied();
    // Runtimes refuse to be told of one limit twice.
    let asked = spec.limits.resources.iter().any(|&(number, ..)| resource(number) == Some(Resource::Nproc));
    if let Some(processes) = spec.limits.processes
        && spec.identity.is_mapped()
        && !asked
    {
        let maximum = rustix::process::getrlimit(Resource::Nproc).maximum;
        let maximum = maximum.map_or(processes, |maximum| maximum.min(processes));
        all.push(serde_json::json!({"type": "RLIMIT_NPROC", "soft": maximum, "hard": maximum}));
    }
    for &(number, soft, hard) in &spec.limits.resources {
        if let Some(resource) = resource(number) {
            let name = format!("RLIMIT_{}", format!("{resource:?}").to_uppercase());
            all.push(serde_json::json!({"type": name, "soft": soft, "hard": hard}));
        }
    }
    all
}

/// In the kernel's order (asm-generic/resource.h).
const RESOURCES: &[Resource] = &[
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

#[cfg(test)]
mod tests {
    use super::super::spec::{Identity, Root};
    use super::*;

    #[test]
    fn regression_an_oci_runtime_is_told_of_a_limit_once() {
        let mut spec = Spec::new(Root::Directory("/".into()), Vec::new());
        spec.identity = Identity::Single;
        spec.limits.processes = Some(7);
        let number = RESOURCES.iter().position(|resource| *resource == Resource::Nproc).expect("a resource") as u32;
        assert_eq!(as_oci(&spec).len(), 1);
        spec.limits.resources = vec![(number, 3, 4)];
        assert_eq!(as_oci(&spec), [serde_json::json!({"type": "RLIMIT_NPROC", "soft": 3, "hard": 4})]);
    }

    #[test]
    fn regression_groups_that_nobody_removed_are_removed_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * YOUNG);
        let make = |name: String, is_old: bool| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).expect("a group");
            if is_old {
                fs::File::open(&path).and_then(|file| file.set_modified(old)).expect("a time");
            }
            path
        };
        // No kernel gives such numbers.
        let gone = make(name_for(i32::MAX), true);
        let also_gone = make(format!("pids/{}", name_for(i32::MAX)), true);
        let young = make(name_for(i32::MAX - 1), false);
        let own = make(name_for(std::process::id().cast_signed()), true);
        let other = make("layerfs-x".to_owned(), true);
        drop(ControlGroup::enclose_below(dir.path(), 1, &Limits { processes: Some(5), ..Limits::default() }));
        assert_eq!([gone, also_gone, young, own, other].map(|path| path.exists()), [false, false, true, true, true]);
    }

    #[test]
    fn a_limit_that_cannot_be_set_is_known() {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = Limits { processes: Some(5), memory: Some(1 << 20), ..Limits::default() };
        for controller in ["pids", "memory"] {
            fs::create_dir(dir.path().join(controller)).expect("a hierarchy");
        }
        assert!(ControlGroup::enclose_below(dir.path(), 1, &limits).failed.is_empty());
        fs::remove_dir_all(dir.path().join("memory")).expect("removed");
        let group = ControlGroup::enclose_below(dir.path(), 2, &limits);
        assert_eq!(group.failed.iter().map(|(controller, _)| *controller).collect::<Vec<_>>(), ["memory"]);
    }
}
