//! Durable files, and locks on files.

use super::error::{AtPath, StoreError, StoreResult};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long somebody who only looks has a lock, with much to spare, and how often one is met.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: usize = 20;

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> StoreResult<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).at(dir)
}

/// Writes `bytes` to the new file `stage` and makes them durable.
pub(super) fn write_synced(stage: &Path, bytes: &[u8]) -> StoreResult<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(stage).at(stage)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at(stage)
}

/// Replaces `target` by a file with `bytes`: either the old or the new content is there after a crash.
pub(super) fn replace(stage: &Path, target: &Path, bytes: &[u8]) -> StoreResult<()> {
    let written = write_synced(stage, bytes).and_then(|()| fs::rename(stage, target).at(target));
    if written.is_err() {
        // The first error is the one to tell; a stage file left behind is collected by `prune`.
        let _ = fs::remove_file(stage);
    }
    written?;
    target.parent().map_or(Ok(()), sync_dir)
}

/// Reads a whole file; none when there is none.
pub(super) fn read_optional(path: &Path) -> StoreResult<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at(path),
    }
}

/// The paths of what is in a directory; nothing where there is none, as in a store that could not be completed.
pub(super) fn list_optional(dir: &Path) -> StoreResult<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry.at(dir)?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).at(dir),
    }
}

/// Removes a file; true when there was one.
pub(super) fn remove_optional(path: &Path) -> StoreResult<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at(path),
    }
}

/// A lock on a file, held until it is dropped or, whatever happens, until the process ends.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock that everyone who changes the store takes.
    pub(super) fn exclusive(path: &Path) -> StoreResult<Self> {
        Self::wait(path, FlockOperation::LockExclusive)
    }

    /// Waits for a lock that excludes only the exclusive one.
    pub(super) fn shared(path: &Path) -> StoreResult<Self> {
        Self::wait(path, FlockOperation::LockShared)
    }

    /// Takes the exclusive lock; none when somebody has it.
    pub(super) fn try_exclusive(path: &Path) -> StoreResult<Option<Self>> {
        let file = open_lock(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).at(path),
        }
    }

    /// Takes the exclusive lock although others may be looking just now whether somebody has it; none when somebody does.
    pub(super) fn patiently_exclusive(path: &Path) -> StoreResult<Option<Self>> {
        for _ in 0..LOOKS {
            if let Some(lock) = Self::try_exclusive(path)? {
                return Ok(Some(lock));
            }
            std::thread::sleep(LOOK);
        }
        Self::try_exclusive(path)
    }

    /// Whether somebody has the lock. Nothing is made: whoever had it may be removing the file in this moment.
    pub(super) fn is_taken(path: &Path) -> StoreResult<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
            Err(error) => return Err(error).at(path),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error).at(path),
        }
    }

    /// As [`Self::shared`], on a file that cannot be written to; none where it cannot be read or the file system has no
    /// locks: then nobody is told.
    pub(super) fn shared_unwritten(path: &Path) -> Option<Self> {
        let locked = File::open(path).at(path).and_then(|file| Self::wait_for(file, path, FlockOperation::LockShared));
        locked.inspect_err(|error| log::debug!(target: "layerfs::store", "goes without a lock: {error}")).ok()
    }

    /// Whether somebody has the lock, be it shared. What cannot be opened or locked nobody has.
    pub(super) fn is_shared(path: &Path) -> bool {
        let locked = File::open(path).map(|file| flock(&file, FlockOperation::NonBlockingLockExclusive));
        matches!(locked, Ok(Err(rustix::io::Errno::WOULDBLOCK)))
    }

    fn wait(path: &Path, operation: FlockOperation) -> StoreResult<Self> {
        Self::wait_for(open_lock(path)?, path, operation)
    }

    fn wait_for(file: File, path: &Path, operation: FlockOperation) -> StoreResult<Self> {
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).at(path),
            }
        }
    }
}

fn open_lock(path: &Path) -> StoreResult<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).at(path)
}

/// Parses a JSON file of the store.
pub(super) fn parse_json<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> StoreResult<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Damaged { path: path.to_owned(), detail: error.to_string() })
}
