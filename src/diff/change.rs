//! One change, and all of them in order.

use crate::model::RelPath;
use crate::union::Node;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// There was nothing.
    Added,
    /// Something else was there: content, metadata or type.
    Modified,
    /// Nothing is there any more.
    Deleted,
}

impl ChangeKind {
    /// The letter that `docker diff` prints.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Modified => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: RelPath,
    /// What happened.
    pub kind: ChangeKind,
    /// What was there; none when it was added.
    pub old: Option<Node>,
    /// What is there now; none when it was deleted.
    pub new: Option<Node>,
    /// A directory that shares nothing with the one that was there: everything in it is in the set, and a layer says so by
    /// an opaque mark instead of one whiteout for every name that is gone.
    pub opaque: bool,
    /// Only a parent of changes: neither its own metadata nor its type differ.
    pub parent_only: bool,
}

/// Changes in the order of a layer: a directory before what is in it, deletions before their siblings, otherwise by the
/// bytes of the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    changes: Vec<Change>,
}

impl ChangeSet {
    pub(super) fn new(changes: Vec<Change>) -> Self {
        Self { changes }
    }

    /// The changes, in the order of a layer.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.changes.iter()
    }

    /// How many there are, mere parents included.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes ordered by path, as people read them.
    pub fn sorted_by_path(&self) -> Vec<&Change> {
        let mut sorted: Vec<&Change> = self.changes.iter().collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        sorted
    }

    /// Only the changes at `path` and below.
    #[must_use]
    pub fn below(mut self, path: &RelPath) -> Self {
        self.changes.retain(|change| change.path.starts_with(path));
        self
    }

    pub(super) fn into_inner(self) -> Vec<Change> {
        self.changes
    }
}

impl<'a> IntoIterator for &'a ChangeSet {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
