//! Pure merge logic of a stack of layers.
//!
//! Owns [`Layer`], what a stack of layers means (resolution, whiteouts, opaque directories, redirects, merged
//! listings) and which steps a mutation takes on the upper. Must not know FUSE, disks or image formats.

mod layer;

pub use layer::{Entry, EntryKind, Layer, LayerError, LayerResult, LocalIno, Marks};
