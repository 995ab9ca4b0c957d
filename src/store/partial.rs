//! Blobs that arrive in several attempts: what a broken download left is taken up by the next one.
//!
//! A partial blob is a directory under `stage/`, named by the digest it is meant to have, with a lease like a session's: while the
//! lease is locked nobody else appends, and once it is not, `prune` may remove the directory. Its bytes prove nothing until
//! someone has hashed all of them.

use super::blob_file::BlobFile;
use super::error::{AtPath, StoreResult};
use super::files::FileLock;
use super::layout::Store;
use super::session::Session;
use crate::oci::Digest;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// A blob that may have a beginning already. Dropped without [`Self::publish`] or [`Self::discard`], it stays for the next
/// attempt.
#[derive(Debug)]
pub struct PartialBlob<'a> {
    session: &'a Session,
    dir: PathBuf,
    file: BlobFile,
    _lock: FileLock,
}

impl Session {
    /// Takes up the blob that is to have `digest`, at its beginning or where an earlier attempt ended. None when another
    /// process is at it.
    pub fn resume_blob(&self, digest: &Digest) -> StoreResult<Option<PartialBlob<'_>>> {
        let dir = self.store().partial_path(digest);
        // Under the shared lock no collector can find the directory before its lease is locked.
        let _guard = self.store().lock_shared()?;
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).at(&dir),
            _ => {}
        }
        let Some(lock) = FileLock::try_exclusive(&dir.join("lease"))? else { return Ok(None) };
        let path = dir.join("data");
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).at(&path)?;
        let size = BlobFile::resumable(file.metadata().at(&path)?.len());
        file.set_len(size).and_then(|()| file.seek(SeekFrom::End(0))).at(&path)?;
        Ok(Some(PartialBlob { session: self, dir, file: BlobFile::new(file, size), _lock: lock }))
    }
}

impl Store {
    /// Where the beginning of a blob waits for the rest.
    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.path("stage").join(format!("partial-{}", digest.hex()))
    }
}

impl PartialBlob<'_> {
    /// How many bytes are there.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// The file being written, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What is there, from its beginning, for hashing.
    pub fn reader(&mut self) -> StoreResult<File> {
        self.file.settle().at(&self.dir)?;
        let path = self.dir.join("data");
        File::open(&path).at(&path)
    }

    /// Throws away what is there and begins anew.
    pub fn restart(&mut self) -> StoreResult<()> {
        self.file.restart().at(&self.dir)
    }

    /// Makes the content durable and gives it the name `digest`, which the caller has computed from every byte. The name itself
    /// is durable after [`Session::sync`].
    pub fn publish(mut self, digest: &Digest) -> StoreResult<()> {
        self.file.sync().at(&self.dir)?;
        self.session.publish_file(&self.dir.join("data"), digest)?;
        self.discard()
    }

    /// Throws everything away: the content is not what it should be, or not needed.
    pub fn discard(self) -> StoreResult<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(&self.dir),
            _ => Ok(()),
        }
    }
}

impl Drop for PartialBlob<'_> {
    fn drop(&mut self) {
        // What cannot be kept is fetched again.
        let _ = self.file.settle();
    }
}

impl Write for PartialBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PruneOptions;

    #[test]
    fn a_broken_download_is_taken_up_and_published() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello");
        {
            let session = store.session().unwrap();
            let mut partial = session.resume_blob(&digest).unwrap().unwrap();
            partial.write_all(b"hel").unwrap();
        }
        let session = store.session().unwrap();
        let mut partial = session.resume_blob(&digest).unwrap().unwrap();
        assert_eq!(partial.size(), 3);
        assert!(session.resume_blob(&digest).unwrap().is_none(), "one at a time");
        partial.write_all(b"lo").unwrap();
        partial.publish(&digest).unwrap();
        assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"hello");
        assert!(!store.partial_path(&digest).exists());
    }

    #[test]
    fn prune_spares_it_while_someone_is_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"x");
        let session = store.session().unwrap();
        let mut partial = session.resume_blob(&digest).unwrap().unwrap();
        partial.write_all(b"y").unwrap();
        store.prune(PruneOptions::default()).unwrap();
        assert!(store.partial_path(&digest).exists());
        partial.restart().unwrap();
        assert_eq!(partial.size(), 0);
        drop(partial);
        store.prune(PruneOptions::default()).unwrap();
        assert!(!store.partial_path(&digest).exists());
    }
}
