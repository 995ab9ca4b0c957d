//! The names of a layer while its archive is read.

use std::hash::{BuildHasher, RandomState};

/// A node of the tree: one name in one directory. Parents are older than their children, so have smaller numbers.
pub(super) type NodeId = u32;

/// The root directory.
pub(super) const ROOT: NodeId = 0;

/// No inode: a name that only a whiteout or nothing stands at.
pub(super) const NO_INODE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) parent: NodeId,
    /// Index of the inode in the builder's list, or [`NO_INODE`].
    pub(super) inode: u32,
    name_offset: u32,
    name_length: u8,
    pub(super) flags: u8,
}

/// Node flag: a whiteout of this name was seen, or something that is no directory stood here before.
pub(super) const WHITEOUT: u8 = 1;
/// Node flag: an opaque mark was seen in this directory.
pub(super) const OPAQUE: u8 = 2;
/// Node flag: metadata of aufs; not part of the layer, but the target of hard links.
pub(super) const HIDDEN: u8 = 4;
/// Node flag: was a directory and is replaced by another node of the same name; all below it is gone.
pub(super) const REPLACED: u8 = 8;

/// Nodes, found by directory and name. The table of open addressing costs 12 bytes a name on average, a quarter of what a
/// map with owned keys would. Its hash is keyed, so that no archive can choose colliding names.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// Node number plus one and the lower half of the hash; 0 for a free slot.
    slots: Vec<(u32, u32)>,
    used: usize,
    hasher: RandomState,
}

/// The tree has no room for another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Tree {
    pub(super) fn new(root_inode: u32) -> Self {
        let root = Node { parent: ROOT, inode: root_inode, name_offset: 0, name_length: 0, flags: 0 };
        Self { nodes: vec![root], names: Vec::new(), slots: vec![(0, 0); 1024], used: 0, hasher: RandomState::new() }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn node(&self, id: NodeId) -> Node {
        self.nodes.get(id as usize).copied().unwrap_or(Node {
            parent: ROOT,
            inode: NO_INODE,
            name_offset: 0,
            name_length: 0,
            flags: HIDDEN,
        })
    }

    pub(super) fn set_inode(&mut self, id: NodeId, inode: u32) {
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.inode = inode;
        }
    }

    pub(super) fn add_flags(&mut self, id: NodeId, flags: u8) {
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.flags |= flags;
        }
    }

    pub(super) fn name(&self, node: &Node) -> &[u8] {
        let start = node.name_offset as usize;
        self.names.get(start..start + usize::from(node.name_length)).unwrap_or_default()
    }

    /// The path of `id` from the root, for messages.
    pub(super) fn path(&self, id: NodeId) -> String {
        crate::model::printable_briefly(&self.names_to(id).join(&b'/'))
    }

    /// The names on the way from the root to `id`.
    pub(super) fn names_to(&self, id: NodeId) -> Vec<&[u8]> {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(node) = self.nodes.get(at as usize).filter(|_| at != ROOT) {
            names.push(self.name(node));
            at = node.parent;
        }
        names.reverse();
        names
    }

    fn hash(&self, parent: NodeId, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    /// The slot of the name, or the free one where it belongs.
    fn find_slot(&self, parent: NodeId, name: &[u8], hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(&(id, tag)) = self.slots.get(at).filter(|slot| slot.0 != 0) {
            if tag == hash as u32 {
                let node = self.node(id - 1);
                if node.parent == parent && self.name(&node) == name {
                    break;
                }
            }
            at = (at + 1) & mask;
        }
        at
    }

    pub(super) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let slot = self.find_slot(parent, name, self.hash(parent, name));
        self.slots.get(slot)?.0.checked_sub(1)
    }

    /// The node `name` in `parent`, made where it does not exist.
    pub(super) fn ensure_child(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, Full> {
        let hash = self.hash(parent, name);
        let mut slot = self.find_slot(parent, name, hash);
        if let Some(id) = self.slots.get(slot).and_then(|slot| slot.0.checked_sub(1)) {
            return Ok(id);
        }
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow();
            slot = self.find_slot(parent, name, hash);
        }
        let id = NodeId::try_from(self.nodes.len()).ok().filter(|id| *id < u32::MAX - 1).ok_or(Full)?;
        let name_offset = u32::try_from(self.names.len()).map_err(|_| Full)?;
        let name_length = u8::try_from(name.len()).map_err(|_| Full)?;
        self.names.extend_from_slice(name);
        self.nodes.push(Node { parent, inode: NO_INODE, name_offset, name_length, flags: 0 });
        self.used += 1;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = (id + 1, hash as u32);
        }
        Ok(id)
    }

    /// Puts a new node in the place of the directory `id`, so that nothing is below it any more.
    pub(super) fn replace(&mut self, id: NodeId) -> Result<NodeId, Full> {
        let old = self.node(id);
        let slot = self.find_slot(old.parent, self.name(&old), self.hash(old.parent, self.name(&old)));
        let new = NodeId::try_from(self.nodes.len()).ok().filter(|id| *id < u32::MAX - 1).ok_or(Full)?;
        self.nodes.push(Node { flags: old.flags & (WHITEOUT | HIDDEN), inode: NO_INODE, ..old });
        self.add_flags(id, REPLACED);
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.0 = new + 1;
        }
        Ok(new)
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        let mut slots = vec![(0, 0); size];
        for &slot in self.slots.iter().filter(|slot| slot.0 != 0) {
            // Only the lower half of the hash is kept; it is enough for 2^32 slots.
            let mut at = slot.1 as usize & (size - 1);
            while slots.get(at).is_some_and(|slot: &(u32, u32)| slot.0 != 0) {
                at = (at + 1) & (size - 1);
            }
            if let Some(free) = slots.get_mut(at) {
                *free = slot;
            }
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_found_again() {
        let mut tree = Tree::new(0);
        let dir = tree.ensure_child(ROOT, b"dir").unwrap();
        let ids: Vec<_> = (0..5000).map(|at| tree.ensure_child(dir, format!("n{at}").as_bytes()).unwrap()).collect();
        for (at, id) in ids.iter().enumerate() {
            let name = format!("n{at}");
            assert_eq!(tree.child(dir, name.as_bytes()), Some(*id));
            assert_eq!(tree.child(ROOT, name.as_bytes()), None);
            assert_eq!(tree.ensure_child(dir, name.as_bytes()), Ok(*id));
            assert_eq!(tree.path(*id), format!("dir/{name}"));
        }
    }

    #[test]
    fn a_replaced_directory_has_no_children_and_keeps_its_whiteout() {
        let mut tree = Tree::new(0);
        let old = tree.ensure_child(ROOT, b"d").unwrap();
        tree.ensure_child(old, b"x").unwrap();
        tree.add_flags(old, WHITEOUT | OPAQUE);
        let new = tree.replace(old).unwrap();
        assert_eq!(tree.child(ROOT, b"d"), Some(new));
        assert_eq!(tree.child(new, b"x"), None);
        assert_eq!(tree.node(new).flags, WHITEOUT);
        assert_eq!(tree.node(old).flags & REPLACED, REPLACED);
    }
}
