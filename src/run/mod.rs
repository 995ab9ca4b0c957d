//! The life of a container: a command in a fresh writable mount of an image.
//!
//! Owns how an image's configuration and what was asked for become a [`crate::sandbox::Spec`] ([`compose`]), whose user is looked up inside the
//! image ([`crate::sandbox::account`]), the terminal of whoever looks on ([`terminal`]), and what is known of a container while it runs ([`state`]).
//! Must not know Dockerfiles nor how anything is shown.

mod compose;
mod files;
mod life;
pub mod state;
mod terminal;
mod volume;

pub use compose::{Asked, Image, compose, environment_of};
pub use files::read_in;
pub use life::{Attached, attend, block_signals};
pub use terminal::size as terminal_size;
pub use volume::{is_in_proc, is_root, parse as parse_volume};

use std::io;

/// Why a container could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no command: the image names none and none was given")]
    NoCommand,
    #[error(transparent)]
    Account(#[from] crate::sandbox::account::NoSuchAccount),
    #[error("{0} is not a volume: {1}")]
    Volume(String, &'static str),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::SandboxError),
}

pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Io { what, source }
}
