//! Named writable mounts.

use super::error::{AtPath, StoreError, StoreResult};
use super::files::{FileLock, list_optional, parse_json, read_optional, replace, sync_dir};
use super::gc::remove_tree;
use super::images::ImageRecord;
use super::layout::{Store, unique_name};
use crate::oci::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// What `config.json` of a container says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The name.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// Its ID.
    pub image_id: Digest,
    /// Its manifest.
    pub manifest: Digest,
    /// The diffIDs of the layers below the upper one, bottom first.
    pub layers: Vec<Digest>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Whatever else belongs to it: options of the mount, the command.
    #[serde(default)]
    pub options: Map<String, Value>,
}

/// A container: its record and its directory.
#[derive(Debug, Clone)]
pub struct Container {
    /// The record.
    pub record: ContainerRecord,
    /// The directory of the container.
    pub dir: PathBuf,
}

/// Says that a container is mounted; ends with the process that has it.
#[derive(Debug)]
pub struct ContainerLock {
    _lock: FileLock,
}

impl ContainerRecord {
    /// A record of a new container of `image`, which was asked for as `reference`.
    pub fn new(name: &str, reference: &str, image: &ImageRecord, created: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: reference.to_owned(),
            image_id: image.id,
            manifest: image.manifest.digest,
            layers: image.diff_ids(),
            created: created.to_owned(),
            options: Map::new(),
        }
    }
}

/// Lies in the directory of a container whose command runs; `run` writes it.
const RUNNING: &str = "running.json";

impl Container {
    /// The upper directory.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// The work directory.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Takes the container into use.
    ///
    /// # Errors
    /// [`StoreError::ContainerBusy`] or [`StoreError::ContainerRuns`] when someone has it.
    pub fn lock(&self) -> StoreResult<ContainerLock> {
        let lock = FileLock::patiently_exclusive(&self.dir.join("lock"))?;
        let lock = lock.ok_or_else(|| self.busy())?;
        // Whoever ran it is gone: what a crash left behind would name a later mount a run.
        match fs::remove_file(self.dir.join(RUNNING)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::debug!("{}: {error}", self.dir.join(RUNNING).display());
            }
            _ => {}
        }
        Ok(ContainerLock { _lock: lock })
    }

    /// What to say when someone has it in use.
    pub fn busy(&self) -> StoreError {
        let name = self.record.name.clone();
        if self.dir.join(RUNNING).exists() { StoreError::ContainerRuns(name) } else { StoreError::ContainerBusy(name) }
    }

    /// Whether someone has it in use.
    pub fn is_mounted(&self) -> StoreResult<bool> {
        super::leases::is_held(&self.dir.join("lock"))
    }
}

impl Store {
    /// Makes a container.
    ///
    /// # Errors
    /// [`StoreError::ContainerExists`], [`StoreError::ContainerName`].
    pub fn create_container(&self, record: &ContainerRecord) -> StoreResult<Container> {
        let target = self.container_dir(&record.name)?;
        let _lock = self.lock_exclusive()?;
        if target.exists() {
            return Err(StoreError::ContainerExists(record.name.clone()));
        }
        let stage = self.stage_path();
        let made = make_container(&stage, record).and_then(|()| fs::rename(&stage, &target).at(&target));
        if made.is_err() {
            // The first error is the one to tell; what is left behind is collected by `prune`.
            let _ = remove_tree(&stage);
        }
        made?;
        sync_dir(&self.path("containers"))?;
        Ok(Container { record: record.clone(), dir: target })
    }

    /// The container of a name.
    ///
    /// # Errors
    /// [`StoreError::NoSuchContainer`].
    pub fn container(&self, name: &str) -> StoreResult<Container> {
        let missing = || StoreError::NoSuchContainer(name.to_owned());
        let dir = self.container_dir(name).map_err(|_| missing())?;
        read_container(&dir)?.ok_or_else(missing)
    }

    /// Every container, by name.
    pub fn containers(&self) -> StoreResult<Vec<Container>> {
        let mut found = Vec::new();
        for path in list_optional(&self.path("containers"))? {
            found.extend(read_container(&path)?);
        }
        found.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        Ok(found)
    }

    /// Writes a changed record of a container; its name stays.
    pub fn update_container(&self, container: &Container) -> StoreResult<()> {
        let _lock = self.lock_exclusive()?;
        let path = container.dir.join("config.json");
        replace(&self.stage_path(), &path, &record_bytes(&path, &container.record)?)
    }

    /// Gives a container another name. A mounted one keeps running: what it has open does not move.
    pub fn rename_container(&self, old: &str, new: &str) -> StoreResult<Container> {
        let target = self.container_dir(new)?;
        let _lock = self.lock_exclusive()?;
        let mut container = self.container(old)?;
        if old == new {
            return Err(StoreError::SameName);
        }
        if target.exists() {
            return Err(StoreError::ContainerExists(new.to_owned()));
        }
        new.clone_into(&mut container.record.name);
        let config = container.dir.join("config.json");
        replace(&self.stage_path(), &config, &record_bytes(&config, &container.record)?)?;
        fs::rename(&container.dir, &target).at(&target)?;
        sync_dir(&self.path("containers"))?;
        Ok(Container { dir: target, ..container })
    }

    /// Removes a container with everything that was changed in it.
    ///
    /// # Errors
    /// [`StoreError::ContainerBusy`] while it is mounted.
    pub fn remove_container(&self, name: &str) -> StoreResult<()> {
        let gone = self.path("stage").join(unique_name());
        {
            let _lock = self.lock_exclusive()?;
            let container = self.container(name)?;
            let _mine = container.lock()?;
            fs::rename(&container.dir, &gone).at(&container.dir)?;
            sync_dir(&self.path("containers"))?;
        }
        super::gc::remove_tree(&gone)
    }

    fn container_dir(&self, name: &str) -> StoreResult<PathBuf> {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest = bytes.len() > 0 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !first || !rest || name.len() > 255 {
            return Err(StoreError::ContainerName(name.to_owned()));
        }
        Ok(self.path("containers").join(name))
    }
}

fn read_container(dir: &Path) -> StoreResult<Option<Container>> {
    let path = dir.join("config.json");
    let Some(bytes) = read_optional(&path)? else { return Ok(None) };
    let mut record: ContainerRecord = parse_json(&path, &bytes)?;
    // The directory's name counts: a rename that was cut short has changed only the record.
    if let Some(name) = dir.file_name().and_then(|name| name.to_str()) {
        name.clone_into(&mut record.name);
    }
    Ok(Some(Container { record, dir: dir.to_owned() }))
}

/// Makes the directory `dir` of a container.
fn make_container(dir: &Path, record: &ContainerRecord) -> StoreResult<()> {
    for path in [dir.to_owned(), dir.join("upper"), dir.join("work")] {
        fs::create_dir(&path).at(&path)?;
    }
    write_record(dir, record)?;
    // Its names have to be there when its own name is.
    sync_dir(dir)
}

fn write_record(dir: &Path, record: &ContainerRecord) -> StoreResult<()> {
    let path = dir.join("config.json");
    super::files::write_synced(&path, &record_bytes(&path, record)?)
}

fn record_bytes(path: &Path, record: &ContainerRecord) -> StoreResult<Vec<u8>> {
    serde_json::to_vec_pretty(record).map_err(std::io::Error::other).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> ContainerRecord {
        let digest = Digest::of(b"x");
        ContainerRecord {
            name: name.to_owned(),
            image: "alpine".to_owned(),
            image_id: digest,
            manifest: digest,
            layers: vec![digest],
            created: "2024-01-01T00:00:00Z".to_owned(),
            options: Map::new(),
        }
    }

    #[test]
    fn containers_are_made_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let made = store.create_container(&record("one")).unwrap();
        assert!(made.upper().is_dir() && made.work().is_dir());
        assert!(matches!(store.create_container(&record("one")), Err(StoreError::ContainerExists(_))));
        assert!(matches!(store.container("two"), Err(StoreError::NoSuchContainer(_))));
        let renamed = store.rename_container("one", "two").unwrap();
        assert_eq!(store.containers().unwrap()[0].record, renamed.record);
        let lock = renamed.lock().unwrap();
        assert!(renamed.is_mounted().unwrap());
        assert!(matches!(store.remove_container("two"), Err(StoreError::ContainerBusy(_))));
        drop(lock);
        store.remove_container("two").unwrap();
        assert!(store.containers().unwrap().is_empty());
        assert_eq!(fs::read_dir(store.path("stage")).unwrap().count(), 0);
    }

    #[test]
    fn regression_whoever_looks_at_a_container_does_not_keep_it_from_being_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let container = store.create_container(&record("one")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        container.is_mounted().unwrap();
                    }
                });
            }
            let taken: Result<Vec<_>, _> = (0..2000).map(|_| container.lock().map(drop)).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            taken.unwrap();
        });
    }

    #[test]
    fn names_follow_dockers_rule() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for name in ["", "a", "../x", "-a", ".a", "a/b", "a b", "ü"] {
            let error = store.create_container(&record(name)).unwrap_err();
            assert!(matches!(error, StoreError::ContainerName(_)), "{name:?}: {error}");
        }
        assert!(store.create_container(&record("a_b-c.D9")).is_ok());
    }
}
