//! Why an operation failed.

use crate::union::LayerError;

/// Why an operation of [`LayerFs`](super::LayerFs) failed. What number each becomes is the adapter's business.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// There is no such name.
    #[error("no such file or directory")]
    NotFound,
    /// The object is not known any more.
    #[error("inode {0:#x} is gone")]
    Stale(u64),
    /// The operation needs a directory.
    #[error("not a directory")]
    NotDirectory,
    /// The operation does not work on directories.
    #[error("is a directory")]
    IsDirectory,
    /// The object is of a type that the operation does not work on.
    #[error("wrong type of object for this operation")]
    WrongKind,
    /// The name has more than 255 bytes.
    #[error("file name too long")]
    NameTooLong,
    /// There is no such extended attribute.
    #[error("no such extended attribute")]
    NoXattr,
    /// The offset lies behind the end of the file.
    #[error("offset beyond the end of the file")]
    BeyondEnd,
    /// A layer could not answer.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// What an operation returns.
pub type FsResult<T> = Result<T, FsError>;
