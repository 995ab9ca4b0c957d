//! Trees of files to copy from and to compare with.

use crate::archive::tar::Xattr;
use crate::model::{DeviceNumber, FileKind, Name, RelPath, Timestamp};
use std::fmt;
use std::io::{self, Read};

/// What is known of one object of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The type.
    pub kind: FileKind,
    /// Permission, setuid, setgid and sticky bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Bytes of a file.
    pub size: u64,
    /// The number of a device.
    pub device: DeviceNumber,
    /// What names of the same object have in common; none when it has one name only.
    pub identity: Option<(u64, u64)>,
}

/// A tree of files. Paths are real ones: no component of them but the last is a symlink, and none is followed.
pub trait Tree: fmt::Debug + Send + Sync {
    /// The object at `path`; none when there is none.
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>>;
    /// The entries of the directory `path`, ordered by name.
    fn list(&self, path: &RelPath) -> io::Result<Vec<(Name, Stat)>>;
    /// The target of the symlink `path`.
    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>>;
    /// The extended attributes of `path` that a copy keeps, ordered by name.
    fn xattrs(&self, path: &RelPath) -> io::Result<Vec<Xattr>>;
    /// The data of the file `path`.
    fn open<'a>(&'a self, path: &RelPath) -> io::Result<Box<dyn Read + 'a>>;
}

/// A tree with nothing but its root (`FROM scratch`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Empty;

impl Tree for Empty {
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        Ok(path.is_root().then_some(Stat {
            kind: FileKind::Directory,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            size: 0,
            device: DeviceNumber::default(),
            identity: None,
        }))
    }

    fn list(&self, _path: &RelPath) -> io::Result<Vec<(Name, Stat)>> {
        Ok(Vec::new())
    }

    fn read_link(&self, _path: &RelPath) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn xattrs(&self, _path: &RelPath) -> io::Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    fn open<'a>(&'a self, _path: &RelPath) -> io::Result<Box<dyn Read + 'a>> {
        Err(io::ErrorKind::NotFound.into())
    }
}
