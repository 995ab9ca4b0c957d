//! All paths of all layers of an image as one tree: what a browser of images walks.

use super::waste::{Version, WasteReport, survey};
use crate::model::{FileKind, Name, RelPath};
use crate::union::{LayerResult, Stack};
use std::collections::HashMap;

/// A node of an [`ImageTree`]; the root is [`ImageTree::ROOT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// One path.
#[derive(Debug)]
pub struct TreeNode {
    /// The last component; none for the root.
    pub name: Option<Name>,
    /// The node above; the root is its own.
    pub parent: NodeId,
    /// What is below, by the bytes of the names.
    pub children: Vec<NodeId>,
    /// What the layers have here, bottom layer first.
    pub versions: Vec<Version>,
}

impl TreeNode {
    /// What is to be seen here in the image made of the layers up to `layer`: of a merged directory its topmost part.
    pub fn visible_at(&self, layer: usize) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.is_visible_at(layer))
    }

    /// What `layer` itself has here.
    pub fn in_layer(&self, layer: usize) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.layer == layer)
    }

    /// Whether any layer has a directory here.
    pub fn is_directory(&self) -> bool {
        self.versions.iter().any(|version| version.kind == FileKind::Directory)
    }
}

/// Every path that any layer of an image has.
#[derive(Debug)]
pub struct ImageTree {
    nodes: Vec<TreeNode>,
    layers: usize,
}

impl ImageTree {
    /// The root.
    pub const ROOT: NodeId = NodeId(0);

    /// The tree of the lower layers of `stack`, and the accounting made on the way.
    pub fn of(stack: &Stack) -> LayerResult<(Self, WasteReport)> {
        let root = TreeNode { name: None, parent: Self::ROOT, children: Vec::new(), versions: Vec::new() };
        let mut tree = Self { nodes: vec![root], layers: stack.lowers().len() };
        let mut directories: HashMap<RelPath, NodeId> = HashMap::new();
        // The names of a directory come one after the other: it is looked up for the first of them only.
        let mut above = (RelPath::root(), Self::ROOT);
        let report = survey(stack, &mut |path, versions| {
            let parent = path.names().split_last().map_or(&[] as &[Name], |(_, parent)| parent);
            if above.0.names() != parent {
                let parent: RelPath = parent.iter().cloned().collect();
                let id = directories.get(&parent).copied().unwrap_or(Self::ROOT);
                above = (parent, id);
            }
            let is_directory = versions.iter().any(|version| version.kind == FileKind::Directory);
            let id = tree.push(path, above.1, versions);
            if is_directory {
                directories.insert(path.clone(), id);
            }
        })?;
        Ok((tree, report))
    }

    fn push(&mut self, path: &RelPath, parent: NodeId, versions: Vec<Version>) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let name = path.file_name().cloned();
        self.nodes.push(TreeNode { name, parent, children: Vec::new(), versions });
        if let Some(above) = self.nodes.get_mut(parent.0 as usize) {
            above.children.push(id);
        }
        id
    }

    /// The number of layers.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The number of paths, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no path but the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() < 2
    }

    /// The node `id`.
    pub fn node(&self, id: NodeId) -> &TreeNode {
        // Ids come from this tree; the root is always there.
        self.nodes.get(id.0 as usize).unwrap_or(&self.nodes[0])
    }

    /// All nodes, parents before what is below them.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// The path of the node `id`.
    pub fn path(&self, id: NodeId) -> RelPath {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(name) = &self.node(at).name {
            names.push(name.clone());
            at = self.node(at).parent;
        }
        names.into_iter().rev().collect()
    }

    /// The bytes of files that `counts` says to count, for every node those below it included, indexed like [`Self::ids`].
    pub fn sums(&self, counts: impl Fn(&Version) -> bool) -> Vec<u64> {
        let mut sums: Vec<u64> = self
            .nodes
            .iter()
            .map(|node| node.versions.iter().filter(|version| counts(version)).map(|version| version.size).sum())
            .collect();
        for index in (1..self.nodes.len()).rev() {
            let below = sums.get(index).copied().unwrap_or_default();
            let parent = self.nodes.get(index).map_or(0, |node| node.parent.0 as usize);
            if let Some(sum) = sums.get_mut(parent) {
                *sum += below;
            }
        }
        sums
    }

    /// The position of `id` in what [`Self::sums`] returns.
    pub fn index(id: NodeId) -> usize {
        id.0 as usize
    }
}
