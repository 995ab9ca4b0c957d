//! The files of an archive: of a directory, of a tar that can be read anywhere, of a stream that goes by once.

use super::error::{ImageError, ImageResult, is_compression_error};
use super::ingest::{Expected, Ingested, Limits, ingest_layer};
use super::progress::Progress;
use super::stream::Streamed;
use crate::archive::compression::{Compression, MAGIC_LENGTH, detect, is_foreign};
use crate::archive::tar::{self, EntryKind, EntryPath};
use crate::store::Session;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Links that are followed from one name to the next before it is called a loop.
const LINKS_MAX: usize = 8;

/// What it takes to read a layer.
pub(super) struct LayerContext<'a> {
    pub(super) session: &'a Session,
    pub(super) limits: &'a Limits,
    pub(super) progress: &'a dyn Progress,
}

/// The files of an archive by their names.
#[derive(Debug)]
pub(super) enum ArchiveFiles {
    /// Below a directory.
    Directory(PathBuf),
    /// In a tar that can be read at any offset.
    Tar(Members),
    /// Of a stream that has gone by: documents are kept, layers are in the store.
    Streamed(Streamed),
}

/// Where the files of a tar are.
#[derive(Debug)]
pub(super) struct Members {
    file: Arc<File>,
    files: HashMap<EntryPath, Section>,
    links: HashMap<EntryPath, EntryPath>,
}

#[derive(Debug, Clone, Copy)]
struct Section {
    offset: u64,
    length: u64,
}

impl ArchiveFiles {
    /// Whether there is such a document.
    pub(super) fn has_document(&self, name: &str) -> bool {
        match self {
            Self::Streamed(streamed) => streamed.has_document(name),
            other => other.open(name).is_ok_and(|found| found.is_some()),
        }
    }

    /// A file of at most `limit` bytes; none where there is none.
    pub(super) fn document(&self, name: &str, limit: u64) -> ImageResult<Option<Vec<u8>>> {
        if let Self::Streamed(streamed) = self {
            return streamed.document(name, limit);
        }
        let Some((input, size)) = self.open(name)? else { return Ok(None) };
        if size > limit {
            let source = crate::oci::InvalidDocument::TooLarge { what: "the document", size, limit };
            return Err(ImageError::Document { what: name.to_owned(), source });
        }
        let mut bytes = Vec::new();
        let read = input.take(limit).read_to_end(&mut bytes);
        read.map_err(|source| ImageError::Read { what: name.to_owned(), source })?;
        Ok(Some(bytes))
    }

    /// The size of a file in bytes, where it is known and there.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.open(name).ok().flatten().map(|(_, size)| size)
    }

    /// Whether layers can be read in any order, and several at once.
    pub(super) fn is_random_access(&self) -> bool {
        !matches!(self, Self::Streamed(_))
    }

    /// Brings the layer `name` into the store; none where there is no such file.
    pub(super) fn layer(
        &self,
        context: &LayerContext<'_>,
        name: &str,
        expected: &Expected,
        stop: &dyn Fn() -> bool,
    ) -> ImageResult<Option<Ingested>> {
        if let Self::Streamed(streamed) = self {
            return streamed.layer(context, name, expected);
        }
        let Some((input, size)) = self.open(name)? else { return Ok(None) };
        let label = expected.diff_id.map_or_else(|| name.to_owned(), |diff_id| diff_id.short());
        let progress = context.progress.layer(&label, Some(size));
        let mut input = Stoppable { input, stop };
        ingest_layer(context.session, &mut input, expected, context.limits, &*progress).map(Some)
    }

    fn open(&self, name: &str) -> ImageResult<Option<(Box<dyn Read>, u64)>> {
        match self {
            Self::Directory(dir) => open_below(dir, name),
            Self::Tar(members) => Ok(members.open(name)),
            Self::Streamed(_) => Ok(None),
        }
    }
}

impl Members {
    /// Reads the headers of an archive in `file`. None where the file is compressed.
    pub(super) fn scan(what: &str, file: File) -> ImageResult<Option<Self>> {
        let mut magic = [0; MAGIC_LENGTH];
        let read = file.read_at(&mut magic, 0).map_err(|source| ImageError::Read { what: what.to_owned(), source })?;
        let magic = magic.get(..read).unwrap_or_default();
        if is_foreign(magic) {
            return Ok(None);
        }
        let compression = detect(magic)
            .map_err(|error| ImageError::NotAnImage { what: what.to_owned(), detail: error.to_string() })?;
        if compression != Compression::Plain {
            return Ok(None);
        }
        let mut members = Self { file: Arc::new(file), files: HashMap::new(), links: HashMap::new() };
        let failed = |source| ImageError::Archive { what: what.to_owned(), source };
        let input = members.file.try_clone().map_err(|source| ImageError::Read { what: what.to_owned(), source })?;
        let mut reader = tar::Reader::seekable(input, tar::Limits::default());
        while let Some(entry) = reader.next_entry().map_err(failed)? {
            members.add(entry);
        }
        Ok(Some(members))
    }

    fn add(&mut self, entry: tar::Entry) {
        self.files.remove(&entry.path);
        self.links.remove(&entry.path);
        if let Some(target) = link_target(&entry) {
            self.links.insert(entry.path, target);
        } else if let EntryKind::File { size, extents } = &entry.kind {
            let section = match extents.as_slice() {
                [] => Section { offset: 0, length: 0 },
                [extent, ..] => Section { offset: extent.archive_offset, length: *size },
            };
            self.files.insert(entry.path, section);
        }
    }

    fn open(&self, name: &str) -> Option<(Box<dyn Read>, u64)> {
        let path = EntryPath::parse(name.as_bytes(), &tar::Limits::default()).ok()?;
        let section = *follow(&self.files, &self.links, &path)?;
        let input = SectionReader { file: Arc::clone(&self.file), section };
        Some((Box::new(input), section.length))
    }
}

/// The file that a path leads to, links followed: old archives have one layer several times as links.
pub(super) fn follow<'a, T>(
    files: &'a HashMap<EntryPath, T>,
    links: &HashMap<EntryPath, EntryPath>,
    path: &EntryPath,
) -> Option<&'a T> {
    let mut path = path;
    for _ in 0..LINKS_MAX {
        match files.get(path) {
            Some(file) => return Some(file),
            None => path = links.get(path)?,
        }
    }
    None
}

/// Where an entry leads, when it is a link.
pub(super) fn link_target(entry: &tar::Entry) -> Option<EntryPath> {
    match &entry.kind {
        EntryKind::HardLink { target } => Some(target.clone()),
        EntryKind::Symlink { target } => entry.path.resolve_link(target),
        _ => None,
    }
}

/// A file below a directory, which may be a symlink to wherever its owner keeps blobs.
fn open_below(dir: &Path, name: &str) -> ImageResult<Option<(Box<dyn Read>, u64)>> {
    if EntryPath::parse(name.as_bytes(), &tar::Limits::default()).is_err() {
        return Ok(None);
    }
    let path = dir.join(name.trim_start_matches('/'));
    let open = || -> io::Result<Option<(File, u64)>> {
        // Nothing waits for whoever would write into a FIFO.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then_some((file, metadata.len())))
    };
    match open() {
        Ok(opened) => Ok(opened.map(|(file, size)| (Box::new(file) as Box<dyn Read>, size))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(ImageError::Read { what: path.display().to_string(), source }),
    }
}

/// A piece of a file; reading it does not move the file's offset.
#[derive(Debug)]
struct SectionReader {
    file: Arc<File>,
    section: Section,
}

impl Read for SectionReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.section.length).map_or(buffer.len(), |length| length.min(buffer.len()));
        let count = self.file.read_at(&mut buffer[..length], self.section.offset)?;
        if count == 0 && length > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early"));
        }
        self.section.offset += count as u64;
        self.section.length -= count as u64;
        Ok(count)
    }
}

/// An input that fails once it is to stop: another layer has failed.
struct Stoppable<'a, R> {
    input: R,
    stop: &'a dyn Fn() -> bool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(io::Error::other("stopped because another layer failed"));
        }
        self.input.read(buffer)
    }
}

/// Tells damage of an outer compression from a failure to read.
pub(super) fn outer_error(what: &str, source: tar::Error) -> ImageError {
    match source {
        tar::Error::Read { source, .. } if !is_compression_error(&source) => {
            ImageError::Read { what: what.to_owned(), source }
        }
        source => ImageError::Archive { what: what.to_owned(), source },
    }
}
