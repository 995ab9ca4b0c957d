//! Directories of `RUN --mount=type=cache` between builds: where they lie, how much they hold, how they are freed.
//!
//! Beside each is a lock that is held as long as a command has it. The lock stays when the directory is freed: whoever waits for it
//! makes a fresh one.

use crate::store::Store;
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where all of them lie.
pub(super) fn directory(store: &Store) -> PathBuf {
    store.root().join("cache-mounts")
}

/// The lock of the directory `place`.
pub(super) fn lock_of(place: &Path) -> PathBuf {
    place.with_extension("lock")
}

/// A directory that builds keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes of its files.
    pub size: u64,
}

/// All of them.
pub fn cache_mounts(store: &Store) -> io::Result<Vec<CacheMount>> {
    let mut all = Vec::new();
    let entries = match fs::read_dir(directory(store)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let size = bytes_below(&entry.path());
            all.push(CacheMount { path: entry.path(), size });
        }
    }
    all.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(all)
}

/// Removes those that no command has; returns them.
pub fn free_cache_mounts(store: &Store) -> io::Result<Vec<CacheMount>> {
    let mut freed = Vec::new();
    for mount in cache_mounts(store)? {
        let lock = File::create(lock_of(&mount.path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => continue,
            other => other?,
        }
        fs::remove_dir_all(&mount.path)?;
        freed.push(mount);
    }
    Ok(freed)
}

/// Bytes of the files below `path`; what cannot be read counts as nothing.
fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
