//! Pure merge logic of a stack of layers.
//!
//! Owns [`Layer`], what a stack of layers means (resolution, whiteouts, opaque directories, redirects, merged
//! listings) and which steps a mutation takes on the upper. Must not know FUSE, disks or image formats.

mod graft;
mod ino;
mod layer;
mod links;
mod listing;
mod mem;
#[cfg(test)]
mod model_test;
pub mod mutation;
mod redirect;
mod stack;
#[cfg(test)]
mod tests;
mod view;
mod walk;

pub use ino::{Ino, LayerIndex, Source};
pub use layer::{Entry, EntryKind, Layer, LayerError, LayerResult, LocalIno, Marks, Refusal, Totals};
pub use listing::{Listed, Listing};
pub use mem::{BadLine, MemLayer};
pub use stack::{Directory, Follow, MAX_LOWERS, Node, Stack, StackError};
pub use view::{DiffView, Hanging};
pub use walk::{Visit, Walk};
