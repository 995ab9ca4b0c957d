//! Making the compressed form of a layer again, or doing without it.

use super::error::{ImageError, ImageResult};
use crate::archive::compression::{Compression, Encoder, Level};
use crate::oci::{Descriptor, Digest, Hasher, LayerCompression, Manifest, MediaType};
use crate::store::{BlobWriter, ImageRecord, IndexEntry, LayerRecord, Session, Store, StoreError};
use std::fs::File;
use std::io::{self, Write};

/// Compresses the tar of a layer as layerfs does, and keeps the result when it is the very blob that the manifest lists.
/// False when it is not: it was compressed by something else.
pub(super) fn recompress(store: &Store, layer: &LayerRecord) -> ImageResult<bool> {
    let kind = layer.blob.kind().ok().and_then(MediaType::layer_compression);
    let compression = match kind {
        Some(LayerCompression::Gzip) => Compression::Gzip,
        Some(LayerCompression::Zstd) => Compression::Zstd,
        _ => return Ok(false),
    };
    let session = store.session()?;
    let (writer, (digest, _)) = compress(&session, &layer.diff_id, compression, Level::Default)?;
    if digest != layer.blob.digest {
        return Ok(false);
    }
    writer.publish(&digest)?;
    session.sync()?;
    Ok(true)
}

/// Compresses the tar of a layer into a new blob, and says what its digest and size are.
pub(super) fn compress<'a>(
    session: &'a Session,
    diff_id: &Digest,
    compression: Compression,
    level: Level,
) -> ImageResult<(BlobWriter<'a>, (Digest, u64))> {
    let path = session.store().blob_path(diff_id);
    let mut tar = File::open(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
    let output = Hashing { writer: session.begin_blob()?, hasher: Hasher::new() };
    let stage = output.writer.path().to_owned();
    let run = || -> io::Result<Hashing<'a>> {
        let mut encoder = Encoder::new(output, compression, level)?;
        io::copy(&mut tar, &mut encoder)?;
        encoder.finish()
    };
    let output = run().map_err(|source| ImageError::Store(StoreError::Io { path: stage, source }))?;
    Ok((output.writer, output.hasher.finish()))
}

/// Writes a blob and hashes it.
struct Hashing<'a> {
    writer: BlobWriter<'a>,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
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
