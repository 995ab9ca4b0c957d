//! What builds leave behind and nobody needs: package caches, compiled Python, logs, temporary files.

use crate::model::{FileKind, RelPath};
use crate::union::{LayerResult, Node, Stack, Visit, Walk};
use std::collections::BTreeMap;

/// Why a file is a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftoverKind {
    /// Downloads and indices of a package manager.
    PackageCache,
    /// `*.pyc` and `*.pyo`.
    CompiledPython,
    /// Below `var/log`.
    Log,
    /// Below `tmp` and `var/tmp`.
    Temporary,
}

impl LeftoverKind {
    /// What people call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::PackageCache => "package caches",
            Self::CompiledPython => "compiled Python",
            Self::Log => "logs",
            Self::Temporary => "temporary files",
        }
    }
}

/// Leftovers of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The kind.
    pub kind: LeftoverKind,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The directory, or for compiled Python the root, with the most bytes, and how many.
    pub places: Vec<(RelPath, u64)>,
}

/// Directories whose files are leftovers.
const PLACES: &[(&str, LeftoverKind)] = &[
    ("var/cache/apt", LeftoverKind::PackageCache),
    ("var/lib/apt/lists", LeftoverKind::PackageCache),
    ("var/cache/debconf", LeftoverKind::PackageCache),
    ("var/cache/apk", LeftoverKind::PackageCache),
    ("etc/apk/cache", LeftoverKind::PackageCache),
    ("var/cache/yum", LeftoverKind::PackageCache),
    ("var/cache/dnf", LeftoverKind::PackageCache),
    ("var/cache/zypp", LeftoverKind::PackageCache),
    ("var/cache/pacman", LeftoverKind::PackageCache),
    ("root/.cache", LeftoverKind::PackageCache),
    ("root/.npm", LeftoverKind::PackageCache),
    ("root/.cargo/registry", LeftoverKind::PackageCache),
    ("root/go/pkg/mod/cache", LeftoverKind::PackageCache),
    ("root/.m2/repository", LeftoverKind::PackageCache),
    ("var/log", LeftoverKind::Log),
    ("tmp", LeftoverKind::Temporary),
    ("var/tmp", LeftoverKind::Temporary),
];

/// The leftovers visible in `stack`, most bytes first.
pub fn leftovers(stack: &Stack) -> LayerResult<Vec<Leftover>> {
    let mut found: BTreeMap<LeftoverKind, BTreeMap<RelPath, (u64, u64)>> = BTreeMap::new();
    let mut place: Option<(LeftoverKind, RelPath)> = None;
    let mut walk = Walk::of(stack);
    while let Some(Visit { path, node }) = walk.step()? {
        if place.as_ref().is_some_and(|(_, place)| !path.starts_with(place)) {
            place = None;
        }
        let Node::Other { source, kind: FileKind::File, .. } = node else {
            if place.is_none() && node.kind().is_directory() {
                place = place_kind(path).map(|kind| (kind, path.clone()));
            }
            continue;
        };
        let compiled = path.file_name().is_some_and(|name| name.ends_with(b".pyc") || name.ends_with(b".pyo"));
        let (kind, top) = match &place {
            Some(place) => place.clone(),
            None if compiled => (LeftoverKind::CompiledPython, top_of(path)),
            None => continue,
        };
        let bytes = stack.layer(source.layer)?.meta(source.ino)?.size;
        let counted = found.entry(kind).or_default().entry(top).or_default();
        *counted = (counted.0 + 1, counted.1 + bytes);
    }
    let mut leftovers: Vec<Leftover> = found.into_iter().map(|(kind, places)| sum(kind, places)).collect();
    leftovers.sort_by_key(|leftover| std::cmp::Reverse(leftover.bytes));
    Ok(leftovers)
}

fn sum(kind: LeftoverKind, places: BTreeMap<RelPath, (u64, u64)>) -> Leftover {
    let (files, bytes) = places.values().fold((0, 0), |sum, place| (sum.0 + place.0, sum.1 + place.1));
    let mut places: Vec<(RelPath, u64)> = places.into_iter().map(|(path, (_, bytes))| (path, bytes)).collect();
    places.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Leftover { kind, files, bytes, places }
}

fn place_kind(path: &RelPath) -> Option<LeftoverKind> {
    const DEEPEST: usize = 5;
    if path.names().len() > DEEPEST {
        return None;
    }
    let bytes = path.to_bytes();
    PLACES.iter().find(|(place, _)| place.as_bytes() == bytes).map(|(_, kind)| *kind)
}

/// The directory of a file, cut after two components: `usr/lib` of `usr/lib/python3/x`.
fn top_of(path: &RelPath) -> RelPath {
    path.names().iter().take(path.names().len().saturating_sub(1)).take(2).cloned().collect()
}
