//! Telling whoever writes a file that what was written before could not be stored.
//!
//! The kernel gathers writes and reports what became of them to fsync(2) and to the first close(2) only. A program that just writes
//! would never hear that the disk is full, and go on for ever. But before each write the kernel asks for the attributes of the file when
//! those it has are not valid, which they are not after the pages of a failed write have been dropped; and it asks by a descriptor,
//! which stat(2) and fstat(2) never do (`fuse_update_attributes` in fs/fuse/dir.c): only writes, seeks from the end and reads beyond it. That
//! request is answered with the error, once.

use fuser::Errno;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The errors of writes, by inode, that nobody who writes has been told of.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// How many there are: mostly none, and then nothing is locked.
    count: AtomicUsize,
    errors: Mutex<HashMap<u64, Errno>>,
}

impl Lost {
    /// A gathered write of `ino` failed.
    pub(super) fn failed(&self, ino: u64, errno: Errno) {
        let mut errors = self.errors.lock();
        errors.insert(ino, errno);
        self.count.store(errors.len(), Ordering::Relaxed);
    }

    /// The error to tell of `ino`, which counts as told then. Also for who only wants it gone: when a later write succeeded, when
    /// the kernel tells it by itself, and when the file is forgotten.
    pub(super) fn take(&self, ino: u64) -> Option<Errno> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut errors = self.errors.lock();
        let errno = errors.remove(&ino);
        self.count.store(errors.len(), Ordering::Relaxed);
        errno
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once() {
        let lost = Lost::default();
        assert!(lost.take(1).is_none());
        lost.failed(1, Errno::ENOSPC);
        assert!(lost.take(2).is_none());
        assert_eq!(lost.take(1).map(fuser::Errno::code), Some(libc::ENOSPC));
        assert!(lost.take(1).is_none());
    }
}
