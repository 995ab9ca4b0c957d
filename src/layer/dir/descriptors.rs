//! Descriptors of backing objects, bounded: one pool for all layers of a mount.
//!
//! A mount knows more objects than `RLIMIT_NOFILE` allows descriptors, so none is kept but what this cache holds.

use crate::union::LocalIno;
use lru::LruCache;
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a descriptor was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `O_PATH`, to reach what lies below.
    Path,
    /// Reading data.
    Read,
    /// Reading and writing data.
    Write,
    /// Writing whole blocks past the page cache.
    Direct,
}

type Key = (u32, LocalIno, Access);

/// Open descriptors by layer, inode and purpose, the least used closed first. A closed one that is in use stays open
/// until its last user drops it.
pub struct Descriptors {
    open: Mutex<LruCache<Key, Arc<OwnedFd>>>,
    next_layer: AtomicU32,
}

impl fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptors").field("open", &self.open.lock().len()).finish_non_exhaustive()
    }
}

/// Descriptors kept free for everything that is not this cache: the roots of layers come on top.
const RESERVED: u64 = 40;
/// More than this buys nothing: an `openat` of a cached name costs about a microsecond.
const MOST: u64 = 8192;

impl Descriptors {
    /// A cache for a process that may hold `limit` descriptors, of which `roots` are the roots of layers.
    pub fn new(limit: u64, roots: u64) -> Self {
        let capacity = (limit.saturating_sub(roots + RESERVED) / 2).clamp(4, MOST);
        let capacity = NonZeroUsize::new(capacity as usize).unwrap_or(NonZeroUsize::MIN);
        Self { open: Mutex::new(LruCache::new(capacity)), next_layer: AtomicU32::new(0) }
    }

    /// A cache that fits this process: raises its soft limit of descriptors to the hard one.
    pub fn for_this_process(roots: u64) -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(_) => limit.current,
        };
        Self::new(current.unwrap_or(u64::MAX), roots)
    }

    /// A number for one more layer.
    pub(super) fn register(&self) -> u32 {
        self.next_layer.fetch_add(1, Ordering::Relaxed)
    }

    /// The descriptor that is held for an inode; none when it has to be opened.
    pub(super) fn held(&self, layer: u32, ino: LocalIno, access: Access) -> Option<Arc<OwnedFd>> {
        self.open.lock().get(&(layer, ino, access)).map(Arc::clone)
    }

    /// The descriptor of `key`, opened with `open` when none is held. When the process has no descriptor left, half
    /// of the cache is closed and `open` tried once more.
    pub(super) fn get(&self, key: Key, open: impl Fn() -> io::Result<OwnedFd>) -> io::Result<Arc<OwnedFd>> {
        if let Some(fd) = self.open.lock().get(&key) {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.open_uncached(open)?);
        let replaced = self.open.lock().push(key, Arc::clone(&fd));
        drop(replaced);
        Ok(fd)
    }

    /// Keeps a descriptor that was opened elsewhere.
    pub(super) fn put(&self, key: Key, fd: OwnedFd) {
        let replaced = self.open.lock().push(key, Arc::new(fd));
        drop(replaced);
    }

    /// Opens with `open`, making room when the process has no descriptor left.
    pub(super) fn open_uncached(&self, open: impl Fn() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
        match open() {
            Err(error) if is_exhaustion(&error) => {
                self.shrink();
                open()
            }
            result => result,
        }
    }

    /// Closes what is held of an inode.
    pub(super) fn close(&self, layer: u32, ino: LocalIno) {
        let mut open = self.open.lock();
        let all = [Access::Path, Access::Read, Access::Write, Access::Direct];
        let closed = all.map(|access| open.pop(&(layer, ino, access)));
        drop(open);
        drop(closed);
    }

    fn shrink(&self) {
        let mut open = self.open.lock();
        let keep = open.len() / 2;
        let mut closed = Vec::new();
        while open.len() > keep {
            closed.extend(open.pop_lru());
        }
        drop(open);
        drop(closed);
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn null() -> io::Result<OwnedFd> {
        Ok(std::fs::File::open("/dev/null")?.into())
    }

    #[test]
    fn the_least_used_is_closed_first() {
        let cache = Descriptors::new(RESERVED + 8, 0);
        let opened = Cell::new(0);
        let get = |ino| {
            cache
                .get((0, LocalIno(ino), Access::Path), || {
                    opened.set(opened.get() + 1);
                    null()
                })
                .unwrap()
        };
        for ino in [1, 2, 3, 4, 1, 5, 1] {
            get(ino);
        }
        assert_eq!(opened.get(), 5);
        get(2);
        assert_eq!(opened.get(), 6);
    }

    #[test]
    fn exhaustion_makes_room_once() {
        let cache = Descriptors::new(1024, 0);
        for ino in 0..10 {
            cache.get((0, LocalIno(ino), Access::Read), null).unwrap();
        }
        let tries = Cell::new(0);
        let result = cache.open_uncached(|| {
            tries.set(tries.get() + 1);
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        });
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(tries.get(), 2);
        assert_eq!(cache.open.lock().len(), 5);
    }
}
