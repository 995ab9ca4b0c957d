//! Changes: the upper of a mount, or two images, to an ordered set of changes, to a layer tar.
//!
//! Owns what counts as a change ([`compare`]), the order in which changes stand in a layer, and how they are written
//! as whiteouts and entries ([`write_layer`]). Everything is said in terms of [`Stack`](crate::union::Stack)s: an upper is
//! a stack with one more layer than its image. Must not know FUSE, the store or the formats of images.
//!
//! The comparison never walks what both sides share: a merged directory is the list of its sources, and where both
//! sides end in the same sources, only names that the other sources mention can differ. So the changes of a mount cost
//! what its upper holds, and two images with common layers what the other layers hold.

mod change;
mod compare;
mod entry;
mod layer_tar;
mod links;
#[cfg(test)]
mod tests;
mod text;
mod tree_tar;
mod view;

pub use change::{Change, ChangeKind, ChangeSet};
pub use compare::{Comparison, Options, compare};
pub use layer_tar::{LayerOptions, Skipped, write_layer};
pub use links::{Override, add_linked_names, keep_links};
pub use text::{is_text, printable_line, unified};
pub use tree_tar::write_tree;
pub use view::{NodeReader, meta, read_file, read_node, same_bytes, xattrs};

use crate::model::RelPath;
use crate::union::LayerError;

/// Why changes could not be found or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The archive could not be written.
    #[error(transparent)]
    Archive(#[from] crate::archive::tar::Error),
    /// A file's size changed while it was read.
    #[error("{path}: the file was changed while it was read")]
    Changing {
        /// The file.
        path: RelPath,
    },
    /// A name that means something else in a layer.
    #[error("{path}: a name that begins with `.wh.` cannot stand in an image layer")]
    WhiteoutName {
        /// The object.
        path: RelPath,
    },
    /// A name or path that no archive can hold.
    #[error("{path}: {detail}")]
    Unrepresentable {
        /// The object.
        path: RelPath,
        /// What is wrong.
        detail: String,
    },
}

/// What this module's functions return.
pub type Result<T> = std::result::Result<T, Error>;
