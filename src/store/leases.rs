//! What running mounts need.

use super::error::{AtPath, StoreError, StoreResult};
use super::files::{FileLock, list_optional};
use super::images::ImageRecord;
use super::layout::{Store, unique_name};
use crate::oci::{Digest, MANIFEST_MAX, Manifest};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Says that an image is in use: it is not removed, and its blobs are not collected. Ends when it is dropped or the
/// process that has it ends, however it does.
///
/// The lock belongs to the open file, so a process that forks before it serves hands it to its child.
#[derive(Debug)]
pub struct UseLease {
    /// The file of the lease; none where the manifest itself is locked.
    path: Option<PathBuf>,
    _lock: Option<FileLock>,
}

impl Drop for UseLease {
    fn drop(&mut self) {
        // A file without a lock means nothing; `prune` removes it.
        let _ = self.path.as_ref().map(fs::remove_file);
    }
}

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRecord {
    /// The image ID.
    pub(super) image: Digest,
    /// The manifest; with it its configuration and layers are in use.
    pub(super) manifest: Digest,
    /// What uses it, for messages: a mount point.
    pub(super) user: String,
}

impl Store {
    /// Registers a use of `image` by `user`, which is what messages call it: a mount point.
    ///
    /// Where no file can be written, for the store is mounted read-only, belongs to somebody else or is full, a shared lock on the
    /// manifest says the same without saying who it is; it needs neither room nor permission to write.
    pub fn use_lease(&self, image: &ImageRecord, user: &str) -> StoreResult<UseLease> {
        match self.written_lease(image, user) {
            Err(error) if error.is_unwritable() || error.is_disk_full() => {
                log::info!(target: "layerfs::store", "{error}: locking the manifest instead");
                let _guard = FileLock::shared_unwritten(&self.path("lock"));
                let lock = FileLock::shared_unwritten(&self.blob_path(&image.manifest.digest));
                Ok(UseLease { path: None, _lock: lock })
            }
            lease => lease,
        }
    }

    fn written_lease(&self, image: &ImageRecord, user: &str) -> StoreResult<UseLease> {
        let record = LeaseRecord { image: image.id, manifest: image.manifest.digest, user: user.to_owned() };
        let _guard = self.lock_shared()?;
        let path = self.path("leases").join(unique_name());
        let lock = FileLock::try_exclusive(&path)?.ok_or_else(|| StoreError::Damaged {
            path: path.clone(),
            detail: "a new lease is locked already".to_owned(),
        })?;
        // From here on whatever fails takes the file with it.
        let lease = UseLease { path: Some(path.clone()), _lock: Some(lock) };
        let bytes = serde_json::to_vec(&record).map_err(std::io::Error::other).at(&path)?;
        fs::write(&path, bytes).at(&path)?;
        Ok(lease)
    }

    /// The leases whose processes live, and the files of those whose processes are gone. Called under the exclusive
    /// lock, so that no lease is just being made.
    pub(super) fn leases(&self) -> StoreResult<(Vec<LeaseRecord>, Vec<PathBuf>)> {
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for path in list_optional(&self.path("leases"))? {
            match read_live(&path)? {
                Some(record) => live.push(record),
                None => dead.push(path),
            }
        }
        live.extend(self.locked_manifests()?);
        Ok((live, dead))
    }

    /// The manifests that are locked because no lease could be written.
    fn locked_manifests(&self) -> StoreResult<Vec<LeaseRecord>> {
        let mut locked = Vec::new();
        for (path, digest) in self.digest_files("blobs/sha256")? {
            let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MANIFEST_MAX);
            if !is_small || !FileLock::is_shared(&path) {
                continue;
            }
            let manifest = fs::read(&path).ok().and_then(|bytes| Manifest::parse(&bytes).ok());
            locked.extend(manifest.map(|manifest| LeaseRecord {
                image: manifest.config.digest,
                manifest: digest,
                user: "a directory that could not be noted in the store".to_owned(),
            }));
        }
        Ok(locked)
    }
}

fn read_live(path: &Path) -> StoreResult<Option<LeaseRecord>> {
    if !is_held(path)? {
        return Ok(None);
    }
    // Held, and gone or cut short in the meantime: its process is at its end.
    Ok(fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Whether a process holds the lock of a lease.
pub(super) fn is_held(path: &Path) -> StoreResult<bool> {
    FileLock::is_taken(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_look_at_a_lease_that_goes_makes_nothing_and_fails_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let lease = dir.path().join("gone/lease");
        assert!(!is_held(&lease).unwrap());
        fs::create_dir(dir.path().join("gone")).unwrap();
        assert!(!is_held(&lease).unwrap() && !lease.exists());
        let lock = FileLock::try_exclusive(&lease).unwrap();
        assert!(is_held(&lease).unwrap());
        drop(lock);
        assert!(!is_held(&lease).unwrap() && !is_held(&lease.join("below a file")).unwrap());
    }
}
