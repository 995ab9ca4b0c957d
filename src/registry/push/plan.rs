//! The documents that are pushed: as they are where nothing changed, else with the layers in the form they are sent in.

use super::Sent;
use crate::oci::{Descriptor, Digest, LayerCompression, Manifest, ManifestKind, MediaType};
use crate::registry::Error;
use crate::store::{ImageRecord, Store, StoreError};
use std::collections::HashMap;

/// An image whose blobs are at the registry.
#[derive(Debug)]
pub(super) struct PlannedImage {
    /// The manifest to put.
    pub(super) descriptor: Descriptor,
    /// Its media type.
    pub(super) kind: MediaType,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// The configuration.
    pub(super) config: Descriptor,
}

impl PlannedImage {
    /// The manifest of `image` with its layers in these forms.
    pub(super) fn new(store: &Store, image: &ImageRecord, forms: &HashMap<Digest, Sent>) -> Result<Self, Error> {
        let digest = image.manifest.digest;
        let bytes = store.read_document("manifest", &digest)?;
        let mut manifest = Manifest::parse(&bytes).map_err(|source| StoreError::Document { digest, source })?;
        let config = manifest.config.clone();
        let mut changed = false;
        for (listed, layer) in manifest.layers.iter_mut().zip(&image.layers) {
            let Some(form) = forms.get(&layer.diff_id) else { continue };
            if form.blob.digest != listed.digest {
                changed = true;
                listed.digest = form.blob.digest;
                listed.size = form.blob.size;
                listed.media_type.clone_from(&form.blob.media_type);
            }
        }
        if !changed {
            let (descriptor, kind) = (image.manifest.clone(), manifest.kind());
            return Ok(Self { descriptor, kind, bytes, config });
        }
        settle_family(&mut manifest);
        let (kind, bytes) = (manifest.kind(), manifest.to_bytes());
        let mut descriptor = Descriptor::of(kind, &bytes);
        descriptor.platform.clone_from(&image.manifest.platform);
        Ok(Self { descriptor, kind, config: manifest.config, bytes })
    }
}

/// Gives all parts the media types of one family. Docker's has no zstd, so such a manifest becomes an OCI one.
fn settle_family(manifest: &mut Manifest) {
    let kinds = manifest.layers.iter().filter_map(|layer| layer.kind().ok()?.layer_compression());
    let zstd = kinds.into_iter().any(|compression| compression == LayerCompression::Zstd);
    let docker = manifest.kind() == MediaType::DockerManifest && !zstd;
    let (own, config) = if docker {
        (MediaType::DockerManifest, MediaType::DockerConfig)
    } else {
        (MediaType::OciManifest, MediaType::OciConfig)
    };
    manifest.media_type = Some(own.as_str().to_owned());
    config.as_str().clone_into(&mut manifest.config.media_type);
    for layer in &mut manifest.layers {
        if let Some(compression) = layer.kind().ok().and_then(MediaType::layer_compression) {
            let kind = if docker { MediaType::DockerLayer(compression) } else { MediaType::OciLayer(compression) };
            kind.as_str().clone_into(&mut layer.media_type);
        }
    }
}

/// Every image of the list that `image` belongs to.
///
/// # Errors
/// When one of them is not in the store: a list that lacks an image cannot be pushed.
pub(super) fn all_images(store: &Store, image: &ImageRecord) -> Result<Vec<ImageRecord>, Error> {
    let ManifestKind::Index(index) = store.read_target(&image.target)? else { return Ok(vec![image.clone()]) };
    let mut images = Vec::new();
    for entry in &store.flat(&index)?.manifests {
        if !entry.is_image() {
            continue;
        }
        if store.blob_size(&entry.digest)?.is_none() {
            let platform = entry.platform.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(Error::PlatformMissing { what: image.label(), platform });
        }
        let mut record = store.image(entry, None)?;
        record.manifest = entry.clone();
        images.push(record);
    }
    Ok(images)
}

/// The list of images by platform to put: as it is, or with the manifests that changed.
pub(super) fn index(
    store: &Store,
    image: &ImageRecord,
    planned: &[PlannedImage],
) -> Result<(Descriptor, Vec<u8>), Error> {
    let bytes = store.read_document("index", &image.target.digest)?;
    let ManifestKind::Index(mut index) = store.read_target(&image.target)? else {
        return Ok((image.target.clone(), bytes));
    };
    // Lists in it go: few registries and tools take such.
    let mut changed = index.is_nested();
    index = store.flat(&index)?;
    for (entry, one) in index.manifests.iter_mut().filter(|entry| entry.is_image()).zip(planned) {
        if entry.digest != one.descriptor.digest {
            changed = true;
            entry.digest = one.descriptor.digest;
            entry.size = one.descriptor.size;
            entry.media_type.clone_from(&one.descriptor.media_type);
        }
    }
    // Attestations speak of manifests by digest and are not in the store.
    let before = index.manifests.len();
    index.manifests.retain(|entry| !entry.is_attestation());
    if !changed && index.manifests.len() == before {
        return Ok((image.target.clone(), bytes));
    }
    let bytes = index.to_bytes();
    let kind = MediaType::parse(&image.target.media_type).unwrap_or(MediaType::OciIndex);
    Ok((Descriptor::of(kind, &bytes), bytes))
}
