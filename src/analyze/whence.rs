//! What the layers of an image did to one path.

use crate::model::{Meta, Name, RelPath};
use crate::union::{EntryKind, LayerResult, LocalIno, Stack};

/// What a layer did to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TouchKind {
    /// It has an object there.
    Object {
        /// The object's inode in the layer.
        ino: LocalIno,
        /// Its metadata.
        meta: Meta,
        /// A directory of which the layer has only what is in it, no entry of its own.
        implied: bool,
        /// A directory that hides what lower layers have in it.
        opaque: bool,
    },
    /// It gave the path to an object of the layers below (a hard link).
    LinkBelow {
        /// The other name, as the layer has it.
        target: Vec<u8>,
    },
    /// It removed the path, or one of its parents.
    Removed {
        /// What was removed.
        path: RelPath,
    },
    /// It replaced a parent of the path by something that is no directory, or by an opaque directory without the path.
    Covered {
        /// The parent.
        path: RelPath,
    },
}

/// One layer's deed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The layer, counted from the bottom.
    pub layer: usize,
    /// What it did.
    pub kind: TouchKind,
}

/// Every lower layer of `stack` that touches `path`, bottom layer first. Symlinks on the way are not followed.
pub fn history_of(stack: &Stack, path: &RelPath) -> LayerResult<Vec<Touch>> {
    let mut touches = Vec::new();
    for index in 0..stack.lowers().len() {
        if let Some(kind) = touch(stack, index, path)? {
            touches.push(Touch { layer: index, kind });
        }
    }
    Ok(touches)
}

fn touch(stack: &Stack, index: usize, path: &RelPath) -> LayerResult<Option<TouchKind>> {
    let Some(layer) = stack.lowers().get(index) else { return Ok(None) };
    if path.is_root() {
        let (ino, implied, opaque) = (layer.root(), layer.root_is_implied(), layer.root_is_opaque()?);
        return Ok(Some(TouchKind::Object { ino, meta: layer.meta(ino)?, implied, opaque }));
    }
    let mut dir = layer.root();
    let mut walked = RelPath::root();
    let mut covered = layer.root_is_opaque()?.then(|| walked.clone());
    let depth = path.names().len();
    for (at, name) in path.names().iter().enumerate() {
        let last = at + 1 == depth;
        walked.push(Name::clone(name));
        match layer.lookup(dir, name)? {
            None => break,
            Some(EntryKind::Whiteout) => return Ok(Some(TouchKind::Removed { path: walked })),
            Some(EntryKind::LinkBelow { ino }) if last => {
                return Ok(Some(TouchKind::LinkBelow { target: layer.link_target(ino)?.into_owned() }));
            }
            Some(EntryKind::Node { ino, implied, opaque, .. }) if last => {
                return Ok(Some(TouchKind::Object { ino, meta: layer.meta(ino)?, implied, opaque }));
            }
            Some(EntryKind::Node { ino, kind, opaque, .. }) if kind.is_directory() => {
                if opaque {
                    covered = Some(walked.clone());
                }
                dir = ino;
            }
            Some(_) => {
                covered = Some(walked);
                break;
            }
        }
    }
    Ok(covered.map(|path| TouchKind::Covered { path }))
}
