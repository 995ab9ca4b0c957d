//! Chunks of a stream on their way through several threads.
//!
//! Memory is bounded by the pool: a producer waits for a buffer until the consumers have let go of one. A consumer that
//! ends early drops its end; the producer's next send fails, and it stops. So nothing can wait for a thread that is gone.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a chunk: large enough that passing it on costs nothing beside hashing it, small enough to stay in the
/// second-level cache until the other thread reads it.
const CHUNK: usize = 256 << 10;
/// Chunks of a pool: what the threads hold, and a few to even out their speeds.
const CHUNKS: usize = 12;

/// A source of empty buffers.
#[derive(Debug)]
pub(super) struct Pool {
    free: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
}

/// A filled buffer, which returns to its pool.
#[derive(Debug)]
pub(super) struct Chunk {
    data: Vec<u8>,
    back: Sender<Vec<u8>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Where the pool is gone nobody needs the buffer.
        let _ = self.back.send(std::mem::take(&mut self.data));
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl Pool {
    /// A pool with all its buffers.
    pub(super) fn new() -> Self {
        let (back, free) = channel();
        for _ in 0..CHUNKS {
            // The other end is in this very function.
            let _ = back.send(Vec::new());
        }
        Self { free, back }
    }

    /// The next chunk of `input`, full unless the input ends; none at its end. Waits for a buffer.
    pub(super) fn fill(&self, input: &mut dyn Read) -> io::Result<Option<Arc<Chunk>>> {
        // The pool holds a sender itself, so the channel cannot be closed.
        let mut data = self.free.recv().unwrap_or_default();
        data.resize(CHUNK, 0);
        let mut filled = 0;
        while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match input.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(filled);
        let chunk = Arc::new(Chunk { data, back: self.back.clone() });
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

/// Reads the chunks that come through a channel.
#[derive(Debug)]
pub(super) struct ChunkReader {
    chunks: Receiver<Arc<Chunk>>,
    current: Option<Arc<Chunk>>,
    position: usize,
}

impl ChunkReader {
    pub(super) fn new(chunks: Receiver<Arc<Chunk>>) -> Self {
        Self { chunks, current: None, position: 0 }
    }

    /// Goes on to the next chunk where the current one is used up, and shows it to `seen` first.
    pub(super) fn read_with(
        &mut self,
        buffer: &mut [u8],
        mut seen: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        loop {
            if let Some(rest) = self.current.as_ref().and_then(|chunk| chunk.get(self.position..))
                && !rest.is_empty()
            {
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                self.position += count;
                return Ok(count);
            }
            self.current = None;
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            seen(&chunk)?;
            (self.current, self.position) = (Some(chunk), 0);
        }
    }

    /// Lets everything that still comes go by.
    pub(super) fn drain(mut self) {
        self.current = None;
        while self.chunks.recv().is_ok() {}
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(buffer, |_| Ok(()))
    }
}
