//! Where a copy goes: a stage as it is, and what the copy adds to it.

use super::error::{CopyError, CopyResult, reading};
use super::owner::Owner;
use super::resolve::{Lookup, resolve_in};
use super::tree::{Stat, Tree};
use crate::archive::tar::{Extent, Xattr};
use crate::model::{DeviceNumber, FileKind, RelPath, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the data of a new file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In a source tree.
    Tree {
        /// Which of the trees of the copy.
        tree: usize,
        /// Its path there.
        path: RelPath,
    },
    /// Here.
    Inline(Arc<[u8]>),
    /// In an uncompressed archive.
    Archive {
        /// Which of the archives of the copy.
        archive: usize,
        /// The pieces of the data.
        extents: Vec<Extent>,
    },
}

/// The type of a new object and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKind {
    /// A directory. `fresh` when the stage has none at this path, so that nothing of the stage shows in it.
    Directory {
        /// Whether it is new.
        fresh: bool,
    },
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Its data.
        content: Content,
    },
    /// Another name of a new file.
    HardLink(RelPath),
    /// A symlink.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
}

/// An object that the copy makes or changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// The type.
    pub kind: NewKind,
    /// Permission, setuid, setgid and sticky bits.
    pub permissions: u16,
    /// Owner and group.
    pub owner: Owner,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Extended attributes, ordered by name.
    pub xattrs: Vec<Xattr>,
}

/// How directories are made that nobody named: those that lead to a destination.
#[derive(Debug, Clone, Copy)]
pub struct Maker {
    /// Owner and group.
    pub owner: Owner,
    /// Permission bits.
    pub permissions: u16,
}

impl From<Owner> for Maker {
    fn from(owner: Owner) -> Self {
        Self { owner, permissions: 0o755 }
    }
}

/// A stage with what copies add to it.
#[derive(Debug)]
pub struct Destination<'a> {
    base: &'a dyn Tree,
    entries: BTreeMap<RelPath, NewEntry>,
    /// The time of directories that are made on the way.
    now: Timestamp,
}

impl NewEntry {
    fn file_kind(&self) -> FileKind {
        match self.kind {
            NewKind::Directory { .. } => FileKind::Directory,
            NewKind::File { .. } | NewKind::HardLink(_) => FileKind::File,
            NewKind::Symlink(_) => FileKind::Symlink,
            NewKind::CharDevice(_) => FileKind::CharDevice,
            NewKind::BlockDevice(_) => FileKind::BlockDevice,
            NewKind::Fifo => FileKind::Fifo,
        }
    }
}

impl Lookup for Destination<'_> {
    fn kind(&self, path: &RelPath) -> CopyResult<Option<FileKind>> {
        if let Some(entry) = self.entries.get(path) {
            return Ok(Some(entry.file_kind()));
        }
        if self.is_hidden(path) {
            return Ok(None);
        }
        Ok(self.base.stat(path).map_err(reading(path))?.map(|stat| stat.kind))
    }

    fn link(&self, path: &RelPath) -> CopyResult<Vec<u8>> {
        match self.entries.get(path).map(|entry| &entry.kind) {
            Some(NewKind::Symlink(target)) => Ok(target.clone()),
            _ => self.base.read_link(path).map_err(reading(path)),
        }
    }
}

/// A place without symlinks.
struct Nothing;

impl Lookup for Nothing {
    fn kind(&self, _path: &RelPath) -> CopyResult<Option<FileKind>> {
        Ok(None)
    }

    fn link(&self, _path: &RelPath) -> CopyResult<Vec<u8>> {
        Ok(Vec::new())
    }
}

impl<'a> Destination<'a> {
    /// Nothing is added to `base` yet.
    pub fn new(base: &'a dyn Tree, now: Timestamp) -> Self {
        Self { base, entries: BTreeMap::new(), now }
    }

    /// What was added, parents before what is in them.
    pub fn entries(&self) -> &BTreeMap<RelPath, NewEntry> {
        &self.entries
    }

    /// Whether an object was added above `path` that hides what the stage has there.
    fn is_hidden(&self, path: &RelPath) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let mut above = path.clone();
        while above.pop().is_some() {
            match self.entries.get(&above).map(|entry| &entry.kind) {
                None | Some(NewKind::Directory { fresh: false }) => {}
                Some(_) => return true,
            }
        }
        false
    }

    /// The real path of `path`, symlinks followed, the last one too. Without `follow`, no symlink is: what stands in the way
    /// is replaced (`--link`).
    pub(super) fn resolve(&self, path: &[u8], follow: bool) -> CopyResult<RelPath> {
        if follow {
            return resolve_in(self, path, true);
        }
        resolve_in(&Nothing, path, true)
    }

    /// Makes sure that the real path `path` and everything above it are directories, made by `maker` where they are missing.
    /// Without `follow`, what is no directory is replaced.
    pub(super) fn ensure_directories(&mut self, path: &RelPath, maker: Maker, follow: bool) -> CopyResult<()> {
        let Maker { owner, permissions } = maker;
        let mut current = RelPath::root();
        for name in path.names() {
            current.push(name.clone());
            match self.kind(&current)? {
                Some(FileKind::Directory) => {}
                Some(_) if follow => return Err(CopyError::NotADirectory { path: current }),
                _ => {
                    let kind = NewKind::Directory { fresh: true };
                    let entry = NewEntry { kind, permissions, owner, mtime: self.now, xattrs: Vec::new() };
                    self.put(current.clone(), entry)?;
                }
            }
        }
        Ok(())
    }

    /// Makes sure that `path`, symlinks followed, is a directory, made by `owner` where it is missing.
    pub fn make_directory(&mut self, path: &str, owner: Owner) -> CopyResult<()> {
        let real = self.resolve(path.as_bytes(), true)?;
        self.ensure_directories(&real, owner.into(), true)
    }

    /// Puts an object at the real path `path`, whose directory must be there. A directory takes the place of none but a
    /// directory, whose entries stay; a file replaces everything but a directory.
    pub(super) fn put(&mut self, path: RelPath, mut entry: NewEntry) -> CopyResult<()> {
        let existing = self.kind(&path)?;
        if let NewKind::Directory { fresh } = &mut entry.kind {
            // A directory that this copy made stays new when its metadata are set again.
            let made = matches!(self.entries.get(&path).map(|e| &e.kind), Some(NewKind::Directory { fresh: true }));
            *fresh = made || existing != Some(FileKind::Directory);
        } else if existing == Some(FileKind::Directory) {
            return Err(CopyError::IsADirectory { path });
        }
        self.break_links(&path);
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Forgets everything that was added below `path`.
    pub(super) fn remove_tree(&mut self, path: &RelPath) {
        let below: Vec<RelPath> = self.entries.keys().filter(|known| known.starts_with(path)).cloned().collect();
        for known in below.iter().rev() {
            self.break_links(known);
            self.entries.remove(known);
        }
    }

    /// Puts anything but a directory in the place of a directory, which was emptied by [`Self::remove_tree`]. In a layer
    /// the one hides the other with everything in it.
    pub(super) fn put_over_directory(&mut self, path: RelPath, entry: NewEntry) {
        self.entries.insert(path, entry);
    }

    /// When the first name of a new file is replaced, its next name becomes the file.
    fn break_links(&mut self, path: &RelPath) {
        let Some(NewKind::File { .. }) = self.entries.get(path).map(|entry| &entry.kind) else { return };
        let mut others = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(&entry.kind, NewKind::HardLink(target) if target == path))
            .map(|(other, _)| other.clone())
            .collect::<Vec<_>>()
            .into_iter();
        let Some(heir) = others.next() else { return };
        if let Some(original) = self.entries.get(path).cloned() {
            self.entries.insert(heir.clone(), original);
        }
        for other in others {
            if let Some(entry) = self.entries.get_mut(&other) {
                entry.kind = NewKind::HardLink(heir.clone());
            }
        }
    }

    /// The directories above what was added that the stage has already: a layer mentions them as they are.
    pub(super) fn parents(&self) -> CopyResult<BTreeMap<RelPath, (Stat, Vec<Xattr>)>> {
        let mut parents = BTreeMap::new();
        for path in self.entries.keys() {
            let mut above = path.clone();
            while above.pop().is_some() && !above.is_root() {
                if self.entries.contains_key(&above) || parents.contains_key(&above) {
                    break;
                }
                if let Some(stat) = self.base.stat(&above).map_err(reading(&above))? {
                    let xattrs = self.base.xattrs(&above).map_err(reading(&above))?;
                    parents.insert(above.clone(), (stat, xattrs));
                }
            }
        }
        Ok(parents)
    }
}
