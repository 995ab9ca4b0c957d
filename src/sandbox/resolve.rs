//! Paths inside a root: found and made without ever leaving it.
//!
//! The root belongs to whoever made the image: every component may be a symbolic link to anywhere. openat2(2) with `RESOLVE_IN_ROOT` makes the
//! kernel resolve as if the root were `/`; what is missing is made one component at a time, by descriptor of its parent, so that
//! nothing can be swapped between the look and the act.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A directory that paths are resolved in.
#[derive(Debug)]
pub(super) struct RootDir {
    fd: OwnedFd,
    /// The root's own path as the kernel tells it, to be cut off the paths of stubs.
    path: Vec<u8>,
}

/// Links into nothing followed for one path, as the kernel's limit for links.
const LONGEST_CHAIN: usize = 40;

/// What a mount needs to be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetKind {
    File,
    Directory,
}

/// An empty file or directory that was made to put a mount on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stub {
    /// The parent below the root, without symbolic links.
    parent: OsString,
    name: OsString,
    directory: bool,
    /// The parent's time of modification, seconds and nanoseconds, before the stub was made and after.
    before: (i64, i64),
    after: (i64, i64),
}

impl Stub {
    /// Where it is, below the root.
    pub(super) fn path(&self) -> OsString {
        std::path::Path::new(&self.parent).join(&self.name).into()
    }
}

impl RootDir {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let path = path_of(&fd)?;
        Ok(Self { fd, path })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The object at `path`, symbolic links followed inside the root.
    pub(super) fn open(&self, path: &OsStr) -> Result<OwnedFd> {
        open_in(self.fd(), path, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// The object at `path`, which must not lead through a symbolic link.
    pub(super) fn open_plain(&self, path: &OsStr) -> Result<OwnedFd> {
        open_in(self.fd(), path, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    }

    /// The object at `path`; where it or a directory on the way is missing, it is made and noted in `stubs`.
    ///
    /// A link into nothing is followed, and what it names is made inside the root.
    ///
    /// # Errors
    /// `ENOTDIR` and `EISDIR` when what is there is of the wrong kind; `ELOOP` when links lead to links without end.
    pub(super) fn ensure(&self, path: &OsStr, kind: TargetKind, stubs: &mut Vec<Stub>) -> Result<OwnedFd> {
        self.ensure_through(path, kind, stubs, LONGEST_CHAIN)
    }

    fn ensure_through(&self, path: &OsStr, kind: TargetKind, stubs: &mut Vec<Stub>, links: usize) -> Result<OwnedFd> {
        let components: Vec<&[u8]> =
            path.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        let mut so_far = OsString::from("/");
        let mut current = self.open(&so_far)?;
        for (at, name) in components.iter().enumerate() {
            let last = at + 1 == components.len();
            let parent = so_far.clone();
            if !so_far.as_bytes().ends_with(b"/") {
                so_far.push("/");
            }
            so_far.push(OsStr::from_bytes(name));
            current = match self.open(&so_far) {
                Err(Errno::NOENT) => {
                    let made = if last { kind } else { TargetKind::Directory };
                    match self.make(&current, OsStr::from_bytes(name), made, stubs) {
                        Err(Errno::EXIST) if links > 0 => {
                            let mut onward = through_link(&current, OsStr::from_bytes(name), &parent)?;
                            for rest in components.get(at + 1..).unwrap_or_default() {
                                onward.push("/");
                                onward.push(OsStr::from_bytes(rest));
                            }
                            return self.ensure_through(&onward, kind, stubs, links - 1);
                        }
                        Err(Errno::EXIST) => return Err(Errno::LOOP),
                        other => other?,
                    }
                }
                other => other?,
            };
        }
        match (kind, file_type(&current)?) {
            (TargetKind::Directory, FileType::Directory) => Ok(current),
            (TargetKind::Directory, _) => Err(Errno::NOTDIR),
            (TargetKind::File, FileType::Directory) => Err(Errno::ISDIR),
            (TargetKind::File, _) => Ok(current),
        }
    }

    fn make(&self, parent: &OwnedFd, name: &OsStr, kind: TargetKind, stubs: &mut Vec<Stub>) -> Result<OwnedFd> {
        let before = modified(parent)?;
        let made = match kind {
            TargetKind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
            TargetKind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
        };
        // EEXIST: the name is there and yet does not resolve, a link into nothing.
        made?;
        let after = modified(parent)?;
        if let Some(below) = path_of(parent)?.strip_prefix(self.path.as_slice()) {
            stubs.push(Stub {
                parent: OsString::from_vec(below.to_vec()),
                name: name.to_owned(),
                directory: kind == TargetKind::Directory,
                before,
                after,
            });
        }
        open_in(parent.as_fd(), name, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }
}

/// Takes away the stubs in `root` that are still as they were made, and gives their parents back the time they had.
///
/// Everything goes by descriptor: the caller may be where neither the root nor /proc has a path.
pub(super) fn remove_stubs(root: BorrowedFd<'_>, stubs: &[Stub]) {
    for stub in stubs.iter().rev() {
        if let Err(error) = remove_stub(root, stub) {
            log::debug!("mount point {}/{} is left behind: {error}", stub.parent.display(), stub.name.display());
        }
    }
}

fn remove_stub(root: BorrowedFd<'_>, stub: &Stub) -> Result<()> {
    let parent = if stub.parent.is_empty() { OsStr::new("/") } else { &stub.parent };
    let parent = open_in(root, parent, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)?;
    let found = rustix::fs::statat(&parent, &stub.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let untouched =
        if stub.directory { kind == FileType::Directory } else { kind == FileType::RegularFile && found.st_size == 0 };
    if !untouched {
        return Ok(());
    }
    let now = modified(&parent)?;
    rustix::fs::unlinkat(&parent, &stub.name, if stub.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })?;
    let (seconds, nanoseconds) = if now == stub.after { stub.before } else { now };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ },
    };
    rustix::fs::utimensat(&parent, "", &times, AtFlags::EMPTY_PATH)
}

/// Where the link `name` in the directory at `parent` leads, as a path inside the root.
fn through_link(dir: &OwnedFd, name: &OsStr, parent: &OsStr) -> Result<OsString> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|_| Errno::LOOP)?.into_bytes();
    if target.starts_with(b"/") {
        return Ok(OsString::from_vec(target));
    }
    let mut path = parent.to_owned();
    path.push("/");
    path.push(OsString::from_vec(target));
    Ok(path)
}

/// The path through which a call that takes no descriptor reaches `fd`.
pub(super) fn fd_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn open_in(dir: BorrowedFd<'_>, path: &OsStr, resolve: ResolveFlags) -> Result<OwnedFd> {
    // The kernel reports a race with a rename it could not rule out as EAGAIN.
    for _ in 0..128 {
        match rustix::fs::openat2(dir, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn path_of(fd: &OwnedFd) -> Result<Vec<u8>> {
    let mut path = rustix::fs::readlink(fd_path(fd), Vec::new())?.into_bytes();
    if path == b"/" {
        path.clear();
    }
    Ok(path)
}

fn file_type(fd: &OwnedFd) -> Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

fn modified(fd: &OwnedFd) -> Result<(i64, i64)> {
    let Stat { st_mtime, st_mtime_nsec, .. } = rustix::fs::fstat(fd)?;
    Ok((st_mtime, st_mtime_nsec as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("opened");
        (dir, RootDir::new(fd).expect("a root"))
    }

    #[test]
    fn a_missing_target_is_made_and_taken_away() {
        let (dir, root) = root();
        let before = fs::metadata(dir.path()).expect("root").modified().expect("time");
        let mut stubs = Vec::new();
        root.ensure(OsStr::new("/a/b/file"), TargetKind::File, &mut stubs).expect("made");
        assert_eq!(stubs.len(), 3);
        assert!(dir.path().join("a/b/file").is_file());
        remove_stubs(root.fd(), &stubs);
        assert!(!dir.path().join("a").exists());
        assert_eq!(fs::metadata(dir.path()).expect("root").modified().expect("time"), before);
    }

    #[test]
    fn what_was_filled_stays() {
        let (dir, root) = root();
        let mut stubs = Vec::new();
        root.ensure(OsStr::new("/a/file"), TargetKind::File, &mut stubs).expect("made");
        fs::write(dir.path().join("a/file"), "content").expect("written");
        remove_stubs(root.fd(), &stubs);
        assert_eq!(fs::read(dir.path().join("a/file")).expect("still there"), b"content");
    }

    #[test]
    fn links_lead_to_places_inside_only() {
        let (dir, root) = root();
        let outside = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(dir.path().join("inside")).expect("directory");
        symlink(outside.path(), dir.path().join("absolute")).expect("link");
        symlink("../../../../../../../../tmp", dir.path().join("inside/up")).expect("link");
        symlink("/inside", dir.path().join("good")).expect("link");
        let mut stubs = Vec::new();
        root.ensure(OsStr::new("/good/x"), TargetKind::File, &mut stubs).expect("through a good link");
        assert!(dir.path().join("inside/x").is_file());
        root.ensure(OsStr::new("/absolute/x"), TargetKind::File, &mut stubs).expect("made inside");
        assert!(dir.path().join(outside.path().strip_prefix("/").expect("absolute")).join("x").is_file());
        root.ensure(OsStr::new("/inside/up/y"), TargetKind::File, &mut stubs).expect("made inside");
        assert!(dir.path().join("tmp/y").is_file());
        symlink("loop", dir.path().join("loop")).expect("link");
        assert_eq!(root.ensure(OsStr::new("/loop"), TargetKind::File, &mut stubs).err(), Some(Errno::LOOP));
        root.ensure(OsStr::new("/../../x"), TargetKind::File, &mut stubs).expect("the root is its own parent");
        assert!(dir.path().join("x").is_file());
        assert_eq!(fs::read_dir(outside.path()).expect("listing").count(), 0);
    }

    #[test]
    fn kinds_are_checked() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("d")).expect("directory");
        fs::write(dir.path().join("f"), "").expect("file");
        let mut stubs = Vec::new();
        assert_eq!(root.ensure(OsStr::new("/d"), TargetKind::File, &mut stubs).err(), Some(Errno::ISDIR));
        assert_eq!(root.ensure(OsStr::new("/f"), TargetKind::Directory, &mut stubs).err(), Some(Errno::NOTDIR));
        assert_eq!(root.ensure(OsStr::new("/f/x"), TargetKind::File, &mut stubs).err(), Some(Errno::NOTDIR));
        assert!(stubs.is_empty());
    }
}
