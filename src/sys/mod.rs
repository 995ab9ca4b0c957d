//! Raw system calls behind safe functions: the only module with `unsafe`.
//!
//! Owns what neither `std` nor `rustix` offers. Must not know anything else of the project.

#[cfg(test)]
mod allocations;
mod attributes;
mod credentials;
mod heap;
mod map;
mod mounts;
mod names;
pub mod namespace;
mod removal;
pub mod seccomp;
mod signals;
pub mod spawn;
mod writeback;
pub mod xattr_at;

#[cfg(test)]
pub(crate) use allocations::allocations;
pub use attributes::chmod_no_follow;
pub use credentials::{Caller, Creator, as_creator, with_umask};
pub use heap::give_memory_back;
pub use map::Mapped;
pub use mounts::{MountLine, mount_lines};
pub use names::read_names;
pub use removal::{remove_tree, remove_tree_at};
pub use signals::{SignalSet, is_ignored};
pub use writeback::start_writeback;
