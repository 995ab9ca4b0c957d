//! What can go wrong in a store.

use crate::oci::{Digest, InvalidConfig, InvalidDocument, InvalidReference, Mismatch};
use std::io;
use std::path::{Path, PathBuf};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The root is to be where something else is than a directory.
    #[error("{path} is not a directory, so no store can be there", path = .0.display())]
    NotADirectory(PathBuf),
    /// The directory holds something else.
    #[error("{path} is not a layerfs store", path = .0.display())]
    NotAStore(PathBuf),
    /// A store of another version of this program.
    #[error("{path}: the store has format version {found}, this program knows {known}", path = path.display())]
    Version {
        /// The root of the store.
        path: PathBuf,
        /// What the store says.
        found: String,
        /// What is supported.
        known: u32,
    },
    /// A file of the store is not what it must be.
    #[error("the store is damaged: {path}: {detail}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A blob that something refers to is not there.
    #[error("the store is damaged: {what} {digest} is missing")]
    MissingBlob {
        /// What it is to whom refers to it.
        what: &'static str,
        /// The blob.
        digest: Digest,
    },
    /// Content that is not what its descriptor says.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A manifest, index or configuration that cannot be used.
    #[error("{digest}: {source}")]
    Document {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: InvalidDocument,
    },
    /// A configuration that cannot be used.
    #[error("{digest}: {source}")]
    Config {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: InvalidConfig,
    },
    /// No image of this name, digest or ID.
    #[error("no such image: {0}")]
    NoSuchImage(String),
    /// An ID prefix that several images have.
    #[error("image ID prefix {prefix} is ambiguous: {}", list(matches))]
    Ambiguous {
        /// The prefix.
        prefix: String,
        /// The images.
        matches: Vec<Digest>,
    },
    /// A text that is no reference.
    #[error("{text:?}: {source}")]
    Reference {
        /// The text.
        text: String,
        /// The cause.
        source: InvalidReference,
    },
    /// An image exists, but for other platforms.
    #[error("{image} is not available for {wanted}, only for {offered}")]
    NoPlatform {
        /// The image.
        image: String,
        /// The platform asked for.
        wanted: String,
        /// The platforms in the store.
        offered: String,
    },
    /// An image that cannot be removed, in Docker's words.
    #[error("conflict: unable to {action} ({remedy}) - {reason}")]
    ImageInUse {
        /// What was attempted: `delete 0123456789ab`, `remove repository reference "name"`.
        action: String,
        /// `must force` or `must be forced`.
        remedy: &'static str,
        /// Why not.
        reason: String,
    },
    /// A container that is to get the name it has.
    #[error("renaming a container with the same name as its current name")]
    SameName,
    /// No container of this name.
    #[error("no such container: {0}")]
    NoSuchContainer(String),
    /// A container of this name exists.
    #[error("conflict: the container name {0:?} is already in use")]
    ContainerExists(String),
    /// A name that no container can have.
    #[error("invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-]+ are allowed")]
    ContainerName(String),
    /// A container that is mounted.
    #[error("container {0} is in use: it is mounted")]
    ContainerBusy(String),
    /// A container whose command runs.
    #[error("container {0} is in use: it runs")]
    ContainerRuns(String),
    /// A key of the build cache with characters that cannot stand in a file name.
    #[error("invalid cache key {0:?}")]
    CacheKey(String),
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(Digest::short).collect::<Vec<_>>().join(", ")
}

/// What the store answers.
pub type StoreResult<T> = Result<T, StoreError>;

/// Names the file in a failure of the system.
pub(super) trait AtPath<T> {
    fn at(self, path: &Path) -> StoreResult<T>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, path: &Path) -> StoreResult<T> {
        self.map_err(|error| StoreError::Io { path: path.to_owned(), source: error.into() })
    }
}

impl StoreError {
    /// Whether the file system is mounted read-only or the permissions do not let this user write. What only reads does
    /// without what it would have written.
    pub fn is_unwritable(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied))
    }

    /// Whether the disk or a quota was full: the one failure whose remedy is `prune`.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
