//! The list of mounts: a record and a socket for each server, in a directory of the user's.

use super::MountError;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// One mount, as its server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The server.
    pub pid: u32,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// What is mounted: the image or the directories.
    pub source: String,
    /// The name of a named mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The directory of a named mount in its store: two stores may have mounts of one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<PathBuf>,
    /// Whether it can be written to.
    pub writable: bool,
    /// When it was mounted, in seconds since the epoch.
    pub since: u64,
}

impl MountRecord {
    /// Whether this is the mount of the container whose directory is `container`.
    pub fn is_of(&self, container: &Path) -> bool {
        self.container.as_deref() == Some(&absolute(container))
    }
}

/// The directory of the records of one user.
#[derive(Debug, Clone)]
pub struct Registry {
    directory: PathBuf,
}

/// How the numbers of users here are mapped to those of the user namespace outside (user_namespaces(7)).
const UID_MAP: &str = "/proc/self/uid_map";

/// The name of the directory of the user `uid` in `/tmp`, which all user namespaces share: with the number outside where that is
/// another, for root in the namespace of one user is not root in that of the next.
fn fallback_name(uid: u32, map: &str) -> String {
    let outside = map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next())
        else {
            return None;
        };
        let at = uid.checked_sub(inside).filter(|at| *at < count)?;
        outside.checked_add(at)
    });
    match outside.filter(|outside| *outside != uid) {
        Some(outside) => format!("layerfs-{uid}-{outside}"),
        None => format!("layerfs-{uid}"),
    }
}

impl Registry {
    /// The registry of the user who runs this process: `/run/layerfs` for root, `$XDG_RUNTIME_DIR/layerfs` otherwise, and
    /// a directory in `/tmp` where there is no such thing.
    pub fn open() -> Result<Self, MountError> {
        let uid = rustix::process::geteuid().as_raw();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = match runtime {
            _ if uid == 0 && is_writable(Path::new("/run")) => PathBuf::from("/run/layerfs"),
            Some(runtime) if uid != 0 => runtime.join("layerfs"),
            _ => std::env::temp_dir().join(fallback_name(uid, &std::fs::read_to_string(UID_MAP).unwrap_or_default())),
        };
        Self::at(directory, uid)
    }

    fn at(directory: PathBuf, uid: u32) -> Result<Self, MountError> {
        let failed = |source| MountError::Io { context: format!("cannot use {}", directory.display()), source };
        match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // In a directory that everyone may write to somebody else could have made it.
        let meta = std::fs::symlink_metadata(&directory).map_err(failed)?;
        if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o022 != 0 {
            return Err(failed(io::Error::other("it is not a directory that only its owner may write to")));
        }
        Ok(Self { directory })
    }

    pub(super) fn record_path(&self, pid: u32) -> PathBuf {
        self.directory.join(format!("{pid}.json"))
    }

    pub(super) fn socket_path(&self, pid: u32) -> PathBuf {
        self.directory.join(format!("{pid}.sock"))
    }

    pub(super) fn log_path(&self, pid: u32) -> PathBuf {
        self.directory.join(format!("{pid}.log"))
    }

    pub(super) fn write(&self, record: &MountRecord) -> Result<(), MountError> {
        let path = self.record_path(record.pid);
        let failed = |source| MountError::Io { context: format!("cannot write {}", path.display()), source };
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let partial = self.directory.join(format!("{}.json.part", record.pid));
        std::fs::write(&partial, text).map_err(failed)?;
        std::fs::rename(&partial, &path).map_err(failed)
    }

    /// Removes all traces of the server `pid`.
    pub(super) fn remove(&self, pid: u32) {
        for path in [self.record_path(pid), self.socket_path(pid), self.log_path(pid)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warn!("cannot remove {}: {error}", path.display());
                }
                _ => {}
            }
        }
    }

    /// The mounts whose server is alive, oldest first. What dead ones have left is removed.
    pub fn mounts(&self) -> Result<Vec<MountRecord>, MountError> {
        let failed = |source| MountError::Io { context: format!("cannot read {}", self.directory.display()), source };
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Some(record) = read_record(&path) else { continue };
            if UnixStream::connect(self.socket_path(record.pid)).is_ok() {
                records.push(record);
            } else {
                self.remove(record.pid);
            }
        }
        records.sort_by_key(|record| (record.since, record.pid));
        Ok(records)
    }

    /// The mount of the container whose directory is `container`.
    pub fn mount_of(&self, container: &Path) -> Result<Option<MountRecord>, MountError> {
        Ok(self.mounts()?.into_iter().rev().find(|mount| mount.is_of(container)))
    }

    /// The mount on the directory or with the name `target`; the latest where there are several.
    pub fn find(&self, target: &Path) -> Result<Option<MountRecord>, MountError> {
        let place = absolute(target);
        let mounts = self.mounts()?;
        let by_name = |record: &&MountRecord| record.name.as_deref().is_some_and(|name| Path::new(name) == target);
        let by_place = |record: &&MountRecord| record.mount_point == place;
        Ok(mounts.iter().rev().find(by_place).or_else(|| mounts.iter().rev().find(by_name)).cloned())
    }
}

fn is_writable(directory: &Path) -> bool {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok()
}

fn read_record(path: &Path) -> Option<MountRecord> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// How many symlinks may lead from one to the next, as in path_resolution(7).
const MAX_SYMLINKS: u32 = 40;

/// `path` without symlinks. Of its last component only that is asked, which no server has to answer: it may be a mount that hangs.
pub(super) fn absolute(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_SYMLINKS {
        path = without_symlinks_above(&path);
        match (path.parent(), std::fs::read_link(&path)) {
            (Some(parent), Ok(target)) => path = parent.join(target),
            _ => break,
        }
    }
    path
}

fn without_symlinks_above(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let trimmed: PathBuf = path.components().collect();
    match (trimmed.parent(), trimmed.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map_or(trimmed.clone(), |parent| parent.join(name)),
        _ => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_users_do_not_share_a_directory_because_both_are_root_in_a_namespace() {
        assert_eq!(fallback_name(0, "         0          0 4294967295\n"), "layerfs-0");
        assert_eq!(fallback_name(1000, "0 0 4294967295"), "layerfs-1000");
        assert_eq!(fallback_name(0, "0 1000 1\n1 100000 65536\n"), "layerfs-0-1000");
        assert_eq!(fallback_name(0, "0 1001 1\n1 165536 65536\n"), "layerfs-0-1001");
        assert_eq!(fallback_name(5, "0 1000 1\n1 100000 65536\n"), "layerfs-5-100004");
        for nonsense in ["", "x y z", "0 1000", "7 8 9"] {
            assert_eq!(fallback_name(0, nonsense), "layerfs-0", "{nonsense}");
        }
    }

    #[test]
    fn dead_mounts_are_forgotten_and_live_ones_found() {
        let directory = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let registry = Registry::at(directory.path().to_owned(), uid).unwrap();
        let record = |pid, name: Option<&str>| MountRecord {
            pid,
            mount_point: format!("/mnt/{pid}").into(),
            source: "image".to_owned(),
            name: name.map(str::to_owned),
            container: None,
            writable: false,
            since: 1,
        };
        let (live, dead) = (record(1, Some("one")), record(2, None));
        registry.write(&live).unwrap();
        registry.write(&dead).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(registry.socket_path(1)).unwrap();
        assert_eq!(registry.mounts().unwrap(), std::slice::from_ref(&live));
        assert!(!registry.record_path(2).exists());
        assert_eq!(registry.find(Path::new("one")).unwrap(), Some(live.clone()));
        assert_eq!(registry.find(Path::new("/mnt/1/")).unwrap(), Some(live));
        assert_eq!(registry.find(Path::new("/mnt/2")).unwrap(), None);
        registry.remove(1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert!(Registry::at(directory.path().to_owned(), uid).is_err());
    }

    #[test]
    fn a_symlink_to_a_mount_point_is_the_mount_point() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("mnt")).unwrap();
        std::os::unix::fs::symlink("mnt", base.join("link")).unwrap();
        std::os::unix::fs::symlink(base.join("link"), base.join("second")).unwrap();
        std::os::unix::fs::symlink("loop", base.join("loop")).unwrap();
        assert_eq!(absolute(&base.join("second")), base.join("mnt"));
        assert_eq!(absolute(&base.join("loop")), base.join("loop"));
    }
}
