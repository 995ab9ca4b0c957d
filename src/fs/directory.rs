//! The directories that the kernel knows.

use super::FsResult;
use crate::union::{Directory, Ino, Listing, Source, Stack};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use std::collections::HashMap;
use std::sync::Arc;

/// Enough that two threads seldom meet, few enough to cost nothing.
const SHARDS: usize = 16;

/// A directory that the kernel knows, and its names once they have been asked for.
#[derive(Debug)]
pub(super) struct LiveDirectory {
    /// The directory it was found in; the root's is the root.
    pub(super) parent: Ino,
    /// The directories of layers it is made of, topmost first.
    pub(super) sources: Box<[Source]>,
    /// The one whose metadata it has.
    pub(super) metadata: Source,
    listing: RwLock<Option<Listing>>,
}

impl LiveDirectory {
    fn new(parent: Ino, directory: Directory) -> Self {
        Self { parent, sources: directory.sources, metadata: directory.metadata, listing: RwLock::new(None) }
    }

    /// The merged names; they are merged by whoever asks first.
    pub(super) fn listing(&self, stack: &Stack) -> FsResult<MappedRwLockReadGuard<'_, Listing>> {
        loop {
            let listing = self.listing.read();
            if let Ok(listing) = RwLockReadGuard::try_map(listing, Option::as_ref) {
                return Ok(listing);
            }
            let mut listing = self.listing.write();
            if listing.is_none() {
                *listing = Some(stack.list(&self.sources)?);
            }
        }
    }
}

/// The directories that the kernel knows, by number.
#[derive(Debug)]
pub(super) struct Directories {
    root: Arc<LiveDirectory>,
    shards: [RwLock<HashMap<Ino, Arc<LiveDirectory>>>; SHARDS],
}

impl Directories {
    pub(super) fn new(root: Directory) -> Self {
        let root = Arc::new(LiveDirectory::new(Ino::ROOT, root));
        Self { root, shards: Default::default() }
    }

    fn shard(&self, ino: Ino) -> &RwLock<HashMap<Ino, Arc<LiveDirectory>>> {
        let [first, rest @ ..] = &self.shards;
        match (ino.0 as usize % SHARDS).checked_sub(1) {
            Some(index) => rest.get(index).unwrap_or(first),
            None => first,
        }
    }

    /// The directory `ino`, when it is known.
    pub(super) fn get(&self, ino: Ino) -> Option<Arc<LiveDirectory>> {
        if ino == Ino::ROOT {
            return Some(Arc::clone(&self.root));
        }
        self.shard(ino).read().get(&ino).map(Arc::clone)
    }

    /// The directory `ino`, remembered as `directory` in `parent` when it was not known.
    pub(super) fn get_or_insert(&self, ino: Ino, parent: Ino, directory: Directory) -> Arc<LiveDirectory> {
        let mut shard = self.shard(ino).write();
        Arc::clone(shard.entry(ino).or_insert_with(|| Arc::new(LiveDirectory::new(parent, directory))))
    }
}
