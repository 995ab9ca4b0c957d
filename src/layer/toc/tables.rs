//! The tables of a mapped TOC. Every index and offset in them is checked when it is used, for the file may be damaged or
//! hostile: what does not fit is [`Damage`], never a panic and never a read outside the file.

use super::format::{
    self, EntryRecord, ExtentRecord, HEADER_SIZE, Header, InodeRecord, Sections, TimesRecord, XattrRecord,
};
use super::{DiffId, OpenError};
use crate::model::Name;
use crate::sys::Mapped;
use std::fs::File;
use std::ops::Range;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// What is wrong with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage(pub(super) &'static str);

pub(super) type Checked<T> = Result<T, Damage>;

/// TOCs up to this size are read ahead when they are opened: some 600,000 files. Larger ones are read where they are used.
const READ_AHEAD_MAX: usize = 64 << 20;

/// A mapped TOC.
#[derive(Debug)]
pub(super) struct Tables {
    map: Mapped,
    header: Header,
    sections: Ranges,
}

/// The sections as ranges of the map.
#[derive(Debug)]
struct Ranges {
    inodes: Range<usize>,
    entries: Range<usize>,
    extents: Range<usize>,
    times: Range<usize>,
    xattrs: Range<usize>,
    implied: Range<usize>,
    heap: Range<usize>,
}

impl Tables {
    /// Maps `file` and checks its header; nothing else is read.
    pub(super) fn open(file: &File) -> Result<Self, OpenError> {
        let map = Mapped::open(file).map_err(|source| OpenError::Io { file: "table of contents", source })?;
        let (header, _) = Header::read_from_prefix(&map).map_err(|_| OpenError::Magic)?;
        if header.magic != format::MAGIC {
            return Err(OpenError::Magic);
        }
        if header.version.get() != format::VERSION {
            return Err(OpenError::Version { found: header.version.get(), expected: format::VERSION });
        }
        if header.header_checksum.get() != format::header_checksum(&header) {
            return Err(OpenError::Damaged("the checksum of the header is wrong"));
        }
        let sections = Sections::new(&header).ok_or(OpenError::Damaged("the counts overflow"))?;
        if sections.heap.1 != header.file_size.get() || header.file_size.get() != map.len() as u64 {
            return Err(OpenError::Damaged("the size of the file is wrong"));
        }
        if header.inodes.get() == 0 {
            return Err(OpenError::Damaged("there is no root"));
        }
        // All ends are at most the length of the map, so they fit.
        let range = |(start, end): (u64, u64)| start as usize..end as usize;
        let sections = Ranges {
            inodes: range(sections.inodes),
            entries: range(sections.entries),
            extents: range(sections.extents),
            times: range(sections.times),
            xattrs: range(sections.xattrs),
            implied: range(sections.implied),
            heap: range(sections.heap),
        };
        if map.len() <= READ_AHEAD_MAX {
            map.read_ahead();
        }
        Ok(Self { map, header, sections })
    }

    pub(super) fn diff_id(&self) -> DiffId {
        self.header.diff_id
    }

    pub(super) fn tar_size(&self) -> u64 {
        self.header.tar_size.get()
    }

    pub(super) fn inode_count(&self) -> u32 {
        self.header.inodes.get()
    }

    /// Number of hard links into the layers below.
    pub(super) fn links_below(&self) -> u32 {
        self.header.links_below.get()
    }

    /// Whether the tables are those that the checksum was made of. Reads the whole file.
    pub(super) fn checksum_is_right(&self) -> bool {
        let body = self.map.get(HEADER_SIZE..).unwrap_or_default();
        crc32fast::hash(body) == self.header.body_checksum.get()
    }

    fn records<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, section: &Range<usize>) -> &[T] {
        // The sections are whole records, because their sizes are computed from counts.
        let bytes = self.map.get(section.clone()).unwrap_or_default();
        <[T]>::ref_from_bytes(bytes).unwrap_or_default()
    }

    /// The record of the inode `ino`; none where there is no such number.
    pub(super) fn inode(&self, ino: u64) -> Option<&InodeRecord> {
        let index = usize::try_from(ino.checked_sub(1)?).ok()?;
        self.records(&self.sections.inodes).get(index)
    }

    /// The entries of the directory `record`.
    pub(super) fn entries(&self, record: &InodeRecord) -> Checked<&[EntryRecord]> {
        run(self.records(&self.sections.entries), record.first.get(), record.count.get())
            .ok_or(Damage("entries outside their table"))
    }

    pub(super) fn entry(&self, index: u32) -> Checked<&EntryRecord> {
        self.records(&self.sections.entries).get(index as usize).ok_or(Damage("entry outside its table"))
    }

    /// The extents of the file `record`, which has [`format::EXTENTS`].
    pub(super) fn extents(&self, record: &InodeRecord) -> Checked<&[ExtentRecord]> {
        run(self.records(&self.sections.extents), record.first.get(), record.count.get())
            .ok_or(Damage("extents outside their table"))
    }

    /// The extended attributes of all objects, each set once.
    pub(super) fn all_xattrs(&self) -> std::slice::Iter<'_, XattrRecord> {
        self.records::<XattrRecord>(&self.sections.xattrs).iter()
    }

    pub(super) fn xattrs(&self, record: &InodeRecord) -> Checked<&[XattrRecord]> {
        let count = u32::from(record.xattr_count.get());
        run(self.records(&self.sections.xattrs), u64::from(record.xattr_first.get()), count)
            .ok_or(Damage("extended attributes outside their table"))
    }

    pub(super) fn times(&self, ino: u64) -> Checked<&TimesRecord> {
        let times: &[TimesRecord] = self.records(&self.sections.times);
        let at = times.binary_search_by_key(&ino, |times| u64::from(times.ino.get()));
        at.ok().and_then(|at| times.get(at)).ok_or(Damage("times without a record"))
    }

    /// Numbers of the implied directories, parents before children.
    pub(super) fn implied(&self) -> &[U32] {
        self.records(&self.sections.implied)
    }

    /// `length` bytes at `offset` of the heap.
    pub(super) fn text(&self, offset: u64, length: u64) -> Checked<&[u8]> {
        let heap = self.map.get(self.sections.heap.clone()).unwrap_or_default();
        let range = || {
            let start = usize::try_from(offset).ok()?;
            heap.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        };
        range().ok_or(Damage("text outside the heap"))
    }

    /// The name of `entry`.
    pub(super) fn name(&self, entry: &EntryRecord) -> Checked<&[u8]> {
        let name = self.text(u64::from(entry.name_offset.get()), u64::from(entry.name_length))?;
        match Name::check(name) {
            Ok(()) => Ok(name),
            Err(_) => Err(Damage("a name that no file can have")),
        }
    }

    /// The entry `name` among those of one directory.
    pub(super) fn find<'a>(&'a self, entries: &'a [EntryRecord], name: &[u8]) -> Checked<Option<&'a EntryRecord>> {
        let prefix = format::name_prefix(name);
        let (mut low, mut high) = (0, entries.len());
        while low < high {
            let middle = low.midpoint(high);
            let entry = entries.get(middle).ok_or(Damage("entry outside its table"))?;
            let order = match entry.prefix.cmp(&prefix) {
                std::cmp::Ordering::Equal => {
                    self.text(u64::from(entry.name_offset.get()), u64::from(entry.name_length))?.cmp(name)
                }
                order => order,
            };
            match order {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(entry)),
            }
        }
        Ok(None)
    }
}

fn run<T>(records: &[T], first: u64, count: u32) -> Option<&[T]> {
    if count == 0 {
        return Some(&[]);
    }
    let first = usize::try_from(first).ok()?;
    records.get(first..first.checked_add(count as usize)?)
}
