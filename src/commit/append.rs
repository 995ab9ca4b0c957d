//! One more step on top of an image: its configuration and its manifest.

use super::{Captured, Clock, Result};
use crate::oci::{
    Descriptor, Digest, History, ImageConfig, LayerCompression, Manifest, ManifestKind, MediaType, Platform,
};
use crate::store::{ImageRecord, Session};

/// What a step says of itself, and what it made.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// The layer; none when the step changed no file.
    pub layer: Option<Captured>,
    /// The command, as `docker history` shows it.
    pub created_by: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// What else is to be said.
    pub comment: Option<String>,
}

/// An image in the store that no reference points to yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Appended {
    /// Its ID: the digest of the configuration.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: ImageConfig,
}

/// Puts `step` on top of `parent` and stores configuration and manifest. `config` is the configuration of the new image before
/// the step: the parent's, with whatever changes were asked for; without a parent, a new one.
///
/// Layers of the parent stay the blobs that they are, compressed or not. Media types become those of OCI.
pub fn append(
    session: &Session,
    parent: Option<&ImageRecord>,
    mut config: ImageConfig,
    step: Step,
    clock: Clock,
) -> Result<Appended> {
    let mut layers = parent.map(|parent| parent_layers(session, parent)).transpose()?.unwrap_or_default();
    if config.history.is_empty() {
        config.history = vec![History::default(); config.rootfs.diff_ids.len()];
    }
    config.history.push(History {
        created: Some(clock.rfc3339()),
        created_by: step.created_by,
        author: step.author.clone(),
        comment: step.comment,
        empty_layer: step.layer.is_none(),
        ..History::default()
    });
    config.created = Some(clock.rfc3339());
    if step.author.is_some() {
        config.author = step.author;
    }
    if let Some(layer) = step.layer {
        config.rootfs.diff_ids.push(layer.diff_id);
        layers.push(Descriptor::new(MediaType::OciLayer(LayerCompression::None), layer.diff_id, layer.size));
    }
    store_image(session, config, layers)
}

pub(super) fn store_image(session: &Session, config: ImageConfig, layers: Vec<Descriptor>) -> Result<Appended> {
    let bytes = config.to_bytes();
    let id = session.put_document(&bytes)?;
    let manifest = Manifest::new(Descriptor::of(MediaType::OciConfig, &bytes), layers).to_bytes();
    session.put_document(&manifest)?;
    let mut descriptor = Descriptor::of(MediaType::OciManifest, &manifest);
    descriptor.platform = Some(config.platform());
    Ok(Appended { id, manifest: descriptor, config })
}

/// The layers as the parent's manifest lists them, kept from collection, with the media types of OCI.
fn parent_layers(session: &Session, parent: &ImageRecord) -> Result<Vec<Descriptor>> {
    let mut layers = match session.store().read_target(&parent.manifest)? {
        ManifestKind::Image(manifest) => manifest.layers,
        ManifestKind::Index(_) => parent.layers.iter().map(|layer| layer.blob.clone()).collect(),
    };
    for layer in &parent.layers {
        session.protect(&layer.diff_id)?;
    }
    for layer in &mut layers {
        session.protect(&layer.digest)?;
        let compression = layer.kind().ok().and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
        MediaType::OciLayer(compression).as_str().clone_into(&mut layer.media_type);
    }
    Ok(layers)
}

/// The configuration of an image that is not there yet: no layers, this machine's platform.
pub fn empty_config() -> ImageConfig {
    ImageConfig::new(&Platform::host())
}
