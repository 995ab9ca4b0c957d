//! What stands in an archive for a node of a stack.

use super::view::{meta, xattrs};
use super::{Error, Result};
use crate::archive::tar::{Entry, EntryKind, EntryPath, Limits};
use crate::model::{FileKind, Meta, RelPath, Timestamp};
use crate::union::{LayerResult, Node, Stack};

/// Prefix of the names that mark something in a layer (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The mark of an opaque directory.
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// How time stamps are written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    /// The latest time that is written, in seconds since the epoch (`SOURCE_DATE_EPOCH`); later ones become this one.
    pub latest: Option<i64>,
}

impl Clock {
    fn clamp(self, time: Timestamp) -> Timestamp {
        match self.latest {
            Some(latest) if time.seconds >= latest => Timestamp::from_seconds(latest),
            _ => Timestamp::from_seconds(time.seconds),
        }
    }
}

/// The path as an archive holds it; refuses names that would mark something.
pub(super) fn entry_path(path: &RelPath) -> Result<EntryPath> {
    if path.names().iter().any(|name| name.starts_with(WHITEOUT_PREFIX)) {
        return Err(Error::WhiteoutName { path: path.clone() });
    }
    if path.is_root() {
        return Ok(EntryPath::root());
    }
    parse(path, &path.to_bytes())
}

fn parse(path: &RelPath, bytes: &[u8]) -> Result<EntryPath> {
    EntryPath::parse(bytes, &Limits::default())
        .map_err(|error| Error::Unrepresentable { path: path.clone(), detail: error.to_string() })
}

/// The entry that says that `path` is gone. Its time is the epoch: a whiteout has none of its own.
pub(super) fn whiteout(path: &RelPath) -> Result<Entry> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(Error::Unrepresentable { path: path.clone(), detail: "the root cannot be deleted".to_owned() });
    };
    mark(path, &parent, &[WHITEOUT_PREFIX, name].concat())
}

/// The entry that says that lower layers have nothing in the directory `path`.
pub(super) fn opaque_mark(path: &RelPath) -> Result<Entry> {
    mark(path, path, OPAQUE_MARK)
}

fn mark(path: &RelPath, directory: &RelPath, name: &[u8]) -> Result<Entry> {
    entry_path(directory)?;
    let mut bytes = directory.to_bytes();
    if !bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name);
    Ok(Entry::new(parse(path, &bytes)?, EntryKind::File { size: 0, extents: Vec::new() }))
}

/// The entry of `node` at `path`; none for a socket, which no archive can hold.
pub(super) fn of_node(stack: &Stack, path: &RelPath, node: &Node, clock: Clock) -> Result<Option<Entry>> {
    let meta = meta(stack, node)?;
    let Some(kind) = kind(stack, node, &meta)? else { return Ok(None) };
    Ok(Some(Entry {
        permissions: meta.permissions,
        uid: meta.uid,
        gid: meta.gid,
        mtime: clock.clamp(meta.mtime),
        xattrs: xattrs(stack, node)?.into_iter().collect(),
        ..Entry::new(entry_path(path)?, kind)
    }))
}

fn kind(stack: &Stack, node: &Node, meta: &Meta) -> LayerResult<Option<EntryKind>> {
    let device = meta.device;
    Ok(Some(match meta.kind {
        FileKind::File => EntryKind::File { size: meta.size, extents: Vec::new() },
        FileKind::Directory => EntryKind::Directory,
        FileKind::CharDevice => EntryKind::CharDevice { device },
        FileKind::BlockDevice => EntryKind::BlockDevice { device },
        FileKind::Fifo => EntryKind::Fifo,
        FileKind::Socket => return Ok(None),
        FileKind::Symlink => {
            let Node::Other { source, .. } = node else { return Ok(None) };
            EntryKind::Symlink { target: stack.layer(source.layer)?.read_link(source.ino)?.into_owned() }
        }
    }))
}
