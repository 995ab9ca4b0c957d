//! ADD of local archives: recognised by their content, unpacked into the destination.

use super::destination::{Content, Destination, NewEntry, NewKind};
use super::error::{CopyError, CopyResult};
use super::owner::Owner;
use super::resolve::Lookup;
use super::transfer::Copier;
use crate::archive::compression::{self, ExpansionLimit};
use crate::archive::tar::{Entry, EntryKind, EntryPath, Limits, Reader};
use crate::model::{FileKind, Name, RelPath};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};

/// What is looked at to tell whether a file is an archive: enough for any compression and the first headers.
const HEAD: usize = 64 << 10;

/// An archive, uncompressed in a file of its own.
#[derive(Debug)]
pub struct Opened {
    /// The entries in the order of the archive.
    entries: Vec<Entry>,
    /// The uncompressed archive; extents of entries point into it.
    pub file: File,
}

impl Opened {
    /// The entries and the uncompressed archive.
    pub fn into_parts(self) -> (Vec<Entry>, File) {
        (self.entries, self.file)
    }
}

/// Opens `data` when it is a tar, plain or compressed by gzip, bzip2, xz or zstd; none when it is anything else, a compressed
/// file that is no tar included. The uncompressed archive goes to `scratch`, an empty file.
pub fn open_archive<'a>(name: &str, data: Box<dyn Read + 'a>, scratch: File) -> CopyResult<Option<Opened>> {
    open_limited(name, data, scratch, ExpansionLimit::default())
}

pub(super) fn open_limited<'a>(
    name: &str,
    mut data: Box<dyn Read + 'a>,
    mut scratch: File,
    limit: ExpansionLimit,
) -> CopyResult<Option<Opened>> {
    let fault = |error: &dyn std::fmt::Display| CopyError::Archive { name: name.to_owned(), detail: error.to_string() };
    let mut head = Vec::new();
    (&mut data).take(HEAD as u64).read_to_end(&mut head).map_err(|error| fault(&error))?;
    if !is_compressed(&head) && !is_tar(&head) {
        return Ok(None);
    }
    let mut plain = decompressed(head, data, limit).map_err(|error| fault(&error))?;
    // A compressed file that is damaged at its start is no archive, only a file.
    let mut start = Vec::new();
    if (&mut plain).take(HEAD as u64).read_to_end(&mut start).is_err() || !is_tar(&start) {
        return Ok(None);
    }
    let written = scratch.write_all(&start).and_then(|()| io::copy(&mut plain, &mut scratch));
    written.and_then(|_| scratch.rewind()).map_err(|error| fault(&error))?;
    let mut reader = Reader::seekable(io::BufReader::new(&scratch), Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(|error| fault(&error))? {
        entries.push(entry);
    }
    Ok(Some(Opened { entries, file: scratch }))
}

fn is_compressed(head: &[u8]) -> bool {
    matches!(
        head,
        [0x1f, 0x8b, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [b'B', b'Z', b'h', ..]
            | [0xfd, b'7', b'z', b'X', b'Z', 0, ..]
    )
}

/// Whether a header of a tar stands at the start of `head`. An archive without entries does not count; one whose first entry is refused
/// does, or whoever sent it would find it copied as a file.
fn is_tar(head: &[u8]) -> bool {
    use crate::archive::tar::Error;
    head.len() >= 512
        && match Reader::new(head, Limits::default()).next_entry() {
            Ok(entry) => entry.is_some(),
            Err(Error::Header { .. } | Error::Read { .. }) => false,
            // Its extended headers are longer than what is looked at.
            Err(Error::Truncated { .. }) => head.len() >= HEAD,
            Err(_) => true,
        }
}

/// What begins with `head` and goes on with `rest`, uncompressed. One that expands beyond `limit` is an error before the disk is full.
fn decompressed<'a>(head: Vec<u8>, rest: Box<dyn Read + 'a>, limit: ExpansionLimit) -> io::Result<Box<dyn Read + 'a>> {
    let foreign = compression::is_foreign(&head);
    let input = Cursor::new(head).chain(rest);
    if foreign {
        return compression::plain(input, limit);
    }
    Ok(Box::new(compression::Decoder::new(input, limit)?))
}

impl Copier<'_, '_> {
    /// Unpacks an archive into the target, as `tar -x` would: existing directories are kept, everything else is replaced, names
    /// that lead through symlinks of the stage stay inside its root. `--chown` overrides the owners.
    pub fn unpack(&mut self, name: &str, number: usize, opened: &Opened) -> CopyResult<()> {
        let directory = self.target_directory()?;
        let (follow, owner) = (!self.rules().link, self.rules().owner);
        let mut unpacking = Unpacking { destination: self.destination(), directory, follow, owner, number, name };
        opened.entries.iter().try_for_each(|entry| unpacking.add(entry))
    }
}

struct Unpacking<'a, 'd> {
    destination: &'a mut Destination<'d>,
    directory: RelPath,
    follow: bool,
    owner: Option<Owner>,
    number: usize,
    name: &'a str,
}

impl Unpacking<'_, '_> {
    fn fault(&self, detail: impl Into<String>) -> CopyError {
        CopyError::Archive { name: self.name.to_owned(), detail: detail.into() }
    }

    /// Where a path of the archive is in the stage, the last component not followed.
    fn place(&mut self, path: &EntryPath) -> CopyResult<RelPath> {
        let Some((parent, name)) = path.split_last() else { return Ok(self.directory.clone()) };
        let mut whole = self.directory.to_bytes();
        whole.push(b'/');
        whole.extend_from_slice(parent);
        let parent = self.destination.resolve(&whole, self.follow)?;
        self.destination.ensure_directories(&parent, self.owner.unwrap_or_default().into(), self.follow)?;
        let name = Name::new(name).map_err(|error| self.fault(format!("{}: {error}", name.escape_ascii())))?;
        Ok(parent.join(name))
    }

    fn add(&mut self, entry: &Entry) -> CopyResult<()> {
        if entry.path.is_root() {
            return Ok(());
        }
        let place = self.place(&entry.path)?;
        let kind = match &entry.kind {
            EntryKind::HardLink { target } => return self.link(place, target),
            EntryKind::File { size, extents } => {
                let content = Content::Archive { archive: self.number, extents: extents.clone() };
                NewKind::File { size: *size, content }
            }
            EntryKind::Symlink { target } => NewKind::Symlink(target.clone()),
            EntryKind::Directory => NewKind::Directory { fresh: false },
            EntryKind::CharDevice { device } => NewKind::CharDevice(*device),
            EntryKind::BlockDevice { device } => NewKind::BlockDevice(*device),
            EntryKind::Fifo => NewKind::Fifo,
        };
        let owner = self.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid });
        let (permissions, mtime, xattrs) = (entry.permissions, entry.mtime, entry.xattrs.clone());
        self.replace(place, NewEntry { kind, permissions, owner, mtime, xattrs })
    }

    fn replace(&mut self, place: RelPath, entry: NewEntry) -> CopyResult<()> {
        let directory = matches!(entry.kind, NewKind::Directory { .. });
        if !directory && self.destination.kind(&place)? == Some(FileKind::Directory) {
            self.destination.remove_tree(&place);
            self.destination.put_over_directory(place, entry);
            return Ok(());
        }
        self.destination.put(place, entry)
    }

    /// A hard link: to what the archive itself brought.
    fn link(&mut self, place: RelPath, target: &EntryPath) -> CopyResult<()> {
        let target = self.place(target)?;
        let Some(known) = self.destination.entries().get(&target).cloned() else {
            return Err(self.fault(format!("{place} is a hard link to {target}, which is not in the archive")));
        };
        if place == target {
            return Ok(());
        }
        let entry = match &known.kind {
            NewKind::File { .. } => NewEntry { kind: NewKind::HardLink(target), ..known },
            NewKind::Directory { .. } => return Err(self.fault(format!("{place} is a hard link to a directory"))),
            // Another name of a link, or a link to what has no data: the same object again.
            _ => known,
        };
        self.replace(place, entry)
    }
}
