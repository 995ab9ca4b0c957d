//! Compressed streams: gzip, zstd, plain; and bzip2 and xz, in which no layer is but whole archives are.
//!
//! Owns detection by magic, decoding with a limit on expansion, encoding that gives the same bytes for any number of
//! threads. Must not know media types or what the bytes mean.

mod decoder;
mod encoder;
mod error;
mod foreign;
mod gunzip;
mod gzip;
mod source;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, ExpansionLimit};
pub use encoder::{Encoder, Level};
pub use error::Error;
pub use foreign::{is_foreign, plain};

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

/// How the stream that begins with `prefix` is compressed. Fewer than [`MAGIC_LENGTH`] bytes are taken for the whole
/// stream. Fails for formats that are recognised but not supported (bzip2, xz, lz4).
pub fn detect(prefix: &[u8]) -> Result<Compression, Error> {
    match prefix {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        // The magic of the first block, or of the end of an empty stream, tells bzip2 from a tar whose first name begins so.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => {
            Err(Error::Unsupported("bzip2"))
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(Error::Unsupported("xz")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err(Error::Unsupported("lz4")),
        _ => Ok(Compression::Plain),
    }
}
