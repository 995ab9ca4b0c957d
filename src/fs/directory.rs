//! The directories that the kernel knows.

use super::FsResult;
use crate::model::FileKind;
use crate::union::{Directory, Ino, Listing, Source};
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Enough that two threads seldom meet, few enough to cost nothing.
const SHARDS: usize = 16;

/// So many names of a directory are looked for one by one before all of them are read: about what reading a small directory costs.
const FEW: usize = 4;
/// Bytes of a directory that take as long to read as one name to be looked for in it; of so few the smallest one has.
const BYTES_FOR_A_NAME: u64 = 4096;

/// A directory that the kernel knows, and its names once they have been asked for.
#[derive(Debug)]
pub(super) struct LiveDirectory {
    /// The directory it was found in; the root's is the root. Changes with a rename.
    parent: AtomicU64,
    /// What it is made of. Changes when it is copied up.
    made: RwLock<Arc<Directory>>,
    listing: RwLock<Option<Listing>>,
    /// What was looked for while there was no listing; nothing once there is one.
    singly: Mutex<Option<Box<Singly>>>,
    /// That of what it shows of lower layers ([`Ino::in_generation`]).
    generation: u8,
}

/// Names that were looked for one by one.
#[derive(Debug, Default)]
struct Singly {
    looks: usize,
    /// How many are worth it; none until [`FEW`] have been looked for.
    worth: Option<usize>,
    /// What was found.
    found: HashMap<Box<[u8]>, Ino>,
}

impl LiveDirectory {
    fn new(parent: Ino, directory: Directory, generation: u8) -> Self {
        let (parent, made) = (AtomicU64::new(parent.0), RwLock::new(Arc::new(directory)));
        Self { parent, made, listing: RwLock::new(None), singly: Mutex::default(), generation }
    }

    /// A directory that was made a moment ago, in the upper: its names are known, since there are none.
    fn new_and_empty(parent: Ino, directory: Directory) -> Self {
        Self { listing: RwLock::new(Some(Listing::default())), ..Self::new(parent, directory, 0) }
    }

    /// The generation of what it shows of lower layers.
    pub(super) fn generation(&self) -> u8 {
        self.generation
    }

    /// The directory it was found in.
    pub(super) fn parent(&self) -> Ino {
        Ino(self.parent.load(Ordering::Relaxed))
    }

    /// Says that it lies in another directory now.
    pub(super) fn set_parent(&self, parent: Ino) {
        self.parent.store(parent.0, Ordering::Relaxed);
    }

    /// The directories of layers it is made of.
    pub(super) fn made(&self) -> Arc<Directory> {
        Arc::clone(&self.made.read())
    }

    /// Says that it is made of other directories now, which show the same names.
    pub(super) fn remake(&self, made: Directory) {
        *self.made.write() = Arc::new(made);
    }

    /// Changes the merged names, when they have been merged.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Listing) -> T) {
        if let Some(listing) = self.listing.write().as_mut() {
            change(listing);
        }
    }

    /// Gives the entry `name` the number `new`, when it still has `old`.
    pub(super) fn renumber(&self, name: &[u8], old: Ino, new: Ino, kind: FileKind) {
        self.update(|listing| {
            if listing.get(name).is_some_and(|listed| listed.ino == old) {
                listing.replace(name, new, kind);
            }
        });
    }

    /// Whether a name is better looked for alone than in the listing, which then has to be made: it has been neither asked for nor have
    /// so many names been looked for that it had paid. `bytes` tells how large a directory of a layer is.
    pub(super) fn takes_a_single_look(&self, bytes: impl Fn(Source) -> u64) -> bool {
        if self.listing.read().is_some() {
            return false;
        }
        let mut singly = self.singly.lock();
        let singly = singly.get_or_insert_default();
        if singly.looks >= FEW {
            let worth = || {
                let made = self.made();
                let blocks = made.sources.iter().map(|source| (bytes(*source) / BYTES_FOR_A_NAME).saturating_sub(1));
                // A name is looked for in each of them.
                FEW + blocks.sum::<u64>() as usize / made.sources.len().max(1)
            };
            if singly.looks >= *singly.worth.get_or_insert_with(worth) {
                return false;
            }
        }
        singly.looks += 1;
        true
    }

    /// `name` was looked for alone, and is `ino`.
    pub(super) fn found_singly(&self, name: &[u8], ino: Ino) {
        if let Some(singly) = &mut *self.singly.lock() {
            singly.found.insert(name.into(), ino);
        }
    }

    /// The names of which is known where they lie: all when they are merged, else those looked for one by one.
    pub(super) fn known_names(&self, mut visit: impl FnMut(&[u8], Ino)) {
        if let Some(listing) = &*self.listing.read() {
            return listing.iter().for_each(|listed| visit(listed.name, listed.ino));
        }
        let singly = self.singly.lock();
        singly.iter().flat_map(|singly| &singly.found).for_each(|(name, ino)| visit(name, *ino));
    }

    /// The merged names; whoever asks first makes them with `merge`.
    pub(super) fn listing(
        &self,
        merge: impl Fn(&Directory) -> FsResult<Listing>,
    ) -> FsResult<MappedRwLockReadGuard<'_, Listing>> {
        loop {
            let listing = self.listing.read();
            if let Ok(listing) = RwLockReadGuard::try_map(listing, Option::as_ref) {
                return Ok(listing);
            }
            let mut listing = self.listing.write();
            if listing.is_none() {
                *listing = Some(merge(&self.made())?);
                *self.singly.lock() = None;
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
        let root = Arc::new(LiveDirectory::new(Ino::ROOT, root, 0));
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

    /// Remembers a directory that was made a moment ago, in the upper.
    pub(super) fn insert_new(&self, ino: Ino, parent: Ino, directory: Directory) {
        self.shard(ino).write().insert(ino, Arc::new(LiveDirectory::new_and_empty(parent, directory)));
    }

    /// Forgets the directory `ino`.
    pub(super) fn remove(&self, ino: Ino) -> Option<Arc<LiveDirectory>> {
        self.shard(ino).write().remove(&ino)
    }

    /// Gives back the room of what was forgotten.
    pub(super) fn shrink(&self) {
        self.shards.iter().for_each(|shard| shard.write().shrink_to_fit());
    }

    /// The directory `ino`, remembered as `directory` in `parent` when it was not known.
    pub(super) fn get_or_insert(
        &self,
        ino: Ino,
        parent: Ino,
        directory: Directory,
        generation: u8,
    ) -> Arc<LiveDirectory> {
        let mut shard = self.shard(ino).write();
        Arc::clone(shard.entry(ino).or_insert_with(|| Arc::new(LiveDirectory::new(parent, directory, generation))))
    }
}
