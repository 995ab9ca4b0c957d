//! From compressed to plain.

use super::gunzip::Gunzip;
use super::source::Source;
use super::{Compression, Error, MAGIC_LENGTH, detect};
use std::fmt;
use std::io::{self, Read};
use zstd::stream::raw;
use zstd::stream::zio;

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

/// The uncompressed content of a stream, whatever of the supported formats it is in. The end of the content is the end of
/// the stream: when a read gives 0, all of the input has been read.
pub struct Decoder<R: Read> {
    inner: Inner<R>,
    limit: ExpansionLimit,
    produced: u64,
}

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(Gunzip<R>),
    Zstd(Box<zio::Reader<Source<R>, raw::Decoder<'static>>>),
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("compression", &self.compression())
            .field("produced", &self.produced)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Decoder<R> {
    /// A decoder of `input`, whose format is detected from its first bytes. Needs no buffered input.
    pub fn new(input: R, limit: ExpansionLimit) -> io::Result<Self> {
        let mut source = Source::new(input);
        let compression = detect(source.peek(MAGIC_LENGTH)?)?;
        Self::with_source(source, compression, limit)
    }

    /// A decoder of `input`, which is in the format `compression`, whatever its first bytes look like.
    pub fn with_compression(input: R, compression: Compression, limit: ExpansionLimit) -> io::Result<Self> {
        Self::with_source(Source::new(input), compression, limit)
    }

    fn with_source(source: Source<R>, compression: Compression, limit: ExpansionLimit) -> io::Result<Self> {
        let inner = match compression {
            Compression::Plain => Inner::Plain(source),
            Compression::Gzip => Inner::Gzip(Gunzip::new(source)),
            Compression::Zstd => Inner::Zstd(Box::new(zio::Reader::new(source, raw::Decoder::new()?))),
        };
        Ok(Self { inner, limit, produced: 0 })
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        match self.inner {
            Inner::Plain(_) => Compression::Plain,
            Inner::Gzip(_) => Compression::Gzip,
            Inner::Zstd(_) => Compression::Zstd,
        }
    }

    /// Bytes read from the compressed stream so far, those at hand but not decoded yet included.
    pub fn consumed(&self) -> u64 {
        self.source().count
    }

    fn source(&self) -> &Source<R> {
        match &self.inner {
            Inner::Plain(source) => source,
            Inner::Gzip(gunzip) => &gunzip.source,
            Inner::Zstd(reader) => reader.reader(),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.inner {
            Inner::Plain(source) => return source.read(out),
            Inner::Gzip(gunzip) => gunzip.read(out)?,
            Inner::Zstd(reader) => {
                let result = reader.read(out);
                result.map_err(|error| if reader.reader().failed { error } else { zstd_error(&error) })?
            }
        };
        self.produced = self.produced.saturating_add(count as u64);
        let ExpansionLimit { ratio, free } = self.limit;
        if self.produced > free && self.produced / ratio.max(1) > self.consumed() {
            return Err(Error::Expansion { ratio, free }.into());
        }
        Ok(count)
    }
}

fn zstd_error(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Truncated("zstd").into(),
        _ => Error::Damaged { format: "zstd", detail: error.to_string() }.into(),
    }
}
