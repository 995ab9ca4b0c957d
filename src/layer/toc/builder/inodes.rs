//! The objects of a layer while its archive is read.

use super::super::BuildError;
use crate::archive::tar::{Entry, EntryKind, Extent, Xattr};
use crate::model::{FileKind, Timestamp};
use std::collections::HashMap;

/// One object.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) permissions: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) header_offset: u64,
    /// Index of its set of extended attributes; 0 is the empty set.
    pub(super) xattrs: u32,
    /// Index of its times of access and change plus one.
    pub(super) times: u32,
    pub(super) data: Data,
}

impl Inode {
    /// Whether this is a directory that the archive does not mention.
    pub(super) fn is_implied(&self) -> bool {
        matches!(self.data, Data::Directory { implied: true })
    }
}

/// The type and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data {
    /// A directory; implied when the archive only names what is in it.
    Directory { implied: bool },
    /// A file in one piece, or empty.
    File { size: u64, offset: u64 },
    /// A file of several pieces, or with holes.
    Sparse { size: u64, first: u32, count: u32 },
    /// A symlink whose target stands in the strings.
    Symlink { offset: u32, length: u32 },
    /// A hard link whose target, in the strings, was not there when it was read.
    Link { offset: u32, length: u32 },
    /// A device, FIFO: no data but the number of a device.
    Special { kind: FileKind, device: u64 },
}

impl Data {
    /// The type; none for a link whose target is not known.
    pub(super) fn kind(self) -> Option<FileKind> {
        match self {
            Self::Directory { .. } => Some(FileKind::Directory),
            Self::File { .. } | Self::Sparse { .. } => Some(FileKind::File),
            Self::Symlink { .. } => Some(FileKind::Symlink),
            Self::Link { .. } => None,
            Self::Special { kind, .. } => Some(kind),
        }
    }
}

/// All objects, and the tables they point into.
#[derive(Debug)]
pub(super) struct Inodes {
    list: Vec<Inode>,
    strings: Vec<u8>,
    extents: Vec<Extent>,
    times: Vec<(Option<Timestamp>, Option<Timestamp>)>,
    xattr_sets: Vec<Vec<Xattr>>,
    xattr_index: HashMap<Vec<Xattr>, u32>,
}

/// Extended attributes in which overlay filesystems keep their own records. As part of an image they mean nothing, and
/// must not: only `.wh.` names hide anything.
const OVERLAY_XATTRS: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs."];

impl Inodes {
    pub(super) fn new() -> Self {
        Self {
            list: Vec::new(),
            strings: Vec::new(),
            extents: Vec::new(),
            times: Vec::new(),
            xattr_sets: vec![Vec::new()],
            xattr_index: HashMap::from([(Vec::new(), 0)]),
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&Inode> {
        self.list.get(index as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn string(&self, offset: u32, length: u32) -> &[u8] {
        self.strings.get(offset as usize..offset as usize + length as usize).unwrap_or_default()
    }

    pub(super) fn extents(&self, first: u32, count: u32) -> &[Extent] {
        self.extents.get(first as usize..first as usize + count as usize).unwrap_or_default()
    }

    pub(super) fn times(&self, inode: &Inode) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
        self.times.get(inode.times.checked_sub(1)? as usize).copied()
    }

    pub(super) fn xattr_sets(&self) -> &[Vec<Xattr>] {
        &self.xattr_sets
    }

    /// Adds a directory that the archive does not mention: 0755, root's, at the epoch.
    pub(super) fn push_implied(&mut self, header_offset: u64) -> Result<u32, BuildError> {
        self.push(Inode {
            permissions: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            header_offset,
            xattrs: 0,
            times: 0,
            data: Data::Directory { implied: true },
        })
    }

    /// Adds the object of `entry`.
    pub(super) fn push_entry(&mut self, entry: &Entry) -> Result<u32, BuildError> {
        let inode = self.inode(entry)?;
        self.push(inode)
    }

    /// Gives the object `index` the type and the metadata of `entry`.
    pub(super) fn overwrite(&mut self, index: u32, entry: &Entry) -> Result<(), BuildError> {
        let inode = self.inode(entry)?;
        if let Some(slot) = self.list.get_mut(index as usize) {
            *slot = inode;
        }
        Ok(())
    }

    /// Has the link `index` lead to `target`.
    pub(super) fn set_link_target(&mut self, index: u32, target: &[u8]) -> Result<(), BuildError> {
        let (offset, length) = self.push_string(target)?;
        if let Some(inode) = self.list.get_mut(index as usize) {
            inode.data = Data::Link { offset, length };
        }
        Ok(())
    }

    fn push(&mut self, inode: Inode) -> Result<u32, BuildError> {
        let index = u32::try_from(self.list.len()).ok().filter(|index| *index < u32::MAX - 1);
        self.list.push(inode);
        index.ok_or(BuildError::TooLarge("inodes"))
    }

    fn inode(&mut self, entry: &Entry) -> Result<Inode, BuildError> {
        Ok(Inode {
            permissions: entry.permissions & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            header_offset: entry.header_offset,
            xattrs: self.xattr_set(&entry.xattrs)?,
            times: self.push_times(entry)?,
            data: self.data(entry)?,
        })
    }

    fn data(&mut self, entry: &Entry) -> Result<Data, BuildError> {
        Ok(match &entry.kind {
            EntryKind::Directory => Data::Directory { implied: false },
            EntryKind::File { size, extents } => self.file(*size, extents)?,
            EntryKind::Symlink { target } => {
                let (offset, length) = self.push_string(target)?;
                Data::Symlink { offset, length }
            }
            EntryKind::HardLink { target } => {
                let (offset, length) = self.push_string(target.as_bytes())?;
                Data::Link { offset, length }
            }
            EntryKind::CharDevice { device } => Data::Special { kind: FileKind::CharDevice, device: packed(*device) },
            EntryKind::BlockDevice { device } => Data::Special { kind: FileKind::BlockDevice, device: packed(*device) },
            EntryKind::Fifo => Data::Special { kind: FileKind::Fifo, device: 0 },
        })
    }

    fn file(&mut self, size: u64, extents: &[Extent]) -> Result<Data, BuildError> {
        match extents {
            [] if size == 0 => return Ok(Data::File { size, offset: 0 }),
            [extent] if extent.file_offset == 0 && extent.length == size => {
                return Ok(Data::File { size, offset: extent.archive_offset });
            }
            _ => {}
        }
        let too_large = BuildError::TooLarge("extents");
        let Ok(first) = u32::try_from(self.extents.len()) else { return Err(too_large) };
        self.extents.extend_from_slice(extents);
        match u32::try_from(self.extents.len()) {
            Ok(end) => Ok(Data::Sparse { size, first, count: end - first }),
            Err(_) => Err(too_large),
        }
    }

    fn push_string(&mut self, text: &[u8]) -> Result<(u32, u32), BuildError> {
        let offset = u32::try_from(self.strings.len());
        self.strings.extend_from_slice(text);
        match (offset, u32::try_from(self.strings.len())) {
            (Ok(offset), Ok(end)) => Ok((offset, end - offset)),
            _ => Err(BuildError::TooLarge("link targets")),
        }
    }

    fn push_times(&mut self, entry: &Entry) -> Result<u32, BuildError> {
        if entry.atime.is_none_or(|time| time == entry.mtime) && entry.ctime.is_none_or(|time| time == entry.mtime) {
            return Ok(0);
        }
        self.times.push((entry.atime, entry.ctime));
        u32::try_from(self.times.len()).map_err(|_| BuildError::TooLarge("times"))
    }

    fn xattr_set(&mut self, xattrs: &[Xattr]) -> Result<u32, BuildError> {
        if xattrs.is_empty() {
            return Ok(0);
        }
        let is_overlay = |name: &[u8]| OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix));
        let mut kept: Vec<Xattr> = xattrs.iter().filter(|(name, _)| !is_overlay(name)).cloned().collect();
        kept.sort();
        if let Some(index) = self.xattr_index.get(&kept) {
            return Ok(*index);
        }
        let index = u32::try_from(self.xattr_sets.len()).map_err(|_| BuildError::TooLarge("extended attributes"))?;
        self.xattr_sets.push(kept.clone());
        self.xattr_index.insert(kept, index);
        Ok(index)
    }
}

fn packed(device: crate::model::DeviceNumber) -> u64 {
    u64::from(device.major) << 32 | u64::from(device.minor)
}
