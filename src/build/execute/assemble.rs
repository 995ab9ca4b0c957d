//! From the layers of the target to an image in the store.

use super::Build;
use super::error::BuildResult;
use super::layers::Layers;
use super::results::StageResult;
use crate::commit::capture;
use crate::diff::{Comparison, LayerOptions, Options as CompareOptions, compare, keep_links};
use crate::oci::{Descriptor, Digest, History, ImageConfig, LayerCompression, Manifest, MediaType};
use crate::store::ImageRecord;
use crate::union::{Follow, Layer, MemLayer, Stack};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The field of a configuration that holds the cache keys of its layers, for `--cache-from`.
const KEYS: &str = "layerfs.build.keys";

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The ID: the digest of the configuration.
    pub id: Digest,
    /// The manifest, to be named.
    pub manifest: Descriptor,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers.
    pub layers: Layers,
}

/// Stores configuration and manifest of the target.
pub(super) fn assemble(build: &Build<'_>, stage: StageResult) -> BuildResult<Built> {
    let StageResult { mut layers, mut config } = stage;
    config.created =
        config.history.last().and_then(|entry| entry.created.clone()).or(Some(build.options.clock.rfc3339()));
    config.other.remove(KEYS);
    if build.options.squash {
        squash(build, &mut layers, &mut config)?;
    } else {
        remember_keys(&layers, &mut config);
    }
    let descriptors = descriptors(&layers);
    let bytes = config.to_bytes();
    let id = build.session.put_document(&bytes)?;
    let manifest = Manifest::new(Descriptor::of(MediaType::OciConfig, &bytes), descriptors).to_bytes();
    build.session.put_document(&manifest)?;
    let mut descriptor = Descriptor::of(MediaType::OciManifest, &manifest);
    descriptor.platform = Some(config.platform());
    Ok(Built { id, manifest: descriptor, config, layers })
}

/// Layers of the base stay the blobs they are; media types become those of OCI.
fn descriptors(layers: &Layers) -> Vec<Descriptor> {
    let descriptor = |layer: &super::layers::StageLayer| {
        let mut blob = layer.record.blob.clone();
        let compression = blob.kind().ok().and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
        MediaType::OciLayer(compression).as_str().clone_into(&mut blob.media_type);
        blob
    };
    layers.all().iter().map(descriptor).collect()
}

fn remember_keys(layers: &Layers, config: &mut ImageConfig) {
    let keys: Map<String, Value> = layers
        .all()
        .iter()
        .filter_map(|layer| Some((layer.key?.to_string(), Value::String(layer.record.diff_id.to_string()))))
        .collect();
    if !keys.is_empty() {
        config.other.insert(KEYS.to_owned(), Value::Object(keys));
    }
}

/// The cache keys an image was built with.
pub(super) fn keys_of(image: &ImageRecord) -> BTreeMap<Digest, Digest> {
    let Some(Value::Object(keys)) = image.config.other.get(KEYS) else { return BTreeMap::new() };
    keys.iter().filter_map(|(key, layer)| Some((key.parse().ok()?, layer.as_str()?.parse().ok()?))).collect()
}

/// A layer with nothing in it: a stack needs at least one.
pub(super) fn nothing() -> Arc<dyn Layer> {
    Arc::new(MemLayer::empty("nothing"))
}

/// Puts one layer in the place of all that the build added.
fn squash(build: &Build<'_>, layers: &mut Layers, config: &mut ImageConfig) -> BuildResult<()> {
    let inherited = layers.inherited();
    if layers.all().len() <= inherited + 1 {
        return Ok(());
    }
    let opened = layers.opened();
    let lower = opened.get(..inherited).unwrap_or_default().to_vec();
    let lower = if lower.is_empty() { vec![nothing()] } else { lower };
    let old = Stack::new(lower, None, Follow::default())?;
    let new = Stack::new(opened, None, Follow::default())?;
    let options = CompareOptions { comparison: Comparison::Content, parents: true };
    let changes = keep_links(compare(&old, &new, options)?, &new)?;
    let captured = capture(build.session, &changes, &new, LayerOptions { latest: build.options.clock.latest() })?;
    layers.truncate(inherited);
    layers.push(build.store, captured.diff_id, captured.size, captured.diff_id)?;
    config.rootfs.diff_ids = layers.all().iter().map(|layer| layer.record.diff_id).collect();
    let mut kept = 0;
    for entry in &mut config.history {
        kept += usize::from(!entry.empty_layer);
        entry.empty_layer |= kept > inherited;
    }
    config.history.push(History {
        created: config.created.clone(),
        comment: Some("squashed".to_owned()),
        created_by: Some(String::new()),
        ..History::default()
    });
    Ok(())
}
