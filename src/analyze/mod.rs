//! What an image is made of: waste, duplicates, which layer has what, from tables of contents.
//!
//! Owns the accounting: what counts as hidden, by whom ([`waste`]), what one path went through ([`history_of`]), what lies
//! in an image twice ([`duplicates`]), what was left behind ([`leftovers`]) and which packages are installed ([`packages`]). Reads content only to tell duplicates and packages. Must not
//! know FUSE, nor how anything is shown.

mod duplicates;
mod html;
mod leftovers;
mod packages;
#[cfg(test)]
mod tests;
mod tree;
mod waste;
mod whence;

pub use duplicates::{DuplicateGroup, copies, duplicates};
pub use html::{Page, cause};
pub use leftovers::{Leftover, LeftoverKind, leftovers};
pub use packages::{PackageChange, PackageDeed, PackageManager, Packages, package_changes, packages};
pub use tree::{ImageTree, NodeId, TreeNode};
pub use waste::{LayerSummary, Version, Waste, WasteCause, WasteReport, survey, waste};
pub use whence::{Touch, TouchKind, history_of};

use crate::model::{InvalidName, Name};
use crate::union::{Layer, LayerError, LayerResult};

/// A name that a layer told, checked.
fn checked_name(layer: &dyn Layer, name: &[u8]) -> LayerResult<Name> {
    Name::new(name).map_err(|error: InvalidName| LayerError::Damaged {
        layer: layer.label().to_owned(),
        detail: format!("\"{}\": {error}", name.escape_ascii()),
    })
}
