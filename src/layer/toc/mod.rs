//! A layer that is a tar and a table of contents (TOC).
//!
//! Owns the format of the TOC (docs/toc-format.md), the rules that turn the entries of one archive into a tree, and the
//! [`Layer`](crate::union::Layer) that answers from both files. Must not know where the files are kept.

mod builder;
mod data;
mod error;
mod format;
#[cfg(test)]
mod fuzz;
mod layer;
mod source;
mod tables;
#[cfg(test)]
mod testing;
mod verify;

pub use builder::Builder;
pub use data::Extents;
pub use error::{BuildError, OpenError};
pub use layer::TocLayer;
pub use source::{DataSource, LocalTar};

/// The diffID of a layer: SHA-256 of its uncompressed tar.
pub type DiffId = [u8; 32];
