//! What can be wrong with an archive.

use super::InvalidPath;
use std::io;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream failed, decompression included.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Bytes from the start of the uncompressed archive.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The stream ends inside an entry.
    #[error("the archive ends too early, at byte {offset}")]
    Truncated {
        /// Bytes from the start of the uncompressed archive.
        offset: u64,
    },
    /// A header's checksum is wrong: damage, or no tar archive.
    #[error("no valid tar header at byte {offset}: the archive is damaged, or no tar archive")]
    Header {
        /// Bytes from the start of the uncompressed archive.
        offset: u64,
    },
    /// An entry's name is refused.
    #[error("entry \"{name}\": {source}")]
    Name {
        /// The name as it stands, escaped.
        name: String,
        /// What is wrong with it.
        source: InvalidPath,
    },
    /// The target of a hard link is refused.
    #[error("entry \"{name}\": hard link to \"{target}\": {source}")]
    LinkTarget {
        /// The entry's name, escaped.
        name: String,
        /// The target as it stands, escaped.
        target: String,
        /// What is wrong with it.
        source: InvalidPath,
    },
    /// A field of the entry's headers makes no sense.
    #[error("entry \"{name}\": invalid {field}")]
    Field {
        /// The entry's name as far as it is known, escaped.
        name: String,
        /// What is wrong.
        field: &'static str,
    },
    /// The type is none that can be in an image.
    #[error("entry \"{name}\": entries of type {} are not supported", type_flag.escape_ascii())]
    Unsupported {
        /// The entry's name, escaped.
        name: String,
        /// The type flag of the header.
        type_flag: u8,
    },
    /// More than [`Limits`](super::Limits) allow.
    #[error("entry \"{name}\": {what} exceed the limit of {limit}")]
    Limit {
        /// The entry's name as far as it is known, escaped.
        name: String,
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Writing: the source of a file's data failed.
    #[error("cannot read the data of \"{name}\"")]
    Source {
        /// The entry's name, escaped.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// Writing: the source does not have as many bytes as were announced.
    #[error("the data of \"{name}\" end after {found} bytes, {expected} were announced")]
    ShortSource {
        /// The entry's name, escaped.
        name: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes there were.
        found: u64,
    },
    /// Writing: the source has more bytes than were announced.
    #[error("the data of \"{name}\" go on after the {expected} bytes announced")]
    LongSource {
        /// The entry's name, escaped.
        name: String,
        /// Bytes announced.
        expected: u64,
    },
    /// Writing: the output failed.
    #[error("cannot write the archive")]
    Write {
        /// The cause.
        source: io::Error,
    },
}

/// What the reader and the writer of archives answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
