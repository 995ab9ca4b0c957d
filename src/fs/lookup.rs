//! From names to numbers, and from numbers to objects.

use super::directory::LiveDirectory;
use super::{Attr, FsError, FsResult, LayerFs};
use crate::model::{FileKind, NAME_MAX};
use crate::union::{Ino, Layer, Node, Source};
use std::sync::Arc;

/// What a number stands for now.
#[derive(Debug)]
pub(super) enum Object {
    /// A directory.
    Directory(Arc<LiveDirectory>),
    /// Anything else, and where it lies.
    Other(Source),
}

impl Object {
    /// Where the object's metadata lie.
    pub(super) fn metadata(&self) -> Source {
        match self {
            Self::Directory(directory) => directory.metadata,
            Self::Other(source) => *source,
        }
    }
}

impl LayerFs {
    /// What `name` in the directory `parent` is; none when there is no such name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> FsResult<Option<Attr>> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let directory = self.directory(parent)?;
        let found = directory.listing(&self.stack)?.get(name).map(|listed| (listed.ino, listed.kind));
        let Some((ino, kind)) = found else { return Ok(None) };
        self.learn(parent, &directory, name, ino, kind)?;
        self.getattr(ino).map(Some)
    }

    /// The kernel drops `lookups` of its references to `ino`. Nothing is kept for objects of images; directories stay.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let _ = (ino, lookups);
    }

    /// The object with the number `ino`: the one place that decides this.
    pub(super) fn object(&self, ino: Ino) -> FsResult<Object> {
        if let Some(directory) = self.directories.get(ino) {
            return Ok(Object::Directory(directory));
        }
        ino.source().map(Object::Other).ok_or(FsError::Stale(ino.0))
    }

    /// The directory `ino`.
    pub(super) fn directory(&self, ino: Ino) -> FsResult<Arc<LiveDirectory>> {
        self.directories.get(ino).ok_or(FsError::Stale(ino.0))
    }

    pub(super) fn layer(&self, source: Source) -> FsResult<&dyn Layer> {
        Ok(self.stack.layer(source.layer)?)
    }

    /// Remembers what the number of a listed entry does not tell, before the kernel hears of it: the sources of a
    /// directory, the data of a metadata-only copy.
    pub(super) fn learn(
        &self,
        parent: Ino,
        directory: &LiveDirectory,
        name: &[u8],
        ino: Ino,
        kind: FileKind,
    ) -> FsResult<()> {
        let unknown = match kind {
            FileKind::Directory => self.directories.get(ino).is_none(),
            FileKind::File => match ino.source() {
                Some(source) => self.layer(source)?.keeps_marks(),
                None => false,
            },
            _ => false,
        };
        if !unknown {
            return Ok(());
        }
        match self.stack.child(&directory.sources, name)? {
            Some(Node::Directory(found)) => {
                self.directories.get_or_insert(ino, parent, found);
            }
            Some(Node::Other { data: Some(data), .. }) => {
                self.data_elsewhere.write().insert(ino, data);
            }
            _ => {}
        }
        Ok(())
    }
}
