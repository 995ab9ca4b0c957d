//! The layers of a stage, as it grows.

use super::error::BuildResult;
use crate::build::copy::{Empty, Tree};
use crate::build::trees::StackTree;
use crate::diff;
use crate::image::open_layer;
use crate::oci::{Descriptor, Digest, LayerCompression, MediaType};
use crate::store::{ImageRecord, LayerRecord, Session, Store};
use crate::union::{Follow, Layer, Stack};
use std::sync::Arc;

/// One layer.
#[derive(Debug, Clone)]
pub(super) struct StageLayer {
    pub(super) record: LayerRecord,
    pub(super) opened: Arc<dyn Layer>,
    /// The key of the step that made it; none for layers of base images.
    pub(super) key: Option<Digest>,
}

/// Layers, bottom first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    layers: Vec<StageLayer>,
    /// How many of them came with the base image.
    inherited: usize,
}

impl Layers {
    /// The layers of an image.
    pub(super) fn of_image(session: &Session, image: &ImageRecord) -> BuildResult<Self> {
        let mut layers = Vec::new();
        for record in &image.layers {
            session.protect(&record.diff_id)?;
            session.protect(&record.blob.digest)?;
            let opened = open_layer(session.store(), record)?;
            layers.push(StageLayer { record: record.clone(), opened, key: None });
        }
        Ok(Self { inherited: layers.len(), layers })
    }

    /// Puts the layer `diff_id`, which is in the store, on top.
    pub(super) fn push(&mut self, store: &Store, diff_id: Digest, size: u64, key: Digest) -> BuildResult<()> {
        let chain_id = match self.layers.last() {
            Some(below) => Digest::of(format!("{} {diff_id}", below.record.chain_id).as_bytes()),
            None => diff_id,
        };
        let blob = Descriptor::new(MediaType::OciLayer(LayerCompression::None), diff_id, size);
        let record =
            LayerRecord { diff_id, chain_id, blob, tar: store.blob_path(&diff_id), toc: store.toc_path(&diff_id) };
        let opened = open_layer(store, &record)?;
        self.layers.push(StageLayer { record, opened, key: Some(key) });
        Ok(())
    }

    /// Drops all layers but the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.layers.truncate(count);
    }

    pub(super) fn all(&self) -> &[StageLayer] {
        &self.layers
    }

    /// How many layers came with the base image.
    pub(super) fn inherited(&self) -> usize {
        self.inherited
    }

    /// What all layers together are called; none when there are none.
    pub(super) fn chain_id(&self) -> Option<Digest> {
        self.layers.last().map(|layer| layer.record.chain_id)
    }

    pub(super) fn opened(&self) -> Vec<Arc<dyn Layer>> {
        self.layers.iter().map(|layer| Arc::clone(&layer.opened)).collect()
    }

    /// The stack of all layers; none when there are none.
    pub(super) fn stack(&self) -> BuildResult<Option<Arc<Stack>>> {
        if self.layers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Stack::new(self.opened(), None, Follow::default())?)))
    }

    /// Writes everything the layers show as one tar.
    pub fn write_tar(&self, output: impl std::io::Write) -> BuildResult<()> {
        let Some(stack) = self.stack()? else {
            return crate::archive::tar::Writer::new(output)
                .finish()
                .map(drop)
                .map_err(diff::Error::from)
                .map_err(Into::into);
        };
        let nothing = Stack::new(vec![super::assemble::nothing()], None, Follow::default())?;
        let options = diff::Options { comparison: diff::Comparison::Content, parents: true };
        let changes = diff::compare(&nothing, &stack, options)?;
        diff::write_layer(&changes, &stack, diff::LayerOptions::default(), output)?;
        Ok(())
    }

    /// All layers as a tree.
    pub fn tree(&self) -> BuildResult<Arc<dyn Tree>> {
        Ok(match self.stack()? {
            Some(stack) => Arc::new(StackTree::new(stack)),
            None => Arc::new(Empty),
        })
    }
}
