//! What a filesystem with an upper has beyond one without.
//!
//! **Locks**, in this order: the copy-up of one inode ([`CopyLocks`]), child before parent; stripes ([`Stripes`]), all that
//! an operation needs at once, ordered; then what the read side locks; then the leaf tables here. A copy-up holds no stripe
//! while it copies data, so it delays nobody but those who want to change the same object.

use super::claims::Claims;
use super::nodes::Nodes;
use super::times::Times;
use super::{FsError, FsResult, LayerFs};
use crate::layer::upper::Upper;
use crate::union::{Follow, Ino, Layer, LayerIndex, LocalIno, Source, Stack, StackError};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// So much has to be forgotten before memory is given back, which takes a moment; less when fewer inodes than this are known.
const ENOUGH_TO_TIDY: usize = 16384;
const ENOUGH_AT_THE_END: usize = 1024;
const FEW_KNOWN: usize = 256;

/// What a writable mount may do beyond the plain format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Directories of lower layers can be renamed, and remember where they came from.
    pub redirect_dir: bool,
    /// A change of metadata copies no data.
    pub metacopy: bool,
}

/// The upper and the tables of a writable filesystem.
#[derive(Debug)]
pub(super) struct Writable {
    pub(super) upper: Upper,
    pub(super) settings: Settings,
    pub(super) stripes: Stripes,
    pub(super) copies: CopyLocks,
    /// What the kernel knows, and under which names.
    pub(super) nodes: Mutex<Nodes>,
    /// Objects of the upper that keep the number they had in a lower layer.
    pub(super) claims: RwLock<Claims>,
    /// When files that the kernel writes back were last changed.
    pub(super) times: Times,
    /// What was forgotten since memory was last given back: inodes, and entries of directories.
    forgotten: AtomicUsize,
    /// The kernel keeps the times of changes to files, and tells them.
    kernel_keeps_times: AtomicBool,
}

impl LayerFs {
    /// The filesystem of `lowers`, bottom layer first, with `upper` on top, which takes the changes.
    pub fn new_writable(
        lowers: Vec<Arc<dyn Layer>>,
        upper: Upper,
        settings: Settings,
        follow: Follow,
    ) -> Result<Self, StackError> {
        let stack = Stack::new(lowers, Some(upper.layer()), follow)?;
        let mut claims = Claims::default();
        upper.indexed().into_iter().for_each(|(ino, local)| claims.give(ino, local));
        let mut fs = Self::new(stack);
        fs.writable = Some(Writable {
            upper,
            settings,
            stripes: Stripes::default(),
            copies: CopyLocks::default(),
            nodes: Mutex::default(),
            claims: RwLock::new(claims),
            times: Times::default(),
            forgotten: AtomicUsize::new(0),
            kernel_keeps_times: AtomicBool::new(false),
        });
        Ok(fs)
    }

    /// The objects of lower layers, with several names there, that the upper stands for, each with what stands for it.
    pub fn overrides(&self) -> Vec<(Source, Source)> {
        let Some(writable) = &self.writable else { return Vec::new() };
        let upper = |ino| Source { layer: LayerIndex::UPPER, ino };
        let indexed = writable.upper.indexed().into_iter();
        indexed.filter_map(|(ino, local)| Some((ino.source()?, upper(local)))).collect()
    }

    /// Makes the root of the upper, which is new, like that of the topmost lower layer.
    pub fn adopt_root(&self) -> FsResult<()> {
        let upper = &self.writable()?.upper;
        let root = self.directory(Ino::ROOT)?.made();
        let lowers = lowers_of(&root.sources);
        let layers = lowers.iter().map(|source| Ok((self.layer(*source)?, source.ino)));
        let layers = layers.collect::<FsResult<Vec<_>>>()?;
        let explicit = layers.iter().find(|(layer, _)| !layer.root_is_implied()).or_else(|| layers.last());
        let Some((layer, ino)) = explicit else { return Ok(()) };
        Ok(upper.adopt_root(*layer, *ino)?)
    }

    /// Holds all names as they are until the result is dropped: operations that would change some wait. None where nothing can
    /// change.
    pub fn hold_names(&self) -> Option<NamesHeld<'_>> {
        self.writable.as_ref().map(|writable| NamesHeld { _stripes: writable.stripes.write_all() })
    }

    /// Says whether whoever asks gathers writes and keeps the times of changes itself. Until it is said, nobody does.
    pub fn set_kernel_keeps_times(&self, keeps: bool) {
        if let Some(writable) = &self.writable {
            writable.kernel_keeps_times.store(keeps, Ordering::Relaxed);
        }
    }

    /// Whether changes are taken.
    pub fn is_writable(&self) -> bool {
        self.writable.is_some()
    }

    /// `count` inodes and entries of directories were forgotten, `known` inodes are left: gives memory back when it is worth it,
    /// and when nearly nothing is left.
    pub(super) fn tidy(&self, writable: &Writable, count: usize, known: usize) {
        let forgotten = writable.forgotten.fetch_add(count, Ordering::Relaxed) + count;
        let enough = if known < FEW_KNOWN { ENOUGH_AT_THE_END } else { ENOUGH_TO_TIDY };
        if forgotten < enough {
            return;
        }
        writable.forgotten.store(0, Ordering::Relaxed);
        writable.nodes.lock().shrink();
        writable.times.shrink();
        self.stack.lowers().iter().for_each(|layer| layer.tidy());
        self.directories.shrink();
        crate::sys::give_memory_back();
    }

    pub(super) fn writable(&self) -> FsResult<&Writable> {
        self.writable.as_ref().ok_or(FsError::ReadOnly)
    }
}

impl Writable {
    /// Whether the kernel keeps the times of changes to files.
    pub(super) fn kernel_keeps_times(&self) -> bool {
        self.kernel_keeps_times.load(Ordering::Relaxed)
    }

    /// Where `ino` is in the upper; none when it is in a lower layer only. Not for the root and directories, whose
    /// sources say it.
    pub(super) fn local(&self, ino: Ino) -> Option<LocalIno> {
        match ino.source() {
            Some(Source { layer: LayerIndex::UPPER, ino }) => Some(ino),
            _ => self.claims.read().holder(ino),
        }
    }
}

impl Writable {
    /// The number of names of the object `ino`, which lies in `source`, where its layer counts `counted`.
    pub(super) fn links(&self, ino: Ino, source: Source, counted: u32) -> u32 {
        let lower_names = self.upper.lower_names(ino);
        if source.layer == LayerIndex::UPPER {
            return counted.saturating_sub(self.upper.hidden_links(source.ino)) + lower_names.unwrap_or(0);
        }
        match lower_names {
            Some(count) => count,
            None if counted == 1 && self.nodes.lock().is_nameless(ino) => 0,
            None => counted,
        }
    }
}

/// Where the upper is among the sources of a directory.
pub(super) fn upper_of(sources: &[Source]) -> Option<LocalIno> {
    sources.first().filter(|first| first.layer == LayerIndex::UPPER).map(|first| first.ino)
}

/// The sources of a directory below the upper.
pub(super) fn lowers_of(sources: &[Source]) -> &[Source] {
    match sources.split_first() {
        Some((first, rest)) if first.layer == LayerIndex::UPPER => rest,
        _ => sources,
    }
}

/// While it lives, no name changes.
#[derive(Debug)]
pub struct NamesHeld<'a> {
    _stripes: Vec<RwLockWriteGuard<'a, ()>>,
}

/// Enough that two operations seldom meet.
const STRIPES: usize = 64;

/// Locks of inodes. Whoever changes names holds those of the directories and objects involved; whoever reaches an object by
/// its name shares it.
#[derive(Debug)]
pub(super) struct Stripes([RwLock<()>; STRIPES]);

impl Default for Stripes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| RwLock::new(())))
    }
}

impl Stripes {
    fn index(ino: Ino) -> usize {
        // Upper bits count too: numbers of different layers differ only there.
        ((ino.0 ^ ino.0 >> 48).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize
    }

    /// Holds `inodes` for a change of names.
    pub(super) fn write(&self, inodes: &[Ino]) -> Vec<RwLockWriteGuard<'_, ()>> {
        let mut indices: Vec<usize> = inodes.iter().map(|ino| Self::index(*ino)).collect();
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().filter_map(|index| self.0.get(index)).map(RwLock::write).collect()
    }

    /// Holds all inodes.
    fn write_all(&self) -> Vec<RwLockWriteGuard<'_, ()>> {
        self.0.iter().map(RwLock::write).collect()
    }

    /// Shares `ino`, so that its names stay.
    pub(super) fn read(&self, ino: Ino) -> Option<RwLockReadGuard<'_, ()>> {
        self.0.get(Self::index(ino)).map(RwLock::read)
    }
}

/// A lock for each object that is being copied up.
#[derive(Debug, Default)]
pub(super) struct CopyLocks(Mutex<HashMap<Ino, Arc<Mutex<()>>>>);

impl CopyLocks {
    /// Runs `action` while nobody else copies `ino`.
    pub(super) fn exclusively<T>(&self, ino: Ino, action: impl FnOnce() -> T) -> T {
        let lock = Arc::clone(self.0.lock().entry(ino).or_default());
        let guard = lock.lock();
        let result = action();
        drop(guard);
        self.tidy(ino, lock);
        result
    }

    /// The same where nobody copies `ino`; none where somebody does.
    pub(super) fn exclusively_now<T>(&self, ino: Ino, action: impl FnOnce() -> T) -> Option<T> {
        let lock = Arc::clone(self.0.lock().entry(ino).or_default());
        let result = lock.try_lock().map(|_guard| action());
        self.tidy(ino, lock);
        result
    }

    /// Drops the lock of `ino` when nobody else needs it.
    fn tidy(&self, ino: Ino, lock: Arc<Mutex<()>>) {
        let mut locks = self.0.lock();
        drop(lock);
        if locks.get(&ino).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stripe_is_locked_once() {
        let stripes = Stripes::default();
        let all: Vec<Ino> = (0..200).map(Ino).collect();
        assert_eq!(stripes.write(&all).len(), STRIPES);
        assert_eq!(stripes.write(&[Ino(7), Ino(7)]).len(), 1);
    }

    #[test]
    fn locks_of_copies_go_when_nobody_needs_them() {
        let copies = CopyLocks::default();
        assert_eq!(copies.exclusively(Ino(3), || copies.exclusively(Ino(2), || 5)), 5);
        let held = copies.exclusively(Ino(3), || copies.exclusively_now(Ino(3), || 5));
        assert_eq!((held, copies.exclusively_now(Ino(3), || 6)), (None, Some(6)));
        assert!(copies.0.lock().is_empty());
    }
}
