//! One streaming pass from the bytes of a layer to its blob, its plain tar and its table of contents.
//!
//! ```text
//!  input ─▶ reader ──────────────▶ inflater ─┬─▶ hasher        (diffID)
//!           hashes and keeps the             └─▶ indexer       keeps the plain tar, reads its headers
//!           compressed bytes
//! ```
//!
//! A plain tar skips the inflater. Each box is a thread; the slowest of inflate and SHA-256 sets the pace.

use super::error::{ImageError, ImageResult, is_compression_error};
use super::pipe::{Chunk, ChunkReader, Pool};
use super::progress::LayerProgress;
use crate::archive::compression::{Compression, Decoder, ExpansionLimit, detect};
use crate::archive::tar;
use crate::layer::toc;
use crate::oci::{Digest, Hasher, LayerCompression, MediaType};
use crate::store::{BlobWriter, Compressed, Session, StoreError};
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ScopedJoinHandle};

/// How large a layer may be in every respect.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Of the tar.
    pub tar: tar::Limits,
    /// Of the compression.
    pub expansion: ExpansionLimit,
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
/// well. Both then stay while the session lives.
pub fn has_layer(session: &Session, diff_id: &Digest, blob: &Digest) -> ImageResult<bool> {
    if !session.has_blob(diff_id)? {
        return Ok(false);
    }
    if diff_id == blob {
        return Ok(true);
    }
    let known = session.store().compressed(diff_id)?.iter().any(|compressed| compressed.digest == *blob);
    Ok(known && session.has_blob(blob)?)
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
    let pool = Pool::new();
    let label = expected.label();
    let first = pool.fill(input).map_err(|source| ImageError::Read { what: label.clone(), source })?;
    let compression = detect(first.as_deref().map_or(&[], |chunk| chunk))
        .map_err(|error| ImageError::Compression { layer: label.clone(), source: io::Error::other(error) })?;
    check_media_type(expected, compression, &label)?;
    let pass = Pass { session, expected, limits, label, compression };
    pass.run(&pool, first, input, progress)
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

/// What the reader has when the input has ended.
struct Raw<'a> {
    hashed: Option<(Digest, u64)>,
    /// Whether the input was read to its end: otherwise a consumer has failed, and digests mean nothing.
    complete: bool,
    writer: Option<BlobWriter<'a>>,
}

impl<'a> Pass<'a> {
    fn run(
        &self,
        pool: &Pool,
        first: Option<Arc<Chunk>>,
        input: &mut dyn Read,
        progress: &dyn LayerProgress,
    ) -> ImageResult<Ingested> {
        let mut tar = self.session.begin_blob()?;
        let (to_hasher, hasher) = channel();
        let (to_indexer, indexer) = channel();
        let outputs = vec![to_hasher, to_indexer];
        let (raw, inflated, hashed, indexed) = thread::scope(|scope| {
            let hashing = scope.spawn(move || hash(&hasher));
            let tar = &mut tar;
            let indexing = scope.spawn(move || self.index(indexer, tar));
            let (raw, inflated) = if self.compression == Compression::Plain {
                (self.read(pool, first, input, progress, outputs), Ok(()))
            } else {
                let (to_inflater, inflater) = channel();
                let inflating = scope.spawn(move || self.inflate(ChunkReader::new(inflater), &outputs));
                (self.read(pool, first, input, progress, vec![to_inflater]), join(inflating))
            };
            (raw, inflated, join(hashing), join(indexing))
        });
        // The input's own failure comes first, then the inflater's: what the others saw follows from it.
        let raw = raw?;
        inflated?;
        let indexed = if raw.complete { indexed } else { return Err(self.stopped(indexed)) };
        let (diff_id, tar_size) = hashed;
        self.verify(raw.hashed.unwrap_or((diff_id, tar_size)), diff_id, tar_size, raw, tar, indexed)
    }

    /// The failure of the consumer because of which the input was not read to its end.
    fn stopped(&self, indexed: ImageResult<toc::Builder>) -> ImageError {
        let source = || io::Error::other("the archive was not read to its end");
        indexed.err().unwrap_or_else(|| ImageError::Read { what: self.label.clone(), source: source() })
    }

    /// Compares everything with what was expected, the bytes as they came first, and publishes.
    fn verify(
        &self,
        (digest, size): (Digest, u64),
        diff_id: Digest,
        tar_size: u64,
        raw: Raw<'_>,
        tar: BlobWriter<'_>,
        indexed: ImageResult<toc::Builder>,
    ) -> ImageResult<Ingested> {
        let mismatch = |source| ImageError::Mismatch { layer: self.label.clone(), source };
        if let Some((expected, expected_size)) = self.expected.blob {
            compare(expected, Some(expected_size), digest, size).map_err(mismatch)?;
        }
        let builder = indexed?;
        if let Some(expected) = self.expected.diff_id {
            compare(expected, None, diff_id, tar_size).map_err(mismatch)?;
        }
        let table = builder
            .finish(*diff_id.as_bytes(), tar_size)
            .map_err(|source| ImageError::Toc { layer: self.label.clone(), source })?;
        let compression = layer_compression(self.compression);
        if let Some(writer) = raw.writer {
            writer.publish(&digest)?;
        }
        tar.publish(&diff_id)?;
        self.session.put_toc(&diff_id, &table)?;
        if compression != LayerCompression::None {
            let media_type = MediaType::OciLayer(compression).as_str().to_owned();
            let compressed = Compressed { digest, size, media_type, parameters: None };
            self.session.remember_compressed(&diff_id, &compressed)?;
        }
        Ok(Ingested { diff_id, tar_size, digest, size, compression })
    }

    /// Reads the input to its end, hashing and keeping it where it is compressed, and passes it on.
    #[expect(clippy::needless_pass_by_value, reason = "the end of the outputs is what tells the consumers to finish")]
    fn read(
        &self,
        pool: &Pool,
        first: Option<Arc<Chunk>>,
        input: &mut dyn Read,
        progress: &dyn LayerProgress,
        outputs: Vec<Sender<Arc<Chunk>>>,
    ) -> ImageResult<Raw<'a>> {
        let plain = self.compression == Compression::Plain;
        let keep = !plain && !self.expected.stored;
        let mut writer = if keep { Some(self.session.begin_blob()?) } else { None };
        let mut hasher = Hasher::new();
        let mut next = first;
        while let Some(chunk) = next {
            progress.advance(chunk.len() as u64);
            if !send(&outputs, &chunk) {
                // A consumer has failed; its own error is the one to tell.
                return Ok(Raw { hashed: None, complete: false, writer: None });
            }
            if !plain {
                hasher.update(&chunk);
            }
            if let Some(writer) = &mut writer {
                writer.write_all(&chunk).map_err(|source| write_error(writer, source))?;
            }
            drop(chunk);
            next = pool.fill(input).map_err(|source| self.input_error(source))?;
        }
        Ok(Raw { hashed: Some(hasher.finish()).filter(|_| !plain), complete: true, writer })
    }

    fn inflate(&self, input: ChunkReader, outputs: &[Sender<Arc<Chunk>>]) -> ImageResult<()> {
        let pool = Pool::new();
        let mut input = input;
        let compression = |source| ImageError::Compression { layer: self.label.clone(), source };
        let mut decoder = Decoder::new(&mut input, self.limits.expansion).map_err(compression)?;
        while let Some(chunk) = pool.fill(&mut decoder).map_err(compression)? {
            if !send(outputs, &chunk) {
                return Ok(());
            }
        }
        drop(decoder);
        input.drain();
        Ok(())
    }

    /// Keeps the plain tar and reads its headers.
    fn index(&self, chunks: Receiver<Arc<Chunk>>, tar: &mut BlobWriter<'_>) -> ImageResult<toc::Builder> {
        let failure = Mutex::new(None);
        let result = self.index_entries(Keeping { chunks: ChunkReader::new(chunks), tar, failure: &failure });
        match failure.into_inner() {
            Some(source) => Err(write_error(tar, source)),
            None => result,
        }
    }

    fn index_entries(&self, input: Keeping<'_, '_>) -> ImageResult<toc::Builder> {
        let tar_error = |source| ImageError::Tar { layer: self.label.clone(), source };
        let toc_error = |source| ImageError::Toc { layer: self.label.clone(), source };
        let mut builder = toc::Builder::new(self.limits.tar.clone());
        let mut reader = tar::Reader::new(input, self.limits.tar.clone());
        while let Some(entry) = reader.next_entry().map_err(tar_error)? {
            builder.add(&entry).map_err(toc_error)?;
        }
        reader.drain().map_err(tar_error)?;
        Ok(builder)
    }

    /// A failure of the input: of an outer compression, or of the file.
    fn input_error(&self, source: io::Error) -> ImageError {
        if is_compression_error(&source) {
            return ImageError::Compression { layer: self.label.clone(), source };
        }
        ImageError::Read { what: self.label.clone(), source }
    }
}

fn write_error(writer: &BlobWriter<'_>, source: io::Error) -> ImageError {
    StoreError::Io { path: writer.path().to_owned(), source }.into()
}

/// A thread's result. A panic there goes on here.
fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn hash(chunks: &Receiver<Arc<Chunk>>) -> (Digest, u64) {
    let mut hasher = Hasher::new();
    while let Ok(chunk) = chunks.recv() {
        hasher.update(&chunk);
    }
    hasher.finish()
}

fn compare(expected: Digest, size: Option<u64>, actual: Digest, length: u64) -> Result<(), crate::oci::Mismatch> {
    use crate::oci::Mismatch;
    match size.filter(|&size| size != length) {
        Some(size) => Err(Mismatch::Size { digest: expected, expected: size, actual: length }),
        None if actual != expected => Err(Mismatch::Digest { expected, actual }),
        None => Ok(()),
    }
}

/// Passes a chunk on; false when one of those who wait for it is gone.
fn send(outputs: &[Sender<Arc<Chunk>>], chunk: &Arc<Chunk>) -> bool {
    outputs.iter().all(|output| output.send(Arc::clone(chunk)).is_ok())
}

/// The plain tar as a stream; every chunk is written before it is read.
struct Keeping<'a, 'b> {
    chunks: ChunkReader,
    tar: &'a mut BlobWriter<'b>,
    failure: &'a Mutex<Option<io::Error>>,
}

impl Read for Keeping<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.chunks.read_with(buffer, |chunk| {
            self.tar.write_all(chunk).map_err(|error| {
                let kind = error.kind();
                *self.failure.lock() = Some(error);
                kind.into()
            })
        })
    }
}
