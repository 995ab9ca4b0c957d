//! A session: one load, pull, commit or build that writes into the store.

use super::blob_file::BlobFile;
use super::compressed::Compressed;
use super::error::{AtPath, StoreError, StoreResult};
use super::files::{FileLock, sync_dir, write_synced};
use super::gc::remove_tree;
use super::layout::{Store, unique_name};
use super::leases::is_held;
use super::references::{IndexEntry, check_digest, check_name};
use crate::oci::{Descriptor, Digest, Reference};
use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Someone who writes into the store. What it publishes or finds present is safe from garbage collection until it is
/// dropped. What it staged and did not publish goes with it, and so does what it published and nothing refers to by
/// then: a load that fails leaves nothing.
#[derive(Debug)]
pub struct Session {
    store: Store,
    dir: PathBuf,
    /// Open for appending; the lock on it says that the session lives. None where the store cannot be written to.
    lease: Option<Mutex<File>>,
    _lock: Option<FileLock>,
    counter: AtomicU64,
    /// Blobs that were not there before.
    published: Mutex<Vec<Digest>>,
}

impl Store {
    /// Begins a session.
    pub fn session(&self) -> StoreResult<Session> {
        self.sweep_stage()?;
        // Under the shared lock no collector can find the directory before its lease is locked.
        let _guard = self.lock_shared()?;
        let dir = self.path("stage").join(unique_name());
        fs::create_dir(&dir).at(&dir)?;
        let path = dir.join("lease");
        let lock = FileLock::try_exclusive(&path)?.ok_or_else(|| StoreError::Damaged {
            path: path.clone(),
            detail: "a new lease is locked already".to_owned(),
        })?;
        let lease = OpenOptions::new().append(true).open(&path).at(&path)?;
        Ok(Session {
            store: self.clone(),
            dir,
            lease: Some(Mutex::new(lease)),
            _lock: Some(lock),
            counter: AtomicU64::new(0),
            published: Mutex::default(),
        })
    }

    /// A session of somebody who writes only what is not there yet. In a store that cannot be written to it protects nothing, and
    /// fails when it comes to write.
    pub fn session_to_read(&self) -> StoreResult<Session> {
        match self.session() {
            Err(error) if error.is_unwritable() => Ok(Session {
                store: self.clone(),
                dir: self.root().to_path_buf(),
                lease: None,
                _lock: None,
                counter: AtomicU64::new(0),
                published: Mutex::default(),
            }),
            session => session,
        }
    }
}

impl Store {
    /// Removes what processes staged that ended in the middle, unless somebody is busy with the store. Beginnings of
    /// downloads stay: they are taken up again, or pruned.
    fn sweep_stage(&self) -> StoreResult<()> {
        let stage = self.path("stage");
        let mut left = fs::read_dir(&stage).at(&stage)?.flatten().peekable();
        if left.peek().is_none() {
            return Ok(());
        }
        let Some(_lock) = FileLock::try_exclusive(&self.path("lock"))? else { return Ok(()) };
        for entry in left {
            let partial = entry.file_name().to_str().is_some_and(|name| name.starts_with("partial-"));
            if !partial
                && !is_held(&entry.path().join("lease"))?
                && let Err(error) = remove_tree(&entry.path())
            {
                // Whoever begins something has no part in it; `prune` tells of it.
                log::info!(target: "layerfs::store", "what is left of an interrupted command stays: {error}");
            }
        }
        Ok(())
    }
}

impl Session {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps a blob, and the table of contents of that diffID, from being collected while the session lives.
    pub fn protect(&self, digest: &Digest) -> StoreResult<()> {
        self.append_to_lease(digest).map(drop)
    }

    /// Whether a blob is there. When it is, it stays while the session lives.
    pub fn has_blob(&self, digest: &Digest) -> StoreResult<bool> {
        let _guard = self.append_to_lease(digest)?;
        Ok(self.store.blob_size(digest)?.is_some())
    }

    /// Begins a blob whose digest is not known yet.
    pub fn begin_blob(&self) -> StoreResult<BlobWriter<'_>> {
        let path = self.stage_path();
        let file = OpenOptions::new().write(true).create_new(true).open(&path).at(&path)?;
        Ok(BlobWriter { session: self, path, file: BlobFile::new(file, 0), published: false })
    }

    /// Stores a document: a manifest, an index or a configuration.
    pub fn put_document(&self, bytes: &[u8]) -> StoreResult<Digest> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest)? {
            self.put_file(&self.store.blob_path(&digest), bytes)?;
            self.published.lock().push(digest);
        }
        Ok(digest)
    }

    /// Stores a document that must be what `descriptor` says.
    pub fn put_verified(&self, descriptor: &Descriptor, bytes: &[u8]) -> StoreResult<()> {
        descriptor.digest.verify(descriptor.size, bytes)?;
        self.put_document(bytes).map(|_| ())
    }

    /// Stores the table of contents of the layer `diff_id`, in place of an older one.
    pub fn put_toc(&self, diff_id: &Digest, bytes: &[u8]) -> StoreResult<()> {
        self.protect(diff_id)?;
        self.put_file(&self.store.toc_path(diff_id), bytes)
    }

    /// Remembers that a compressed blob inflates to the layer `diff_id`.
    pub fn remember_compressed(&self, diff_id: &Digest, compressed: &Compressed) -> StoreResult<()> {
        self.store.remember_compressed(diff_id, compressed)
    }

    /// A new path for a file of this session that is removed with it.
    pub fn stage_path(&self) -> PathBuf {
        self.dir.join(self.counter.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Makes everything that was published durable, then lets `reference` point to `target`, or adds `target` without
    /// a name. The last step of everything that makes an image.
    pub fn set_reference(&self, reference: Option<&Reference>, target: &Descriptor) -> StoreResult<()> {
        self.set_reference_with(reference, target, &[])
    }

    /// As [`Self::set_reference`]; `repo_digests` are the references by digest under which a registry has the image.
    pub fn set_reference_with(
        &self,
        reference: Option<&Reference>,
        target: &Descriptor,
        repo_digests: &[Reference],
    ) -> StoreResult<()> {
        if let Some(reference) = reference {
            check_name(reference)?;
            check_digest(reference, &target.digest)?;
        }
        self.sync()?;
        let entry = IndexEntry::new(reference.cloned(), target.clone(), repo_digests.to_vec());
        self.store.update_index(|entries| entry.insert_into(entries))
    }

    /// Makes everything that was published durable, then lets every name of the image `old` point to `new`, the same image in
    /// the form a registry has it, under `repo_digest`.
    pub fn retarget(&self, old: &Digest, new: &Descriptor, repo_digest: &Reference) -> StoreResult<()> {
        self.sync()?;
        self.store.retarget(old, new, repo_digest)
    }

    /// Makes the names of everything that was published durable.
    pub fn sync(&self) -> StoreResult<()> {
        ["blobs/sha256", "toc/sha256"].iter().try_for_each(|dir| sync_dir(&self.store.path(dir)))
    }

    /// Gives the finished file `stage` the name `digest`. The caller has synced it.
    pub(super) fn publish_file(&self, stage: &Path, digest: &Digest) -> StoreResult<()> {
        let new = !self.has_blob(digest)?;
        let target = self.store.blob_path(digest);
        fs::rename(stage, &target).at(&target)?;
        if new {
            self.published.lock().push(*digest);
        }
        Ok(())
    }

    fn put_file(&self, target: &Path, bytes: &[u8]) -> StoreResult<()> {
        let stage = self.stage_path();
        write_synced(&stage, bytes)?;
        fs::rename(&stage, target).at(target)
    }

    /// Returns the shared lock, under which nothing is collected.
    fn append_to_lease(&self, digest: &Digest) -> StoreResult<Option<FileLock>> {
        let Some(lease) = &self.lease else { return Ok(None) };
        let guard = self.store.lock_shared()?;
        lease.lock().write_all(format!("{digest}\n").as_bytes()).at(&self.dir)?;
        Ok(Some(guard))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.lease.is_none() {
            // The directory is the root of the store.
            return;
        }
        if let Err(error) = remove_tree(&self.dir) {
            log::warn!(target: "layerfs::store", "{error}; prune removes it");
        }
        let published = std::mem::take(&mut *self.published.lock());
        if let Err(error) = self.store.collect_unreferenced(&published) {
            log::info!(target: "layerfs::store", "what is not needed stays until it is pruned: {error}");
        }
    }
}

/// A blob being written. Dropped without [`Self::publish`], it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    session: &'a Session,
    path: PathBuf,
    file: BlobFile,
    published: bool,
}

impl BlobWriter<'_> {
    /// How many bytes were written.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// The path of the file being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the content durable and gives it the name `digest`, which the caller has computed from every byte.
    /// The name itself is durable after [`Session::sync`].
    pub fn publish(mut self, digest: &Digest) -> StoreResult<()> {
        self.file.sync().at(&self.path)?;
        self.session.publish_file(&self.path, digest)?;
        self.published = true;
        Ok(())
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        if !self.published {
            // The session's directory goes as a whole; this only frees the space earlier.
            let _ = fs::remove_file(&self.path);
        }
    }
}
