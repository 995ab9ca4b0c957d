//! A path below a root.

use super::{InvalidName, Name, printable};
use std::fmt;

/// A path relative to a root: a sequence of [`Name`]s, so that it can neither be absolute nor leave the root.
/// The empty path is the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<Name>);

impl RelPath {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses `bytes` split at `/`. Leading, trailing and doubled slashes and `.` components are dropped, as in tar
    /// entries (`./a//b/`); a `..` component is an error ([`InvalidName::Dots`]).
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidName> {
        bytes
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .map(Name::new)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&Name> {
        self.0.last()
    }

    /// The path without its last component; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        Some(Self(parents.to_vec()))
    }

    /// The path with `name` appended.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let mut names = self.0.clone();
        names.push(name);
        Self(names)
    }

    /// Appends `name`.
    pub fn push(&mut self, name: Name) {
        self.0.push(name);
    }

    /// Removes and returns the last component.
    pub fn pop(&mut self) -> Option<Name> {
        self.0.pop()
    }

    /// Whether this path is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The components joined by `/`, without a leading slash; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}

impl FromIterator<Name> for RelPath {
    fn from_iter<T: IntoIterator<Item = Name>>(names: T) -> Self {
        Self(names.into_iter().collect())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", printable(&self.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_but_never_climb() {
        assert_eq!(RelPath::parse(b"./a//b/").unwrap().to_bytes(), b"a/b");
        assert_eq!(RelPath::parse(b"/a").unwrap().to_bytes(), b"a");
        assert!(RelPath::parse(b"./").unwrap().is_root());
        assert_eq!(RelPath::parse(b"a/../b"), Err(InvalidName::Dots));
    }

    #[test]
    fn prefixes_are_whole_components() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        assert!(path("a/b").starts_with(&path("a")));
        assert!(!path("ab").starts_with(&path("a")));
        assert!(path("a").starts_with(&RelPath::root()));
    }
}
