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

    /// Without mere mount points, which were made to mount something on them and say nothing of themselves: of those among `paths` the
    /// added ones that nothing is added in, and the parents that only they needed.
    #[must_use]
    pub fn without_mount_points(self, paths: &[RelPath]) -> Self {
        if paths.is_empty() {
            return self;
        }
        let mut needed = std::collections::BTreeSet::new();
        let mut kept = Vec::new();
        // What is in a directory comes after it.
        for change in self.changes.into_iter().rev() {
            let mere = change.parent_only || (change.kind == ChangeKind::Added && paths.contains(&change.path));
            if mere && !needed.contains(&change.path) {
                continue;
            }
            needed.extend(change.path.parent());
            kept.push(change);
        }
        kept.reverse();
        Self { changes: kept }
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

#[cfg(test)]
mod tests {
    use super::*;
    use ChangeKind::{Added, Deleted, Modified};

    #[test]
    fn mount_points_are_left_out_unless_something_is_in_them() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).expect("a path");
        let change = |&(text, kind, parent_only): &(&str, ChangeKind, bool)| Change {
            path: path(text),
            kind,
            old: None,
            new: None,
            opaque: false,
            parent_only,
        };
        let changes = [
            ("dev", Added, false),
            ("etc", Modified, true),
            ("etc/hosts", Added, false),
            ("home", Modified, true),
            ("home/new", Added, false),
            ("proc", Deleted, false),
            ("run", Added, false),
            ("run/secrets", Added, false),
            ("run/secrets/key", Added, false),
            ("run/pid", Added, false),
        ];
        let set = ChangeSet::new(changes.iter().map(change).collect());
        let points = ["dev", "etc/hosts", "proc", "run", "run/secrets", "run/secrets/key"].map(path);
        let left: Vec<String> =
            set.without_mount_points(&points).iter().map(|change| change.path.to_string()).collect();
        assert_eq!(left, ["/home", "/home/new", "/proc", "/run", "/run/pid"]);
    }
}
