//! Names and documents of the OCI image specification: digests, references, manifests, configurations, history.
//!
//! Owns their types, parsing and rules. Documents keep what they do not know: a field or an annotation that another
//! tool wrote is written back. Must not know I/O.

mod config;
mod digest;
mod manifest;
mod media_type;
mod nested;
mod platform;
mod reference;

pub use config::{ContainerConfig, HealthCheck, History, ImageConfig, InvalidConfig, RootFs, chain_ids};
pub use digest::{Digest, Hasher, InvalidDigest, Mismatch};
pub use manifest::{DOCUMENT_MAX, Descriptor, Index, InvalidDocument, MANIFEST_MAX, Manifest, ManifestKind};
pub use media_type::{LayerCompression, MediaType, UnsupportedMediaType};
pub use nested::Nesting;
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};

/// The annotation of an index entry that names the image (image-spec, annotations.md).
pub const ANNOTATION_REF_NAME: &str = oci_spec::image::ANNOTATION_REF_NAME;
/// The annotation containerd and Docker write beside it: the full name, registry host included.
pub const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";
