//! What a copy adds, written as the tar of a layer.

use super::destination::{Content, Destination, NewEntry, NewKind};
use super::error::{CopyError, CopyResult, reading};
use super::tree::Tree;
use crate::archive::tar::{Entry, EntryKind, EntryPath, Error as ArchiveError, Extent, Limits, Writer, Xattr};
use crate::model::{RelPath, Timestamp};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::FileExt;

/// The prefix of names that mark something in a layer (OCI image-spec, layer.md).
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Where the data of new files are.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// The source trees by number.
    pub trees: &'a [&'a dyn Tree],
    /// The uncompressed archives by number.
    pub archives: &'a [File],
}

impl<'a> Data<'a> {
    /// The data of a new file.
    fn open(self, path: &RelPath, content: &'a Content, size: u64) -> CopyResult<Box<dyn Read + 'a>> {
        let missing = || CopyError::NotFound { path: path.to_string() };
        Ok(match content {
            Content::Inline(bytes) => Box::new(Cursor::new(bytes.as_ref())),
            Content::Tree { tree, path: source } => {
                let tree = self.trees.get(*tree).ok_or_else(missing)?;
                tree.open(source).map_err(reading(source))?
            }
            Content::Archive { archive, extents } => {
                let file = self.archives.get(*archive).ok_or_else(missing)?;
                Box::new(Pieces::new(file, extents, size))
            }
        })
    }
}

impl Data<'_> {
    /// Whether a file that was last changed at `mtime` when it was chosen is still that: the key of the cache has its digest.
    fn is_unchanged(self, content: &Content, mtime: Timestamp) -> CopyResult<bool> {
        let Content::Tree { tree, path } = content else { return Ok(true) };
        let Some(tree) = self.trees.get(*tree) else { return Ok(true) };
        Ok(tree.stat(path).map_err(reading(path))?.is_some_and(|stat| stat.mtime == mtime))
    }
}

/// Writes what was added to `destination` as a layer: sorted, directories above it included as the stage has them, no time
/// stamp later than `latest` (seconds since the epoch). Returns the output.
pub fn write_layer<W: Write>(
    destination: &Destination<'_>,
    data: Data<'_>,
    latest: Option<i64>,
    output: W,
) -> CopyResult<W> {
    let mut layer = Layer { data, latest, writer: Writer::new(output), first_names: BTreeMap::new() };
    let mut parents = destination.parents()?.into_iter().peekable();
    for (path, new) in destination.entries() {
        while let Some((parent, (stat, xattrs))) = parents.next_if(|(parent, _)| parent < path) {
            let entry = layer.entry(
                &parent,
                EntryKind::Directory,
                stat.permissions,
                (stat.uid, stat.gid),
                stat.mtime,
                xattrs,
            )?;
            layer.writer.append_empty(&entry).map_err(CopyError::Write)?;
        }
        layer.add(path, new, destination)?;
    }
    layer.writer.finish().map_err(CopyError::Write)
}

struct Layer<'a, W> {
    data: Data<'a>,
    latest: Option<i64>,
    writer: Writer<W>,
    /// For the first name of a file the one that was written first: links may sort before it.
    first_names: BTreeMap<RelPath, RelPath>,
}

impl<W: Write> Layer<'_, W> {
    fn entry(
        &self,
        path: &RelPath,
        kind: EntryKind,
        permissions: u16,
        (uid, gid): (u32, u32),
        mtime: Timestamp,
        xattrs: Vec<Xattr>,
    ) -> CopyResult<Entry> {
        let latest = self.latest.unwrap_or(i64::MAX);
        let mtime = Timestamp::from_seconds(mtime.seconds.min(latest));
        Ok(Entry { permissions, uid, gid, mtime, xattrs, ..Entry::new(entry_path(path)?, kind) })
    }

    fn add(&mut self, path: &RelPath, new: &NewEntry, destination: &Destination<'_>) -> CopyResult<()> {
        // The name of a file that comes first in the order carries the data.
        let first = match &new.kind {
            NewKind::HardLink(first) => first,
            NewKind::File { .. } => path,
            _ => return self.add_plain(path, new),
        };
        let owner = (new.owner.uid, new.owner.gid);
        if let Some(written) = self.first_names.get(first) {
            let kind = EntryKind::HardLink { target: entry_path(written)? };
            let entry = self.entry(path, kind, new.permissions, owner, new.mtime, Vec::new())?;
            return self.writer.append_empty(&entry).map_err(CopyError::Write);
        }
        let Some(NewEntry { kind: NewKind::File { size, content }, mtime, .. }) = destination.entries().get(first)
        else {
            let detail = "a link to a file that is not copied".to_owned();
            return Err(CopyError::Unrepresentable { path: path.clone(), detail });
        };
        let kind = EntryKind::File { size: *size, extents: Vec::new() };
        let entry = self.entry(path, kind, new.permissions, owner, new.mtime, new.xattrs.clone())?;
        let mut data = self.data.open(path, content, *size)?;
        self.writer.append(&entry, &mut data).map_err(|error| match error {
            ArchiveError::ShortSource { .. } | ArchiveError::LongSource { .. } => {
                CopyError::Changing { path: path.clone() }
            }
            other => CopyError::Write(other),
        })?;
        if !self.data.is_unchanged(content, *mtime)? {
            return Err(CopyError::Changing { path: path.clone() });
        }
        self.first_names.insert(first.clone(), path.clone());
        Ok(())
    }

    fn add_plain(&mut self, path: &RelPath, new: &NewEntry) -> CopyResult<()> {
        let kind = match &new.kind {
            NewKind::Directory { .. } => EntryKind::Directory,
            NewKind::Symlink(target) => EntryKind::Symlink { target: target.clone() },
            NewKind::CharDevice(device) => EntryKind::CharDevice { device: *device },
            NewKind::BlockDevice(device) => EntryKind::BlockDevice { device: *device },
            NewKind::Fifo => EntryKind::Fifo,
            NewKind::File { .. } | NewKind::HardLink(_) => return Ok(()),
        };
        let owner = (new.owner.uid, new.owner.gid);
        let entry = self.entry(path, kind, new.permissions, owner, new.mtime, new.xattrs.clone())?;
        self.writer.append_empty(&entry).map_err(CopyError::Write)
    }
}

fn entry_path(path: &RelPath) -> CopyResult<EntryPath> {
    let refused = |detail: String| CopyError::Unrepresentable { path: path.clone(), detail };
    if path.names().iter().any(|name| name.starts_with(WHITEOUT_PREFIX)) {
        return Err(refused("a name that begins with `.wh.` cannot stand in an image layer".to_owned()));
    }
    EntryPath::parse(&path.to_bytes(), &Limits::default()).map_err(|error| refused(error.to_string()))
}

/// The data of a file in an archive, holes as zeros.
#[derive(Debug)]
pub struct Pieces<'a> {
    file: &'a File,
    extents: &'a [Extent],
    size: u64,
    offset: u64,
}

impl<'a> Pieces<'a> {
    /// The data that `extents` of `file` hold.
    pub fn new(file: &'a File, extents: &'a [Extent], size: u64) -> Self {
        Self { file, extents, size, offset: 0 }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.extents.first().is_some_and(|extent| extent.file_offset + extent.length <= self.offset) {
            self.extents = self.extents.get(1..).unwrap_or_default();
        }
        let (run, data) = match self.extents.first() {
            Some(extent) if extent.file_offset <= self.offset => {
                let done = self.offset - extent.file_offset;
                (extent.length - done, Some(extent.archive_offset + done))
            }
            Some(extent) => (extent.file_offset - self.offset, None),
            None => (self.size.saturating_sub(self.offset), None),
        };
        let wanted = usize::try_from(run).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted) else { return Ok(0) };
        let count = if let Some(at) = data {
            self.file.read_at(buffer, at)?
        } else {
            buffer.fill(0);
            wanted
        };
        self.offset += count as u64;
        Ok(count)
    }
}
