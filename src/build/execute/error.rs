//! What can go wrong while a plan is carried out.

use crate::build::copy::CopyError;
use crate::build::dockerfile::Diagnostic;
use crate::oci::Reference;
use std::io;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A step failed, for the reason that the message names and the place it shows.
    #[error("{0}")]
    Step(Box<Diagnostic>),
    /// A command ended with a failure.
    #[error("{place}")]
    Command {
        /// The instruction and the message.
        place: Box<Diagnostic>,
        /// The exit code of the command.
        code: u8,
    },
    /// The build was told to end.
    #[error("the build was interrupted")]
    Cancelled,
    /// Another stage failed; its error is the one that is told.
    #[error("another stage failed")]
    Elsewhere,
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A layer could not be stored or opened.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// Changes could not be captured.
    #[error(transparent)]
    Commit(#[from] crate::commit::Error),
    /// Changes could not be found.
    #[error(transparent)]
    Diff(#[from] crate::diff::Error),
    /// Layers make no stack.
    #[error(transparent)]
    Stack(#[from] crate::union::StackError),
    /// The writable layer of a command could not be made.
    #[error(transparent)]
    Upper(#[from] crate::layer::upper::UpperError),
    /// The sandbox could not be set up.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::SandboxError),
    /// A file could not be fetched.
    #[error("{url}: {reason}")]
    Fetch {
        /// From where.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A secret that a command requires and the caller did not give.
    #[error("secret {0}: not found")]
    Secret(String),
    /// What this program does not do.
    #[error("{0}")]
    Unsupported(String),
    /// The same name is given twice.
    #[error("{0} cannot be the name of an image that is built")]
    Name(Reference),
    /// The system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was tried.
        context: String,
        /// The cause.
        source: io::Error,
    },
}

/// What this module's functions return.
pub type BuildResult<T> = Result<T, BuildError>;

/// Adds what was tried to an error of the system.
pub(super) fn trying<E: Into<io::Error>>(context: impl Into<String>) -> impl FnOnce(E) -> BuildError {
    move |source| BuildError::Io { context: context.into(), source: source.into() }
}
