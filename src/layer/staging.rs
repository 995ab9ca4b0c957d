//! The workdir: where objects are made before they appear, and where they go when they disappear.
//!
//! Owns `WORKDIR/layerfs/`, beside the kernel's own `work` and `index`: `stage/` holds what is unfinished or already
//! unlinked, and is emptied when a mount starts; `index/` holds a name for every file that has several names in lower
//! layers and was copied up; `whiteout` is the one of which all whiteouts are further names. Must not know what the
//! objects mean.

use super::dir::Object;
use super::dir::object::is_whiteout;
use crate::model::acl;
use crate::sys::{chmod_no_follow, read_names, remove_tree_at, xattr_at};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Why a workdir cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Another mount has it.
    #[error("{path} is in use by another mount")]
    InUse {
        /// The upper or the workdir.
        path: PathBuf,
    },
    /// Nothing can be renamed from one to the other.
    #[error("upperdir {upper} and workdir {work} are not on one file system")]
    DifferentFilesystems {
        /// The upper.
        upper: PathBuf,
        /// The workdir.
        work: PathBuf,
    },
    /// The system refused.
    #[error("workdir {path}: {context}: {source}")]
    Io {
        /// The workdir.
        path: PathBuf,
        /// What was tried.
        context: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// The parts of a workdir, locked for this mount.
#[derive(Debug)]
pub struct Staging {
    base: PathBuf,
    stage: Arc<OwnedFd>,
    index: Arc<OwnedFd>,
    whiteout: Object,
    next: AtomicU64,
    /// The locks of the upper and the workdir; they go when the last process that has them open ends.
    _locks: [OwnedFd; 2],
}

impl Staging {
    /// Takes the workdir at `work` for the upper at `upper`, locks both, and removes what an earlier mount left behind.
    pub fn open(upper: &Path, work: &Path) -> Result<Self, StagingError> {
        let failed = |context| move |source| StagingError::Io { path: work.to_owned(), context, source };
        let locks = [lock(upper, work)?, lock(work, work)?];
        let [upper_fd, work_fd] = &locks;
        check_one_filesystem(work_fd, upper_fd, upper, work)?;
        let base = open_directory(work_fd, "layerfs").map_err(failed("make its directories"))?;
        let index = open_directory(&base, "index").map_err(failed("make its directories"))?;
        let stage = open_directory(&base, "stage").map_err(failed("make its directories"))?;
        let stage = Arc::new(stage);
        for (name, _) in names(&stage).map_err(failed("remove what an earlier mount left"))? {
            remove_tree_at(stage.as_fd(), &name).map_err(failed("remove what an earlier mount left"))?;
        }
        let whiteout = Object::new(&Arc::new(base), b"whiteout");
        remove_unless_whiteout(&whiteout).map_err(failed("remove what an earlier mount left"))?;
        Ok(Self {
            base: work.join("layerfs"),
            stage,
            index: Arc::new(index),
            whiteout,
            next: AtomicU64::new(1),
            _locks: locks,
        })
    }

    /// The directory of unfinished and unlinked objects.
    pub fn stage(&self) -> &Arc<OwnedFd> {
        &self.stage
    }

    /// The directory of files with several names in lower layers.
    pub fn index(&self) -> &Arc<OwnedFd> {
        &self.index
    }

    /// The whiteout that lends its inode to others; it may not be there yet.
    pub fn whiteout(&self) -> &Object {
        &self.whiteout
    }

    /// The path of a file of our own in the workdir.
    pub fn file(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// A place in the stage where nothing is.
    pub fn fresh(&self) -> Object {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Object::new(&self.stage, format!("{number:x}").as_bytes())
    }
}

/// Whatever else got that name would become the whiteout of every name.
fn remove_unless_whiteout(object: &Object) -> io::Result<()> {
    match object.stat() {
        Ok(stat) if is_whiteout(&stat) => Ok(()),
        Ok(_) => remove_tree_at(object.dir(), &object.name),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock(path: &Path, work: &Path) -> Result<OwnedFd, StagingError> {
    let failed = |source: Errno| StagingError::Io {
        path: work.to_owned(),
        context: "lock upperdir and workdir",
        source: source.into(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(fd),
            Err(Errno::WOULDBLOCK) if Instant::now() < patience => std::thread::sleep(LOCK_PATIENCE / 100),
            Err(Errno::WOULDBLOCK) => return Err(StagingError::InUse { path: path.to_owned() }),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// How long a server that is ending may hold its locks: it is unmounted before its descriptors are closed.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// `rename(2)` compares the mounts before it looks at the names: with names that do not exist it tells whether it could.
fn check_one_filesystem(work: &OwnedFd, upper: &OwnedFd, at: &Path, from: &Path) -> Result<(), StagingError> {
    let name = ".layerfs-no-such-name";
    match rustix::fs::renameat_with(work, name, upper, name, RenameFlags::NOREPLACE) {
        Err(Errno::XDEV) => Err(StagingError::DifferentFilesystems { upper: at.to_owned(), work: from.to_owned() }),
        _ => Ok(()),
    }
}

/// Opens the directory `name` in `parent`, made when missing; a symlink there is an error. What is made in it gets nothing from it:
/// neither the ACL nor the group that the workdir may have for what is made below (`ovl_workdir_create` in fs/overlayfs/super.c).
fn open_directory(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    for acl in [acl::ACCESS, acl::DEFAULT] {
        match xattr_at::remove(parent.as_fd(), name.as_bytes(), acl.as_bytes()) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_mode & 0o7777 != Mode::RWXU.as_raw_mode() {
        chmod_no_follow(parent.as_fd(), name.as_bytes(), Mode::RWXU.as_raw_mode())?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// The raw names in a directory.
pub fn names(dir: &Arc<OwnedFd>) -> io::Result<Vec<(Box<[u8]>, FileType)>> {
    let fd = Object::new(dir, b".").open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    read_names(&fd, |entry| {
        names.push((entry.file_name().to_bytes().into(), entry.file_type()));
        Ok(())
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn leftovers_go_and_a_second_mount_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir_all(work.join("layerfs/stage/1/deep/deeper")).unwrap();
        fs::write(work.join("layerfs/stage/1/deep/file"), "x").unwrap();
        let staging = Staging::open(&upper, &work).unwrap();
        assert_eq!(names(staging.stage()).unwrap(), []);
        assert!(matches!(Staging::open(&upper, &work), Err(StagingError::InUse { .. })));
        drop(staging);
        Staging::open(&upper, &work).unwrap();
    }

    #[test]
    fn another_file_system_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let result = Staging::open(Path::new("/proc/self"), dir.path());
        assert!(matches!(result, Err(StagingError::DifferentFilesystems { .. })), "{result:?}");
    }
}
