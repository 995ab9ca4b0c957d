//! Archives in a local file, read in any order.

use super::{Entry, EntryKind, EntryPath, Limits, Reader, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Symlinks followed before giving up (`MAXSYMLINKS`, include/linux/namei.h).
const MAX_SYMLINKS: usize = 40;

/// An uncompressed archive in a seekable file: its entries by name, the data of each at hand in any order and from several
/// threads at once. For archives of few entries (docker-archive, oci-archive): all of them are kept in memory.
#[derive(Debug)]
pub struct Archive {
    file: Arc<File>,
    entries: HashMap<EntryPath, Entry>,
}

impl Archive {
    /// Reads the headers of the archive `file`, from its start, skipping data by seeking. Of entries with the same name
    /// the last one counts.
    pub fn open(file: File, limits: Limits) -> Result<Self> {
        let file = Arc::new(file);
        let mut reader = Reader::seekable(Cursor { file: Arc::clone(&file), position: 0 }, limits);
        let mut entries = HashMap::new();
        while let Some(entry) = reader.next_entry()? {
            entries.insert(entry.path.clone(), entry);
        }
        Ok(Self { file, entries })
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry `path`, links followed: archives of older `docker save` have one layer under several names.
    pub fn find(&self, path: &EntryPath) -> Option<&Entry> {
        let mut entry = self.entries.get(path)?;
        for _ in 0..MAX_SYMLINKS {
            entry = match &entry.kind {
                EntryKind::HardLink { target } => self.entries.get(target)?,
                EntryKind::Symlink { target } => self.entries.get(&entry.path.resolve_link(target)?)?,
                _ => return Some(entry),
            };
        }
        None
    }

    /// The data of `entry`, which must be one of this archive, holes as zeros; nothing when it is no file.
    pub fn data(&self, entry: &Entry) -> FileData {
        let (size, extents) = match &entry.kind {
            EntryKind::File { size, extents } => (*size, extents.clone()),
            _ => (0, Vec::new()),
        };
        FileData { file: Arc::clone(&self.file), size, offset: 0, extents, next: 0 }
    }
}

/// The data of one file of an [`Archive`], as a stream of its own.
#[derive(Debug)]
pub struct FileData {
    file: Arc<File>,
    size: u64,
    offset: u64,
    extents: Vec<super::Extent>,
    /// The first extent that does not end at or before `offset`.
    next: usize,
}

impl FileData {
    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for FileData {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let extent = self.extents.get(self.next);
        let (in_data, run) = match extent {
            Some(extent) if extent.file_offset <= self.offset => {
                (true, extent.file_offset + extent.length - self.offset)
            }
            Some(extent) => (false, extent.file_offset - self.offset),
            None => (false, self.size - self.offset),
        };
        let wanted = run.min(buffer.len() as u64) as usize;
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let count = if let Some(extent) = extent.filter(|_| in_data) {
            self.file.read_at(buffer, extent.archive_offset + (self.offset - extent.file_offset))?
        } else {
            buffer.fill(0);
            wanted
        };
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early"));
        }
        self.offset += count as u64;
        self.next += usize::from(in_data && count as u64 == run);
        Ok(count)
    }
}

/// Reads and seeks without touching the offset that all users of the descriptor share.
#[derive(Debug)]
struct Cursor {
    file: Arc<File>,
    position: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl io::Seek for Cursor {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let target = match to {
            io::SeekFrom::Start(offset) => Some(offset),
            io::SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            io::SeekFrom::End(delta) => self.file.metadata()?.len().checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
