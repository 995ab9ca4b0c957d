//! The streaming reader.

use super::{Entry, Error, Limits, Result};
use std::io::{self, Read, Seek};

/// Reads an archive front to back, without seeking. Memory does not grow with the archive.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    limits: Limits,
    position: u64,
}

impl<R: Read> Reader<R> {
    /// A reader of the uncompressed archive `input`. Needs no buffered input.
    pub fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, position: 0 }
    }

    /// The next entry; none at the end of the archive. What is left of the previous entry's data is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let _ = (&self.limits, &mut self.input);
        Err(Error::Truncated { offset: self.position })
    }

    /// The data of the entry that [`next_entry`](Self::next_entry) returned last, holes as zeros; nothing when it is no
    /// file.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// The whole data of the current entry; an error where they are more than `limit` bytes.
    pub fn read_data(&mut self, limit: u64) -> Result<Vec<u8>> {
        let _ = limit;
        Err(Error::Truncated { offset: self.position })
    }

    /// Bytes of the archive consumed so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads whatever is left of the input, beyond the end marker too, and returns the size of the archive in bytes.
    pub fn drain(&mut self) -> Result<u64> {
        Err(Error::Truncated { offset: self.position })
    }
}

impl<R: Read + Seek> Reader<R> {
    /// A reader that skips data by seeking: only headers are read.
    pub fn seekable(input: R, limits: Limits) -> Result<Self> {
        Ok(Self::new(input, limits))
    }
}

/// The data of one entry, as a stream.
#[derive(Debug)]
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.input.read(buffer)
    }
}
