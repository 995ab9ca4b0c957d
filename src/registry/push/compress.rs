//! Finding or making the form in which a layer is sent.

use crate::archive::compression::{Compression, Encoder, Level};
use crate::image::{NoProgress, Progress, ensure_layer};
use crate::oci::{Descriptor, Digest, Hasher, LayerCompression, MediaType};
use crate::registry::Error;
use crate::registry::http::{Cancel, TransportError};
use crate::store::{Compressed, LayerRecord, Session, StoreError};
use std::fs::File;
use std::io::{self, Read, Write};

/// Named in what the store remembers. Changes when the encoder's output for the same input does.
const ENCODER: &str = "1";

/// The gzip level where none is asked for. Measured on a real image of 1.5 GB: 2 takes 15 s of CPU and gives 601 MB, 3 17 s and
/// 585 MB, 6 25 s and 572 MB; podman's gzip takes 25 s and gives 586 MB.
const GZIP_LEVEL: u32 = 2;

/// How layers are to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushCompression {
    /// gzip or zstd.
    pub format: LayerCompression,
    /// The format's own default when none is given.
    pub level: Option<u32>,
}

impl PushCompression {
    /// What the store remembers of a form made like this.
    fn parameters(self) -> String {
        let (format, level) = self.encoder();
        let format = if format == Compression::Zstd { "zstd" } else { "gzip" };
        let level = match level {
            Level::Default => "default".to_owned(),
            Level::Exactly(level) => level.to_string(),
        };
        format!("layerfs-{ENCODER} {format} {level}")
    }

    fn encoder(self) -> (Compression, Level) {
        match (self.format, self.level) {
            (LayerCompression::Zstd, level) => (Compression::Zstd, level.map_or(Level::Default, Level::Exactly)),
            (_, level) => (Compression::Gzip, Level::Exactly(level.unwrap_or(GZIP_LEVEL))),
        }
    }
}

/// The form of `layer` whose bytes are in the store already, or that the manifest lists and the registry may have.
pub(super) fn known_form(
    session: &Session,
    layer: &LayerRecord,
    wanted: Option<PushCompression>,
) -> Result<Option<Descriptor>, Error> {
    let listed = layer.blob.kind().ok().and_then(MediaType::layer_compression);
    let fits = |format| wanted.is_none_or(|wanted| wanted.format == format);
    let has_level = wanted.is_some_and(|wanted| wanted.level.is_some());
    if let Some(format) = listed.filter(|format| *format != LayerCompression::None)
        && fits(format)
        && !has_level
        && layer.blob.digest != layer.diff_id
    {
        return Ok(Some(layer.blob.clone()));
    }
    for form in session.store().compressed(&layer.diff_id)? {
        let kind = MediaType::parse(&form.media_type).ok();
        let format = kind.and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
        let same = match (&form.parameters, wanted) {
            (Some(made), Some(wanted)) => *made == wanted.parameters(),
            _ => fits(format) && !has_level,
        };
        if same && format != LayerCompression::None && session.has_blob(&form.digest)? {
            return Ok(Some(Descriptor::new(MediaType::OciLayer(format), form.digest, form.size)));
        }
    }
    Ok(None)
}

/// Whether the bytes of a form are here.
pub(super) fn is_here(session: &Session, blob: &Descriptor) -> Result<bool, Error> {
    Ok(session.has_blob(&blob.digest)?)
}

/// Compresses `layer` and remembers the form. All cores take part; the bytes depend on the tar and on `how` alone.
pub(super) fn compress(
    session: &Session,
    layer: &LayerRecord,
    how: PushCompression,
    cancel: &Cancel,
) -> Result<Descriptor, Error> {
    if !session.has_blob(&layer.diff_id)? {
        ensure_layer(session.store(), layer, NoProgress.layer("", None).as_ref())?;
    }
    let failed = |source| StoreError::Io { path: layer.tar.clone(), source };
    let mut tar = File::open(&layer.tar).map_err(failed)?;
    let mut writer = session.begin_blob()?;
    let (format, level) = how.encoder();
    let mut plain = Hasher::new();
    let path = writer.path().to_owned();
    let (digest, size) = {
        let failed = |source| StoreError::Io { path: path.clone(), source };
        let mut output = Hashing { inner: &mut writer, hasher: Hasher::new() };
        let mut encoder = Encoder::new(&mut output, format, level).map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = tar.read(&mut buffer).map_err(failed)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            plain.update(bytes);
            encoder.write_all(bytes).map_err(failed)?;
            if cancel.is_cancelled() {
                return Err(TransportError::Cancelled.into());
            }
        }
        encoder.finish().map_err(failed)?;
        output.hasher.finish()
    };
    // A tar that has rotted must not be spread under a new digest.
    plain.verify(&layer.diff_id, None).map_err(StoreError::from)?;
    writer.publish(&digest)?;
    let kind = MediaType::OciLayer(how.format);
    let media_type = kind.as_str().to_owned();
    let form = Compressed { digest, size, media_type, parameters: Some(how.parameters()) };
    session.remember_compressed(&layer.diff_id, &form)?;
    Ok(Descriptor::new(kind, digest, size))
}

/// Hashes what is written.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The file of a blob, from an offset on.
pub(super) fn open_at(session: &Session, digest: &Digest, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(session.store().blob_path(digest))?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}
