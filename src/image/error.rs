//! What can go wrong with images.

use crate::archive::{compression, tar};
use crate::layer::toc;
use crate::oci::{Digest, InvalidConfig, InvalidDocument, InvalidReference, Mismatch, UnsupportedMediaType};
use crate::store::StoreError;
use std::io;

/// A failure to load, keep or read an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is read cannot be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// The file or stream.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// What is written cannot be written.
    #[error("cannot write {what}: {source}")]
    Write {
        /// The file or stream.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A layer is no good archive.
    #[error("{layer}: {source}")]
    Tar {
        /// The layer.
        layer: String,
        /// The cause.
        source: tar::Error,
    },
    /// A layer's compression.
    #[error("{layer}: {source}")]
    Compression {
        /// The layer.
        layer: String,
        /// The cause.
        source: io::Error,
    },
    /// The entries of a layer make no tree.
    #[error("{layer}: {source}")]
    Toc {
        /// The layer.
        layer: String,
        /// The cause.
        source: toc::BuildError,
    },
    /// A layer is not what its descriptor or the configuration says.
    #[error("{layer}: {source}")]
    Mismatch {
        /// The layer.
        layer: String,
        /// The cause.
        source: Mismatch,
    },
    /// A layer's table of contents cannot be used even after it was made anew.
    #[error("layer {diff_id}: {source}")]
    Open {
        /// The layer.
        diff_id: Digest,
        /// The cause.
        source: toc::OpenError,
    },
    /// A layer is not in the store and cannot be made from what is.
    #[error("layer {diff_id} is lost: neither its tar nor a compressed form of it is in the store")]
    LayerLost {
        /// The layer.
        diff_id: Digest,
    },
    /// The outer archive is no good.
    #[error("{what}: {source}")]
    Archive {
        /// The archive.
        what: String,
        /// The cause.
        source: tar::Error,
    },
    /// Neither a docker-archive nor an OCI layout nor anything else that is known.
    #[error("{what} is no image archive: {detail}")]
    NotAnImage {
        /// The file, directory or stream.
        what: String,
        /// What is missing.
        detail: String,
    },
    /// What is imported is no tar.
    #[error("{what} is no tar: {detail}")]
    NotATar {
        /// The file, directory or stream.
        what: String,
        /// What it is instead.
        detail: &'static str,
    },
    /// The archive lacks something it refers to.
    #[error("{what} is incomplete: {missing} is missing")]
    Incomplete {
        /// The archive.
        what: String,
        /// What is missing of it.
        missing: String,
    },
    /// A document of the archive.
    #[error("{what}: {source}")]
    Document {
        /// The document.
        what: String,
        /// The cause.
        source: InvalidDocument,
    },
    /// A configuration in the archive.
    #[error("{what}: {source}")]
    Config {
        /// The document.
        what: String,
        /// The cause.
        source: InvalidConfig,
    },
    /// Something in the archive of a kind that is not supported.
    #[error("{what}: {source}")]
    MediaType {
        /// The descriptor.
        what: String,
        /// The cause.
        source: UnsupportedMediaType,
    },
    /// A name in the archive or on the command line.
    #[error("{text:?}: {source}")]
    Reference {
        /// The name.
        text: String,
        /// The cause.
        source: InvalidReference,
    },
    /// The archive has the image for other platforms only.
    #[error("{what} has no image for {wanted}, only for {offered}")]
    NoPlatform {
        /// The archive or the image in it.
        what: String,
        /// The platform asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// The archive has several images and none was chosen, or not the one that was.
    #[error("{what} has no image {wanted:?}, only {offered}")]
    NoSuchName {
        /// The archive.
        what: String,
        /// The name asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// The archive has more than one image where one is needed.
    #[error("{what} has {count} images: {offered}")]
    SeveralImages {
        /// The archive.
        what: String,
        /// How many.
        count: usize,
        /// Their names.
        offered: String,
    },
}

/// What this module answers.
pub type ImageResult<T> = Result<T, ImageError>;

impl ImageError {
    /// Whether an entry of a layer is one that no layer may have, or there is too much of something.
    pub fn is_refused_entry(&self) -> bool {
        match self {
            Self::Toc { .. } => true,
            Self::Tar { source, .. } => matches!(
                source,
                tar::Error::Name { .. }
                    | tar::Error::LinkTarget { .. }
                    | tar::Error::Field { .. }
                    | tar::Error::Unsupported { .. }
                    | tar::Error::Limit { .. }
            ),
            _ => false,
        }
    }

    /// Whether what was read is compressed by something that is not supported.
    pub fn is_unsupported_compression(&self) -> bool {
        let Self::Compression { source, .. } = self else { return false };
        let cause = source.get_ref().and_then(|cause| cause.downcast_ref());
        matches!(cause, Some(crate::archive::compression::Error::Unsupported(_)))
    }

    /// Whether what was read is cut short, damaged or not what it says: fetching it again may help.
    pub fn is_damaged_input(&self) -> bool {
        match self {
            Self::Compression { .. } if self.is_unsupported_compression() => false,
            Self::Tar { .. }
            | Self::Compression { .. }
            | Self::Mismatch { .. }
            | Self::Archive { .. }
            | Self::Incomplete { .. }
            | Self::Store(StoreError::Mismatch(_)) => true,
            Self::Read { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }
}

/// Whether an error of a stream comes from its compression, not from the file below.
pub(super) fn is_compression_error(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<compression::Error>()).is_some()
}
