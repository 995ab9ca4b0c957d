//! Where the name of an entry leads, symlinks of the same layer followed inside the root.

use super::tree::{HIDDEN, NodeId, ROOT};
use super::{AUFS_PREFIX, BuildError, Builder, WHITEOUT_PREFIX, problem};
use crate::archive::tar::Entry;
use crate::layer::toc::builder::inodes::Data;

/// Symlinks followed in one name before giving up (`MAXSYMLINKS`, include/linux/namei.h).
const MAX_SYMLINKS: usize = 40;

/// Components walked for one name, those of symlinks' targets included; bounds what hostile targets cost.
const MAX_STEPS: usize = 1 << 16;

/// Where a directory part leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// To a directory; `hidden` when that is aufs's metadata.
    Directory { node: NodeId, hidden: bool },
    /// Through or to something else.
    NoDirectory,
}

/// The directory of the entry before: archives name one directory's entries in a row.
#[derive(Debug, Default)]
pub(super) struct ParentCache {
    path: Vec<u8>,
    place: Option<(NodeId, bool)>,
}

impl ParentCache {
    /// Forgets the directory; needed whenever a name that existed gets another object.
    pub(super) fn clear(&mut self) {
        self.place = None;
    }

    fn get(&self, path: &[u8]) -> Option<Place> {
        let (node, hidden) = self.place.filter(|_| self.path == path)?;
        Some(Place::Directory { node, hidden })
    }

    fn set(&mut self, path: &[u8], place: Place) {
        if let Place::Directory { node, hidden } = place {
            self.path.clear();
            self.path.extend_from_slice(path);
            self.place = Some((node, hidden));
        }
    }
}

/// A walk from the root: a directory that exists, and names below it that do not.
#[derive(Debug)]
struct Walk {
    node: NodeId,
    missing: Vec<Vec<u8>>,
    /// Components still to go, the next one last.
    rest: Vec<Vec<u8>>,
    symlinks: usize,
    steps: usize,
}

/// How a walk ended.
#[derive(Debug)]
pub(super) enum WalkEnd {
    /// At a directory of the layer, followed by names that the layer does not have yet.
    At(NodeId, Vec<Vec<u8>>),
    /// At something that is no directory.
    Blocked,
    /// In circles.
    Loop,
}

impl Builder {
    /// The directory `path`, which is that of `entry`; made where the layer does not have it.
    pub(super) fn ensure_parent(&mut self, path: &[u8], entry: &Entry) -> Result<Place, BuildError> {
        if let Some(place) = self.cache.get(path) {
            return Ok(place);
        }
        let hidden = is_hidden(path).map_err(|()| problem(entry, "a whiteout is no directory"))?;
        let (mut node, missing) = match self.walk(path) {
            WalkEnd::At(node, missing) => (node, missing),
            WalkEnd::Blocked => return Ok(Place::NoDirectory),
            WalkEnd::Loop => return Err(problem(entry, "too many symlinks in its path")),
        };
        for name in missing {
            node = self.ensure_node(node, &name)?;
            if name.starts_with(AUFS_PREFIX) {
                self.tree.add_flags(node, HIDDEN);
            }
            self.ensure_directory(node, entry)?;
        }
        let place = Place::Directory { node, hidden };
        self.cache.set(path, place);
        Ok(place)
    }

    /// Walks along `path` from the root without changing anything.
    pub(super) fn walk(&self, path: &[u8]) -> WalkEnd {
        let mut walk = Walk { node: ROOT, missing: Vec::new(), rest: Vec::new(), symlinks: 0, steps: 0 };
        let mut rest = path;
        // As long as directories follow each other, nothing needs to be kept.
        while !rest.is_empty() {
            let (name, after) = split_first(rest);
            match self.tree.child(walk.node, name) {
                Some(child) if self.is_directory(child) => walk.node = child,
                _ => break,
            }
            rest = after;
        }
        walk.push(rest);
        self.walk_on(walk)
    }

    fn walk_on(&self, mut walk: Walk) -> WalkEnd {
        while let Some(name) = walk.rest.pop() {
            walk.steps += 1;
            if walk.steps > MAX_STEPS {
                return WalkEnd::Loop;
            }
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if walk.missing.pop().is_none() {
                        walk.node = self.tree.node(walk.node).parent;
                    }
                    continue;
                }
                _ => {}
            }
            let child = if walk.missing.is_empty() { self.tree.child(walk.node, &name) } else { None };
            match child.and_then(|child| Some((child, self.inodes.get(self.tree.node(child).inode)?.data))) {
                None => walk.missing.push(name),
                Some((child, Data::Directory { .. })) => walk.node = child,
                Some((_, Data::Symlink { offset, length })) => {
                    walk.symlinks += 1;
                    if walk.symlinks > MAX_SYMLINKS {
                        return WalkEnd::Loop;
                    }
                    let target = self.inodes.string(offset, length);
                    if target.starts_with(b"/") {
                        walk.node = ROOT;
                    }
                    walk.push(target);
                }
                Some(_) => return WalkEnd::Blocked,
            }
        }
        WalkEnd::At(walk.node, walk.missing)
    }

    fn is_directory(&self, node: NodeId) -> bool {
        let inode = self.inodes.get(self.tree.node(node).inode);
        matches!(inode.map(|inode| inode.data), Some(Data::Directory { .. }))
    }
}

impl Walk {
    /// Puts the components of `path` before those still to go.
    fn push(&mut self, path: &[u8]) {
        self.rest.extend(path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }
}

/// The first component and what follows it.
fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
    let (name, rest) = path.split_at(slash);
    (name, rest.get(1..).unwrap_or_default())
}

/// Whether `path` leads into aufs's metadata; an error where it leads through any other mark.
fn is_hidden(path: &[u8]) -> Result<bool, ()> {
    let mut hidden = false;
    for name in path.split(|&byte| byte == b'/').filter(|name| name.starts_with(WHITEOUT_PREFIX)) {
        if !name.starts_with(AUFS_PREFIX) || name == super::OPAQUE_MARK {
            return Err(());
        }
        hidden = true;
    }
    Ok(hidden)
}
