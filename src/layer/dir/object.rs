//! One object of a backing directory: a descriptor of the directory it lies in, and its name there.
//!
//! No operation here follows a symlink in the last component, and there is only one component: nothing outside the
//! tree is ever reached.

use crate::model::{DeviceNumber, FileKind, Meta, Timestamp};
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Where an object is.
#[derive(Debug, Clone)]
pub struct Object {
    /// The directory, opened with `O_PATH`.
    pub dir: Arc<OwnedFd>,
    /// The name in it; `.` for the root of a tree.
    pub name: Box<[u8]>,
}

/// Most attributes fit here, so that one call reads them.
const USUAL_VALUE: usize = 256;

impl Object {
    /// The object `name` in `dir`.
    pub fn new(dir: &Arc<OwnedFd>, name: &[u8]) -> Self {
        Self { dir: Arc::clone(dir), name: name.into() }
    }

    /// The directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its metadata as the file system has them.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.dir, &*self.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Opens it; a symlink is `ELOOP` unless `flags` has `O_PATH`.
    pub fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.dir, &*self.name, flags, Mode::empty())?)
    }

    /// The target of a symlink.
    pub fn read_link(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.dir, &*self.name, Vec::new())?.into_bytes())
    }

    /// A path to it that ends in its own name, for calls that take no descriptor of a directory.
    pub fn proc_path(&self) -> Vec<u8> {
        proc_path(&self.dir, &self.name)
    }

    /// The value of the extended attribute `name`; none when there is none, or the file system has none at all.
    pub fn xattr(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let path = self.proc_path();
        let mut value = vec![0; USUAL_VALUE];
        loop {
            match rustix::fs::lgetxattr(&path, name, &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                Err(Errno::RANGE) => value.resize(rustix::fs::lgetxattr_query(&path, name)?.max(USUAL_VALUE), 0),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The names of its extended attributes.
    pub fn xattr_names(&self) -> io::Result<Vec<Vec<u8>>> {
        let path = self.proc_path();
        let mut list = vec![0; USUAL_VALUE];
        let length = loop {
            match rustix::fs::llistxattr(&path, &mut list[..]) {
                Ok(length) => break length,
                Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(Errno::RANGE) => list.resize(rustix::fs::llistxattr_query(&path)?.max(USUAL_VALUE), 0),
                Err(error) => return Err(error.into()),
            }
        };
        list.truncate(length);
        Ok(list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Whether the directory has an entry `name`.
    pub fn has_entry(&self, name: &[u8]) -> io::Result<bool> {
        let path = [&*self.name, name].join(&b'/');
        match rustix::fs::statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The path of `name` in the directory `dir`, by way of `/proc`.
pub fn proc_path(dir: &impl AsRawFd, name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(32 + name.len());
    path.extend_from_slice(format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes());
    path.extend_from_slice(name);
    path
}

/// The path of the object that `fd` is open on, whatever its kind.
pub fn proc_path_of(fd: BorrowedFd<'_>) -> Vec<u8> {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes()
}

/// What `stat` says, as a value; an unknown type counts as a plain file, which no file system of Linux has.
pub fn meta_of(stat: &Stat) -> Meta {
    let kind = FileKind::from_mode(stat.st_mode).unwrap_or(FileKind::File);
    let device = match kind {
        FileKind::CharDevice | FileKind::BlockDevice => DeviceNumber::from_rdev(stat.st_rdev),
        _ => DeviceNumber::default(),
    };
    Meta {
        kind,
        permissions: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: stat.st_nlink.try_into().unwrap_or(u32::MAX),
        device,
        size: if kind.is_directory() { 0 } else { stat.st_size as u64 },
        blocks: stat.st_blocks as u64,
        atime: timestamp(stat.st_atime, stat.st_atime_nsec as i64),
        mtime: timestamp(stat.st_mtime, stat.st_mtime_nsec as i64),
        ctime: timestamp(stat.st_ctime, stat.st_ctime_nsec as i64),
    }
}

fn timestamp(seconds: i64, nanoseconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds as u32 }
}

/// Whether the object is overlay's whiteout: a character device 0/0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileKind::from_mode(stat.st_mode) == Some(FileKind::CharDevice) && stat.st_rdev == 0
}
