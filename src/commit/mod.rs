//! Changes become a layer, a manifest, a reference.
//!
//! Owns the steps from a set of changes to an image that points to its parent's layers: [`capture`] writes the layer,
//! [`append`] the configuration and the manifest. What counts as a change is the business of `diff`; when the changes of a
//! mount hold still is the business of whoever calls. Nothing is visible before the reference is set, which is the
//! caller's last step. Must not know mounts, Dockerfiles, or how anything is shown.

mod append;
mod capture;
mod clock;
#[cfg(test)]
mod restless_tests;
mod squash;
#[cfg(test)]
mod tests;

pub use append::{Appended, Step, append, empty_config};
pub use capture::{Captured, capture};
pub use clock::{Clock, InvalidEpoch};
pub use squash::{empty_stack, flatten, squash};

use crate::diff;
use crate::image::ImageError;
use crate::store::StoreError;

/// Why changes did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The changes could not be read or written as a layer.
    #[error(transparent)]
    Diff(#[from] diff::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layer could not be stored.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A part of the work ended before it was done.
    #[error("a thread that writes the layer ended early")]
    Thread,
}

/// What this module's functions return.
pub type Result<T> = std::result::Result<T, Error>;
