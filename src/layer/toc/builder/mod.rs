//! From the entries of one archive to a TOC.
//!
//! What the rules of image layers say of a single archive is decided here:
//! 1. Entries take effect in their order, so the last one of a name wins: [`Builder::add`].
//! 2. Marks (`.wh.…`) do not depend on the order; they are flags of a name, not entries: [`tree`].
//! 3. Names may lead through symlinks of the same layer, and end inside the root: [`resolve`].
//! 4. Hard links may point forward, into aufs metadata, or into layers below: [`links`].

mod emit;
mod inodes;
mod links;
mod resolve;
mod tree;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use super::{BuildError, DiffId};
use crate::archive::tar::{Entry, EntryKind, Limits};
use crate::model::FileKind;
use inodes::Inodes;
use resolve::{ParentCache, Place};
use tree::{HIDDEN, NO_INODE, NodeId, OPAQUE, ROOT, Tree, WHITEOUT};

/// First bytes of the name of every mark.
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The mark of an opaque directory.
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// First bytes of the names of aufs's own metadata.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// Takes the entries of one layer's archive in their order and makes the TOC of them.
#[derive(Debug)]
pub struct Builder {
    limits: Limits,
    tree: Tree,
    inodes: Inodes,
    cache: ParentCache,
    /// Names and inodes of hard links whose target was not there when they were read.
    pending_links: Vec<(NodeId, u32)>,
    entries: u64,
}

/// What the name of an entry says of it.
enum Class<'a> {
    /// An object of that name.
    Object,
    /// Hides the name in the layers below.
    Whiteout(&'a [u8]),
    /// Hides what the layers below have in the directory.
    Opaque,
    /// aufs's own; to be kept out of sight.
    Aufs,
}

impl Builder {
    /// An empty layer.
    pub fn new(limits: Limits) -> Self {
        let mut inodes = Inodes::new();
        // The root is the first inode, so this cannot fail.
        let root = inodes.push_implied(0).unwrap_or(0);
        Self {
            limits,
            tree: Tree::new(root),
            inodes,
            cache: ParentCache::default(),
            pending_links: Vec::new(),
            entries: 0,
        }
    }

    /// Adds the next entry of the archive. After an error the builder is of no more use.
    pub fn add(&mut self, entry: &Entry) -> Result<(), BuildError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(BuildError::TooLarge("entries"));
        }
        let Some((parent, name)) = entry.path.split_last() else { return self.add_root(entry) };
        if name.len() > usize::from(u8::MAX) {
            return Err(problem(entry, "the name is longer than 255 bytes"));
        }
        let class = classify(name).ok_or_else(|| problem(entry, "a whiteout of nothing"))?;
        let is_mark = matches!(class, Class::Whiteout(_) | Class::Opaque);
        let parent = match self.ensure_parent(parent, entry)? {
            Place::Directory { hidden: true, .. } | Place::NoDirectory if is_mark => return Ok(()),
            Place::Directory { node, .. } => node,
            Place::NoDirectory => return Err(problem(entry, "its parent is not a directory")),
        };
        match class {
            Class::Object => self.add_object(parent, name, entry, 0),
            Class::Aufs => self.add_object(parent, name, entry, HIDDEN),
            Class::Opaque => {
                self.tree.add_flags(parent, OPAQUE);
                Ok(())
            }
            Class::Whiteout(name) => {
                let node = self.ensure_node(parent, name)?;
                self.tree.add_flags(node, WHITEOUT);
                Ok(())
            }
        }
    }

    fn add_root(&mut self, entry: &Entry) -> Result<(), BuildError> {
        if entry.kind != EntryKind::Directory {
            return Err(problem(entry, "the root is not a directory"));
        }
        self.inodes.overwrite(self.tree.node(ROOT).inode, entry)
    }

    /// Puts the object of `entry` at `name` in `parent`, in the place of what stands there.
    fn add_object(&mut self, parent: NodeId, name: &[u8], entry: &Entry, flags: u8) -> Result<(), BuildError> {
        let link = match &entry.kind {
            EntryKind::HardLink { target } => Some(self.link_target(target, entry)?),
            _ => None,
        };
        let node = self.ensure_node(parent, name)?;
        self.tree.add_flags(node, flags);
        let inode = self.tree.node(node).inode;
        let existing = self.inodes.get(inode).map(|inode| inode.data.kind());
        let is_directory = entry.kind == EntryKind::Directory;
        if is_directory && existing == Some(Some(FileKind::Directory)) {
            return self.inodes.overwrite(inode, entry);
        }
        let node = match existing {
            None => node,
            Some(Some(FileKind::Directory)) => {
                self.cache.clear();
                self.tree.replace(node).map_err(full)?
            }
            Some(_) => {
                self.cache.clear();
                // What stood here hid a directory of the layers below; one that follows it does not bring it back.
                self.tree.add_flags(node, if is_directory { WHITEOUT } else { 0 });
                node
            }
        };
        let inode = match link.flatten() {
            Some(inode) => inode,
            None => self.inodes.push_entry(entry)?,
        };
        if link == Some(None) {
            self.pending_links.push((node, inode));
        }
        self.tree.set_inode(node, inode);
        Ok(())
    }

    fn ensure_node(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, BuildError> {
        // One long path implies thousands of directories, so names are counted beside entries.
        if self.tree.nodes().len() as u64 > self.limits.entries {
            return Err(BuildError::TooLarge("names"));
        }
        self.tree.ensure_child(parent, name).map_err(full)
    }

    /// Makes `node` a directory where nothing stands there.
    fn ensure_directory(&mut self, node: NodeId, entry: &Entry) -> Result<(), BuildError> {
        if self.tree.node(node).inode == NO_INODE {
            let inode = self.inodes.push_implied(entry.header_offset)?;
            self.tree.set_inode(node, inode);
        }
        Ok(())
    }

    /// The bytes of the TOC of a tar of `tar_size` bytes with the digest `diff_id`. The same entries give the same bytes.
    pub fn finish(mut self, diff_id: DiffId, tar_size: u64) -> Result<Vec<u8>, BuildError> {
        self.resolve_links()?;
        emit::emit(&self.tree, &self.inodes, diff_id, tar_size)
    }
}

/// What `name` means; none for a mark that makes no sense.
fn classify(name: &[u8]) -> Option<Class<'_>> {
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Some(Class::Object),
        Some(b"" | b"." | b"..") => None,
        Some(_) if name == OPAQUE_MARK => Some(Class::Opaque),
        Some(_) if name.starts_with(AUFS_PREFIX) => Some(Class::Aufs),
        Some(hidden) => Some(Class::Whiteout(hidden)),
    }
}

fn problem(entry: &Entry, problem: &'static str) -> BuildError {
    let path = if entry.path.is_root() { b"./" } else { entry.path.as_bytes() };
    BuildError::Entry { path: crate::model::printable_briefly(path), problem }
}

fn full(_: tree::Full) -> BuildError {
    BuildError::TooLarge("names")
}
