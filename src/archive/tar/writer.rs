//! The deterministic writer.

use super::records::Records;
use super::{BLOCK, Entry, EntryKind, Error, Result};
use std::fmt;
use std::io::{self, Read, Write};

/// Bytes collected before they go to the output.
const BUFFER: usize = 256 << 10;

/// Bytes of the name and of the link target in a header.
const NAME_FIELD: usize = 100;

/// Largest number in an octal field of 8 bytes with its terminator: owner, group, device numbers.
const OCTAL_7: u64 = 0o777_7777;

/// Largest number in an octal field of 12 bytes with its terminator: size and time.
const OCTAL_11: u64 = 0o777_7777_7777;

/// Writes a PAX archive whose bytes depend on nothing but the entries given: no clock, no user names, no process id.
///
/// Whole seconds, times of access and change left out, never sparse, extended attributes as `SCHILY.xattr.`; overlay's own
/// and `security.selinux` are left out. The order is the caller's: sorted, whiteouts before their siblings, the target
/// of a hard link before the link. After an error the archive is of no use.
pub struct Writer<W> {
    output: W,
    buffer: Box<[u8]>,
    /// Bytes of the buffer in use.
    filled: usize,
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("buffered", &self.filled).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// A writer to `output`. Writes large pieces; needs no buffered output.
    pub fn new(output: W) -> Self {
        Self { output, buffer: vec![0; BUFFER].into_boxed_slice(), filled: 0 }
    }

    /// Appends `entry`; for a file, exactly its size in bytes from `data`, which must end there. The extents of the entry
    /// do not matter, and `data` does not for anything but a file.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.append_headers(entry)?;
        if let EntryKind::File { size, .. } = entry.kind {
            self.append_data(entry, size, data)?;
            self.pad(size)?;
        }
        Ok(())
    }

    /// Appends an entry that has no data: anything but a file with a size.
    pub fn append_empty(&mut self, entry: &Entry) -> Result<()> {
        self.append(entry, &mut io::empty())
    }

    fn append_headers(&mut self, entry: &Entry) -> Result<()> {
        let mut name = if entry.path.is_root() { b".".to_vec() } else { entry.path.as_bytes().to_vec() };
        if entry.kind == EntryKind::Directory {
            name.push(b'/');
        }
        let mut records = Records::default();
        let header = main_header(entry, &name, &mut records);
        let records = records.into_bytes();
        if !records.is_empty() {
            let extension = extension_header(entry, records.len() as u64);
            self.put(extension.as_bytes())?;
            self.put(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.put(header.as_bytes())
    }

    fn append_data(&mut self, entry: &Entry, size: u64, data: &mut dyn Read) -> Result<()> {
        let mut left = size;
        while left > 0 {
            if self.filled >= BUFFER {
                self.flush_buffer()?;
            }
            let space = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let wanted = space.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = read_some(data, space.get_mut(..wanted).unwrap_or_default(), entry)?;
            self.filled += count;
            if count == 0 {
                return Err(Error::ShortSource { name: entry.path.to_string(), expected: size, found: size - left });
            }
            left -= count as u64;
        }
        match read_some(data, &mut [0], entry)? {
            0 => Ok(()),
            _ => Err(Error::LongSource { name: entry.path.to_string(), expected: size }),
        }
    }

    /// Fills the last block of `size` bytes of data with zeros.
    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = size.next_multiple_of(BLOCK) - size;
        self.put([0; BLOCK as usize].get(..padding as usize).unwrap_or_default())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.filled + bytes.len() > BUFFER {
            self.flush_buffer()?;
        }
        match self.buffer.get_mut(self.filled..self.filled + bytes.len()) {
            Some(space) => {
                space.copy_from_slice(bytes);
                self.filled += bytes.len();
                Ok(())
            }
            None => self.output.write_all(bytes).map_err(|source| Error::Write { source }),
        }
    }

    fn flush_buffer(&mut self) -> Result<()> {
        let filled = self.buffer.get(..self.filled).unwrap_or_default();
        self.output.write_all(filled).map_err(|source| Error::Write { source })?;
        self.filled = 0;
        Ok(())
    }

    /// Writes the end marker, flushes, and returns the output.
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0; 2 * BLOCK as usize])?;
        self.flush_buffer()?;
        self.output.flush().map_err(|source| Error::Write { source })?;
        Ok(self.output)
    }
}

/// The entry's own header; what does not fit into it goes to `records`.
fn main_header(entry: &Entry, name: &[u8], records: &mut Records) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let fields = header.as_old_mut();
    put_text(&mut fields.name, name, "path", records);
    let link = match &entry.kind {
        EntryKind::HardLink { target } => target.as_bytes(),
        EntryKind::Symlink { target } => target,
        _ => &[],
    };
    put_text(&mut fields.linkname, link, "linkpath", records);
    fields.linkflag = [type_flag(&entry.kind)];
    header.set_mode(u32::from(entry.permissions));
    header.set_size(fitting(entry.size(), OCTAL_11, "size", records));
    header.set_uid(fitting(u64::from(entry.uid), OCTAL_7, "uid", records));
    header.set_gid(fitting(u64::from(entry.gid), OCTAL_7, "gid", records));
    if let Ok(seconds) = u64::try_from(entry.mtime.seconds) {
        header.set_mtime(fitting(seconds, OCTAL_11, "mtime", records));
    } else {
        header.set_mtime(0);
        records.push(b"mtime", entry.mtime.seconds.to_string().as_bytes());
    }
    if let EntryKind::CharDevice { device } | EntryKind::BlockDevice { device } = entry.kind {
        let major = fitting(u64::from(device.major), OCTAL_7, "SCHILY.devmajor", records);
        let minor = fitting(u64::from(device.minor), OCTAL_7, "SCHILY.devminor", records);
        if (major, minor) != (u64::from(device.major), u64::from(device.minor)) {
            // Readers take both or none from the records.
            records.replace(b"SCHILY.devmajor", device.major.to_string().as_bytes());
            records.replace(b"SCHILY.devminor", device.minor.to_string().as_bytes());
        }
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.set_device_major(major as u32);
            ustar.set_device_minor(minor as u32);
        }
    }
    records.push_xattrs(&entry.xattrs);
    header.set_cksum();
    header
}

/// The header before the extended records of `entry`.
fn extension_header(entry: &Entry, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let name = [b"PaxHeaders/", entry.path.file_name().unwrap_or(b".")].concat();
    let fields = header.as_old_mut();
    copy_prefix(&mut fields.name, &name);
    fields.linkflag = *b"x";
    header.set_mode(0o644);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn type_flag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File { .. } => b'0',
        EntryKind::HardLink { .. } => b'1',
        EntryKind::Symlink { .. } => b'2',
        EntryKind::CharDevice { .. } => b'3',
        EntryKind::BlockDevice { .. } => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// Puts `text` into `field`, and into a record too where it does not fit or readers would have to guess its encoding.
fn put_text(field: &mut [u8; NAME_FIELD], text: &[u8], key: &str, records: &mut Records) {
    copy_prefix(field, text);
    let is_utf8 = std::str::from_utf8(text).is_ok();
    if text.len() > NAME_FIELD || (is_utf8 && !text.is_ascii()) {
        if !is_utf8 {
            records.push_first(b"hdrcharset", b"BINARY");
        }
        records.push(key.as_bytes(), text);
    }
}

fn copy_prefix(field: &mut [u8], text: &[u8]) {
    field.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
}

/// `value` where it is at most `max`; otherwise 0, and the value goes into a record.
fn fitting(value: u64, max: u64, key: &str, records: &mut Records) -> u64 {
    if value <= max {
        return value;
    }
    records.push(key.as_bytes(), value.to_string().as_bytes());
    0
}

fn read_some(data: &mut dyn Read, buffer: &mut [u8], entry: &Entry) -> Result<usize> {
    loop {
        match data.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Source { name: entry.path.to_string(), source }),
            Ok(count) => return Ok(count.min(buffer.len())),
        }
    }
}
