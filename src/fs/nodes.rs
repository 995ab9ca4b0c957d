//! What the kernel knows of a writable filesystem: how often each inode was looked up, and under which names.
//!
//! Reading needs none of this: a number says where its object lies. A copy-up has to know where in the union the object is, and
//! what is unlinked has to stay until the kernel forgets it.

use crate::union::Ino;
use std::collections::HashMap;

/// One name in the union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whereabouts {
    pub(super) parent: Ino,
    pub(super) name: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Node {
    /// References that the kernel holds.
    lookups: u64,
    /// Names of other nodes in this one.
    children: u32,
    first: Option<Whereabouts>,
    further: Vec<Whereabouts>,
}

impl Node {
    fn is_unused(&self) -> bool {
        self.lookups == 0 && self.children == 0
    }
}

/// All nodes, by number.
#[derive(Debug, Default)]
pub(super) struct Nodes(HashMap<Ino, Node>);

impl Nodes {
    /// The kernel is told of `ino` under this name, by which it will be changed, if it is.
    pub(super) fn looked_up(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        self.add_name(ino, parent, name);
        let node = self.0.entry(ino).or_default();
        node.lookups += 1;
        let is_this = |one: &&mut Whereabouts| one.parent == parent && *one.name == *name;
        if let (Some(first), Some(this)) = (&mut node.first, node.further.iter_mut().find(is_this)) {
            std::mem::swap(first, this);
        }
    }

    /// Remembers a name of `ino`.
    pub(super) fn add_name(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        let node = self.0.entry(ino).or_default();
        let is_this = |one: &Whereabouts| one.parent == parent && *one.name == *name;
        if node.first.iter().chain(&node.further).any(is_this) {
            return;
        }
        let whereabouts = Whereabouts { parent, name: name.into() };
        if node.first.is_none() {
            node.first = Some(whereabouts);
        } else {
            node.further.push(whereabouts);
        }
        self.0.entry(parent).or_default().children += 1;
    }

    /// Forgets a name of `ino`.
    pub(super) fn remove_name(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        let Some(node) = self.0.get_mut(&ino) else { return };
        let is_this = |one: &Whereabouts| one.parent == parent && *one.name == *name;
        if node.first.as_ref().is_some_and(is_this) {
            node.first = node.further.pop();
        } else if let Some(at) = node.further.iter().position(is_this) {
            node.further.swap_remove(at);
        } else {
            return;
        }
        if let Some(parent) = self.0.get_mut(&parent) {
            parent.children = parent.children.saturating_sub(1);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives back the room of what was forgotten.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Whether `ino` still has this name, or still none.
    pub(super) fn is_still_at(&self, ino: Ino, place: Option<&Whereabouts>) -> bool {
        let node = self.0.get(&ino);
        match place {
            Some(place) => node.is_some_and(|node| node.first.iter().chain(&node.further).any(|one| one == place)),
            None => node.is_none_or(|node| node.first.is_none()),
        }
    }

    /// The name under which the kernel was last told of `ino`, while it has that one; else any other.
    pub(super) fn whereabouts(&self, ino: Ino) -> Option<&Whereabouts> {
        self.0.get(&ino)?.first.as_ref()
    }

    /// Whether the kernel holds references to `ino`.
    pub(super) fn is_known(&self, ino: Ino) -> bool {
        self.0.get(&ino).is_some_and(|node| !node.is_unused())
    }

    /// Whether the kernel knows `ino`, and no name of it is left.
    pub(super) fn is_nameless(&self, ino: Ino) -> bool {
        self.0.get(&ino).is_some_and(|node| node.first.is_none())
    }

    /// The kernel drops `lookups` references to `ino`. Returns the nodes that nobody needs any more: it, and the directories
    /// that were kept only because it lay in them.
    pub(super) fn forget(&mut self, ino: Ino, lookups: u64) -> Vec<Ino> {
        let Some(node) = self.0.get_mut(&ino) else { return Vec::new() };
        node.lookups = node.lookups.saturating_sub(lookups);
        let mut unused = Vec::new();
        let mut candidates = vec![ino];
        while let Some(ino) = candidates.pop() {
            if ino == Ino::ROOT || !self.0.get(&ino).is_some_and(Node::is_unused) {
                continue;
            }
            let Some(node) = self.0.remove(&ino) else { continue };
            unused.push(ino);
            for Whereabouts { parent, .. } in node.first.into_iter().chain(node.further) {
                if let Some(parent) = self.0.get_mut(&parent) {
                    parent.children = parent.children.saturating_sub(1);
                }
                candidates.push(parent);
            }
        }
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_stay_as_long_as_something_in_them_is_known() {
        let mut nodes = Nodes::default();
        let (dir, file) = (Ino(10), Ino(11));
        nodes.looked_up(dir, Ino::ROOT, b"dir");
        nodes.looked_up(file, dir, b"file");
        nodes.looked_up(file, dir, b"file");
        assert_eq!(nodes.forget(dir, 1), []);
        assert_eq!(nodes.whereabouts(file).map(|one| one.parent), Some(dir));
        assert_eq!(nodes.forget(file, 1), []);
        assert_eq!(nodes.forget(file, 1), [file, dir]);
        assert!(!nodes.is_known(file));
    }

    #[test]
    fn the_name_looked_up_last_comes_first() {
        let mut nodes = Nodes::default();
        let first = |nodes: &Nodes| nodes.whereabouts(Ino(5)).map(|one| one.name.to_vec());
        for name in [b"a", b"b", b"a", b"c"] {
            nodes.looked_up(Ino(5), Ino::ROOT, name);
            assert_eq!(first(&nodes), Some(name.to_vec()));
        }
        let last = nodes.whereabouts(Ino(5)).cloned();
        nodes.looked_up(Ino(5), Ino::ROOT, b"b");
        assert!(nodes.is_still_at(Ino(5), last.as_ref()) && !nodes.is_still_at(Ino(5), None));
        nodes.remove_name(Ino(5), Ino::ROOT, b"c");
        assert!(!nodes.is_still_at(Ino(5), last.as_ref()) && nodes.is_still_at(Ino(6), None));
    }

    #[test]
    fn a_node_without_names_is_still_known() {
        let mut nodes = Nodes::default();
        nodes.looked_up(Ino(5), Ino::ROOT, b"a");
        nodes.add_name(Ino(5), Ino::ROOT, b"b");
        nodes.remove_name(Ino(5), Ino::ROOT, b"a");
        assert_eq!(nodes.whereabouts(Ino(5)).map(|one| one.name.clone()), Some(b"b"[..].into()));
        nodes.remove_name(Ino(5), Ino::ROOT, b"b");
        assert!(nodes.is_nameless(Ino(5)) && nodes.is_known(Ino(5)));
        assert_eq!(nodes.forget(Ino(5), 1), [Ino(5)]);
    }
}
