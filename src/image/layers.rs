//! Layers of the store as layers of a union; what is missing of one is made from what is there.

use super::error::{ImageError, ImageResult};
use super::ingest::{Expected, Limits, ingest_layer};
use super::progress::{LayerProgress, NoProgress};
use crate::archive::tar;
use crate::layer::toc::{self, TocLayer};
use crate::oci::Digest;
use crate::store::{ImageRecord, LayerRecord, Session, Store, StoreError};
use crate::union::{Layer, MemLayer};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens the layers of an image, bottom first. Of an image without layers (`FROM scratch` and nothing else) one that is
/// empty: what is made of the layers has at least one.
pub fn open_layers(store: &Store, image: &ImageRecord) -> ImageResult<Vec<Arc<dyn Layer>>> {
    if image.layers.is_empty() {
        return Ok(vec![Arc::new(MemLayer::empty("nothing"))]);
    }
    image.layers.iter().map(|layer| open_layer(store, layer)).collect()
}

/// Opens one layer. A table of contents that is missing or cannot be used is made anew; so is the tar, where there is a
/// compressed form of it.
pub fn open_layer(store: &Store, layer: &LayerRecord) -> ImageResult<Arc<dyn Layer>> {
    if let Some(opened) = try_open(store, &layer.diff_id)? {
        return Ok(opened);
    }
    match ensure_layer(store, layer, &NoProgress) {
        Err(ImageError::Store(error)) if error.is_unwritable() && store.blob_size(&layer.diff_id)?.is_some() => {
            log::info!(target: "layerfs::image", "{error}: the table of contents is made for this command alone");
            return open_with_own_table(store, &layer.diff_id);
        }
        made => made?,
    }
    let open = |path: PathBuf| File::open(&path).map_err(|source| StoreError::Io { path, source });
    let (table, data) = (open(store.toc_path(&layer.diff_id))?, open(store.blob_path(&layer.diff_id))?);
    TocLayer::open(table, data, layer.diff_id.to_string())
        .map(|layer| Arc::new(layer) as Arc<dyn Layer>)
        .map_err(|source| ImageError::Open { diff_id: layer.diff_id, source })
}

/// Opens a layer with a table of contents that goes with whoever has it open: the store cannot be written to.
fn open_with_own_table(store: &Store, diff_id: &Digest) -> ImageResult<Arc<dyn Layer>> {
    let bytes = table_of(store, diff_id)?;
    let path = store.blob_path(diff_id);
    let data = File::open(&path).map_err(|source| StoreError::Io { path, source })?;
    let written = tempfile::tempfile().and_then(|mut file| file.write_all(&bytes).map(|()| file));
    let table =
        written.map_err(|source| ImageError::Write { what: "a temporary table of contents".to_owned(), source })?;
    TocLayer::open(table, data, diff_id.to_string())
        .map(|layer| Arc::new(layer) as Arc<dyn Layer>)
        .map_err(|source| ImageError::Open { diff_id: *diff_id, source })
}

/// Makes what is missing of every layer of an image.
pub fn ensure_layers(store: &Store, image: &ImageRecord) -> ImageResult<()> {
    image.layers.iter().try_for_each(|layer| open_layer(store, layer).map(drop))
}

/// Makes the tar and the table of contents of a layer, whatever of them is there: the tar from a compressed form of it,
/// the table from the tar.
pub fn ensure_layer(store: &Store, layer: &LayerRecord, progress: &dyn LayerProgress) -> ImageResult<()> {
    let session = store.session()?;
    if session.has_blob(&layer.diff_id)? {
        log::info!(target: "layerfs::image", "layer {}: making its table of contents", layer.diff_id);
        return rebuild_table(&session, &layer.diff_id);
    }
    log::info!(target: "layerfs::image", "layer {}: making its tar from a compressed form", layer.diff_id);
    rebuild_tar(&session, layer, progress)
}

/// The layer as it is in the store; none when something of it must be made.
fn try_open(store: &Store, diff_id: &Digest) -> ImageResult<Option<Arc<dyn Layer>>> {
    let (Some(table), Some(data)) =
        (open_optional(&store.toc_path(diff_id))?, open_optional(&store.blob_path(diff_id))?)
    else {
        return Ok(None);
    };
    match TocLayer::open(table, data, diff_id.to_string()) {
        Ok(layer) => Ok(Some(Arc::new(layer))),
        Err(source @ toc::OpenError::Io { .. }) => Err(ImageError::Open { diff_id: *diff_id, source }),
        Err(error) => {
            log::warn!(target: "layerfs::image", "layer {diff_id}: {error}; making it anew");
            Ok(None)
        }
    }
}

fn open_optional(path: &Path) -> ImageResult<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { path: path.to_owned(), source }.into()),
    }
}

/// Makes the table of contents from the tar. Only headers are read; whether the tar is the right one is for fsck to say.
pub(super) fn rebuild_table(session: &Session, diff_id: &Digest) -> ImageResult<()> {
    let bytes = table_of(session.store(), diff_id)?;
    Ok(session.put_toc(diff_id, &bytes)?)
}

/// The table of contents of a tar of the store, as it should be.
pub(super) fn table_of(store: &Store, diff_id: &Digest) -> ImageResult<Vec<u8>> {
    let layer = || format!("layer {diff_id}");
    let path = store.blob_path(diff_id);
    let open = || Ok((File::open(&path)?, std::fs::metadata(&path)?.len()));
    let (file, size) = open().map_err(|source| StoreError::Io { path: path.clone(), source })?;
    let limits = tar::Limits::none();
    let tar_error = |source| ImageError::Tar { layer: layer(), source };
    let mut builder = toc::Builder::new(limits.clone());
    let mut reader = tar::Reader::seekable(file, limits);
    while let Some(entry) = reader.next_entry().map_err(tar_error)? {
        builder.add(&entry).map_err(|source| ImageError::Toc { layer: layer(), source })?;
    }
    builder.finish(*diff_id.as_bytes(), size).map_err(|source| ImageError::Toc { layer: layer(), source })
}

/// Makes the tar, and the table with it, from the first compressed form that is there.
pub(super) fn rebuild_tar(session: &Session, layer: &LayerRecord, progress: &dyn LayerProgress) -> ImageResult<()> {
    let mut forms = session.store().compressed(&layer.diff_id)?;
    forms.retain(|form| form.digest != layer.blob.digest);
    let mut candidates = vec![(layer.blob.digest, layer.blob.size)];
    candidates.extend(forms.iter().map(|form| (form.digest, form.size)));
    candidates.retain(|(digest, _)| *digest != layer.diff_id);
    for blob in candidates {
        if !session.has_blob(&blob.0)? {
            continue;
        }
        let path = session.store().blob_path(&blob.0);
        let mut file = File::open(&path).map_err(|source| StoreError::Io { path, source })?;
        let expected = Expected { blob: Some(blob), diff_id: Some(layer.diff_id), stored: true, ..Expected::default() };
        return ingest_layer(session, &mut file, &expected, &Limits::none(), progress).map(drop);
    }
    Err(ImageError::LayerLost { diff_id: layer.diff_id })
}
