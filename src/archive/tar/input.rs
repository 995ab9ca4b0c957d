//! The bytes of an archive in order: buffered, counted, skipped by reading, by seeking or by letting them go by.

use super::{BLOCK, Error, Result};
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes read at once from a stream: large enough that decoders, hashes and pipes work in long runs, small enough to stay
/// in the second-level cache.
const STREAM_BUFFER: usize = 128 << 10;

/// Bytes read at once where data are skipped by seeking: a header and what is likely to follow it.
const SEEK_BUFFER: usize = 8 << 10;

/// One block.
pub(super) type Block = [u8; BLOCK as usize];

/// Moves an input forward by so many bytes; false where it is shorter.
type Forward<R> = fn(&mut R, u64, u64) -> io::Result<bool>;

/// A stream that can let bytes go by without handing them out.
pub trait Skip: Read {
    /// Lets `count` bytes go by, fewer at the end of the stream only, and returns how many.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

pub(super) struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    position: u64,
    /// How to seek, and the end of the input.
    forward: Option<(Forward<R>, u64)>,
}

impl<R> fmt::Debug for Input<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self::with_buffer(inner, STREAM_BUFFER, None)
    }

    fn with_buffer(inner: R, size: usize, forward: Option<(Forward<R>, u64)>) -> Self {
        Self { inner, buffer: vec![0; size].into_boxed_slice(), start: 0, end: 0, position: 0, forward }
    }

    /// Bytes consumed so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes at hand, after reading some where there are none. Empty at the end of the input.
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.start >= self.end {
            self.start = 0;
            self.end = read_some(&mut self.inner, &mut self.buffer)?.min(self.buffer.len());
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.position += count as u64;
    }

    /// Reads some bytes; 0 at the end of the input.
    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start >= self.end && out.len() >= self.buffer.len() {
            let count = read_some(&mut self.inner, out)?;
            self.position += count as u64;
            return Ok(count);
        }
        let available = self.fill()?;
        let count = available.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }

    /// Fills `out`; false at the end of the input, before the first byte. An end in the middle is an error.
    pub(super) fn read_full(&mut self, out: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let offset = self.position;
            match self.read(rest).map_err(|source| Error::Read { offset, source })? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(Error::Truncated { offset }),
                count => filled += count,
            }
        }
        Ok(true)
    }

    /// The next block; none at the end of the input.
    pub(super) fn read_block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK as usize];
        Ok(self.read_full(&mut block)?.then_some(block))
    }

    /// Moves on by `count` bytes.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let offset = self.position;
            let buffered = self.end.saturating_sub(self.start);
            if let (Some((forward, end)), true) = (self.forward, count > buffered as u64) {
                let beyond = count - buffered as u64;
                if !forward(&mut self.inner, beyond, end).map_err(|source| Error::Read { offset, source })? {
                    return Err(Error::Truncated { offset });
                }
                (self.start, self.end) = (0, 0);
                self.position += count;
                return Ok(());
            }
            let available = self.fill().map_err(|source| Error::Read { offset, source })?.len();
            if available == 0 {
                return Err(Error::Truncated { offset });
            }
            let step = count.min(available as u64);
            self.consume(step as usize);
            count -= step;
        }
        Ok(())
    }

    /// Consumes everything that is left.
    pub(super) fn drain(&mut self) -> Result<()> {
        loop {
            let offset = self.position;
            match self.fill().map_err(|source| Error::Read { offset, source })?.len() {
                0 => return Ok(()),
                count => self.consume(count),
            }
        }
    }
}

impl<R: Skip> Input<R> {
    /// An input that lets what is skipped go by.
    pub(super) fn skipping(inner: R) -> Self {
        let forward = |inner: &mut R, count, _end| Ok(inner.skip(count)? == count);
        Self::with_buffer(inner, SEEK_BUFFER, Some((forward, u64::MAX)))
    }
}

impl<R: Read + Seek> Input<R> {
    /// An input that skips by seeking. Where its end cannot be found out it reads instead.
    pub(super) fn seekable(mut inner: R) -> Self {
        match end_of(&mut inner) {
            Ok(end) => Self::with_buffer(inner, SEEK_BUFFER, Some((forward::<R>, end))),
            Err(_) => Self::new(inner),
        }
    }
}

fn end_of<R: Seek>(input: &mut R) -> io::Result<u64> {
    let position = input.stream_position()?;
    let end = input.seek(SeekFrom::End(0))?;
    input.seek(SeekFrom::Start(position))?;
    Ok(end)
}

fn forward<R: Seek>(input: &mut R, count: u64, end: u64) -> io::Result<bool> {
    // A count beyond what a seek can say is beyond every end.
    let Ok(count) = i64::try_from(count) else { return Ok(false) };
    Ok(input.seek(SeekFrom::Current(count))? <= end)
}

fn read_some<R: Read>(input: &mut R, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
