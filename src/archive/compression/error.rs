//! What can be wrong with a compressed stream.

use std::io;

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

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Unsupported(_) => io::ErrorKind::Unsupported,
            Error::Truncated(_) => io::ErrorKind::UnexpectedEof,
            Error::Damaged { .. } | Error::Expansion { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
