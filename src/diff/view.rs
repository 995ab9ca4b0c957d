//! What a node of a stack looks like: metadata, extended attributes, data.

use crate::model::{FileKind, Meta};
use crate::union::{LayerResult, Node, Source, Stack};
use std::collections::BTreeMap;
use std::io;

/// The object whose metadata `node` has.
fn owner_of_metadata(node: &Node) -> Source {
    match node {
        Node::Directory(directory) => directory.metadata,
        Node::Other { source, .. } => *source,
    }
}

/// The metadata of `node`.
pub fn meta(stack: &Stack, node: &Node) -> LayerResult<Meta> {
    let source = owner_of_metadata(node);
    let mut meta = stack.layer(source.layer)?.meta(source.ino)?;
    if matches!(node, Node::Other { .. }) {
        meta.nlink = stack.links(source, meta.nlink);
    }
    if let Node::Other { data: Some(data), .. } = node {
        let below = stack.layer(data.layer)?.meta(data.ino)?;
        (meta.size, meta.blocks) = (below.size, below.blocks);
    }
    Ok(meta)
}

/// The extended attributes of `node`, overlay's own left out.
pub fn xattrs(stack: &Stack, node: &Node) -> LayerResult<BTreeMap<Vec<u8>, Vec<u8>>> {
    let source = owner_of_metadata(node);
    let layer = stack.layer(source.layer)?;
    let mut names = Vec::new();
    layer.xattr_names(source.ino, &mut |name| names.push(name.to_vec()))?;
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(value) = layer.xattr(source.ino, &name)? {
            let value = value.into_owned();
            found.insert(name, value);
        }
    }
    Ok(found)
}

/// Where the data of the file `node` lie; none for what has no data.
pub(super) fn data_source(node: &Node) -> Option<Source> {
    match node {
        Node::Other { source, kind: FileKind::File, data } => Some(data.unwrap_or(*source)),
        _ => None,
    }
}

/// Bytes of a file that are read before they are looked at.
const READ_AT_ONCE: usize = 128 * 1024;

/// Whether two files, each in its stack, have equal bytes.
pub fn same_bytes(old: (&Stack, Source), new: (&Stack, Source)) -> LayerResult<bool> {
    let (old_layer, new_layer) = (old.0.layer(old.1.layer)?, new.0.layer(new.1.layer)?);
    let (mut old_bytes, mut new_bytes) = (vec![0; READ_AT_ONCE], vec![0; READ_AT_ONCE]);
    let mut offset = 0;
    loop {
        let count = old_layer.read_at(old.1.ino, offset, &mut old_bytes)?;
        if count != new_layer.read_at(new.1.ino, offset, &mut new_bytes)? {
            return Ok(false);
        }
        if old_bytes.get(..count) != new_bytes.get(..count) {
            return Ok(false);
        }
        if count < READ_AT_ONCE {
            return Ok(true);
        }
        offset += count as u64;
    }
}

/// The first `most` bytes of the file at `path`, symlinks followed; none where there is no such file.
pub fn read_file(stack: &Stack, path: &[u8], most: u64) -> LayerResult<Option<Vec<u8>>> {
    let node = stack.resolve_following(path, true)?;
    node.map_or(Ok(None), |node| read_node(stack, &node, most))
}

/// The first `most` bytes of the file `node`; none for what is no file.
pub fn read_node(stack: &Stack, node: &Node, most: u64) -> LayerResult<Option<Vec<u8>>> {
    let Some(source) = data_source(node) else { return Ok(None) };
    let layer = stack.layer(source.layer)?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; READ_AT_ONCE]);
    while (bytes.len() as u64) < most {
        let wanted = usize::try_from(most - bytes.len() as u64).unwrap_or(usize::MAX).min(READ_AT_ONCE);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let count = layer.read_at(source.ino, bytes.len() as u64, part)?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(part.get(..count).unwrap_or_default());
    }
    Ok(Some(bytes))
}

/// The data of a file, from its start.
#[derive(Debug)]
pub struct NodeReader<'a> {
    stack: &'a Stack,
    source: Source,
    offset: u64,
}

impl<'a> NodeReader<'a> {
    /// A reader of the file `node`; none for what is no regular file.
    pub fn new(stack: &'a Stack, node: &Node) -> Option<Self> {
        Some(Self { stack, source: data_source(node)?, offset: 0 })
    }
}

impl io::Read for NodeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let layer = self.stack.layer(self.source.layer).map_err(io::Error::other)?;
        let count = layer.read_at(self.source.ino, self.offset, buffer).map_err(io::Error::other)?;
        self.offset += count as u64;
        Ok(count)
    }
}
