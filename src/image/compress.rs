//! Layers in another form than they came in.

use super::error::{ImageError, ImageResult};
use super::layers::ensure_layer;
use super::progress::{NoProgress, Progress};
use crate::archive::compression::{Compression, Encoder, Level};
use crate::oci::{Descriptor, Digest, Hasher, LayerCompression, MediaType};
use crate::store::{BlobWriter, Compressed, LayerRecord, Session, StoreError};
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;

/// Named in what the store remembers. Changes when the encoder's output for the same input does.
const ENCODER: &str = "2";
/// Bytes read from a tar at a time.
const BUFFER: usize = 256 << 10;

/// The form that layers are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerForm {
    /// The compression.
    pub compression: LayerCompression,
    /// Its level; the format's own default when none is given.
    pub level: Option<u32>,
    /// How many threads compress; all cores when nothing is said. The bytes do not depend on it.
    pub threads: Option<NonZeroUsize>,
}

impl LayerForm {
    /// A form with the defaults of its compression.
    pub fn new(compression: LayerCompression) -> Self {
        Self { compression, level: None, threads: None }
    }

    /// What the store remembers of a layer in this form.
    fn parameters(self) -> String {
        let level = self.level.map_or_else(|| "default".to_owned(), |level| level.to_string());
        let format = if self.compression == LayerCompression::Zstd { "zstd" } else { "gzip" };
        format!("layerfs-{ENCODER} {format} {level}")
    }

    fn encoder<W: Write>(self, output: W) -> io::Result<Encoder<W>> {
        let compression = match self.compression {
            LayerCompression::None => Compression::Plain,
            LayerCompression::Gzip => Compression::Gzip,
            LayerCompression::Zstd => Compression::Zstd,
        };
        let level = self.level.map_or(Level::Default, Level::Exactly);
        match self.threads {
            Some(threads) => Encoder::with_threads(output, compression, level, threads),
            None => Encoder::new(output, compression, level),
        }
    }
}

/// A blob of the store that has the layer in the wanted form. One that came so, or was made so before, is taken as it is;
/// otherwise the layer is compressed, and that is remembered.
pub fn layer_in_form(
    session: &Session,
    layer: &LayerRecord,
    form: LayerForm,
    progress: &dyn Progress,
) -> ImageResult<Descriptor> {
    if form.compression == LayerCompression::None {
        ensure(session, layer)?;
        let size = session.store().blob_size(&layer.diff_id)?.unwrap_or_default();
        return Ok(Descriptor::new(MediaType::OciLayer(LayerCompression::None), layer.diff_id, size));
    }
    if let Some(known) = known_form(session, layer, Some(form))? {
        return Ok(known);
    }
    let bar = progress.layer(&layer.diff_id.short(), Some(layer.tar_size()));
    compress_layer(session, layer, form, &|bytes| {
        bar.advance(bytes);
        true
    })
}

/// A compressed form of the layer whose bytes are in the store: one that came so, or was made so. In any format and of any
/// level where nothing is wanted; of any level where only the format is.
pub fn known_form(
    session: &Session,
    layer: &LayerRecord,
    wanted: Option<LayerForm>,
) -> ImageResult<Option<Descriptor>> {
    let fits = |format| wanted.is_none_or(|wanted| wanted.compression == format && wanted.level.is_none());
    let listed = layer.blob.kind().ok().and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
    if listed != LayerCompression::None && fits(listed) && session.has_blob(&layer.blob.digest)? {
        return Ok(Some(layer.blob.clone()));
    }
    for known in session.store().compressed(&layer.diff_id)? {
        let kind = MediaType::parse(&known.media_type).ok();
        let format = kind.and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
        let same = match (&known.parameters, wanted) {
            (Some(made), Some(wanted)) => *made == wanted.parameters(),
            _ => fits(format),
        };
        if same && format != LayerCompression::None && session.has_blob(&known.digest)? {
            return Ok(Some(Descriptor::new(MediaType::OciLayer(format), known.digest, known.size)));
        }
    }
    Ok(None)
}

/// Compresses a layer and remembers the form. `goes_on` hears of every piece's bytes, and ends the work by false.
pub fn compress_layer(
    session: &Session,
    layer: &LayerRecord,
    form: LayerForm,
    goes_on: &dyn Fn(u64) -> bool,
) -> ImageResult<Descriptor> {
    ensure(session, layer)?;
    let (writer, (digest, size)) = compress(session, &layer.diff_id, form, goes_on)?;
    writer.publish(&digest)?;
    let kind = MediaType::OciLayer(form.compression);
    let media_type = kind.as_str().to_owned();
    let compressed = Compressed { digest, size, media_type, parameters: Some(form.parameters()) };
    session.remember_compressed(&layer.diff_id, &compressed)?;
    Ok(Descriptor::new(kind, digest, size))
}

fn ensure(session: &Session, layer: &LayerRecord) -> ImageResult<()> {
    if session.has_blob(&layer.diff_id)? {
        return Ok(());
    }
    ensure_layer(session.store(), layer, NoProgress.layer("", None).as_ref())
}

/// Compresses the tar of a layer into a new blob, and says what its digest and size are. The tar is verified on the way: one
/// that has rotted must not be spread under a new digest.
pub(super) fn compress<'a>(
    session: &'a Session,
    diff_id: &Digest,
    form: LayerForm,
    goes_on: &dyn Fn(u64) -> bool,
) -> ImageResult<(BlobWriter<'a>, (Digest, u64))> {
    let path = session.store().blob_path(diff_id);
    let mut tar = File::open(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
    let output = Hashing { writer: session.begin_blob()?, hasher: Hasher::new() };
    let stage = output.writer.path().to_owned();
    let mut plain = Hasher::new();
    let run = || -> io::Result<Hashing<'a>> {
        let mut encoder = form.encoder(output)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = tar.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            plain.update(bytes);
            encoder.write_all(bytes)?;
            if !goes_on(count as u64) {
                return Err(io::Error::other("stopped"));
            }
        }
        encoder.finish()
    };
    let output = run().map_err(|source| ImageError::Store(StoreError::Io { path: stage, source }))?;
    plain.verify(diff_id, None).map_err(StoreError::from)?;
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
