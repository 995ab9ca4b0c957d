//! The layer that answers from a TOC and a tar.

use super::{DataSource, OpenError};
use crate::model::Meta;
use crate::union::{Entry, EntryKind, Layer, LayerError, LayerResult, LocalIno};
use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

/// One layer of an image: a mapped TOC, and the tar it describes.
#[derive(Debug)]
pub struct TocLayer {
    label: String,
    source: Arc<dyn DataSource>,
}

impl TocLayer {
    /// The layer whose TOC is `toc` and whose tar is `tar`. Reads the header only, whatever the number of files.
    pub fn open(toc: File, tar: File, label: String) -> Result<Self, OpenError> {
        Self::open_with_source(toc, Arc::new(tar), label)
    }

    /// The same with data from `source`.
    pub fn open_with_source(toc: File, source: Arc<dyn DataSource>, label: String) -> Result<Self, OpenError> {
        drop(toc);
        Ok(Self { label, source })
    }

    /// Where the data come from.
    pub fn source(&self) -> &Arc<dyn DataSource> {
        &self.source
    }

    fn absent(&self, ino: LocalIno) -> LayerError {
        LayerError::NoSuchInode { layer: self.label.clone(), ino: ino.0 }
    }
}

impl Layer for TocLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn root(&self) -> LocalIno {
        LocalIno(1)
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        Ok(false)
    }

    fn entries(&self, dir: LocalIno, _visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        Err(self.absent(dir))
    }

    fn lookup(&self, dir: LocalIno, _name: &[u8]) -> LayerResult<Option<EntryKind>> {
        Err(self.absent(dir))
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        Err(self.absent(ino))
    }

    fn read_link(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        Err(self.absent(ino))
    }

    fn read_at(&self, ino: LocalIno, _offset: u64, _buffer: &mut [u8]) -> LayerResult<usize> {
        Err(self.absent(ino))
    }

    fn seek(&self, ino: LocalIno, _offset: u64, _hole: bool) -> LayerResult<Option<u64>> {
        Err(self.absent(ino))
    }

    fn xattr(&self, ino: LocalIno, _name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        Err(self.absent(ino))
    }

    fn xattr_names(&self, ino: LocalIno, _visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        Err(self.absent(ino))
    }
}
