//! Implied directories over symlinks of lower layers.
//!
//! A tar may hold `lib/x` without `lib`. Where a lower layer has a symlink `lib -> usr/lib`, unpacking puts the file into
//! `usr/lib`, as containerd and umoci do. So the entries of such a directory are moved to the symlink's target, once,
//! when the stack is built. And whiteouts in a directory that is not there are ignored: they do not make it.
//! A layer without such directories, which is nearly every one, stays as it is.

use super::stack::Walk;
use super::{Entry, EntryKind, Layer, LayerResult, LocalIno, Marks, Node, Stack, Totals};
use crate::model::{FileKind, Meta, Name, RelPath};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Directories that exist only because something was moved into them are numbered from here: above the numbers of any
/// table of contents.
const FIRST_MADE: u64 = 1 << 47;

/// `layer` as it shows on top of `below`.
pub(super) fn onto(below: &Stack, layer: Arc<dyn Layer>) -> LayerResult<Arc<dyn Layer>> {
    let mut implied = Vec::new();
    layer.implied_directories(&mut |path, _| implied.extend(RelPath::parse(path)))?;
    if implied.is_empty() {
        return Ok(layer);
    }
    let mut grafted = Grafted { inner: layer, edited: HashMap::new(), root_is_opaque: false, made: Vec::new() };
    let mut moves: Vec<(RelPath, RelPath)> = Vec::new();
    for path in implied {
        let here = moves.iter().rev().find_map(|(from, to)| relocated(&path, from, to)).unwrap_or_else(|| path.clone());
        if let Some(target) = grafted.settle(below, &here)? {
            moves.push((path, target));
        }
    }
    Ok(if grafted.edited.is_empty() { grafted.inner } else { Arc::new(grafted) })
}

/// `path` when everything at `from` has been moved to `to`.
fn relocated(path: &RelPath, from: &RelPath, to: &RelPath) -> Option<RelPath> {
    let rest = path.names().strip_prefix(from.names())?;
    Some(to.names().iter().chain(rest).cloned().collect())
}

type Entries = BTreeMap<Box<[u8]>, EntryKind>;

/// What a layer itself has at a path.
enum Own {
    Entry(EntryKind),
    /// Nothing, and layers below do not show through.
    Hidden,
    /// Nothing: what the layers below have shows through.
    Through,
}

/// A layer some directories of which have other entries than the layer itself has.
#[derive(Debug)]
struct Grafted {
    inner: Arc<dyn Layer>,
    edited: HashMap<LocalIno, Entries>,
    /// Whether an opaque mark was moved into the root.
    root_is_opaque: bool,
    /// For each directory made here the one whose metadata it has.
    made: Vec<LocalIno>,
}

impl Grafted {
    fn edit(&mut self, directory: LocalIno) -> LayerResult<&mut Entries> {
        if !self.edited.contains_key(&directory) {
            let mut entries = Entries::new();
            self.inner.entries(directory, &mut |entry| {
                entries.insert(entry.name.as_ref().into(), entry.kind);
            })?;
            self.edited.insert(directory, entries);
        }
        Ok(self.edited.entry(directory).or_default())
    }

    /// Finds the right place for the implied directory at `path`; returns it when it is another one.
    fn settle(&mut self, below: &Stack, path: &RelPath) -> LayerResult<Option<RelPath>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let Some(directory) = self.directory(&parent)? else { return Ok(None) };
        let Some(EntryKind::Node { ino, kind: FileKind::Directory, opaque, implied }) = self.lookup(directory, name)?
        else {
            return Ok(None);
        };
        let lower = if self.hides_lower_layers(&parent)? { None } else { below.resolve(path)? };
        let target = match lower {
            Some(Node::Directory(_)) => return Ok(None),
            // A whiteout beside it, which says that it is not implied, has removed the symlink.
            Some(Node::Other { kind: FileKind::Symlink, .. }) if implied => self.symlink_target(below, path)?,
            _ => None,
        };
        let exists = match &target {
            Some(target) => matches!(below.resolve(target)?, Some(Node::Directory(_))),
            None => false,
        };
        if !exists && self.only_whiteouts(ino)? {
            let entries = self.edit(directory)?;
            // An opaque mark in what is no directory hides nothing, a whiteout beside it does.
            if opaque && !implied {
                entries.insert(name.as_bytes().into(), EntryKind::Whiteout);
            } else {
                entries.remove(name.as_bytes());
            }
            return Ok(None);
        }
        match target {
            Some(target) if self.relocate(path, &target)? => Ok(Some(target)),
            _ => Ok(None),
        }
    }

    /// What the layer has at `path`, symlinks not followed.
    fn own(&self, path: &RelPath) -> LayerResult<Own> {
        let (mut directory, mut hidden) = (self.root(), self.root_is_opaque()?);
        let mut names = path.names().iter().peekable();
        while let Some(name) = names.next() {
            match self.lookup(directory, name)? {
                Some(entry) if names.peek().is_none() => return Ok(Own::Entry(entry)),
                Some(EntryKind::Node { ino, kind: FileKind::Directory, opaque, .. }) => {
                    directory = ino;
                    hidden |= opaque;
                }
                Some(_) => return Ok(Own::Hidden),
                None => break,
            }
        }
        Ok(if hidden { Own::Hidden } else { Own::Through })
    }

    /// Where the symlink leads that the layers below have at `path`, when it leads to a directory or to nothing yet.
    fn symlink_target(&self, below: &Stack, path: &RelPath) -> LayerResult<Option<RelPath>> {
        let mut walk = Walk::new(&path.to_bytes());
        while let Some(component) = walk.next_component() {
            let Ok(name) = Name::new(&component) else { return Ok(None) };
            let here = walk.real_path().join(name);
            // What the layer has at `path` is what is to be moved.
            let own = if here == *path { Own::Through } else { self.own(&here)? };
            let symlink = match own {
                Own::Entry(EntryKind::Node { ino, kind: FileKind::Symlink, .. }) => Some(self.read_link(ino)?),
                Own::Entry(EntryKind::Node { kind: FileKind::Directory, .. } | EntryKind::Whiteout) | Own::Hidden => {
                    None
                }
                Own::Entry(EntryKind::Node { .. } | EntryKind::LinkBelow { .. }) => return Ok(None),
                Own::Through => match below.resolve(&here)? {
                    Some(Node::Other { source, kind: FileKind::Symlink, .. }) => {
                        Some(below.layer(source.layer)?.read_link(source.ino)?)
                    }
                    Some(Node::Other { .. }) => return Ok(None),
                    Some(Node::Directory(_)) | None => None,
                },
            };
            match symlink {
                Some(target) if !walk.follow(&target) => return Ok(None),
                Some(_) => {}
                None => walk.enter(component),
            }
        }
        Ok(Some(walk.real_path()))
    }

    /// Whether lower layers do not show through at `path`.
    fn hides_lower_layers(&self, path: &RelPath) -> LayerResult<bool> {
        let mut directory = self.root();
        if self.root_is_opaque()? {
            return Ok(true);
        }
        for name in path.names() {
            match self.lookup(directory, name)? {
                Some(EntryKind::Node { ino, kind: FileKind::Directory, opaque: false, .. }) => directory = ino,
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Moves the directory at `from` to `to`; false when there is something else in the way.
    fn relocate(&mut self, from: &RelPath, to: &RelPath) -> LayerResult<bool> {
        let (Some(parent), Some(name)) = (from.parent(), from.file_name()) else { return Ok(false) };
        let Some(parent) = self.directory(&parent)? else { return Ok(false) };
        let Some(EntryKind::Node { ino: moved, kind: FileKind::Directory, opaque, .. }) = self.lookup(parent, name)?
        else {
            return Ok(false);
        };
        if to.starts_with(from) {
            return Ok(false);
        }
        let Some(target) = self.ensure_directory(to, moved)? else { return Ok(false) };
        self.edit(parent)?.remove(name.as_bytes());
        self.merge_into(target, moved)?;
        if opaque {
            self.make_opaque(to)?;
        }
        Ok(true)
    }

    /// Marks the directory of this layer at `path` opaque.
    fn make_opaque(&mut self, path: &RelPath) -> LayerResult<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            self.root_is_opaque = true;
            return Ok(());
        };
        let Some(parent) = self.directory(&parent)? else { return Ok(()) };
        if let Some(EntryKind::Node { opaque, .. }) = self.edit(parent)?.get_mut(name.as_bytes()) {
            *opaque = true;
        }
        Ok(())
    }

    fn child_directory(&self, parent: LocalIno, name: &[u8]) -> LayerResult<Option<LocalIno>> {
        Ok(match self.lookup(parent, name)? {
            Some(EntryKind::Node { ino, kind: FileKind::Directory, .. }) => Some(ino),
            _ => None,
        })
    }

    fn directory(&self, path: &RelPath) -> LayerResult<Option<LocalIno>> {
        let mut directory = self.root();
        for name in path.names() {
            match self.child_directory(directory, name)? {
                Some(child) => directory = child,
                None => return Ok(None),
            }
        }
        Ok(Some(directory))
    }

    /// The directory at `path`, made where it is missing; none when something else stands there.
    fn ensure_directory(&mut self, path: &RelPath, like: LocalIno) -> LayerResult<Option<LocalIno>> {
        let mut directory = self.root();
        for name in path.names() {
            let opaque = match self.lookup(directory, name)? {
                Some(EntryKind::Node { ino, kind: FileKind::Directory, .. }) => {
                    directory = ino;
                    continue;
                }
                Some(EntryKind::Node { .. } | EntryKind::LinkBelow { .. }) => return Ok(None),
                Some(EntryKind::Whiteout) => true,
                None => false,
            };
            let ino = LocalIno(FIRST_MADE + self.made.len() as u64);
            self.made.push(like);
            self.edited.insert(ino, Entries::new());
            // Nothing is inherited from what a whiteout has removed.
            let made = EntryKind::Node { ino, kind: FileKind::Directory, opaque, implied: !opaque };
            self.edit(directory)?.insert(name.as_bytes().into(), made);
            directory = ino;
        }
        Ok(Some(directory))
    }

    /// Adds the entries of `moved` to `target`; what `target` has itself stays.
    fn merge_into(&mut self, target: LocalIno, moved: LocalIno) -> LayerResult<()> {
        let mut entries = Vec::new();
        self.entries(moved, &mut |entry| entries.push((Box::<[u8]>::from(entry.name.as_ref()), entry.kind)))?;
        for (name, kind) in entries {
            let present = self.edit(target)?.get(&name).copied();
            match (present, kind) {
                (None, kind) => {
                    self.edit(target)?.insert(name, kind);
                }
                (Some(EntryKind::Whiteout), EntryKind::Node { ino, kind, .. }) => {
                    self.edit(target)?.insert(name, EntryKind::Node { ino, kind, implied: false, opaque: true });
                }
                (
                    Some(EntryKind::Node { ino: kept, kind: FileKind::Directory, .. }),
                    EntryKind::Node { ino, kind: FileKind::Directory, .. },
                ) => self.merge_into(kept, ino)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The inode that the layer itself knows for `ino`.
    fn inner_ino(&self, ino: LocalIno) -> LocalIno {
        let made = ino.0.checked_sub(FIRST_MADE).and_then(|at| self.made.get(usize::try_from(at).ok()?));
        made.copied().unwrap_or(ino)
    }
}

impl Layer for Grafted {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn root(&self) -> LocalIno {
        self.inner.root()
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        Ok(self.root_is_opaque || self.inner.root_is_opaque()?)
    }

    fn root_is_implied(&self) -> bool {
        self.inner.root_is_implied()
    }

    fn totals(&self) -> Totals {
        self.inner.totals()
    }

    fn entries(&self, directory: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        let Some(entries) = self.edited.get(&directory) else { return self.inner.entries(directory, visit) };
        for (name, kind) in entries {
            visit(Entry { name: Cow::Borrowed(name), kind: *kind });
        }
        Ok(())
    }

    fn lookup(&self, directory: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>> {
        match self.edited.get(&directory) {
            Some(entries) => Ok(entries.get(name).copied()),
            None => self.inner.lookup(directory, name),
        }
    }

    fn link_target(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        self.inner.link_target(ino)
    }

    fn has_links_below(&self) -> bool {
        self.inner.has_links_below()
    }

    fn links_below(&self, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        super::links::walk(self, visit)
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        self.inner.meta(self.inner_ino(ino))
    }

    fn read_link(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        self.inner.read_link(ino)
    }

    fn read_at(&self, ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize> {
        self.inner.read_at(ino, offset, buffer)
    }

    fn backing_file(&self, ino: LocalIno) -> LayerResult<Option<(Arc<OwnedFd>, u64)>> {
        self.inner.backing_file(ino)
    }

    fn seek(&self, ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>> {
        self.inner.seek(ino, offset, hole)
    }

    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        self.inner.xattr(self.inner_ino(ino), name)
    }

    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        self.inner.xattr_names(self.inner_ino(ino), visit)
    }

    fn may_have_xattrs(&self, prefix: &[u8]) -> bool {
        self.inner.may_have_xattrs(prefix)
    }

    fn keeps_marks(&self) -> bool {
        self.inner.keeps_marks()
    }

    fn marks(&self, ino: LocalIno) -> LayerResult<Marks> {
        self.inner.marks(self.inner_ino(ino))
    }

    fn forget(&self, ino: LocalIno, dir: LocalIno, name: &[u8]) {
        self.inner.forget(ino, dir, name);
    }
}
