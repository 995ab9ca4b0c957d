//! Bytes on their way through several threads.
//!
//! Memory is bounded by the pool: a producer waits for a buffer until the consumers have let go of one. A consumer that
//! ends early drops its end; the producer's next send fails, and it stops. So nothing can wait for a thread that is gone.

use std::io::{self, Read, Write};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a chunk: large enough that passing it on costs nothing beside hashing it, and that the disk gets long writes; small
/// enough to stay in the second-level cache until the other thread reads it. A multiple of what direct writes are aligned to.
const CHUNK: usize = 256 << 10;
/// Chunks of a pool: what the threads hold, and a few to even out their speeds.
const CHUNKS: usize = 12;
/// Where the bytes of a chunk begin in memory: at a multiple of this, so that they can be written past the page cache.
const ALIGN: usize = 4096;

/// A source of empty buffers.
#[derive(Debug)]
pub(super) struct Pool {
    free: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
    /// A failure of the input behind bytes that had come before.
    failed: Option<io::Error>,
}

/// A filled buffer, which returns to its pool.
#[derive(Debug)]
pub(super) struct Chunk {
    data: Vec<u8>,
    begin: usize,
    end: usize,
    back: Sender<Vec<u8>>,
}

impl Chunk {
    /// What can still be filled.
    fn room(&mut self) -> &mut [u8] {
        let end = self.begin + CHUNK;
        self.data.get_mut(self.end..end).unwrap_or_default()
    }
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
        self.data.get(self.begin..self.end).unwrap_or_default()
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
        Self { free, back, failed: None }
    }

    /// An empty chunk. Waits for a buffer.
    fn take(&self) -> Chunk {
        // The pool holds a sender itself, so the channel cannot be closed.
        let mut data = self.free.recv().unwrap_or_default();
        data.resize(CHUNK + ALIGN, 0);
        let begin = data.as_ptr().align_offset(ALIGN).min(ALIGN);
        Chunk { data, begin, end: begin, back: self.back.clone() }
    }

    /// The next chunk of `input`, full unless the input ends or fails; none at its end. Waits for a buffer. What came
    /// before a failure is passed on first.
    pub(super) fn fill(&mut self, input: &mut dyn Read) -> io::Result<Option<Arc<Chunk>>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut chunk = self.take();
        while let room = chunk.room()
            && !room.is_empty()
        {
            match input.read(room) {
                Ok(0) => break,
                Ok(count) => chunk.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if chunk.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(Some(Arc::new(chunk)).filter(|chunk| !chunk.is_empty()))
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
            (self.current, self.position) = (None, 0);
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            seen(&chunk)?;
            self.current = Some(chunk);
        }
    }

    /// Lets `count` bytes go by, showing every chunk that begins on the way to `seen`; how many there were.
    pub(super) fn skip_with(&mut self, count: u64, mut seen: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        let mut left = count;
        loop {
            let length = self.current.as_ref().map_or(0, |chunk| chunk.len());
            let step = left.min((length - self.position) as u64);
            self.position += step as usize;
            left -= step;
            if left == 0 {
                return Ok(count);
            }
            (self.current, self.position) = (None, 0);
            let Ok(chunk) = self.chunks.recv() else { return Ok(count - left) };
            seen(&chunk)?;
            self.current = Some(chunk);
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

/// A pipe between two threads.
pub fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = channel();
    let finished = Arc::new(AtomicBool::new(false));
    let writer = PipeWriter { pool: Pool::new(), chunk: None, sender, finished: Arc::clone(&finished) };
    (writer, PipeReader { chunks: ChunkReader::new(receiver), finished })
}

/// The writing end of a pipe. Only [`Self::finish`] ends the stream; without it the reader gets an error at the end.
#[derive(Debug)]
pub struct PipeWriter {
    pool: Pool,
    chunk: Option<Chunk>,
    sender: Sender<Arc<Chunk>>,
    finished: Arc<AtomicBool>,
}

/// The reading end of a pipe.
#[derive(Debug)]
pub struct PipeReader {
    chunks: ChunkReader,
    finished: Arc<AtomicBool>,
}

impl PipeWriter {
    /// Sends what is left, and the end of the stream.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.finished.store(true, Ordering::Release);
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = self.chunk.get_or_insert_with(|| self.pool.take());
        let room = chunk.room();
        let count = bytes.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        chunk.end += count;
        if chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.chunk.take() {
            Some(chunk) => self.sender.send(Arc::new(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.chunks.read(buffer)? {
            0 if !buffer.is_empty() && !self.finished.load(Ordering::Acquire) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the writer ended early"))
            }
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let bytes: Vec<u8> = (0..(CHUNKS + 3) * CHUNK + 17).map(|at| at as u8).collect();
        let (mut writer, mut reader) = pipe();
        let sent = bytes.clone();
        let thread = std::thread::spawn(move || writer.write_all(&sent).and_then(|()| writer.finish()));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(thread.join().unwrap().is_ok());
        assert!(read == bytes);
    }

    #[test]
    fn a_writer_that_breaks_off_is_no_end() {
        let (mut writer, mut reader) = pipe();
        writer.write_all(b"half").unwrap();
        writer.flush().unwrap();
        drop(writer);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_that_is_gone_breaks_the_pipe() {
        let (mut writer, reader) = pipe();
        drop(reader);
        let error = writer.write_all(&vec![0; CHUNK]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn chunks_are_aligned_and_what_came_before_a_failure_is_passed_on() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.min(buffer.len());
                self.0 -= count;
                if count == 0 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(count) }
            }
        }
        let mut pool = Pool::new();
        let mut input = Failing(CHUNK + 5);
        for length in [CHUNK, 5] {
            let chunk = pool.fill(&mut input).unwrap().unwrap();
            assert_eq!(chunk.len(), length);
            assert_eq!(chunk.as_ptr().align_offset(ALIGN), 0);
        }
        assert_eq!(pool.fill(&mut input).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
