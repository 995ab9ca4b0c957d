//! One streaming pass from the bytes of a layer to its blob, its plain tar and its table of contents.
//!
//! ```text
//!  input ─▶ reader ─┬─▶ inflater ─┬─▶ hasher        (diffID)
//!           hashes  └─▶ keeper    └─▶ indexer       keeps the plain tar, reads its headers
//! ```
//!
//! A plain tar skips the inflater and the keeper. Each box is a thread; the slowest of inflate and SHA-256 sets the pace: waiting
//! for the disk is in the keeper and the indexer only.

use super::error::{ImageError, ImageResult, is_compression_error};
use super::pipe::{Chunk, ChunkReader, Pool};
use super::progress::LayerProgress;
use super::stages::{Keeper, compare, hash, index, inflate, join, send};
use crate::archive::compression::{Compression, ExpansionLimit, detect};
use crate::archive::tar;
use crate::layer::toc;
use crate::oci::{Digest, Hasher, LayerCompression, MANIFEST_MAX, MediaType};
use crate::store::{Compressed, PartialBlob, Session};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// How large a layer may be in every respect, and the documents around it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a manifest, an index, a configuration.
    pub manifest: u64,
    /// Of the tar.
    pub tar: tar::Limits,
    /// Of the compression.
    pub expansion: ExpansionLimit,
}

impl Default for Limits {
    fn default() -> Self {
        Self { manifest: MANIFEST_MAX, tar: tar::Limits::default(), expansion: ExpansionLimit::default() }
    }
}

impl Limits {
    /// No limits: for what the store let in before, under limits that somebody chose.
    pub(super) fn none() -> Self {
        let expansion = ExpansionLimit { ratio: u64::MAX, free: u64::MAX };
        Self { manifest: crate::oci::DOCUMENT_MAX, tar: tar::Limits::none(), expansion }
    }
}

/// What is known of a layer before it is read. Whatever is given is verified.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// What messages call the layer; its digest where nothing is given.
    pub label: Option<String>,
    /// Digest and size in bytes of the stream as it comes.
    pub blob: Option<(Digest, u64)>,
    /// Digest of the plain tar.
    pub diff_id: Option<Digest>,
    /// The media type the descriptor gives the stream.
    pub media_type: Option<String>,
    /// Whether the compressed bytes are in the store already, and this reads them again.
    pub stored: bool,
    /// Whether a stream without a byte is refused: not even the end of an archive is in it.
    pub refuse_nothing: bool,
}

/// A layer that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// Digest of the plain tar.
    pub diff_id: Digest,
    /// Bytes of the plain tar.
    pub tar_size: u64,
    /// Digest of the bytes as they came.
    pub digest: Digest,
    /// Number of the bytes as they came.
    pub size: u64,
    /// How they were compressed.
    pub compression: LayerCompression,
}

impl Ingested {
    /// The OCI media type of the layer as it came.
    pub fn media_type(&self) -> MediaType {
        MediaType::OciLayer(self.compression)
    }
}

impl Expected {
    fn label(&self) -> String {
        let digest = self.blob.map(|(digest, _)| digest).or(self.diff_id);
        let named = self.label.clone().or_else(|| digest.map(|digest| format!("layer {digest}")));
        named.unwrap_or_else(|| "layer".to_owned())
    }
}

/// Whether the layer with this diffID is in the store, and the blob `blob` is known to be a form of it that is there as
/// well. Both then stay while the session lives. An error where the blob has not the `size` in bytes that is claimed.
pub fn has_layer(session: &Session, diff_id: &Digest, blob: &Digest, size: Option<u64>) -> ImageResult<bool> {
    if !session.has_blob(diff_id)? {
        return Ok(false);
    }
    if diff_id != blob {
        let known = session.store().compressed(diff_id)?.iter().any(|compressed| compressed.digest == *blob);
        if !known || !session.has_blob(blob)? {
            return Ok(false);
        }
    }
    let actual = session.store().blob_size(blob)?.unwrap_or_default();
    match compare(*blob, size, *blob, actual) {
        Ok(()) => Ok(true),
        Err(source) => Err(ImageError::Mismatch { layer: format!("layer {blob}"), source }),
    }
}

/// Reads a layer: verifies it, keeps its bytes as they come and as a plain tar, and makes its table of contents. When it
/// fails, it leaves nothing.
pub fn ingest_layer(
    session: &Session,
    input: &mut dyn Read,
    expected: &Expected,
    limits: &Limits,
    progress: &dyn LayerProgress,
) -> ImageResult<Ingested> {
    ingest(session, input, None, expected, limits, progress)
}

/// As [`ingest_layer`], but the bytes as they come are added to `partial`. `input` begins with what `partial` has already.
/// What has arrived is in `partial` whatever happens; publishing it is the caller's.
pub fn take_up_layer(
    session: &Session,
    input: &mut dyn Read,
    partial: &mut PartialBlob<'_>,
    expected: &Expected,
    limits: &Limits,
    progress: &dyn LayerProgress,
) -> ImageResult<Ingested> {
    ingest(session, input, Some(partial), expected, limits, progress)
}

fn ingest(
    session: &Session,
    input: &mut dyn Read,
    partial: Option<&mut PartialBlob<'_>>,
    expected: &Expected,
    limits: &Limits,
    progress: &dyn LayerProgress,
) -> ImageResult<Ingested> {
    let mut pool = Pool::new();
    let label = expected.label();
    let first = pool.fill(input).map_err(|source| ImageError::Read { what: label.clone(), source })?;
    let compression = detect(first.as_deref().map_or(&[], |chunk| chunk))
        .map_err(|error| ImageError::Compression { layer: label.clone(), source: io::Error::other(error) })?;
    check_media_type(expected, compression, &label)?;
    let pass = Pass { session, expected, limits, label, compression };
    let mut source = Input { pool, next: first, stream: input, progress };
    match partial {
        None => pass.run(&mut source),
        Some(partial) => pass.take_up(&mut source, partial),
    }
}

fn check_media_type(expected: &Expected, found: Compression, label: &str) -> ImageResult<()> {
    let Some(text) = &expected.media_type else { return Ok(()) };
    let in_layer = |source| ImageError::MediaType { what: label.to_owned(), source };
    let kind = MediaType::parse(text).map_err(in_layer)?;
    if kind.layer_compression().is_none() {
        return Err(in_layer(crate::oci::UnsupportedMediaType::Unknown(text.clone())));
    }
    // What the bytes are counts: tools have written gzip under the name of a plain tar, and the reverse.
    if kind.layer_compression() != Some(layer_compression(found)) {
        log::debug!(target: "layerfs::image", "{label}: the media type is {text}, the bytes are {found:?}");
    }
    Ok(())
}

fn layer_compression(compression: Compression) -> LayerCompression {
    match compression {
        Compression::Plain => LayerCompression::None,
        Compression::Gzip => LayerCompression::Gzip,
        Compression::Zstd => LayerCompression::Zstd,
    }
}

/// One layer on its way.
struct Pass<'a> {
    session: &'a Session,
    expected: &'a Expected,
    limits: &'a Limits,
    label: String,
    compression: Compression,
}

/// The stream as it comes, its first chunk read already.
struct Input<'a> {
    pool: Pool,
    next: Option<Arc<Chunk>>,
    stream: &'a mut dyn Read,
    progress: &'a dyn LayerProgress,
}

/// What the reader has when the input has ended.
struct Raw {
    hashed: Option<(Digest, u64)>,
    /// Whether the input was read to its end: otherwise a consumer has failed, and digests mean nothing.
    complete: bool,
}

/// What was found out of a layer.
struct Found {
    raw: (Digest, u64),
    plain: (Digest, u64),
    indexed: ImageResult<toc::Builder>,
}

impl Pass<'_> {
    /// Keeps what comes in blobs of the session's.
    fn run(&self, input: &mut Input<'_>) -> ImageResult<Ingested> {
        let mut tar = self.session.begin_blob()?;
        let keeps = self.compression != Compression::Plain && !self.expected.stored;
        let mut raw = keeps.then(|| self.session.begin_blob()).transpose()?;
        let found = self.read_all(input, raw.as_mut().map(Keeper::new), Keeper::new(&mut tar))?;
        let verified = self.verify(found)?;
        if let Some(raw) = raw {
            raw.publish(&verified.0.digest)?;
        }
        tar.publish(&verified.0.diff_id)?;
        self.conclude(verified)
    }

    /// Keeps what comes where its beginning is.
    fn take_up(&self, input: &mut Input<'_>, partial: &mut PartialBlob<'_>) -> ImageResult<Ingested> {
        let kept = Keeper::taking_up(partial);
        if self.compression == Compression::Plain {
            let found = self.read_all(input, None, kept)?;
            return self.conclude(self.verify(found)?);
        }
        let mut tar = self.session.begin_blob()?;
        let found = self.read_all(input, Some(kept), Keeper::new(&mut tar))?;
        let verified = self.verify(found)?;
        tar.publish(&verified.0.diff_id)?;
        self.conclude(verified)
    }

    /// Runs the threads until the input has ended, or one of them has failed.
    fn read_all(&self, input: &mut Input<'_>, raw: Option<Keeper<'_>>, tar: Keeper<'_>) -> ImageResult<Found> {
        let (to_hasher, hasher) = channel();
        let (to_indexer, indexer) = channel();
        let outputs = vec![to_hasher, to_indexer];
        let (read, kept, inflated, plain, indexed) = thread::scope(|scope| {
            let hashing = scope.spawn(move || hash(&hasher));
            let indexing = scope.spawn(move || index(&self.label, &self.limits.tar, indexer, tar));
            let (read, kept, inflated) = if self.compression == Compression::Plain {
                (self.read(input, outputs), Ok(()), Ok(()))
            } else {
                let (to_inflater, inflater) = channel();
                let inflating = scope
                    .spawn(move || inflate(&self.label, self.limits.expansion, ChunkReader::new(inflater), &outputs));
                let (to_keeper, keeper) = channel();
                let keeping = raw.map(|raw| scope.spawn(move || raw.keep_all(&keeper)));
                let outputs = [Some(to_inflater), keeping.is_some().then_some(to_keeper)];
                let read = self.read(input, outputs.into_iter().flatten().collect());
                (read, keeping.map_or(Ok(()), join), join(inflating))
            };
            (read, kept, inflated, join(hashing), join(indexing))
        });
        // The input's own failure comes first, then the keeper's and the inflater's: what the others saw follows from it.
        let read = read?;
        kept?;
        inflated?;
        if !read.complete {
            return Err(self.stopped(indexed));
        }
        Ok(Found { raw: read.hashed.unwrap_or(plain), plain, indexed })
    }

    /// The failure of the consumer because of which the input was not read to its end.
    fn stopped(&self, indexed: ImageResult<toc::Builder>) -> ImageError {
        let source = || io::Error::other("the archive was not read to its end");
        indexed.err().unwrap_or_else(|| ImageError::Read { what: self.label.clone(), source: source() })
    }

    /// Compares everything with what was expected, the bytes as they came first.
    fn verify(&self, found: Found) -> ImageResult<(Ingested, toc::Builder)> {
        let mismatch = |source| ImageError::Mismatch { layer: self.label.clone(), source };
        let ((digest, size), (diff_id, tar_size)) = (found.raw, found.plain);
        if let Some((expected, expected_size)) = self.expected.blob {
            compare(expected, Some(expected_size), digest, size).map_err(mismatch)?;
        }
        let builder = found.indexed?;
        if self.expected.refuse_nothing && tar_size == 0 {
            return Err(ImageError::NotATar { what: self.label.clone(), detail: "it is empty" });
        }
        if let Some(expected) = self.expected.diff_id {
            compare(expected, None, diff_id, tar_size).map_err(mismatch)?;
        }
        let compression = layer_compression(self.compression);
        Ok((Ingested { diff_id, tar_size, digest, size, compression }, builder))
    }

    /// Stores the table of contents, and remembers how the layer came.
    fn conclude(&self, (layer, builder): (Ingested, toc::Builder)) -> ImageResult<Ingested> {
        let table = builder
            .finish(*layer.diff_id.as_bytes(), layer.tar_size)
            .map_err(|source| ImageError::Toc { layer: self.label.clone(), source })?;
        self.session.put_toc(&layer.diff_id, &table)?;
        if layer.compression != LayerCompression::None {
            let media_type = layer.media_type().as_str().to_owned();
            let compressed = Compressed { digest: layer.digest, size: layer.size, media_type, parameters: None };
            self.session.remember_compressed(&layer.diff_id, &compressed)?;
        }
        Ok(layer)
    }

    /// Reads the input to its end, hashes it where it is compressed, and passes it on.
    #[expect(clippy::needless_pass_by_value, reason = "the end of the outputs is what tells the consumers to finish")]
    fn read(&self, input: &mut Input<'_>, outputs: Vec<Sender<Arc<Chunk>>>) -> ImageResult<Raw> {
        let plain = self.compression == Compression::Plain;
        let mut hasher = Hasher::new();
        while let Some(chunk) = input.next.take() {
            input.progress.advance(chunk.len() as u64);
            if !send(&outputs, &chunk) {
                // A consumer has failed; its own error is the one to tell.
                return Ok(Raw { hashed: None, complete: false });
            }
            if !plain {
                hasher.update(&chunk);
            }
            drop(chunk);
            input.next = input.pool.fill(input.stream).map_err(|source| self.input_error(source))?;
        }
        Ok(Raw { hashed: Some(hasher.finish()).filter(|_| !plain), complete: true })
    }

    /// A failure of the input: of an outer compression, or of the file.
    fn input_error(&self, source: io::Error) -> ImageError {
        if is_compression_error(&source) {
            return ImageError::Compression { layer: self.label.clone(), source };
        }
        ImageError::Read { what: self.label.clone(), source }
    }
}
