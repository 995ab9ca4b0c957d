//! The name of an entry.

use super::Limits;
use crate::model::{InvalidName, Name, RelPath};
use std::cmp::Ordering;
use std::fmt;

/// A path below the root of an archive as bytes: components joined by single slashes, none of them empty, `.` or `..`,
/// none over the limit; no leading slash. Empty for the root. Not necessarily UTF-8.
///
/// Ordered by components, so that sorted paths are a walk of the tree: a directory comes directly before what is in it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath(Vec<u8>);

/// Why bytes are not an [`EntryPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// No bytes at all.
    #[error("the name is empty")]
    Empty,
    /// Contains NUL.
    #[error("the name contains NUL")]
    Nul,
    /// Has a `..` component.
    #[error("the name has a `..` component")]
    Climbs,
    /// A component is too long.
    #[error("a component of the name is longer than {limit} bytes")]
    LongName {
        /// The limit in bytes.
        limit: usize,
    },
    /// The whole is too long.
    #[error("the path is longer than {limit} bytes")]
    LongPath {
        /// The limit in bytes.
        limit: usize,
    },
}

impl EntryPath {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks `bytes`. Leading, trailing and doubled slashes and `.` components are dropped (`./a//b/` is `a/b`), so an
    /// absolute path means the same below the root.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, InvalidPath> {
        if bytes.is_empty() {
            return Err(InvalidPath::Empty);
        }
        if bytes.len() > limits.path {
            return Err(InvalidPath::LongPath { limit: limits.path });
        }
        if bytes.contains(&0) {
            return Err(InvalidPath::Nul);
        }
        let mut path = Vec::with_capacity(bytes.len());
        for part in bytes.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(InvalidPath::Climbs),
                _ if part.len() > limits.name => return Err(InvalidPath::LongName { limit: limits.name }),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok(Self(path))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, outermost first; none for the root.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The directory part, empty at the top, and the last component; none for the root.
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Some((self.0.get(..slash)?, self.0.get(slash + 1..)?)),
            None => Some((&[], &self.0)),
        }
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split_last().map(|(_, name)| name)
    }

    /// Where a symlink of this name and with this `target` leads, by text alone: relative to its directory or to the root, `..`
    /// at the root staying there. None where that is no valid path.
    pub fn resolve_link(&self, target: &[u8]) -> Option<Self> {
        let mut names: Vec<&[u8]> = if target.starts_with(b"/") { Vec::new() } else { self.names().collect() };
        names.pop();
        for part in target.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let joined = names.join(&b'/');
        if joined.is_empty() { Some(Self::root()) } else { Self::parse(&joined, &Limits::default()).ok() }
    }

    /// The same path as a sequence of names; an error where a component is longer than the system allows.
    pub fn to_rel_path(&self) -> Result<RelPath, InvalidName> {
        self.names().map(Name::new).collect()
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash is less than every byte of a name, the end of the path less than a slash.
        let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&RelPath> for EntryPath {
    fn from(path: &RelPath) -> Self {
        Self(path.to_bytes())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_hostile_ones_refused() {
        let parse = |bytes: &[u8]| EntryPath::parse(bytes, &Limits::default());
        for (given, expected) in
            [("a", "a"), ("./a//b/", "a/b"), ("/etc/passwd", "etc/passwd"), ("./", ""), ("/", ""), ("a/./b", "a/b")]
        {
            assert_eq!(parse(given.as_bytes()).unwrap().as_bytes(), expected.as_bytes(), "{given}");
        }
        assert_eq!(parse(b""), Err(InvalidPath::Empty));
        assert_eq!(parse(b"a\0b"), Err(InvalidPath::Nul));
        assert_eq!(parse(b"../a"), Err(InvalidPath::Climbs));
        assert_eq!(parse(b"a/../b"), Err(InvalidPath::Climbs));
        assert_eq!(parse(&[b'x'; 256]), Err(InvalidPath::LongName { limit: 255 }));
        assert!(parse(&[b'x'; 255]).is_ok());
        assert!(parse(b"\xff/\xfe").is_ok());
        assert_eq!(parse(&b"a/".repeat(16385)), Err(InvalidPath::LongPath { limit: 32768 }));
    }

    #[test]
    fn links_lead_inside_the_root() {
        let link = EntryPath::parse(b"a/b/link", &Limits::default()).unwrap();
        for (target, expected) in
            [("c", "a/b/c"), ("../c/./d/", "a/c/d"), ("/c", "c"), ("../../../../c", "c"), ("/", ""), ("../..", "")]
        {
            assert_eq!(link.resolve_link(target.as_bytes()).unwrap().as_bytes(), expected.as_bytes(), "{target}");
        }
    }

    #[test]
    fn sorted_paths_are_a_walk_of_the_tree() {
        let mut paths: Vec<_> = ["a-b", "a/c", "a", "", "a/c/d", "a.d/e", "a\u{1}", "ab"]
            .map(|path| EntryPath::from(&RelPath::parse(path.as_bytes()).unwrap()))
            .to_vec();
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(EntryPath::as_bytes).collect();
        assert_eq!(sorted, [&b""[..], b"a", b"a/c", b"a/c/d", b"a\x01", b"a-b", b"a.d/e", b"ab"]);
    }

    #[test]
    fn the_last_component_splits_off() {
        let parse = |bytes: &[u8]| EntryPath::parse(bytes, &Limits::default()).unwrap();
        assert_eq!(parse(b"a/b/c").split_last(), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(parse(b"c").split_last(), Some((&b""[..], &b"c"[..])));
        assert_eq!(parse(b"/").split_last(), None);
        assert_eq!(parse(b"a/b").names().collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(parse(b"/").names().count(), 0);
    }
}
