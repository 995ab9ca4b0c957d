//! What can go wrong in a copy.

use crate::model::RelPath;
use std::io;
use std::path::PathBuf;

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that is not there.
    #[error("{path:?}: not found")]
    NotFound {
        /// As it was asked for.
        path: String,
    },
    /// A pattern that is malformed.
    #[error(transparent)]
    Pattern(#[from] crate::build::context::BadPattern),
    /// A file where a directory must be.
    #[error("{path}: not a directory")]
    NotADirectory {
        /// The destination.
        path: RelPath,
    },
    /// A directory where a file is to go.
    #[error("{path}: cannot replace a directory with a file")]
    IsADirectory {
        /// The destination.
        path: RelPath,
    },
    /// Several sources and no directory to put them into.
    #[error("when more than one file is copied, the destination must be a directory and end with a /: {destination}")]
    NoDirectory {
        /// The destination as it was asked for.
        destination: String,
    },
    /// More symlinks than the kernel would follow.
    #[error("{path}: too many levels of symbolic links")]
    TooManyLinks {
        /// The path.
        path: String,
    },
    /// A name the image's user or group file does not have.
    #[error("unable to find {what} {name}: no matching entries in {file}")]
    NoSuchOwner {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// The file.
        file: &'static str,
    },
    /// A mode that is none.
    #[error("invalid chmod parameter: {text:?}: it should be an octal number up to 07777, or symbolic")]
    Mode {
        /// As written.
        text: String,
    },
    /// An archive that could not be unpacked.
    #[error("{name}: {detail}")]
    Archive {
        /// The archive.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// A name no layer can hold.
    #[error("{path}: {detail}")]
    Unrepresentable {
        /// The path.
        path: RelPath,
        /// What is wrong.
        detail: String,
    },
    /// A file was changed while it was read, or after it was.
    #[error("{path}: the file was changed while it was read")]
    Changing {
        /// The file.
        path: RelPath,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: RelPath,
        /// The cause.
        source: io::Error,
    },
    /// A place of the host that a file cannot have.
    #[error("cannot write {}: {source}", path.display())]
    Place {
        /// The place.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The layer could not be written.
    #[error("cannot write the layer: {0}")]
    Write(crate::archive::tar::Error),
}

/// What this module's functions return.
pub type CopyResult<T> = Result<T, CopyError>;

/// Adds the path to a failed read.
pub(super) fn reading(path: &RelPath) -> impl FnOnce(io::Error) -> CopyError + '_ {
    move |source| CopyError::Read { path: path.clone(), source }
}
