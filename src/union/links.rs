//! Names that layers above add to an object: hard links into the layers below.
//!
//! As in kernel overlayfs an object has as many names as its own layer counts, hidden ones included. What the kernel does not
//! have, links from another layer, is added to that; found out for all at once, when the first object is asked for.

use super::{EntryKind, Layer, LayerResult, LocalIno, Node, Source, Stack};
use crate::model::{FileKind, RelPath};
use std::collections::{HashMap, HashSet};

/// Numbers of added names by object.
pub(super) type Links = HashMap<Source, u32>;

/// The names that the lower layers of `stack` add to objects of layers below them.
pub(super) fn count(stack: &Stack) -> Links {
    try_count(stack).unwrap_or_else(|error| {
        log::warn!("link counts are those of single layers: {error}");
        Links::new()
    })
}

fn try_count(stack: &Stack) -> LayerResult<Links> {
    // Several layers may have the same name.
    let mut paths = HashSet::new();
    for layer in stack.lowers().iter().filter(|layer| layer.has_links_below()) {
        layer.links_below(&mut |path| paths.extend([path.to_vec()]))?;
    }
    let mut links = Links::new();
    for path in paths.iter().filter_map(|path| RelPath::parse(path).ok()) {
        let Some(Node::Other { source, .. }) = stack.resolve_in_lowers(&path)? else { continue };
        if own_ino(stack.layer(source.layer)?, &path)? != Some(source.ino) {
            *links.entry(source).or_default() += 1;
        }
    }
    Ok(links)
}

/// What `layer` itself has at `path`.
fn own_ino(layer: &dyn Layer, path: &RelPath) -> LayerResult<Option<LocalIno>> {
    let mut at = layer.root();
    let mut kind = FileKind::Directory;
    for name in path.names() {
        if kind != FileKind::Directory {
            return Ok(None);
        }
        match layer.lookup(at, name)? {
            Some(EntryKind::Node { ino, kind: found, .. }) => (at, kind) = (ino, found),
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// [`Layer::links_below`] by a walk over all of `layer`.
pub(super) fn walk(layer: &dyn Layer, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
    let mut directories = vec![(layer.root(), Vec::new())];
    while let Some((directory, path)) = directories.pop() {
        let mut below = Vec::new();
        layer.entries(directory, &mut |entry| {
            let path = if path.is_empty() { entry.name.to_vec() } else { [&path, &b"/"[..], &entry.name].concat() };
            match entry.kind {
                EntryKind::LinkBelow { .. } => visit(&path),
                EntryKind::Node { ino, kind: FileKind::Directory, .. } => below.push((ino, path)),
                EntryKind::Node { .. } | EntryKind::Whiteout => {}
            }
        })?;
        directories.extend(below);
    }
    Ok(())
}
