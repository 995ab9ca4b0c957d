//! Directories of `RUN --mount=type=cache` between builds: where they lie, who has them, how much they hold, how they are freed.
//!
//! Beside each is a lock that is held as long as a command has it. The lock stays when the directory is freed: whoever waits for it
//! makes a fresh one. A directory appears with all it begins with and vanishes as a whole, by a rename; what lies there in between ends
//! with `.freed`, and whatever was interrupted there is removed with the next ones that are freed.

use super::error::{BuildError, BuildResult, trying};
use super::mounts::show;
use super::stage::Work;
use crate::build::copy::Tree;
use crate::build::dockerfile::{Mount, MountKind, Sharing};
use crate::oci::Digest;
use crate::sandbox::Task;
use crate::store::Store;
use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is being made or removed.
const FREED: &str = "freed";
/// How long between two tries for a lock that another build has: a person waits that long for Ctrl-C at the most.
const RETRY: Duration = Duration::from_millis(20);

/// Where all of them lie.
fn directory(store: &Store) -> PathBuf {
    store.root().join("cache-mounts")
}

/// The lock of the directory `place`.
fn lock_of(place: &Path) -> PathBuf {
    place.with_extension("lock")
}

/// Held shared while a directory is made, alone while some are freed.
fn lock_making(all: &Path, operation: FlockOperation) -> io::Result<File> {
    let lock = File::create(all.join("making.lock"))?;
    rustix::fs::flock(&lock, operation)?;
    Ok(lock)
}

fn name_of(mount: &Mount) -> String {
    Digest::of(mount.id.as_deref().or(mount.target.as_deref()).unwrap_or_default().as_bytes()).hex()
}

/// The directories that one command has, locked while this lives.
#[derive(Debug, Default)]
pub(super) struct Caches(BTreeMap<String, (PathBuf, File)>);

impl Caches {
    /// Takes the directories of all cache mounts of a command. One that is named twice is the same; all commands take theirs in the
    /// same order, so that two of them never wait for each other.
    pub(super) fn take(work: &Work<'_>, mounts: &[Mount], trees: &[Option<&dyn Tree>]) -> BuildResult<Self> {
        let mut wanted = BTreeMap::new();
        for (mount, tree) in mounts.iter().zip(trees).filter(|(mount, _)| mount.kind == MountKind::Cache) {
            wanted.entry(name_of(mount)).or_insert((mount, *tree));
        }
        let mut caches = Self::default();
        for (name, (mount, tree)) in wanted {
            let taken = take(work, &name, mount, tree)?;
            caches.0.insert(name, taken);
        }
        Ok(caches)
    }

    /// Where the directory of `mount` is.
    pub(super) fn place(&self, mount: &Mount) -> PathBuf {
        self.0.get(&name_of(mount)).map(|(place, _)| place.clone()).unwrap_or_default()
    }
}

fn take(work: &Work<'_>, name: &str, mount: &Mount, tree: Option<&dyn Tree>) -> BuildResult<(PathBuf, File)> {
    let all = directory(work.shared.build.store);
    fs::create_dir_all(&all).map_err(trying("make the directory of cache mounts"))?;
    let mut number = 0_u32;
    loop {
        let place = all.join(if number == 0 { name.to_owned() } else { format!("{name}-{number}") });
        let lock = File::create(lock_of(&place)).map_err(trying("make a lock"))?;
        let operation = match mount.sharing {
            Sharing::Shared => FlockOperation::NonBlockingLockShared,
            Sharing::Locked | Sharing::Private => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&lock, operation) {
            Ok(()) => {
                if !place.exists() {
                    make(work, mount, tree, &place)?;
                }
                return Ok((place, lock));
            }
            Err(Errno::WOULDBLOCK) if mount.sharing == Sharing::Private => number += 1,
            Err(Errno::WOULDBLOCK) => wait(work)?,
            Err(error) => return Err(trying("lock a cache")(error)),
        }
    }
}

/// Before the next try for a lock; not in the kernel, where nothing would end the wait.
fn wait(work: &Work<'_>) -> BuildResult<()> {
    if work.shared.build.cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    if work.shared.results.has_failed() {
        return Err(BuildError::Elsewhere);
    }
    std::thread::sleep(RETRY);
    Ok(())
}

/// Makes a fresh directory, with what it begins with. Others who share it may do the same: the first one is everybody's.
fn make(work: &Work<'_>, mount: &Mount, tree: Option<&dyn Tree>, place: &Path) -> BuildResult<()> {
    let failed = || trying::<io::Error>("make a cache");
    let build = work.shared.build;
    let _making = lock_making(&directory(build.store), FlockOperation::LockShared).map_err(failed())?;
    let staged = staged(&build.session.stage_path(), place);
    match tree.filter(|_| mount.from.is_some()) {
        Some(tree) => show(tree, mount, &staged)?,
        None => fs::create_dir(&staged).map_err(failed())?,
    }
    fs::set_permissions(&staged, fs::Permissions::from_mode(mount.mode.unwrap_or(0o755))).map_err(failed())?;
    if mount.uid.is_some() || mount.gid.is_some() {
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        Task::Own { path: staged.clone().into(), uid, gid }.carry_out(build.options.program.as_deref())?;
    }
    match renameat_with(CWD, &staged, CWD, place, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => {
            Task::Remove(staged.into()).carry_out(build.options.program.as_deref())?;
            Ok(())
        }
        other => other.map_err(trying("make a cache")),
    }
}

/// A name beside `place` that nobody else has: sessions number what they stage. Not in the session's own directory: a directory that
/// belongs to another number can be renamed, but not moved.
fn staged(unique: &Path, place: &Path) -> PathBuf {
    let words: Vec<_> = unique.iter().rev().take(2).map(|word| word.to_string_lossy().into_owned()).collect();
    place.with_file_name(format!("{}.{FREED}", words.join("-")))
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

/// Removes those that no command has; returns them. `program` as for [`Task::carry_out`].
pub fn free_cache_mounts(store: &Store, program: Option<&Path>) -> BuildResult<Vec<CacheMount>> {
    let failed = || trying("free the directories of RUN --mount=type=cache");
    let mut freed = Vec::new();
    // Listed under the lock: what lies there before may be gone or have another name by then.
    let _making = match lock_making(&directory(store), FlockOperation::LockExclusive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(freed),
        other => other.map_err(failed())?,
    };
    let mut all = cache_mounts(store).map_err(failed())?;
    // Those first whose names the others are to take.
    all.sort_by_key(|mount| !is_freed(&mount.path));
    for mount in all {
        if let Some(gone) = put_aside(&mount.path).map_err(failed())? {
            Task::Remove(gone.into()).carry_out(program)?;
            freed.push(mount);
        }
    }
    Ok(freed)
}

/// Takes the directory away from whoever comes next; returns where it lies now, or none when a command has it.
fn put_aside(place: &Path) -> io::Result<Option<PathBuf>> {
    if is_freed(place) {
        return Ok(Some(place.to_owned()));
    }
    let lock = File::create(lock_of(place))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        other => other?,
    }
    let gone = place.with_extension(FREED);
    match fs::rename(place, &gone) {
        // Somebody else freed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|()| Some(gone)),
    }
}

fn is_freed(place: &Path) -> bool {
    place.extension().is_some_and(|extension| extension == FREED)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_what_another_has_freed_is_not_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("cache");
        assert_eq!(put_aside(&place).expect("not an error"), None);
        fs::create_dir(&place).expect("a directory");
        assert_eq!(put_aside(&place).expect("freed"), Some(place.with_extension(FREED)));
    }
}
