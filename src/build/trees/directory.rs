//! A directory of the host as a tree.

use crate::archive::tar::Xattr;
use crate::build::copy::{Stat, Tree};
use crate::model::{DeviceNumber, FileKind, Name, RelPath, Timestamp};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Nothing on the way may be a symlink, and the way never leads out: a symlink put there in the meantime is an error.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The largest list of names, or value, of extended attributes (`XATTR_LIST_MAX`, include/uapi/linux/limits.h).
const XATTR_MAX: usize = 64 << 10;
/// Room for the names that objects usually have.
const XATTR_LIST: usize = 512;

/// A directory of the host. All of it belongs to root, as everything that comes from a build context.
#[derive(Debug)]
pub struct DirectoryTree {
    root: Arc<OwnedFd>,
    /// The directory that was looked into last: trees are read directory by directory.
    last: Mutex<Option<(RelPath, Arc<OwnedFd>)>>,
    /// A directory that is not seen, by its device and inode.
    hidden: Option<(u64, u64)>,
}

impl DirectoryTree {
    /// Opens `path`, symlinks followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { root: Arc::new(root), last: Mutex::new(None), hidden: None })
    }

    /// The same without the directory `path`, wherever below it is: where a build puts what it reads here, it would find that again.
    pub fn without(mut self, path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::stat(path)?;
        self.hidden = Some((stat.st_dev, stat.st_ino));
        Ok(self)
    }

    fn stat_at(&self, directory: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(directory, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if self.hidden == Some((stat.st_dev, stat.st_ino)) => Ok(None),
            Ok(stat) => Ok(convert(&stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn directory(&self, path: &RelPath) -> io::Result<Arc<OwnedFd>> {
        if path.is_root() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some((known, fd)) = &*self.last.lock()
            && known == path
        {
            return Ok(Arc::clone(fd));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let bytes = path.to_bytes();
        let fd = rustix::fs::openat2(&self.root, OsStr::from_bytes(&bytes), flags, Mode::empty(), BENEATH)?;
        let fd = Arc::new(fd);
        *self.last.lock() = Some((path.clone(), Arc::clone(&fd)));
        Ok(fd)
    }

    /// The directory of `path` and its name there.
    fn place(&self, path: &RelPath) -> io::Result<(Arc<OwnedFd>, Name)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok((self.directory(&parent)?, name.clone()))
    }

    /// A path the kernel takes for an object it must not follow: through the descriptor of its directory.
    fn kernel_path(&self, path: &RelPath) -> io::Result<(Arc<OwnedFd>, Vec<u8>)> {
        let (directory, name) = match self.place(path) {
            Ok(place) => place,
            Err(error) if path.is_root() => {
                drop(error);
                return Ok((Arc::clone(&self.root), format!("/proc/self/fd/{}/.", self.root.as_raw_fd()).into_bytes()));
            }
            Err(error) => return Err(error),
        };
        let mut bytes = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        bytes.extend_from_slice(&name);
        Ok((directory, bytes))
    }
}

fn convert(stat: &rustix::fs::Stat) -> Option<Stat> {
    Some(Stat {
        kind: FileKind::from_mode(stat.st_mode)?,
        permissions: (stat.st_mode & 0o7777) as u16,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        size: stat.st_size as u64,
        device: DeviceNumber::from_rdev(stat.st_rdev),
        identity: (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino)),
    })
}

impl Tree for DirectoryTree {
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        if path.is_root() {
            return Ok(convert(&rustix::fs::fstat(&self.root)?));
        }
        match self.place(path) {
            Ok((directory, name)) => self.stat_at(&directory, &name),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Name, Stat)>> {
        let directory = self.directory(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut reader = Dir::new(rustix::fs::openat(&directory, ".", flags, Mode::empty())?)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.read() {
            let Ok(name) = Name::new(entry?.file_name().to_bytes()) else { continue };
            // What vanished in the meantime is as if it had never been there.
            if let Some(stat) = self.stat_at(&directory, &name)? {
                entries.push((name, stat));
            }
        }
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(entries)
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        let (directory, name) = self.place(path)?;
        Ok(rustix::fs::readlinkat(&directory, OsStr::from_bytes(&name), Vec::new())?.into_bytes())
    }

    fn xattrs(&self, path: &RelPath) -> io::Result<Vec<Xattr>> {
        let (_directory, kernel_path) = self.kernel_path(path)?;
        let kernel_path = OsStr::from_bytes(&kernel_path);
        let mut names = vec![0_u8; XATTR_LIST];
        let mut listed = rustix::fs::llistxattr(kernel_path, &mut names);
        if listed == Err(Errno::RANGE) {
            names.resize(XATTR_MAX, 0);
            listed = rustix::fs::llistxattr(kernel_path, &mut names);
        }
        match listed {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Ok(length) => names.truncate(length),
            Err(error) => return Err(error.into()),
        }
        let mut found = Vec::new();
        for name in names.split(|&byte| byte == 0).filter(|name| is_kept(name)) {
            let mut value = vec![0_u8; XATTR_MAX];
            let length = rustix::fs::lgetxattr(kernel_path, OsStr::from_bytes(name), &mut value)?;
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
        found.sort();
        Ok(found)
    }

    fn open<'a>(&'a self, path: &RelPath) -> io::Result<Box<dyn Read + 'a>> {
        let (directory, name) = self.place(path)?;
        // Should a pipe have taken the file's place, opening it must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&directory, OsStr::from_bytes(&name), flags, Mode::empty())?;
        if FileKind::from_mode(rustix::fs::fstat(&fd)?.st_mode) != Some(FileKind::File) {
            return Err(io::Error::other("no longer a regular file"));
        }
        Ok(Box::new(File::from(fd)))
    }
}

/// Attributes that mean something in another place as well: those of users, and capabilities of programs.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.")
            && !name.starts_with(b"user.overlay.")
            && !name.starts_with(b"user.fuseoverlayfs."))
}
