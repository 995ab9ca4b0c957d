//! What the threads of [`super::ingest`] do.

use super::error::{ImageError, ImageResult};
use super::pipe::{Chunk, ChunkReader, Pool};
use crate::archive::compression::{Decoder, ExpansionLimit};
use crate::archive::tar;
use crate::layer::toc;
use crate::oci::{Digest, Hasher, Mismatch};
use crate::store::{BlobWriter, PartialBlob, StoreError};
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::ScopedJoinHandle;

/// A thread's result. A panic there goes on here.
pub(super) fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Passes a chunk on; false when one of those who wait for it is gone.
pub(super) fn send(outputs: &[Sender<Arc<Chunk>>], chunk: &Arc<Chunk>) -> bool {
    outputs.iter().all(|output| output.send(Arc::clone(chunk)).is_ok())
}

pub(super) fn hash(chunks: &Receiver<Arc<Chunk>>) -> (Digest, u64) {
    let mut hasher = Hasher::new();
    while let Ok(chunk) = chunks.recv() {
        hasher.update(&chunk);
    }
    hasher.finish()
}

pub(super) fn compare(expected: Digest, size: Option<u64>, actual: Digest, length: u64) -> Result<(), Mismatch> {
    match size.filter(|&size| size != length) {
        Some(size) => Err(Mismatch::Size { digest: expected, expected: size, actual: length }),
        None if actual != expected => Err(Mismatch::Digest { expected, actual }),
        None => Ok(()),
    }
}

pub(super) fn inflate(
    label: &str,
    limit: ExpansionLimit,
    input: ChunkReader,
    outputs: &[Sender<Arc<Chunk>>],
) -> ImageResult<()> {
    let mut pool = Pool::new();
    let mut input = input;
    let compression = |source| ImageError::Compression { layer: label.to_owned(), source };
    let mut decoder = Decoder::new(&mut input, limit).map_err(compression)?;
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
pub(super) fn index(
    label: &str,
    limits: &tar::Limits,
    chunks: Receiver<Arc<Chunk>>,
    tar: Keeper<'_>,
) -> ImageResult<toc::Builder> {
    let failure = Mutex::new(None);
    let result = index_entries(label, limits, Keeping { chunks: ChunkReader::new(chunks), tar, failure: &failure });
    match failure.into_inner() {
        Some(error) => Err(error.into()),
        None => result,
    }
}

fn index_entries(label: &str, limits: &tar::Limits, input: Keeping<'_, '_>) -> ImageResult<toc::Builder> {
    let tar_error = |source| ImageError::Tar { layer: label.to_owned(), source };
    let toc_error = |source| ImageError::Toc { layer: label.to_owned(), source };
    let mut builder = toc::Builder::new(limits.clone());
    let mut reader = tar::Reader::skipping(input, limits.clone());
    while let Some(entry) = reader.next_entry().map_err(tar_error)? {
        builder.add(&entry).map_err(toc_error)?;
    }
    reader.drain().map_err(tar_error)?;
    Ok(builder)
}

/// Writes what goes by into a blob.
pub(super) struct Keeper<'a> {
    blob: &'a mut (dyn Write + Send),
    path: PathBuf,
    /// Bytes that are there already.
    there: u64,
}

impl<'a> Keeper<'a> {
    /// Into a new blob.
    pub(super) fn new(blob: &'a mut BlobWriter<'_>) -> Self {
        let path = blob.path().to_owned();
        Self { blob, path, there: 0 }
    }

    /// Into one that has the beginning of what will go by.
    pub(super) fn taking_up(blob: &'a mut PartialBlob<'_>) -> Self {
        let (path, there) = (blob.path(), blob.size());
        Self { blob, path, there }
    }

    /// Keeps chunks until there are no more.
    pub(super) fn keep_all(mut self, chunks: &Receiver<Arc<Chunk>>) -> ImageResult<()> {
        while let Ok(chunk) = chunks.recv() {
            self.keep(&chunk)?;
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let skipped = self.there.min(bytes.len() as u64);
        self.there -= skipped;
        let new = bytes.get(skipped as usize..).unwrap_or_default();
        self.blob.write_all(new).map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }
}

/// The plain tar as a stream; every chunk is written before it is read.
struct Keeping<'a, 'b> {
    chunks: ChunkReader,
    tar: Keeper<'a>,
    failure: &'b Mutex<Option<StoreError>>,
}

impl Keeping<'_, '_> {
    /// Writes a chunk; a failure is kept for the one who asks why.
    fn keep(tar: &mut Keeper<'_>, failure: &Mutex<Option<StoreError>>, chunk: &[u8]) -> io::Result<()> {
        tar.keep(chunk).map_err(|error| {
            *failure.lock() = Some(error);
            io::ErrorKind::Other.into()
        })
    }
}

impl Read for Keeping<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.chunks.read_with(buffer, |chunk| Self::keep(&mut self.tar, self.failure, chunk))
    }
}

impl tar::Skip for Keeping<'_, '_> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        self.chunks.skip_with(count, |chunk| Self::keep(&mut self.tar, self.failure, chunk))
    }
}
