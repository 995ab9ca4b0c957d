//! Symlinks followed inside a tree's root.

use super::error::{CopyError, CopyResult, reading};
use crate::model::{FileKind, Name, RelPath};
use std::collections::VecDeque;

/// The most symlinks followed on one path, as in the kernel (`MAXSYMLINKS`, include/linux/namei.h).
const MAX_LINKS: usize = 40;

/// What a resolution asks a tree.
pub(super) trait Lookup {
    /// The type of what is at `path`.
    fn kind(&self, path: &RelPath) -> CopyResult<Option<FileKind>>;
    /// The target of the symlink at `path`.
    fn link(&self, path: &RelPath) -> CopyResult<Vec<u8>>;
}

impl<T: super::Tree + ?Sized> Lookup for T {
    fn kind(&self, path: &RelPath) -> CopyResult<Option<FileKind>> {
        Ok(self.stat(path).map_err(reading(path))?.map(|stat| stat.kind))
    }

    fn link(&self, path: &RelPath) -> CopyResult<Vec<u8>> {
        self.read_link(path).map_err(reading(path))
    }
}

/// The real path of `path` in `tree`. Symlinks, absolute ones too, stay inside the root, and `..` never leaves it. What does
/// not exist is kept as it is named, so that the result says where it would be made. The last component's own symlink
/// is followed only when `follow_last`.
pub fn resolve<T: super::Tree + ?Sized>(tree: &T, path: &[u8], follow_last: bool) -> CopyResult<RelPath> {
    resolve_in(tree, path, follow_last)
}

pub(super) fn resolve_in<T: Lookup + ?Sized>(tree: &T, path: &[u8], follow_last: bool) -> CopyResult<RelPath> {
    let mut open: VecDeque<Vec<u8>> = components(path).collect();
    let mut real = RelPath::root();
    let mut links = 0;
    while let Some(component) = open.pop_front() {
        if component == b".." {
            real.pop();
            continue;
        }
        let name = Name::new(&component).map_err(|error| CopyError::Unrepresentable {
            path: real.clone(),
            detail: format!("{}: {error}", component.escape_ascii()),
        })?;
        let next = real.join(name);
        let last = open.is_empty();
        if (last && !follow_last) || tree.kind(&next)? != Some(FileKind::Symlink) {
            real = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(CopyError::TooManyLinks { path: path.escape_ascii().to_string() });
        }
        let target = tree.link(&next)?;
        if target.starts_with(b"/") {
            real = RelPath::root();
        }
        for component in components(&target).rev() {
            open.push_front(component);
        }
    }
    Ok(real)
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}
