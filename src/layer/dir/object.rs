//! One object of a backing directory: a descriptor of the directory it lies in, and its name there.
//!
//! No operation here follows a symlink in the last component, and there is only one component: nothing outside the
//! tree is ever reached.

use crate::model::{DeviceNumber, FileKind, Meta, Timestamp};
use crate::sys::xattr_at;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

    /// The value of the extended attribute `name`; none when there is none, or the file system has none at all.
    pub fn xattr(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut usual = [0; USUAL_VALUE];
        match xattr_at::get(self.dir(), &self.name, name, &mut usual) {
            Ok(length) => return Ok(usual.get(..length).map(<[u8]>::to_vec)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
        loop {
            let length = match xattr_at::get(self.dir(), &self.name, name, &mut []) {
                Err(Errno::NODATA) => return Ok(None),
                length => length?,
            };
            let mut value = vec![0; length.max(USUAL_VALUE)];
            match xattr_at::get(self.dir(), &self.name, name, &mut value) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(Errno::NODATA) => return Ok(None),
                // Another one was set meanwhile.
                Err(Errno::RANGE) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sets the extended attribute `name`.
    pub fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
        xattr_at::set(self.dir(), &self.name, name, value, flags)
    }

    /// Removes the extended attribute `name`.
    pub fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        xattr_at::remove(self.dir(), &self.name, name)
    }

    /// The names of its extended attributes.
    pub fn xattr_names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut usual = [0; USUAL_VALUE];
        match xattr_at::list(self.dir(), &self.name, &mut usual) {
            Ok(length) => return Ok(split_names(usual.get(..length).unwrap_or_default())),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
        loop {
            let mut list = vec![0; xattr_at::list(self.dir(), &self.name, &mut [])?.max(USUAL_VALUE)];
            match xattr_at::list(self.dir(), &self.name, &mut list) {
                Ok(length) => return Ok(split_names(list.get(..length).unwrap_or_default())),
                // One more was set meanwhile.
                Err(Errno::RANGE) => {}
                Err(error) => return Err(error.into()),
            }
        }
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

/// The names of a list that has a NUL behind each.
fn split_names(list: &[u8]) -> Vec<Vec<u8>> {
    list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
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
