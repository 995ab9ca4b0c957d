//! The streaming reader.

use super::header::{self, Header};
use super::input::{Block, Input, Skip};
use super::pax::Extended;
use super::sparse::{self, MapParser};
use super::{BLOCK, Entry, EntryKind, EntryPath, Error, Extent, InvalidPath, Limits, Result, Xattr};
use crate::model::{DeviceNumber, Timestamp};
use std::io::{self, Read, Seek};

/// Longest name of an extended attribute in bytes (`XATTR_NAME_MAX`, include/uapi/linux/limits.h).
const XATTR_NAME_MAX: usize = 255;

/// Two of these end an archive.
const ZEROS: Block = [0; BLOCK as usize];

/// Reads an archive front to back. Memory does not grow with the archive.
#[derive(Debug)]
pub struct Reader<R> {
    input: Input<R>,
    limits: Limits,
    /// Records of global headers.
    global: Extended,
    global_bytes: usize,
    /// Entries, bytes of text and extents so far.
    entries: u64,
    text: u64,
    extents: u64,
    /// Where the header after the current entry lies.
    next_header: u64,
    body: Body,
    finished: bool,
}

/// What is left of the current entry's data.
#[derive(Debug)]
enum Body {
    Empty,
    /// So many bytes of data.
    Plain(u64),
    /// A file with holes, read up to `offset`.
    Sparse {
        size: u64,
        offset: u64,
        extents: std::vec::IntoIter<Extent>,
        current: Option<Extent>,
    },
}

/// What the headers before an entry's own say.
#[derive(Debug, Default)]
struct Preamble {
    /// Where the first of them lies.
    offset: Option<u64>,
    records: Vec<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// A reader of the uncompressed archive `input`. Needs no buffered input.
    pub fn new(input: R, limits: Limits) -> Self {
        Self::with_input(Input::new(input), limits)
    }

    fn with_input(input: Input<R>, limits: Limits) -> Self {
        Self {
            input,
            limits,
            global: Extended::default(),
            global_bytes: 0,
            entries: 0,
            text: 0,
            extents: 0,
            next_header: 0,
            body: Body::Empty,
            finished: false,
        }
    }

    /// The next entry; none at the end of the archive: two blocks of zeros, or the end of the input where a header
    /// might stand. What is left of the previous entry's data is skipped. After an error the reader is of no more use.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        if self.finished {
            return Ok(None);
        }
        let mut preamble = Preamble::default();
        loop {
            self.body = Body::Empty;
            self.input.skip(self.next_header.saturating_sub(self.input.position()))?;
            let offset = self.input.position();
            let Some(block) = self.next_block()? else {
                self.finished = true;
                return match preamble.offset {
                    Some(_) => Err(Error::Truncated { offset }),
                    None => Ok(None),
                };
            };
            let header = Header::new(&block).ok_or(Error::Header { offset })?;
            preamble.offset.get_or_insert(offset);
            match header.type_flag() {
                b'x' | b'X' => preamble.records.push(self.read_extension(&header, self.limits.pax_header)?),
                b'g' => self.read_global(&header)?,
                b'L' => preamble.long_name = Some(self.read_long_name(&header)?),
                b'K' => preamble.long_link = Some(self.read_long_name(&header)?),
                b'V' => {
                    let size = header.size().ok_or_else(|| invalid(&header.name(), "size"))?;
                    self.expect_body(&header.name(), size)?;
                    preamble.offset = None;
                }
                _ => return self.read_entry(&header, preamble).map(Some),
            }
        }
    }

    /// The next header block; none at the end of the archive.
    fn next_block(&mut self) -> Result<Option<Block>> {
        let Some(block) = self.input.read_block()? else { return Ok(None) };
        if block != ZEROS {
            return Ok(Some(block));
        }
        let offset = self.input.position();
        match self.input.read_block()? {
            Some(block) if block != ZEROS => Err(Error::Header { offset }),
            _ => Ok(None),
        }
    }

    /// Notes that `size` bytes of data follow, padded to whole blocks.
    fn expect_body(&mut self, name: &[u8], size: u64) -> Result<()> {
        let padded = size.checked_next_multiple_of(BLOCK);
        let end = padded.and_then(|padded| self.input.position().checked_add(padded));
        self.next_header = end.filter(|end| i64::try_from(*end).is_ok()).ok_or_else(|| invalid(name, "size"))?;
        Ok(())
    }

    /// The data of an extension header.
    fn read_extension(&mut self, header: &Header<'_>, limit: usize) -> Result<Vec<u8>> {
        let size = header.size().ok_or_else(|| invalid(&header.name(), "size"))?;
        if size > limit as u64 {
            return Err(exceeded(&header.name(), "bytes of extended header", limit));
        }
        self.expect_body(&header.name(), size)?;
        let mut bytes = vec![0; size as usize];
        if size > 0 && !self.input.read_full(&mut bytes)? {
            return Err(Error::Truncated { offset: self.input.position() });
        }
        Ok(bytes)
    }

    fn read_global(&mut self, header: &Header<'_>) -> Result<()> {
        let records = self.read_extension(header, self.limits.pax_header)?;
        self.global_bytes += records.len();
        if self.global_bytes > self.limits.pax_header {
            return Err(exceeded(&header.name(), "bytes of global headers", self.limits.pax_header));
        }
        self.global.apply(&records).map_err(|record| invalid(&header.name(), record.0))?;
        // A map of one file cannot be that of all.
        self.global.sparse = <_>::default();
        Ok(())
    }

    /// The data of a GNU header for a long name, up to the NUL that ends it.
    fn read_long_name(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let mut name = self.read_extension(header, self.limits.path.saturating_add(BLOCK as usize))?;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// The entry whose own header is `header`.
    fn read_entry(&mut self, header: &Header<'_>, preamble: Preamble) -> Result<Entry> {
        let mut extended = self.global.clone();
        for records in &preamble.records {
            extended.apply(records).map_err(|record| {
                let name = preamble.long_name.clone().unwrap_or_else(|| header.name());
                invalid(&name, record.0)
            })?;
        }
        let name = preamble
            .long_name
            .or_else(|| extended.sparse.name.take())
            .or_else(|| extended.path.take())
            .unwrap_or_else(|| header.name());
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::Limit { name: escaped(&name), what: "entries", limit: self.limits.entries });
        }
        let path =
            EntryPath::parse(&name, &self.limits).map_err(|source| Error::Name { name: escaped(&name), source })?;
        let link = preamble.long_link.or_else(|| extended.link_path.take());
        let link = link.unwrap_or_else(|| header.link_name().to_vec());
        let kind = self.read_kind(header, &name, link, &mut extended)?;
        let xattrs = self.check_xattrs(&name, extended.take_xattrs())?;
        self.count(&name, &kind, &xattrs)?;
        let (gnu_atime, gnu_ctime) = header.gnu_times();
        let own = |value: Option<u64>, fallback: Option<u32>, field| match value {
            Some(value) => u32::try_from(value).map_err(|_| invalid(&name, field)),
            None => fallback.ok_or_else(|| invalid(&name, field)),
        };
        Ok(Entry {
            path,
            kind,
            permissions: header.permissions().ok_or_else(|| invalid(&name, "mode"))?,
            uid: own(extended.uid, header.uid(), "owner")?,
            gid: own(extended.gid, header.gid(), "group")?,
            mtime: match extended.mtime {
                Some(time) => time,
                None => Timestamp::from_seconds(header.mtime().ok_or_else(|| invalid(&name, "time"))?),
            },
            atime: extended.atime.or(gnu_atime.map(Timestamp::from_seconds)),
            ctime: extended.ctime.or(gnu_ctime.map(Timestamp::from_seconds)),
            xattrs,
            header_offset: preamble.offset.unwrap_or_default(),
        })
    }

    /// Counts what consumers may keep of an entry.
    fn count(&mut self, name: &[u8], kind: &EntryKind, xattrs: &[Xattr]) -> Result<()> {
        let (target, extents) = match kind {
            EntryKind::File { extents, .. } => (0, extents.len()),
            EntryKind::HardLink { target } => (target.as_bytes().len(), 0),
            EntryKind::Symlink { target } => (target.len(), 0),
            _ => (0, 0),
        };
        let attributes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.text += (name.len() + target + attributes) as u64;
        self.extents += extents as u64;
        for (count, what, limit) in [
            (self.text, "bytes of names, targets and extended attributes", self.limits.text_total),
            (self.extents, "pieces of sparse files", self.limits.extents_total),
        ] {
            if count > limit {
                return Err(Error::Limit { name: escaped(name), what, limit });
            }
        }
        Ok(())
    }

    /// The type of the entry; for a file, where its data lie.
    fn read_kind(
        &mut self,
        header: &Header<'_>,
        name: &[u8],
        link: Vec<u8>,
        extended: &mut Extended,
    ) -> Result<EntryKind> {
        let flag = header.type_flag();
        // Only files have data; sizes of others (bsdtar and pax write some) count for nothing, as in Go's reader.
        self.expect_body(name, 0)?;
        Ok(match flag {
            0 if name.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => self.read_file(header, name, extended)?,
            b'S' => self.read_gnu_sparse(header, name, extended)?,
            b'1' => EntryKind::HardLink { target: self.link_target(name, &link)? },
            b'2' => EntryKind::Symlink { target: self.symlink_target(name, link)? },
            b'3' => EntryKind::CharDevice { device: device(header, name, extended)? },
            b'4' => EntryKind::BlockDevice { device: device(header, name, extended)? },
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            // GNU's directory with a listing as its data.
            b'D' => {
                let size = extended.size.or(header.size()).ok_or_else(|| invalid(name, "size"))?;
                self.expect_body(name, size)?;
                EntryKind::Directory
            }
            type_flag => return Err(Error::Unsupported { name: escaped(name), type_flag }),
        })
    }

    fn read_file(&mut self, header: &Header<'_>, name: &[u8], extended: &mut Extended) -> Result<EntryKind> {
        let stored = extended.size.or(header.size()).ok_or_else(|| invalid(name, "size"))?;
        self.expect_body(name, stored)?;
        if !extended.sparse.is_sparse() {
            let data = Extent { file_offset: 0, archive_offset: self.input.position(), length: stored };
            self.body = Body::Plain(stored);
            return Ok(EntryKind::File { size: stored, extents: if stored > 0 { vec![data] } else { Vec::new() } });
        }
        let sparse = std::mem::take(&mut extended.sparse);
        let begin = self.input.position();
        let pieces = match (sparse.map, sparse.major, sparse.minor) {
            (Some(map), None | Some(0), _) => map,
            (_, Some(1), None | Some(0)) => self.read_map(name, stored)?,
            _ => return Err(invalid(name, "version of the sparse format")),
        };
        let stored = stored - (self.input.position() - begin);
        self.sparse_file(name, &pieces, sparse.size, stored)
    }

    /// The map of GNU's sparse format 1.0, which takes whole blocks before the data.
    fn read_map(&mut self, name: &[u8], stored: u64) -> Result<Vec<(u64, u64)>> {
        let mut map = MapParser::default();
        let end = self.input.position() + stored;
        while !map.is_complete() {
            if self.input.position() + BLOCK > end {
                return Err(invalid(name, "sparse map"));
            }
            let offset = self.input.position();
            let block = self.input.read_block()?.ok_or(Error::Truncated { offset })?;
            map.feed(&block).ok_or_else(|| invalid(name, "sparse map"))?;
            if map.count() > self.limits.extents as u64 {
                return Err(exceeded(name, "pieces of a sparse file", self.limits.extents));
            }
        }
        Ok(map.into_pieces())
    }

    /// A file in GNU's old sparse format: a map in the header and in the blocks after it.
    fn read_gnu_sparse(&mut self, header: &Header<'_>, name: &[u8], extended: &Extended) -> Result<EntryKind> {
        let map = || invalid(name, "sparse map");
        let stored = extended.size.or(header.size()).ok_or_else(|| invalid(name, "size"))?;
        let (size, (mut pieces, mut more)) = header.gnu_sparse().ok_or_else(map)?;
        while more {
            let offset = self.input.position();
            let block = self.input.read_block()?.ok_or(Error::Truncated { offset })?;
            let (further, again) = header::gnu_sparse_block(&block).ok_or_else(map)?;
            pieces.extend(further);
            more = again;
            if pieces.len() > self.limits.extents {
                return Err(exceeded(name, "pieces of a sparse file", self.limits.extents));
            }
        }
        self.expect_body(name, stored)?;
        self.sparse_file(name, &pieces, Some(size), stored)
    }

    fn sparse_file(&mut self, name: &[u8], pieces: &[(u64, u64)], size: Option<u64>, stored: u64) -> Result<EntryKind> {
        if pieces.len() > self.limits.extents {
            return Err(exceeded(name, "pieces of a sparse file", self.limits.extents));
        }
        let extents = size
            .filter(|size| i64::try_from(*size).is_ok())
            .and_then(|size| Some((size, sparse::extents(pieces, size, self.input.position(), stored)?)));
        let Some((size, extents)) = extents else { return Err(invalid(name, "sparse map")) };
        self.body = Body::Sparse { size, offset: 0, extents: extents.clone().into_iter(), current: None };
        Ok(EntryKind::File { size, extents })
    }

    fn link_target(&self, name: &[u8], target: &[u8]) -> Result<EntryPath> {
        let error = |source| Error::LinkTarget { name: escaped(name), target: escaped(target), source };
        let path = EntryPath::parse(target, &self.limits).map_err(error)?;
        if path.is_root() { Err(error(InvalidPath::Empty)) } else { Ok(path) }
    }

    fn symlink_target(&self, name: &[u8], target: Vec<u8>) -> Result<Vec<u8>> {
        if target.is_empty() || target.contains(&0) {
            return Err(invalid(name, "target of the symlink"));
        }
        if target.len() > self.limits.path {
            return Err(exceeded(name, "bytes of the symlink's target", self.limits.path));
        }
        Ok(target)
    }

    fn check_xattrs(&self, name: &[u8], xattrs: Vec<Xattr>) -> Result<Vec<Xattr>> {
        let mut total = 0;
        for (key, value) in &xattrs {
            if key.is_empty() || key.contains(&0) {
                return Err(invalid(name, "name of an extended attribute"));
            }
            if key.len() > XATTR_NAME_MAX {
                return Err(exceeded(name, "bytes of the name of an extended attribute", XATTR_NAME_MAX));
            }
            if value.len() > self.limits.xattr {
                return Err(exceeded(name, "bytes of an extended attribute", self.limits.xattr));
            }
            total += key.len() + value.len();
        }
        if total > self.limits.xattrs {
            return Err(exceeded(name, "bytes of all extended attributes", self.limits.xattrs));
        }
        Ok(xattrs)
    }

    /// The data of the entry that [`next_entry`](Self::next_entry) returned last, holes as zeros; nothing when it is no
    /// file.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// What is left of the data of the entry `entry`, which must be the last one returned; an error where that is more
    /// than `limit` bytes.
    pub fn read_data(&mut self, entry: &Entry, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let offset = self.input.position();
        let read = self.data().take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated { offset },
            _ => Error::Read { offset, source },
        })?;
        if bytes.len() as u64 > limit {
            return Err(Error::Limit { name: entry.path.to_string(), what: "bytes of data", limit });
        }
        Ok(bytes)
    }

    /// Bytes of the archive consumed so far.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Reads whatever is left of the input, beyond the end marker too, and returns the size of the archive in bytes.
    pub fn drain(&mut self) -> Result<u64> {
        self.finished = true;
        self.body = Body::Empty;
        self.input.drain()?;
        Ok(self.input.position())
    }
}

impl<R: Skip> Reader<R> {
    /// A reader that lets data go by without copying them.
    pub fn skipping(input: R, limits: Limits) -> Self {
        Self::with_input(Input::skipping(input), limits)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// A reader that skips data by seeking: only headers are read.
    pub fn seekable(input: R, limits: Limits) -> Self {
        Self::with_input(Input::seekable(input), limits)
    }
}

/// The data of one entry, as a stream.
#[derive(Debug)]
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Reader { input, body, .. } = &mut *self.reader;
        match body {
            Body::Empty => Ok(0),
            Body::Plain(left) => {
                let count = read_stored(input, buffer, *left)?;
                *left -= count as u64;
                Ok(count)
            }
            Body::Sparse { size, offset, extents, current } => {
                if current.is_none_or(|extent| extent.length == 0) {
                    *current = extents.next();
                }
                let hole_end = current.map_or(*size, |extent| extent.file_offset);
                let count = match current {
                    Some(extent) if extent.file_offset == *offset => {
                        let count = read_stored(input, buffer, extent.length)?;
                        extent.file_offset += count as u64;
                        extent.length -= count as u64;
                        count
                    }
                    _ => fill_zeros(buffer, hole_end - *offset),
                };
                *offset += count as u64;
                Ok(count)
            }
        }
    }
}

/// Reads up to `left` bytes; the end of the input is an error.
fn read_stored<R: Read>(input: &mut Input<R>, buffer: &mut [u8], left: u64) -> io::Result<usize> {
    let wanted = left.min(buffer.len() as u64) as usize;
    let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
    match input.read(buffer)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early")),
        count => Ok(count),
    }
}

fn fill_zeros(buffer: &mut [u8], left: u64) -> usize {
    let count = left.min(buffer.len() as u64) as usize;
    buffer.iter_mut().take(count).for_each(|byte| *byte = 0);
    count
}

fn device(header: &Header<'_>, name: &[u8], extended: &Extended) -> Result<DeviceNumber> {
    let error = || invalid(name, "device number");
    let (major, minor) = match (extended.device_major, extended.device_minor) {
        (Some(major), Some(minor)) => (major.try_into().ok(), minor.try_into().ok()),
        _ => header.device().unzip(),
    };
    Ok(DeviceNumber { major: major.ok_or_else(error)?, minor: minor.ok_or_else(error)? })
}

/// A name as messages show it.
fn escaped(name: &[u8]) -> String {
    crate::model::printable_briefly(name)
}

fn invalid(name: &[u8], field: &'static str) -> Error {
    Error::Field { name: escaped(name), field }
}

fn exceeded(name: &[u8], what: &'static str, limit: usize) -> Error {
    Error::Limit { name: escaped(name), what, limit: limit as u64 }
}
