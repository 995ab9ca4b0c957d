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
    /// The name exists already.
    #[error("file exists")]
    Exists,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// A directory of a lower layer cannot be renamed without redirects: whoever asked has to copy it.
    #[error("a directory of a lower layer is not moved")]
    CrossDevice,
    /// Not allowed to anyone.
    #[error("operation not permitted")]
    NotPermitted,
    /// There is no upper.
    #[error("read-only file system")]
    ReadOnly,
    /// The name would be read as a whiteout.
    #[error("a name that begins with .wh. stands for a deleted one")]
    WhiteoutName,
    /// There is no such control request.
    #[error("no such ioctl")]
    NoSuchIoctl,
    /// It would have to wait for the data of a file, and was asked not to ([`without_waiting`](super::without_waiting)). Nothing has
    /// been changed.
    #[error("has to wait for a copy-up")]
    WouldWait,
    /// Not done here.
    #[error("operation not supported")]
    NotSupported,
    /// The system refused.
    #[error(transparent)]
    System(std::io::Error),
    /// A layer could not answer.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl FsError {
    /// Whether it is for want of means of the server, and says nothing about the object.
    pub(super) fn is_shortage(&self) -> bool {
        let (Self::System(source) | Self::Layer(LayerError::Io { source, .. })) = self else {
            return matches!(self, Self::WouldWait);
        };
        let number = source.raw_os_error();
        matches!(number, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR | libc::EAGAIN))
    }
}

/// What an operation returns.
pub type FsResult<T> = Result<T, FsError>;
