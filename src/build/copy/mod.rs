//! COPY and ADD: from trees of files to the entries of a layer.
//!
//! A copy never touches a mounted file system. What it adds is computed against the stage as it is (a [`Tree`]) and
//! written as a layer's tar in one pass: owners, devices and modes are exact for a plain user as well, nothing is copied
//! twice, and no symlink of an image is ever followed by the kernel.
//!
//! Owns the rules of sources, destinations, owners, modes and archives. Must not know instructions, mounts or the cache.

mod archive;
mod destination;
mod error;
mod fingerprint;
mod materialise;
mod mode;
mod owner;
mod resolve;
mod transfer;
mod tree;
mod write;

pub use archive::{Opened, open_archive};
pub use destination::{Content, Destination, Maker, NewEntry, NewKind};
pub use error::{CopyError, CopyResult};
pub use fingerprint::fingerprint;
pub use materialise::{materialise, materialise_into};
pub use mode::ModeChange;
pub use owner::{Account, Owner, resolve_account, resolve_owner, resolve_user};
pub use resolve::resolve;
pub use transfer::{Copier, Rules};
pub use tree::{Empty, Stat, Tree};
pub use write::{Data, Pieces, write_layer};

#[cfg(test)]
mod mem;
#[cfg(test)]
mod tests;
