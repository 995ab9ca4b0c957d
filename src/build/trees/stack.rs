//! The layers of a stage or an image as a tree.

use crate::archive::tar::Xattr;
use crate::build::copy::{Stat, Tree};
use crate::diff::{self, NodeReader};
use crate::model::{FileKind, Name, RelPath};
use crate::union::{Ino, Node, Stack};
use parking_lot::Mutex;
use std::io::{self, Read};
use std::sync::Arc;

/// A stack of layers. Owners, modes and devices are those of the layers.
#[derive(Debug, Clone)]
pub struct StackTree {
    stack: Arc<Stack>,
    /// The node found last: what is looked at is usually read next.
    last: Arc<Mutex<Option<(RelPath, Node)>>>,
}

impl StackTree {
    /// The tree that `stack` shows.
    pub fn new(stack: Arc<Stack>) -> Self {
        Self { stack, last: Arc::new(Mutex::new(None)) }
    }

    fn node(&self, path: &RelPath) -> io::Result<Option<Node>> {
        if let Some((known, node)) = &*self.last.lock()
            && known == path
        {
            return Ok(Some(node.clone()));
        }
        let node = self.stack.resolve(path).map_err(io::Error::other)?;
        if let Some(node) = &node {
            *self.last.lock() = Some((path.clone(), node.clone()));
        }
        Ok(node)
    }

    fn existing(&self, path: &RelPath) -> io::Result<Node> {
        self.node(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn stat_of(&self, node: &Node) -> io::Result<Stat> {
        let meta = diff::meta(&self.stack, node).map_err(io::Error::other)?;
        let identity = match node {
            Node::Other { source, .. } if meta.nlink > 1 => Some((0, Ino::of(*source).0)),
            _ => None,
        };
        Ok(Stat {
            kind: node.kind(),
            permissions: meta.permissions,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            size: if node.kind() == FileKind::File { meta.size } else { 0 },
            device: meta.device,
            identity,
        })
    }
}

impl Tree for StackTree {
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        self.node(path)?.map(|node| self.stat_of(&node)).transpose()
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Name, Stat)>> {
        let Node::Directory(directory) = self.existing(path)? else { return Err(io::ErrorKind::NotADirectory.into()) };
        let children = self.stack.children(&directory.sources).map_err(io::Error::other)?;
        children.into_iter().map(|(name, node)| Ok((name, self.stat_of(&node)?))).collect()
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        let Node::Other { source, .. } = self.existing(path)? else { return Err(io::ErrorKind::InvalidInput.into()) };
        let layer = self.stack.layer(source.layer).map_err(io::Error::other)?;
        layer.read_link(source.ino).map(std::borrow::Cow::into_owned).map_err(io::Error::other)
    }

    fn xattrs(&self, path: &RelPath) -> io::Result<Vec<Xattr>> {
        let node = self.existing(path)?;
        Ok(diff::xattrs(&self.stack, &node).map_err(io::Error::other)?.into_iter().collect())
    }

    fn open<'a>(&'a self, path: &RelPath) -> io::Result<Box<dyn Read + 'a>> {
        let node = self.existing(path)?;
        let reader = NodeReader::new(&self.stack, &node).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Box::new(reader))
    }
}
