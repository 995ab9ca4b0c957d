//! The writable layer: a directory in the kernel's own overlayfs format, and a workdir.
//!
//! Owns every write to disk. Each method is one atomic change, or one that nobody sees. Must not know the union: what to do when is
//! planned in [`crate::union::mutation`], and done by the live filesystem.
//!
//! 1. A crash at any instant leaves the old or the new state: what needs more than one system call is made in the workdir
//!    and then linked or renamed in ([`Staging`]).
//! 2. A new object belongs to its creator from its first instant: it is made with the creator's IDs and umask, so that the
//!    file system itself applies setgid directories and default ACLs ([`crate::sys::as_creator`]).
//! 3. An object keeps the inode number it had in a lower layer: a record on the object, and the mark `impure` on the directory
//!    it lies in, so that only such directories cost a look at each entry ([`records`]).
//! 4. A backing inode number must not be reused while the kernel holds the node: what is unlinked goes to the workdir until
//!    it is forgotten ([`names`]).
//! 5. A plain user can neither give files away nor write `user.` attributes to symlinks: owners are kept in
//!    `override_stat`, and what no attribute can hold in a [`SideTable`].

mod attributes;
mod copy_up;
mod create;
mod direct;
mod names;
mod probe;
mod records;
#[cfg(test)]
mod tests;
mod view;
mod whiteouts;

pub use attributes::{Changes, SetTime, XattrMode};
pub use copy_up::{Content, Copied, Staged};
pub use create::{Created, NewKind, NewObject, Over};
pub use names::Place;
pub use view::{UpperView, view_upper};

use super::dir::{Access, Descriptors, DirLayer, DirOptions, Owners, Record, SideTable, XattrPrefix};
use super::staging::{Staging, StagingError};
use crate::union::{Ino, Layer, LayerError, LayerResult, LocalIno};
use parking_lot::Mutex;
use probe::Abilities;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How owners and modes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// By the file system.
    Real,
    /// In `override_stat`, for a user who may not give files away.
    Override,
}

/// How an upper is written.
#[derive(Debug, Clone)]
pub struct UpperOptions {
    /// Which extended attributes are overlay's.
    pub prefix: XattrPrefix,
    /// How owners are kept.
    pub ownership: Ownership,
    /// How stored owners are shown.
    pub owners: Owners,
    /// Nothing is synced to disk.
    pub volatile: bool,
}

/// Why an upper cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpperError {
    /// The workdir cannot be used.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The directory cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The file system does not store overlay's attributes.
    #[error("upperdir {path}: its file system refuses the extended attribute {attribute}: {source}")]
    NoXattrs {
        /// The upper.
        path: PathBuf,
        /// What was tried.
        attribute: String,
        /// The cause.
        source: io::Error,
    },
    /// The file system does not store whiteouts.
    #[error("upperdir {path}: its file system refuses whiteouts (character devices 0/0): {source}")]
    NoWhiteouts {
        /// The upper.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("upperdir {path}: {context}: {source}")]
    Io {
        /// The upper.
        path: PathBuf,
        /// What was tried.
        context: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// The writable layer.
#[derive(Debug)]
pub struct Upper {
    tree: Arc<DirLayer>,
    staging: Staging,
    /// The stage's and the index' own numbers, by which the tree finds what lies there.
    stage_ino: LocalIno,
    index_ino: LocalIno,
    ownership: Ownership,
    volatile: bool,
    abilities: Abilities,
    direct: direct::Direct,
    /// What objects that carry no `user.` attributes would carry.
    side: Option<Arc<SideTable>>,
    /// How many names an object of lower layers has there that are seen and not in the upper, by its inode number.
    lower_names: SideTable,
    /// Leaf lock.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Directories known to be marked impure.
    impure: HashSet<LocalIno>,
    /// Objects that are in the index.
    indexed: HashMap<LocalIno, Ino>,
    /// Objects with a name in the stage because they are unlinked.
    detached: HashSet<LocalIno>,
}

/// Whether some objects cannot carry what is written down about them.
fn has_side(prefix: XattrPrefix, ownership: Ownership) -> bool {
    prefix == XattrPrefix::User || ownership == Ownership::Override
}

impl Upper {
    /// Takes the directory at `upper` with the workdir at `work`.
    pub fn open(
        upper: &Path,
        work: &Path,
        options: UpperOptions,
        descriptors: &Arc<Descriptors>,
    ) -> Result<Self, UpperError> {
        let failed = |context| move |source| UpperError::Io { path: upper.to_owned(), context, source };
        let staging = Staging::open(upper, work)?;
        let abilities = probe::probe(&staging, upper, options.prefix, options.ownership)?;
        let side = if has_side(options.prefix, options.ownership) {
            Some(SideTable::open(&staging.file("side")).map_err(failed("open the side table"))?)
        } else {
            None
        };
        let side = side.map(Arc::new);
        let lower_names = SideTable::open(&staging.file("links")).map_err(failed("open the table of links"))?;
        let tree_options = DirOptions { owners: options.owners, side: side.clone(), ..DirOptions::new(options.prefix) };
        let mut tree = DirLayer::open(upper, tree_options, descriptors)?;
        if options.ownership == Ownership::Override {
            tree.keep_owners();
        }
        let tree = Arc::new(tree);
        let stage_ino = tree.attach(staging.stage())?;
        let index_ino = tree.attach(staging.index())?;
        let upper_layer = Self {
            tree,
            staging,
            stage_ino,
            index_ino,
            ownership: options.ownership,
            volatile: options.volatile,
            abilities,
            direct: direct::Direct::default(),
            side,
            lower_names,
            state: Mutex::default(),
        };
        upper_layer.load_index()?;
        Ok(upper_layer)
    }

    /// The directory as a layer to read.
    pub fn layer(&self) -> Arc<dyn Layer> {
        Arc::clone(&self.tree) as Arc<dyn Layer>
    }

    /// The directory.
    pub fn tree(&self) -> &DirLayer {
        &self.tree
    }

    /// The root of the upper.
    pub fn root(&self) -> LocalIno {
        self.tree.root()
    }

    /// Whether nothing is synced to disk.
    pub fn is_volatile(&self) -> bool {
        self.volatile
    }

    /// How owners are kept.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    fn prefix(&self) -> XattrPrefix {
        self.tree.options().prefix
    }

    /// A descriptor of the file `ino` for reading and writing.
    pub fn data(&self, ino: LocalIno) -> LayerResult<Arc<OwnedFd>> {
        self.tree.file(ino, Access::Write)
    }

    /// What statfs says of the file system that the upper is on.
    pub fn statfs(&self) -> LayerResult<rustix::fs::StatVfs> {
        rustix::fs::fstatvfs(self.tree.root_fd()).map_err(|error| self.failed("statfs", error.into()))
    }

    fn failed(&self, context: &str, source: io::Error) -> LayerError {
        self.tree.io_error(context, source)
    }

    fn record_name(&self, record: Record) -> &'static [u8] {
        self.prefix().record(record)
    }
}
