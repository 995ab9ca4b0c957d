//! The compressed bytes: buffered and counted.

use std::fmt;
use std::io::{self, BufRead, Read};

/// Bytes read at once: long runs for the decoders, few system calls.
const BUFFER: usize = 128 << 10;

pub(super) struct Source<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes read from the stream.
    pub(super) count: u64,
    /// Whether the stream itself failed, so that its error is not taken for damage.
    pub(super) failed: bool,
}

impl<R> fmt::Debug for Source<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("count", &self.count).finish_non_exhaustive()
    }
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0, count: 0, failed: false }
    }

    /// At least `wanted` bytes of the beginning of the stream, fewer where it is shorter, without consuming them.
    pub(super) fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        while self.end < wanted {
            let Some(space) = self.buffer.get_mut(self.end..) else { break };
            match retry(&mut self.inner, space)? {
                0 => break,
                count => {
                    self.end += count;
                    self.count += count as u64;
                }
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start >= self.end && out.len() >= self.buffer.len() {
            let count = retry(&mut self.inner, out)?;
            self.count += count as u64;
            return Ok(count);
        }
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start >= self.end {
            self.start = 0;
            self.end = 0;
            self.end = retry(&mut self.inner, &mut self.buffer).inspect_err(|_| self.failed = true)?;
            self.count += self.end as u64;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

fn retry<R: Read>(inner: &mut R, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match inner.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|count| count.min(out.len())),
        }
    }
}
