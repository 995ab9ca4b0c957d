//! Where things lie.

use super::error::{AtPath, StoreError, StoreResult};
use super::files::{FileLock, read_optional, replace, sync_dir};
use crate::oci::{Digest, Index};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The version of the layout beside the OCI image layout. It changes when an older program would misread a store.
const VERSION: u32 = 1;
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const DIRECTORIES: &[&str] = &[
    "blobs",
    "blobs/sha256",
    "toc",
    "toc/sha256",
    "compressed",
    "compressed/sha256",
    "containers",
    "cache",
    "stage",
    "leases",
];

/// A store. Cheap to clone; every clone is the same store.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<Path>,
}

impl Store {
    /// Where the store of this user lies: `/var/lib/layerfs` for root, `$XDG_DATA_HOME/layerfs` otherwise.
    pub fn default_root() -> PathBuf {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/layerfs");
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        data.unwrap_or_else(|| home().join(".local/share")).join("layerfs")
    }

    /// Opens the store at `root`, making one where there is nothing.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] when the directory holds something else, [`StoreError::Version`] when it is the store
    /// of a newer program.
    pub fn open(root: &Path) -> StoreResult<Self> {
        ensure_root(root)?;
        let root = fs::canonicalize(root).at(root)?;
        let store = Self { root: Arc::from(root) };
        let version = store.root.join("version");
        match read_optional(&version)? {
            Some(text) => {
                store.check_version(&text)?;
                store.ensure_directories();
            }
            None => store.create()?,
        }
        Ok(store)
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a blob, whether it is there or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// The file of the table of contents of the layer with this diffID, whether it is there or not.
    pub fn toc_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("toc/sha256").join(diff_id.hex())
    }

    /// The size of a blob in bytes; none when it is not there.
    pub fn blob_size(&self, digest: &Digest) -> StoreResult<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at(&path),
        }
    }

    /// Reads a blob of the size of a document.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`]; [`StoreError::Mismatch`] when the bytes are not those of the digest.
    pub fn read_document(&self, what: &'static str, digest: &Digest) -> StoreResult<Vec<u8>> {
        let path = self.blob_path(digest);
        // Whoever brought it in had the limit that was asked for.
        let limit = crate::oci::DOCUMENT_MAX;
        let size = self.blob_size(digest)?.ok_or(StoreError::MissingBlob { what, digest: *digest })?;
        if size > limit {
            let source = crate::oci::InvalidDocument::TooLarge { what, size, limit };
            return Err(StoreError::Document { digest: *digest, source });
        }
        let bytes = fs::read(&path).at(&path)?;
        digest.verify(size, &bytes)?;
        Ok(bytes)
    }

    /// Where processes put what is not finished. Nothing in it is anybody else's.
    pub fn stage(&self) -> PathBuf {
        self.root.join("stage")
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// A new path under `stage/`, for a file that one call writes and renames.
    pub(super) fn stage_path(&self) -> PathBuf {
        self.root.join("stage").join(unique_name())
    }

    /// The lock against everyone else who changes the store.
    pub(super) fn lock_exclusive(&self) -> StoreResult<FileLock> {
        FileLock::exclusive(&self.path("lock"))
    }

    /// The lock against garbage collection.
    pub(super) fn lock_shared(&self) -> StoreResult<FileLock> {
        FileLock::shared(&self.path("lock"))
    }

    /// The lock for somebody who only looks at what the exclusive lock keeps still: where the store cannot be written to, a
    /// shared one, or none where not even that can be had.
    pub(super) fn lock_to_look(&self) -> StoreResult<Option<FileLock>> {
        match self.lock_exclusive() {
            Err(error) if error.is_unwritable() => Ok(FileLock::shared_unwritten(&self.path("lock"))),
            locked => locked.map(Some),
        }
    }

    fn check_version(&self, text: &[u8]) -> StoreResult<()> {
        let found = String::from_utf8_lossy(text).trim().to_owned();
        if found.parse() == Ok(VERSION) {
            return Ok(());
        }
        Err(StoreError::Version { path: self.root.to_path_buf(), found, known: VERSION })
    }

    /// Makes what is missing of a store. `version` comes last, so that a creation that was cut short is taken up again.
    fn create(&self) -> StoreResult<()> {
        self.check_empty()?;
        let _lock = self.lock_exclusive()?;
        if let Some(text) = read_optional(&self.path("version"))? {
            return self.check_version(&text);
        }
        self.missing_directories().try_for_each(|path| fs::create_dir_all(&path).at(&path))?;
        replace(&self.stage_path(), &self.path("oci-layout"), OCI_LAYOUT)?;
        replace(&self.stage_path(), &self.path("index.json"), &Index::new(Vec::new()).to_bytes())?;
        replace(&self.stage_path(), &self.path("version"), format!("{VERSION}\n").as_bytes())?;
        self.root.parent().map_or(Ok(()), sync_dir)
    }

    fn missing_directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        DIRECTORIES.iter().map(|dir| self.path(dir)).filter(|path| !path.is_dir())
    }

    /// Makes directories again that a backup without empty directories left out, or somebody cleared. Where that fails the
    /// store can still be read; what writes there says why it cannot.
    fn ensure_directories(&self) {
        for path in self.missing_directories() {
            match fs::create_dir_all(&path) {
                Ok(()) => log::info!(target: "layerfs::store", "{}: made again", path.display()),
                Err(error) => log::debug!(target: "layerfs::store", "{}: {error}", path.display()),
            }
        }
    }

    /// Fails when the directory has anything that a creation of a store does not leave. Another tool's image layout
    /// is not taken over: its layers have no plain tars, and it is not ours to collect.
    fn check_empty(&self) -> StoreResult<()> {
        for entry in fs::read_dir(&self.root).at(&self.root)? {
            let name = entry.at(&self.root)?.file_name();
            let ours = name.to_str().is_some_and(|name| {
                DIRECTORIES.contains(&name) || ["lock", "oci-layout", "index.json", "lost+found"].contains(&name)
            });
            if !ours {
                return Err(StoreError::NotAStore(self.root.to_path_buf()));
            }
        }
        let blobs = self.path("blobs/sha256");
        let has_blobs = fs::read_dir(blobs).is_ok_and(|mut entries| entries.next().is_some());
        if has_blobs { Err(StoreError::NotAStore(self.root.to_path_buf())) } else { Ok(()) }
    }
}

/// Makes the root directory for its owner only: images hold what their makers left in them, keys and password files too.
fn ensure_root(root: &Path) -> StoreResult<()> {
    if root.is_dir() {
        return Ok(());
    }
    if let Some(other) = root.ancestors().find(|path| path.metadata().is_ok_and(|metadata| !metadata.is_dir())) {
        return Err(StoreError::NotADirectory(other.to_owned()));
    }
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), |parent| fs::create_dir_all(parent).at(parent))?;
    match fs::DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result.at(root),
    }
}

/// A file name that nobody else on this machine uses: process, time, counter.
pub(super) fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:x}-{count}", std::process::id(), since.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_made_once_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        let store = Store::open(&root).unwrap();
        assert_eq!(fs::read(root.join("oci-layout")).unwrap(), OCI_LAYOUT);
        assert_eq!(Store::open(&root).unwrap().root(), store.root());
        fs::write(root.join("version"), "2\n").unwrap();
        assert!(matches!(Store::open(&root), Err(StoreError::Version { .. })));
    }

    #[test]
    fn a_creation_that_was_cut_short_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::remove_file(store.path("version")).unwrap();
        fs::remove_file(store.path("index.json")).unwrap();
        assert!(Store::open(dir.path()).is_ok());
        assert!(store.path("index.json").exists());
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::NotAStore(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn documents_are_verified_when_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"abc");
        assert!(matches!(store.read_document("x", &digest), Err(StoreError::MissingBlob { .. })));
        fs::write(store.blob_path(&digest), "abd").unwrap();
        assert!(matches!(store.read_document("x", &digest), Err(StoreError::Mismatch(_))));
        fs::write(store.blob_path(&digest), "abc").unwrap();
        assert_eq!(store.read_document("x", &digest).unwrap(), b"abc");
    }
}
