//! From plain to compressed.

use super::Compression;
use super::gzip::Gzip;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::thread;

/// Bytes that a thread of zstd's compresses at a time: its own choice, 8 MiB at the usual level, takes 75 MiB a stream.
const ZSTD_JOB: u32 = 2 << 20;

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// The fastest of gzip (1), which is as small as what others make in twice the time, and what zstd takes by itself (3).
    #[default]
    Default,
    /// A level of the format: 1 to 9 for gzip, 1 to 22 for zstd. What is outside is taken for the nearest.
    Exactly(u32),
}

/// Compresses what is written to it, on all cores. The output depends on the input, the format and the level only: not
/// on the number of threads, nor on how the input was cut into writes.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Plain(W),
    Gzip(Gzip<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compression = match self.0 {
            Inner::Plain(_) => Compression::Plain,
            Inner::Gzip(_) => Compression::Gzip,
            Inner::Zstd(_) => Compression::Zstd,
        };
        f.debug_tuple("Encoder").field(&compression).finish()
    }
}

impl<W: Write> Encoder<W> {
    /// An encoder to `output`. Writes large pieces when it gets large pieces.
    pub fn new(output: W, compression: Compression, level: Level) -> io::Result<Self> {
        Self::with_threads(output, compression, level, thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// The same on so many threads.
    pub fn with_threads(output: W, compression: Compression, level: Level, threads: NonZeroUsize) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::Plain => Inner::Plain(output),
            Compression::Gzip => {
                let level = if let Level::Exactly(level) = level { level } else { 1 };
                Inner::Gzip(Gzip::new(output, level, threads))
            }
            Compression::Zstd => {
                let level = if let Level::Exactly(level) = level { level.clamp(1, 22) as i32 } else { 3 };
                let mut encoder = zstd::stream::write::Encoder::new(output, level)?;
                encoder.include_checksum(true)?;
                // Even one thread is asked for by number: without workers zstd makes other bytes than with any.
                encoder.multithread(threads.get() as u32)?;
                encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
                Inner::Zstd(encoder)
            }
        }))
    }

    /// Writes what is left, ends the stream and returns the output.
    pub fn finish(self) -> io::Result<W> {
        let mut output = match self.0 {
            Inner::Plain(output) => output,
            Inner::Gzip(gzip) => gzip.finish()?,
            Inner::Zstd(encoder) => encoder.finish()?,
        };
        output.flush()?;
        Ok(output)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(output) => output.write(buffer),
            Inner::Gzip(gzip) => gzip.write(buffer),
            Inner::Zstd(encoder) => encoder.write(buffer),
        }
    }

    /// Hands on what is compressed. Input that does not fill a block stays: a flush must not shape the output.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Plain(output) => output.flush(),
            Inner::Gzip(gzip) => gzip.flush(),
            Inner::Zstd(_) => Ok(()),
        }
    }
}
