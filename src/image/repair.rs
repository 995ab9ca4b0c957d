//! Making the compressed form of a layer again, or doing without it.

use super::compress::{LayerForm, compress};
use super::error::ImageResult;
use crate::oci::{Descriptor, Digest, LayerCompression, Manifest, MediaType};
use crate::store::{ImageRecord, IndexEntry, LayerRecord, Store, StoreError};

/// Compresses the tar of a layer as layerfs does, and keeps the result when it is the very blob that the manifest lists.
/// False when it is not: it was compressed by something else.
pub(super) fn recompress(store: &Store, layer: &LayerRecord) -> ImageResult<bool> {
    let kind = layer.blob.kind().ok().and_then(MediaType::layer_compression);
    let Some(compression) = kind.filter(|kind| *kind != LayerCompression::None) else { return Ok(false) };
    let session = store.session()?;
    let form = LayerForm::new(compression);
    let (writer, (digest, _)) = compress(&session, &layer.diff_id, form, &|_| true)?;
    if digest != layer.blob.digest {
        return Ok(false);
    }
    writer.publish(&digest)?;
    session.sync()?;
    Ok(true)
}

/// Gives an image a manifest that lists the plain tars of the layers `diff_ids`. Its ID stays; its manifest has another
/// digest, under which no registry knows it.
pub(super) fn replace_by_plain(store: &Store, image: &ImageRecord, diff_ids: &[Digest]) -> ImageResult<()> {
    let document = |source| StoreError::Document { digest: image.manifest.digest, source };
    let mut manifest = Manifest::parse(&store.read_document("manifest", &image.manifest.digest)?).map_err(document)?;
    for (descriptor, layer) in manifest.layers.iter_mut().zip(&image.layers) {
        if diff_ids.contains(&layer.diff_id) {
            let size = layer.tar_size();
            *descriptor = Descriptor::new(MediaType::OciLayer(LayerCompression::None), layer.diff_id, size);
        }
    }
    let bytes = manifest.to_bytes();
    let session = store.session()?;
    session.put_document(&bytes)?;
    session.sync()?;
    let target = Descriptor::of(manifest.kind(), &bytes);
    store.replace_entries(&image.manifest.digest, |entry| {
        IndexEntry::new(
            entry.reference.clone(),
            Descriptor { platform: entry.target.platform.clone(), ..target.clone() },
            Vec::new(),
        )
    })?;
    Ok(())
}
