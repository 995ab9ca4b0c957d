//! Hard links: to what stands there already, to what follows, to what the layers below have.

use super::resolve::WalkEnd;
use super::tree::{Node, NodeId};
use super::{BuildError, Builder, problem};
use crate::archive::tar::{Entry, EntryPath};
use crate::layer::toc::builder::inodes::Data;
use crate::model::FileKind;
use std::collections::{HashMap, HashSet};

impl Builder {
    /// The inode at `target` as the layer is now; none where it has nothing there.
    pub(super) fn link_target(&self, target: &EntryPath, entry: &Entry) -> Result<Option<u32>, BuildError> {
        let Some(node) = self.find(target.as_bytes()) else { return Ok(None) };
        let inode = self.tree.node(node).inode;
        match self.inodes.get(inode).map(|inode| inode.data.kind()) {
            None => Ok(None),
            Some(Some(FileKind::Directory)) => Err(problem(entry, "a hard link to a directory")),
            Some(_) => Ok(Some(inode)),
        }
    }

    /// Makes the target of the link `inode` a path of the layers below, which do not know this layer's symlinks.
    fn lead_below(&mut self, inode: u32, offset: u32, length: u32) -> Result<(), BuildError> {
        let target = self.inodes.string(offset, length);
        let (parent, name) = split_last(target);
        let WalkEnd::At(node, missing) = self.walk(parent) else { return Ok(()) };
        let names = self.tree.names_to(node).into_iter().chain(missing.iter().map(Vec::as_slice)).chain([name]);
        let path = names.collect::<Vec<_>>().join(&b'/');
        if path == target { Ok(()) } else { self.inodes.set_link_target(inode, &path) }
    }

    /// The node at `path`, a symlink there not followed.
    fn find(&self, path: &[u8]) -> Option<NodeId> {
        let (parent, name) = split_last(path);
        match self.walk(parent) {
            WalkEnd::At(node, missing) if missing.is_empty() => self.tree.child(node, name),
            _ => None,
        }
    }

    /// Ties links whose target came later in the archive. What is still missing then is taken for a name of the layers
    /// below. A chain ends where no further name follows; a circle means what one of its names is in the layers below.
    pub(super) fn resolve_links(&mut self) -> Result<(), BuildError> {
        let mut next = HashMap::new();
        for (node, inode) in std::mem::take(&mut self.pending_links) {
            let Some(Data::Link { offset, length }) = self.inodes.get(inode).map(|inode| inode.data) else { continue };
            let Some(target) = self.find(self.inodes.string(offset, length)) else {
                self.lead_below(inode, offset, length)?;
                continue;
            };
            let target = self.tree.node(target).inode;
            match self.inodes.get(target).map(|inode| inode.data) {
                // Only a whiteout stands there: it says nothing of what the layers below have.
                None => self.lead_below(inode, offset, length)?,
                Some(Data::Directory { .. }) => {
                    return Err(BuildError::Entry {
                        path: self.tree.path(node),
                        problem: "a hard link to a directory",
                    });
                }
                Some(_) => drop(next.insert(inode, target)),
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        let ends = chain_ends(&next);
        let tied = |node: &Node| ends.get(&node.inode).copied();
        let changes: Vec<(NodeId, u32)> =
            (0..).zip(self.tree.nodes()).filter_map(|(id, node)| Some((id, tied(node)?))).collect();
        for (id, inode) in changes {
            self.tree.set_inode(id, inode);
        }
        Ok(())
    }
}

/// The directory part and the last component.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    let parts = path.iter().rposition(|&byte| byte == b'/').and_then(|slash| path.split_at_checked(slash));
    parts.map_or((&[][..], path), |(parent, name)| (parent, name.get(1..).unwrap_or_default()))
}

/// Where each chain of `next` ends; the smallest member stands for a circle. Every member is visited twice at most,
/// however long the chains.
fn chain_ends(next: &HashMap<u32, u32>) -> HashMap<u32, u32> {
    let mut ends: HashMap<u32, u32> = HashMap::with_capacity(next.len());
    let mut starts: Vec<u32> = next.keys().copied().collect();
    starts.sort_unstable();
    for start in starts {
        let mut chain = Vec::new();
        let mut at = start;
        let mut on_chain = HashSet::new();
        let end = loop {
            if let Some(&end) = ends.get(&at) {
                break end;
            }
            // The first start of a circle is its smallest member, for the starts are sorted.
            if !on_chain.insert(at) {
                break at;
            }
            chain.push(at);
            match next.get(&at) {
                Some(&target) => at = target,
                None => break at,
            }
        };
        ends.extend(chain.into_iter().map(|inode| (inode, end)));
    }
    ends
}
