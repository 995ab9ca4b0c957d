//! The live filesystem: inode table, lookup, attributes, data, namespace, copy-up.
//!
//! Returns values; knows no type of the FUSE protocol.
//!
//! [`LayerFs`] is one mounted stack. Its operations lie in one file a topic:
//!
//! | file | operations |
//! |---|---|
//! | `lookup.rs` | `lookup`, `forget`; what number is what object ([`LayerFs::object`](LayerFs)) |
//! | `attr.rs` | `getattr`, `statfs` |
//! | `readdir.rs` | `readdir`, `readdirplus` |
//! | `data.rs` | `readlink`, `read`, `seek` |
//! | `xattr.rs` | `getxattr`, `listxattr` |
//! | `change.rs` | `setattr`, `setxattr`, `removexattr`, `write`, `fsync`, `fallocate`, `copy_file_range` |
//! | `namespace.rs` | `create` of every kind, `link`, `unlink`, `rmdir` |
//! | `rename.rs` | `rename`, and where what was renamed came from |
//! | `copy_up.rs` | bringing a lower object to the upper |
//! | `claims.rs` | which object of the upper has which number of a lower one |
//! | `nodes.rs` | what the kernel knows of a writable filesystem, and where it is |
//! | `ahead.rs`, `prefetch.rs` | what will be listed and read next |
//! | `writable.rs` | the upper, its locks, which numbers have been brought there |
//!
//! **What is remembered.** An inode number says by itself in which layer its object lies ([`Ino`]), so files of lower
//! layers need no table at all. Remembered are directories ([`directory::Directories`]), because their sources depend on
//! how one got there, and the exceptions: files whose data lie elsewhere than their metadata.
//!
//! **Locks**, in this order: a directory's listing, a shard of the directory table, the table of exceptions. Only the first
//! is held across calls of layers, and it belongs to one directory.

mod ahead;
mod attr;
mod change;
mod claims;
mod copy_up;
#[cfg(test)]
mod cost_tests;
mod data;
mod directory;
mod error;
mod lookup;
mod namespace;
mod nodes;
mod prefetch;
mod readdir;
mod rename;
#[cfg(test)]
mod tests;
mod times;
mod writable;
mod xattr;

pub use ahead::Walker;
pub use attr::{Attr, Statfs};
pub use change::Write;
pub use copy_up::without_waiting;
pub use error::{FsError, FsResult};
pub use prefetch::Upcoming;
pub use readdir::DirEntry;
pub use rename::RenameMode;
pub use writable::{NamesHeld, Settings};

use crate::union::{Ino, Source, Stack};
use directory::Directories;
use parking_lot::RwLock;
use std::collections::HashMap;
use writable::Writable;

/// One mounted stack of layers.
#[derive(Debug)]
pub struct LayerFs {
    stack: Stack,
    directories: Directories,
    /// Where the data of a file lie whose number says where its metadata lie.
    data_elsewhere: RwLock<HashMap<Ino, Source>>,
    /// Which directories are being read in order.
    runs: prefetch::Runs,
    /// The upper, and what comes with it.
    writable: Option<Writable>,
}

impl LayerFs {
    /// The filesystem that `stack` shows.
    pub fn new(stack: Stack) -> Self {
        let directories = Directories::new(stack.root().clone());
        Self { stack, directories, data_elsewhere: RwLock::default(), runs: prefetch::Runs::default(), writable: None }
    }

    /// The layers.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }
}
