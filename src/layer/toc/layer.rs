//! The layer that answers from a TOC and a tar.

use super::format::{self, EntryRecord, InodeRecord};
use super::tables::{Checked, Damage, Tables};
use super::{DataSource, DiffId, Extents, LocalTar, OpenError};
use crate::model::{DeviceNumber, FileKind, Meta, Timestamp};
use crate::union::{Entry, EntryKind, Layer, LayerError, LayerResult, LocalIno, Totals};
use std::borrow::Cow;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Number of the root.
const ROOT: u64 = 1;

/// Equal sets of extended attributes are stored once, so a layer has few; where it has more, looking at all of them would make
/// mounting slower.
const MOST_XATTRS_TO_LOOK_AT: usize = 10_000;

/// One layer of an image: a mapped TOC, and the tar it describes.
///
/// Metadata cost no system call, data one positioned read for each piece touched. Nothing allocates but listings of paths.
#[derive(Debug)]
pub struct TocLayer {
    label: String,
    pub(super) tables: Tables,
    source: Arc<dyn DataSource>,
}

impl TocLayer {
    /// The layer whose TOC is `toc` and whose tar is `tar`. Reads the header only, whatever the number of files.
    pub fn open(toc: File, tar: File, label: String) -> Result<Self, OpenError> {
        Self::open_with_source(toc, Arc::new(LocalTar::new(tar)), label)
    }

    /// The same with data from `source`.
    pub fn open_with_source(toc: File, source: Arc<dyn DataSource>, label: String) -> Result<Self, OpenError> {
        let tables = Tables::open(&toc)?;
        read_ahead(&toc);
        // The mapping stays without the descriptor.
        drop(toc);
        let found = source.size().map_err(|source| OpenError::Io { file: "tar", source })?;
        if found != tables.tar_size() {
            return Err(OpenError::TarSize { found, expected: tables.tar_size() });
        }
        Ok(Self { label, tables, source })
    }

    /// Where the data come from.
    pub fn source(&self) -> &Arc<dyn DataSource> {
        &self.source
    }

    /// The digest of the tar as the TOC has it. It is not checked against the tar.
    pub fn diff_id(&self) -> DiffId {
        self.tables.diff_id()
    }

    /// Number of objects, the root included; their inode numbers are 1 to this.
    pub fn inode_count(&self) -> u64 {
        u64::from(self.tables.inode_count())
    }

    /// Number and metadata of every object, in the order of a walk: depth first, names in the order of their bytes, a
    /// directory's own children together. Hard links into the layers below are left out.
    pub fn inodes(&self) -> impl Iterator<Item = LayerResult<(LocalIno, Meta)>> {
        (ROOT..=self.inode_count()).filter_map(|ino| {
            let ino = LocalIno(ino);
            let record = self.tables.inode(ino.0)?;
            (record.mode.get() & libc::S_IFMT != 0).then(|| Ok((ino, self.meta(ino)?)))
        })
    }

    /// Where the data of the file `ino` lie in the tar, without allocating or reading them. For what reads the source itself:
    /// prefetch, copying inside the kernel.
    pub fn extents(&self, ino: LocalIno) -> LayerResult<Extents<'_>> {
        let record = self.record_of(ino, FileKind::File)?;
        self.file_extents(record).map_err(|damage| self.damaged(damage))
    }

    /// Where the first header of the object lies in the tar; for an implied directory, that of the first entry below it.
    pub fn header_offset(&self, ino: LocalIno) -> LayerResult<u64> {
        Ok(self.record(ino)?.header_offset.get())
    }

    /// The path of the directory `dir` from the root, components joined by `/`.
    pub fn directory_path(&self, dir: LocalIno) -> LayerResult<Vec<u8>> {
        let record = self.record_of(dir, FileKind::Directory)?;
        self.path_of(dir.0, record).map_err(|damage| self.damaged(damage))
    }

    pub(super) fn path_of<'a>(&'a self, mut ino: u64, mut record: &'a InodeRecord) -> Checked<Vec<u8>> {
        let mut names = Vec::new();
        while ino != ROOT {
            let (parent, entry) = format::split_place(record.size.get());
            let parent = u64::from(parent);
            // Numbers fall on the way up, so it ends.
            if parent >= ino {
                return Err(Damage("a directory that is younger than its parent"));
            }
            names.push(self.tables.name(self.tables.entry(entry)?)?);
            record = self.tables.inode(parent).ok_or(Damage("a directory without parent"))?;
            ino = parent;
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }

    /// Neighbours in the list are siblings, or parent and child, so paths grow from the one before: deep trees cost no more than
    /// flat ones.
    fn visit_implied(&self, visit: &mut dyn FnMut(&[u8], LocalIno)) -> Checked<()> {
        let (mut path, mut parent, mut parent_length, mut last) = (Vec::new(), ROOT, 0, ROOT);
        for ino in self.tables.implied() {
            let ino = u64::from(ino.get());
            let record = self.tables.inode(ino).filter(|record| kind_of(record) == Some(FileKind::Directory));
            let (own_parent, entry) = record
                .map(|record| format::split_place(record.size.get()))
                .ok_or(Damage("an implied directory that is none"))?;
            let own_parent = u64::from(own_parent);
            if own_parent == parent {
                path.truncate(parent_length);
            } else if own_parent != last {
                let record = self.tables.inode(own_parent).ok_or(Damage("a directory without parent"))?;
                path = self.path_of(own_parent, record)?;
            }
            (parent, parent_length, last) = (own_parent, path.len(), ino);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(self.tables.name(self.tables.entry(entry)?)?);
            visit(&path, LocalIno(ino));
        }
        Ok(())
    }

    /// Looks at every entry, but makes paths of those only that are wanted.
    fn visit_links_below(&self, visit: &mut dyn FnMut(&[u8])) -> Checked<()> {
        for dir in ROOT..=self.inode_count() {
            let Some(record) = self.tables.inode(dir).filter(|record| kind_of(record) == Some(FileKind::Directory))
            else {
                continue;
            };
            let mut path = None;
            for entry in self.tables.entries(record)? {
                if entry.kind != 0 || entry.flags & format::ENTRY_WHITEOUT != 0 {
                    continue;
                }
                let path: &mut Vec<u8> = match &mut path {
                    Some(path) => path,
                    none => none.insert(self.path_of(dir, record)?),
                };
                let length = path.len();
                if length > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(self.tables.name(entry)?);
                visit(path);
                path.truncate(length);
            }
        }
        Ok(())
    }

    pub(super) fn file_extents(&self, record: &InodeRecord) -> Checked<Extents<'_>> {
        let (size, tar_size) = (record.size.get(), self.tables.tar_size());
        if record.flags.get() & format::EXTENTS != 0 {
            return Ok(Extents::mapped(self.tables.extents(record)?, size, tar_size));
        }
        Extents::single(record.first.get(), size, tar_size)
    }

    fn absent(&self, ino: LocalIno) -> LayerError {
        LayerError::NoSuchInode { layer: self.label.clone(), ino: ino.0 }
    }

    pub(super) fn damaged(&self, damage: Damage) -> LayerError {
        LayerError::Damaged { layer: self.label.clone(), detail: damage.0.to_owned() }
    }

    pub(super) fn record(&self, ino: LocalIno) -> LayerResult<&InodeRecord> {
        self.tables.inode(ino.0).ok_or_else(|| self.absent(ino))
    }

    /// The record of `ino`, which must be of type `kind`.
    fn record_of(&self, ino: LocalIno, kind: FileKind) -> LayerResult<&InodeRecord> {
        let record = self.record(ino)?;
        if kind_of(record) == Some(kind) { Ok(record) } else { Err(self.absent(ino)) }
    }

    /// What the entry `entry` of the directory `dir` is.
    pub(super) fn entry_kind(&self, dir: LocalIno, entry: &EntryRecord) -> Checked<EntryKind> {
        if entry.flags & format::ENTRY_WHITEOUT != 0 {
            return Ok(EntryKind::Whiteout);
        }
        let ino = LocalIno(u64::from(entry.ino.get()));
        if entry.kind == 0 {
            return Ok(EntryKind::LinkBelow { ino });
        }
        let kind = FileKind::from_mode(u32::from(entry.kind) << 12).ok_or(Damage("an entry of no type"))?;
        let mut implied = false;
        if kind == FileKind::Directory {
            let record = self.tables.inode(ino.0).ok_or(Damage("an entry without inode"))?;
            let (parent, _) = format::split_place(record.size.get());
            // One parent each, and an older one: what hangs below the root is a tree.
            if kind_of(record) != Some(kind) || u64::from(parent) != dir.0 || ino <= dir {
                return Err(Damage("a directory in the wrong place"));
            }
            implied = record.flags.get() & format::IMPLIED != 0;
        }
        let opaque = entry.flags & format::ENTRY_OPAQUE != 0 || kind != FileKind::Directory;
        Ok(EntryKind::Node { ino, kind, opaque, implied })
    }

    fn list(&self, dir: LocalIno, record: &InodeRecord, visit: &mut dyn FnMut(Entry<'_>)) -> Checked<()> {
        let mut last: &[u8] = &[];
        for entry in self.tables.entries(record)? {
            let name = self.tables.name(entry)?;
            if name <= last {
                return Err(Damage("names out of order"));
            }
            last = name;
            visit(Entry { name: Cow::Borrowed(name), kind: self.entry_kind(dir, entry)? });
        }
        Ok(())
    }

    fn times(&self, ino: LocalIno, record: &InodeRecord) -> Checked<(Timestamp, Timestamp, Timestamp)> {
        let mtime = timestamp(record.mtime_seconds.get(), record.mtime_nanoseconds.get());
        if record.flags.get() & format::TIMES == 0 {
            return Ok((mtime, mtime, mtime));
        }
        let times = self.tables.times(ino.0)?;
        let atime = timestamp(times.atime_seconds.get(), times.atime_nanoseconds.get());
        Ok((atime, mtime, timestamp(times.ctime_seconds.get(), times.ctime_nanoseconds.get())))
    }

    /// Size and blocks of 512 bytes.
    fn space(&self, record: &InodeRecord, kind: FileKind) -> Checked<(u64, u64)> {
        Ok(match kind {
            FileKind::File => (record.size.get(), self.file_extents(record)?.total().div_ceil(512)),
            FileKind::Symlink => (record.size.get(), 0),
            _ => (0, 0),
        })
    }

    /// The target of the link `record`, in the heap.
    fn target(&self, record: &InodeRecord) -> LayerResult<Cow<'_, [u8]>> {
        let target = self.tables.text(record.first.get(), record.size.get());
        target.map(Cow::Borrowed).map_err(|damage| self.damaged(damage))
    }

    /// The value of `name`; there are few, so they are tried in turn.
    fn find_xattr(&self, record: &InodeRecord, name: &[u8]) -> Checked<Option<&[u8]>> {
        for xattr in self.tables.xattrs(record)? {
            if self.tables.text(xattr.name_offset.get().into(), xattr.name_length.get().into())? == name {
                return self.tables.text(xattr.value_offset.get().into(), xattr.value_length.get().into()).map(Some);
            }
        }
        Ok(None)
    }
}

fn timestamp(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds.min(999_999_999) }
}

pub(super) fn kind_of(record: &InodeRecord) -> Option<FileKind> {
    FileKind::from_mode(record.mode.get())
}

/// Has the kernel read a table of contents in one go, in the background: a cold walk would otherwise fault it in piece by piece.
/// Of a very large one only the beginning, so that mounting does not fill the memory.
fn read_ahead(toc: &File) {
    let length = NonZeroU64::new(MOST_READ_AHEAD);
    if let Err(error) = rustix::fs::fadvise(toc, 0, length, rustix::fs::Advice::WillNeed) {
        log::debug!("read-ahead of a table of contents: {error}");
    }
}

/// Bytes of a table of contents that are read ahead: that of some 300,000 files.
const MOST_READ_AHEAD: u64 = 32 << 20;

impl Layer for TocLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn root(&self) -> LocalIno {
        LocalIno(ROOT)
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        Ok(self.record(LocalIno(ROOT))?.flags.get() & format::OPAQUE != 0)
    }

    fn root_is_implied(&self) -> bool {
        self.tables.inode(ROOT).is_some_and(|record| record.flags.get() & format::IMPLIED != 0)
    }

    fn entries(&self, dir: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        let record = self.record_of(dir, FileKind::Directory)?;
        self.list(dir, record, visit).map_err(|damage| self.damaged(damage))
    }

    fn lookup(&self, dir: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>> {
        let record = self.record_of(dir, FileKind::Directory)?;
        let find = || match self.tables.find(self.tables.entries(record)?, name)? {
            Some(entry) => self.entry_kind(dir, entry).map(Some),
            None => Ok(None),
        };
        find().map_err(|damage| self.damaged(damage))
    }

    fn link_target(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        let record = self.record(ino)?;
        if record.mode.get() & libc::S_IFMT != 0 {
            return Err(self.absent(ino));
        }
        self.target(record)
    }

    fn has_links_below(&self) -> bool {
        self.tables.links_below() > 0
    }

    fn links_below(&self, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        self.visit_links_below(visit).map_err(|damage| self.damaged(damage))
    }

    fn implied_directories(&self, visit: &mut dyn FnMut(&[u8], LocalIno)) -> LayerResult<()> {
        self.visit_implied(visit).map_err(|damage| self.damaged(damage))
    }

    fn only_whiteouts(&self, dir: LocalIno) -> LayerResult<bool> {
        Ok(self.record_of(dir, FileKind::Directory)?.flags.get() & format::ONLY_WHITEOUTS != 0)
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        let record = self.record(ino)?;
        let kind = kind_of(record).ok_or_else(|| self.absent(ino))?;
        let (atime, mtime, ctime) = self.times(ino, record).map_err(|damage| self.damaged(damage))?;
        let (size, blocks) = self.space(record, kind).map_err(|damage| self.damaged(damage))?;
        let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        let device = if is_device { record.first.get() } else { 0 };
        Ok(Meta {
            kind,
            // A tar may say anything; on Linux symlinks have all permissions (symlink(7)).
            permissions: if kind == FileKind::Symlink { 0o777 } else { (record.mode.get() & 0o7777) as u16 },
            uid: record.uid.get(),
            gid: record.gid.get(),
            nlink: record.nlink.get().max(1),
            device: DeviceNumber { major: (device >> 32) as u32, minor: device as u32 },
            size,
            blocks,
            atime,
            mtime,
            ctime,
        })
    }

    fn read_link(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        self.target(self.record_of(ino, FileKind::Symlink)?)
    }

    fn read_at(&self, ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize> {
        let record = self.record_of(ino, FileKind::File)?;
        super::data::read_at(self, record, offset, buffer)
    }

    fn backing_file(&self, ino: LocalIno) -> LayerResult<Option<(Arc<OwnedFd>, u64)>> {
        let extents = self.extents(ino)?;
        let whole = extents.get(0).filter(|extent| extent.length == extents.size());
        Ok(whole.and_then(|extent| Some((self.source.backing_file()?, extent.archive_offset))))
    }

    fn seek(&self, ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>> {
        let record = self.record_of(ino, FileKind::File)?;
        super::data::seek(self, record, offset, hole).map_err(|damage| self.damaged(damage))
    }

    fn totals(&self) -> Totals {
        Totals { bytes: self.tables.tar_size(), inodes: self.tables.inode_count().into() }
    }

    fn may_have_xattrs(&self, prefix: &[u8]) -> bool {
        let mut all = self.tables.all_xattrs();
        if all.len() > MOST_XATTRS_TO_LOOK_AT {
            return true;
        }
        all.any(|xattr| {
            let name = self.tables.text(xattr.name_offset.get().into(), xattr.name_length.get().into());
            // What cannot be read may be anything.
            name.map_or(true, |name| name.starts_with(prefix))
        })
    }

    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        let value = self.find_xattr(self.record(ino)?, name).map_err(|damage| self.damaged(damage))?;
        Ok(value.map(Cow::Borrowed))
    }

    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        let record = self.record(ino)?;
        let mut list = || {
            for xattr in self.tables.xattrs(record)? {
                visit(self.tables.text(xattr.name_offset.get().into(), xattr.name_length.get().into())?);
            }
            Ok(())
        };
        list().map_err(|damage| self.damaged(damage))
    }
}
