//! Compressed streams: gzip, zstd, plain.
//!
//! Owns detection by magic, decoding with a limit on expansion, encoding that gives the same bytes for any number of
//! threads. Must not know media types or what the bytes mean.

mod decoder;
mod encoder;

pub use decoder::{Decoder, ExpansionLimit};
pub use encoder::{Encoder, Level};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952), one or more members.
    Gzip,
    /// Zstandard (RFC 8878), one or more frames, skippable ones among them.
    Zstd,
}

/// Bytes that [`detect`] needs to see.
pub const MAGIC_LENGTH: usize = 6;

/// What is wrong with a compressed stream. Comes wrapped in a [`std::io::Error`] from reads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Compressed with something that is not supported.
    #[error("{0} compression is not supported")]
    Unsupported(&'static str),
    /// The stream ends inside a member or frame.
    #[error("the {0} stream ends too early")]
    Truncated(&'static str),
    /// The stream contradicts itself.
    #[error("the {format} stream is damaged: {detail}")]
    Damaged {
        /// The format.
        format: &'static str,
        /// What the decoder says.
        detail: String,
    },
    /// Expands more than allowed.
    #[error("the compressed stream expands more than {ratio}:1 after {free} bytes")]
    Expansion {
        /// The allowed ratio.
        ratio: u64,
        /// Bytes of output that are free.
        free: u64,
    },
}

/// How the stream that begins with `prefix` is compressed. Fewer than [`MAGIC_LENGTH`] bytes are taken for the whole
/// stream. Fails for formats that are recognised but not supported (bzip2, xz, lz4).
pub fn detect(prefix: &[u8]) -> Result<Compression, Error> {
    match prefix {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Err(Error::Unsupported("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(Error::Unsupported("xz")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err(Error::Unsupported("lz4")),
        _ => Ok(Compression::Plain),
    }
}
