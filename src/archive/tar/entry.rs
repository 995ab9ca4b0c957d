//! What a tar archive says of one object.

use super::EntryPath;
use crate::model::{DeviceNumber, Timestamp};

/// A piece of a file's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it stands in the file, in bytes.
    pub file_offset: u64,
    /// Where it lies in the uncompressed archive, in bytes from its start.
    pub archive_offset: u64,
    /// Bytes; never 0.
    pub length: u64,
}

/// The type of an entry and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Bytes as read from the file, holes included.
        size: u64,
        /// Its data, ordered by offset, not overlapping, ending at or before `size`; what lies between is zeros. One piece
        /// for an ordinary file, none for an empty one.
        extents: Vec<Extent>,
    },
    /// Another name of the object `target`, which stands earlier in the archive or in a layer below.
    HardLink {
        /// The other name.
        target: EntryPath,
    },
    /// A symbolic link.
    Symlink {
        /// Its content as it stands; not empty, no NUL.
        target: Vec<u8>,
    },
    /// A directory.
    Directory,
    /// A character device.
    CharDevice {
        /// Its number.
        device: DeviceNumber,
    },
    /// A block device.
    BlockDevice {
        /// Its number.
        device: DeviceNumber,
    },
    /// A named pipe.
    Fifo,
}

/// An extended attribute: full name with its namespace (`user.x`, `security.capability`) and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One entry of an archive: what its header and all extended headers before it say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, relative to the root.
    pub path: EntryPath,
    /// The type.
    pub kind: EntryKind,
    /// Permission, setuid, setgid and sticky bits: `mode & 0o7777`.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last access, where the archive tells it.
    pub atime: Option<Timestamp>,
    /// Last change of metadata, where the archive tells it.
    pub ctime: Option<Timestamp>,
    /// Extended attributes, ordered by name, each name once.
    pub xattrs: Vec<Xattr>,
    /// Where the first header of this entry (its first extended header, if it has any) lies in the archive.
    pub header_offset: u64,
}

impl Entry {
    /// An entry of root's with all times at the epoch: 0755 for a directory, 0777 for a symlink, 0644 otherwise.
    pub fn new(path: EntryPath, kind: EntryKind) -> Self {
        let permissions = match kind {
            EntryKind::Directory => 0o755,
            EntryKind::Symlink { .. } => 0o777,
            _ => 0o644,
        };
        Self {
            path,
            kind,
            permissions,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            atime: None,
            ctime: None,
            xattrs: Vec::new(),
            header_offset: 0,
        }
    }

    /// Bytes of the file; 0 for everything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size, .. } => size,
            _ => 0,
        }
    }
}
