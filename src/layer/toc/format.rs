//! The bytes of a TOC. docs/toc-format.md describes them for those who read them without this code.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a TOC.
pub(super) const MAGIC: [u8; 8] = *b"layerTOC";

/// Version of the format; another one means that the TOC is rebuilt from its tar.
pub(super) const VERSION: u32 = 1;

/// Start of the file. The sections follow without gaps in the order of the counts.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(clippy::struct_field_names, reason = "the checksum of the header is not that of the body")]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    /// CRC-32 (ISO-HDLC) of the header with this field zero.
    pub(super) header_checksum: U32,
    /// CRC-32 of everything after the header.
    pub(super) body_checksum: U32,
    /// Hard links into the layers below.
    pub(super) links_below: U32,
    /// Bytes of the whole file.
    pub(super) file_size: U64,
    /// Bytes of the tar.
    pub(super) tar_size: U64,
    /// SHA-256 of the tar.
    pub(super) diff_id: [u8; 32],
    pub(super) inodes: U32,
    pub(super) entries: U32,
    pub(super) extents: U32,
    pub(super) times: U32,
    pub(super) xattrs: U32,
    pub(super) implied: U32,
    pub(super) heap: U64,
}

/// Bytes of the header.
pub(super) const HEADER_SIZE: usize = size_of::<Header>();

/// One object. Inode numbers count these records from 1; 1 is the root.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct InodeRecord {
    /// Type and permissions as in `st_mode`; no type: a hard link into the layers below.
    pub(super) mode: U32,
    pub(super) uid: U32,
    pub(super) gid: U32,
    /// Names of the object in this layer.
    pub(super) nlink: U32,
    /// File: bytes. Symlink, hard link below: bytes of the target. Directory: see [`directory_place`].
    pub(super) size: U64,
    pub(super) mtime_seconds: I64,
    pub(super) mtime_nanoseconds: U32,
    pub(super) flags: U16,
    pub(super) xattr_count: U16,
    /// Index of its first record in the section of extended attributes.
    pub(super) xattr_first: U32,
    /// Directory: entries. File with [`EXTENTS`]: extents.
    pub(super) count: U32,
    /// File: offset of its data in the tar, or with [`EXTENTS`] the index of its first extent. Directory: index of its first
    /// entry. Device: major number in the upper half, minor in the lower. Symlink, hard link below: offset of the target
    /// in the heap.
    pub(super) first: U64,
    /// Where the first header of the object lies in the tar.
    pub(super) header_offset: U64,
}

impl InodeRecord {
    /// Whether this is no object but a hard link into the layers below.
    pub(super) fn is_link_below(&self) -> bool {
        self.mode.get() & libc::S_IFMT == 0
    }
}

/// Inode flag: a directory without an entry of its own.
pub(super) const IMPLIED: u16 = 1;
/// Inode flag: a directory that hides what the layers below have in it (`.wh..wh..opq`).
pub(super) const OPAQUE: u16 = 2;
/// Inode flag: an implied directory with nothing but whiteouts in and below it.
pub(super) const ONLY_WHITEOUTS: u16 = 4;
/// Inode flag: a file whose data are not in one piece.
pub(super) const EXTENTS: u16 = 8;
/// Inode flag: times of access and change are in the section of times.
pub(super) const TIMES: u16 = 16;

/// One name of a directory. Those of a directory stand together, ordered by the bytes of the names.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct EntryRecord {
    /// Where the name lies in the heap.
    pub(super) name_offset: U32,
    /// Number of the inode; 0 for a whiteout.
    pub(super) ino: U32,
    /// The first four bytes of the name, zeros behind a shorter one: most comparisons end here.
    pub(super) prefix: [u8; 4],
    pub(super) name_length: u8,
    pub(super) flags: u8,
    /// Type bits of the mode, shifted right by 12.
    pub(super) kind: u8,
    pub(super) reserved: u8,
}

/// Entry flag: hides the name in the layers below.
pub(super) const ENTRY_WHITEOUT: u8 = 1;
/// Entry flag: what the layers below have under this name does not show through.
pub(super) const ENTRY_OPAQUE: u8 = 2;

/// One piece of a file's data.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ExtentRecord {
    pub(super) file_offset: U64,
    pub(super) archive_offset: U64,
    pub(super) length: U64,
}

/// Times that few archives tell. Ordered by inode number.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct TimesRecord {
    pub(super) ino: U32,
    pub(super) atime_nanoseconds: U32,
    pub(super) ctime_nanoseconds: U32,
    pub(super) reserved: U32,
    pub(super) atime_seconds: I64,
    pub(super) ctime_seconds: I64,
}

/// One extended attribute. Those of an object stand together, ordered by name; equal sets are stored once.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct XattrRecord {
    pub(super) name_offset: U32,
    pub(super) value_offset: U32,
    pub(super) value_length: U32,
    pub(super) name_length: U16,
    pub(super) reserved: U16,
}

/// Where a directory stands: number of the directory it is in in the lower half, index of its entry there in the upper.
/// For the root 1 and 0.
pub(super) fn directory_place(parent: u32, entry: u32) -> u64 {
    u64::from(entry) << 32 | u64::from(parent)
}

/// Parent and entry of [`directory_place`].
pub(super) fn split_place(place: u64) -> (u32, u32) {
    (place as u32, (place >> 32) as u32)
}

/// Bytes of the whole file whose header is `header`; none where that overflows.
pub(super) fn file_size(header: &Header) -> Option<u64> {
    Sections::new(header).map(|sections| sections.heap.1)
}

/// Start and end of every section in bytes from the start of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sections {
    pub(super) inodes: (u64, u64),
    pub(super) entries: (u64, u64),
    pub(super) extents: (u64, u64),
    pub(super) times: (u64, u64),
    pub(super) xattrs: (u64, u64),
    pub(super) implied: (u64, u64),
    pub(super) heap: (u64, u64),
}

impl Sections {
    pub(super) fn new(header: &Header) -> Option<Self> {
        let mut end = HEADER_SIZE as u64;
        let mut section = |count: u64, size: usize| {
            let start = end;
            end = count.checked_mul(size as u64).and_then(|bytes| start.checked_add(bytes))?;
            Some((start, end))
        };
        Some(Self {
            inodes: section(header.inodes.into(), size_of::<InodeRecord>())?,
            entries: section(header.entries.into(), size_of::<EntryRecord>())?,
            extents: section(header.extents.into(), size_of::<ExtentRecord>())?,
            times: section(header.times.into(), size_of::<TimesRecord>())?,
            xattrs: section(header.xattrs.into(), size_of::<XattrRecord>())?,
            implied: section(header.implied.into(), size_of::<U32>())?,
            heap: section(header.heap.into(), 1)?,
        })
    }
}

/// The checksum that a header must have.
pub(super) fn header_checksum(header: &Header) -> u32 {
    let unsigned = Header { header_checksum: U32::new(0), ..*header };
    crc32fast::hash(unsigned.as_bytes())
}

/// The first four bytes of a name.
pub(super) fn name_prefix(name: &[u8]) -> [u8; 4] {
    let mut prefix = [0; 4];
    prefix.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_documented_sizes() {
        assert_eq!(HEADER_SIZE, 104);
        assert_eq!(size_of::<InodeRecord>(), 64);
        assert_eq!(size_of::<EntryRecord>(), 16);
        assert_eq!(size_of::<ExtentRecord>(), 24);
        assert_eq!(size_of::<TimesRecord>(), 32);
        assert_eq!(size_of::<XattrRecord>(), 16);
    }
}
