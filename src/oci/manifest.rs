//! Manifests, indexes and the descriptors in them.

use super::{Digest, MediaType, Platform, UnsupportedMediaType};
use base64::Engine;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The largest manifest or index that is read, in bytes: 4 MiB, the limit distribution-spec gives registries.
pub const MANIFEST_MAX: u64 = 4 << 20;
/// The largest document in bytes that can be allowed: each is read into memory as a whole.
pub const DOCUMENT_MAX: u64 = 64 << 20;

/// A pointer to a blob: what it is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The media type as it was written. [`Self::kind`] is what it means.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// Where else the blob may be fetched; foreign layers have this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of the image that is pointed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor of a blob, with nothing optional.
    pub fn new(kind: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type: kind.as_str().to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            other: Map::new(),
        }
    }

    /// A descriptor of `bytes`.
    pub fn of(kind: MediaType, bytes: &[u8]) -> Self {
        Self::new(kind, Digest::of(bytes), bytes.len() as u64)
    }

    /// What the media type means.
    pub fn kind(&self) -> Result<MediaType, UnsupportedMediaType> {
        MediaType::parse(&self.media_type)
    }

    /// The content, where the descriptor holds it itself (descriptor.md, `data`) and it is what the digest and the size say.
    pub fn embedded(&self) -> Option<Vec<u8>> {
        let text = self.other.get("data")?.as_str()?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        self.digest.verify(self.size, &bytes).is_ok().then_some(bytes)
    }

    /// Whether a list of images has it for what somebody attests about another entry: such are for the platform `unknown`.
    pub fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }

    /// Whether it is the manifest of an image, and no attestation.
    pub fn is_image(&self) -> bool {
        !self.is_attestation() && self.kind().is_ok_and(MediaType::is_manifest)
    }

    /// Whether it is a list of images, and no attestation.
    pub fn is_list(&self) -> bool {
        !self.is_attestation() && self.kind().is_ok_and(MediaType::is_index)
    }
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The manifest's own media type; OCI manifests may leave it out.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A list of images by platform, or of whatever an image layout holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The index's own media type; OCI indexes may leave it out.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The entries.
    #[serde(deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A manifest or an index: what a reference can point to.
#[expect(clippy::large_enum_variant, reason = "one at a time, never in bulk")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image.
    Image(Manifest),
    /// Several images by platform.
    Index(Index),
}

/// Why bytes are no manifest, index or configuration.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDocument {
    /// No JSON, or not of the right shape.
    #[error("invalid {what}: {source}")]
    Json {
        /// The document.
        what: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
    /// Larger than is allowed.
    #[error("{what} is too large: {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The document.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// How large it may be, in bytes.
        limit: u64,
    },
    /// Lists of images in each other without an end in sight.
    #[error("lists of images are more than {depth} deep in each other, or more than {lists}")]
    Nested {
        /// How deep they may be.
        depth: usize,
        /// How many there may be.
        lists: usize,
    },
    /// Another schema version than 2.
    #[error("unsupported schema version {version} of {what}: only 2 is supported")]
    SchemaVersion {
        /// The document.
        what: &'static str,
        /// What it says.
        version: u32,
    },
    /// A media type that is not supported here.
    #[error(transparent)]
    MediaType(#[from] UnsupportedMediaType),
    /// The manifest of an artifact: a chart, a signature, whatever has another configuration than images have.
    #[error("it is no container image: its configuration is of the type {config:?}")]
    NotAnImage {
        /// The media type of its configuration.
        config: String,
    },
    /// A media type that does not belong where it stands.
    #[error("{what} has the media type {found:?}")]
    WrongMediaType {
        /// The document or descriptor.
        what: &'static str,
        /// What it says.
        found: String,
    },
}

impl Manifest {
    /// A manifest in OCI form.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest.as_str().to_owned()),
            config,
            layers,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// Parses and checks a manifest: version, size, and that its config and layers are of supported types.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let manifest: Self = parse_document("manifest", bytes)?;
        check_version("manifest", manifest.schema_version)?;
        check_own_type("manifest", manifest.media_type.as_deref(), MediaType::is_manifest)?;
        if !manifest.config.kind().is_ok_and(MediaType::is_config) {
            return Err(InvalidDocument::NotAnImage { config: manifest.config.media_type });
        }
        for layer in &manifest.layers {
            if layer.kind()?.layer_compression().is_none() {
                let found = layer.media_type.clone();
                return Err(InvalidDocument::WrongMediaType { what: "a layer in the manifest", found });
            }
        }
        Ok(manifest)
    }

    /// The kind of this manifest: Docker's where it says so, OCI's otherwise.
    pub fn kind(&self) -> MediaType {
        let own = self.media_type.as_deref().and_then(|text| MediaType::parse(text).ok());
        own.filter(|kind| kind.is_manifest()).unwrap_or(MediaType::OciManifest)
    }

    /// The document as it is stored and sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

impl Index {
    /// An index in OCI form.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex.as_str().to_owned()),
            manifests,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// Parses and checks an index. Entries of unknown types are left in place: another platform's or an attestation.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let index: Self = parse_document("index", bytes)?;
        check_version("index", index.schema_version)?;
        check_own_type("index", index.media_type.as_deref(), MediaType::is_index)?;
        Ok(index)
    }

    /// The document as it is stored and sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The entry whose platform serves `wanted` best. Entries that are no images (attestations say the platform
    /// `unknown/unknown`) are passed over.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        wanted.best(&self.manifests, |entry| {
            entry.kind().ok().filter(|kind| kind.is_manifest())?;
            entry.platform.clone()
        })
    }

    /// Gives the entries that do not say what platform they are for the one that `platform` finds out.
    pub fn fill_in_platforms<E>(
        &mut self,
        mut platform: impl FnMut(&Descriptor) -> Result<Option<Platform>, E>,
    ) -> Result<(), E> {
        for entry in &mut self.manifests {
            if entry.platform.is_none() && entry.kind().is_ok_and(MediaType::is_manifest) {
                entry.platform = platform(entry)?;
            }
        }
        Ok(())
    }

    /// The platforms on offer, attestations left out.
    pub fn platforms(&self) -> Vec<Platform> {
        let offered = self.manifests.iter().filter(|entry| !entry.is_attestation());
        offered.filter_map(|entry| entry.platform.clone()).collect()
    }
}

impl ManifestKind {
    /// Parses a document by its declared media type, or by its own fields where none is declared.
    pub fn parse(media_type: Option<&str>, bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let declared = match media_type {
            Some(text) => MediaType::parse(text)?,
            None => sniff(bytes)?,
        };
        match declared {
            kind if kind.is_manifest() => Manifest::parse(bytes).map(Self::Image),
            kind if kind.is_index() => Index::parse(bytes).map(Self::Index),
            other => Err(InvalidDocument::WrongMediaType { what: "the manifest", found: other.as_str().to_owned() }),
        }
    }
}

/// What a document is by its own `mediaType`, or by its fields.
fn sniff(bytes: &[u8]) -> Result<MediaType, InvalidDocument> {
    let value: Map<String, Value> = parse_document("manifest", bytes)?;
    match value.get("mediaType").and_then(Value::as_str) {
        Some(text) => Ok(MediaType::parse(text)?),
        None if value.contains_key("manifests") => Ok(MediaType::OciIndex),
        None => Ok(MediaType::OciManifest),
    }
}

pub(super) fn parse_document<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, InvalidDocument> {
    let size = bytes.len() as u64;
    if size > DOCUMENT_MAX {
        return Err(InvalidDocument::TooLarge { what, size, limit: DOCUMENT_MAX });
    }
    serde_json::from_slice(bytes).map_err(|source| InvalidDocument::Json { what, source })
}

/// JSON without spaces. The documents have string keys only and no failing serializer, so nothing is lost where
/// `serde_json` would report an error.
pub(super) fn to_bytes<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

fn check_version(what: &'static str, version: u32) -> Result<(), InvalidDocument> {
    if version == 2 { Ok(()) } else { Err(InvalidDocument::SchemaVersion { what, version }) }
}

fn check_own_type(
    what: &'static str,
    own: Option<&str>,
    right: impl Fn(MediaType) -> bool,
) -> Result<(), InvalidDocument> {
    let Some(text) = own.filter(|text| !text.is_empty()) else { return Ok(()) };
    if right(MediaType::parse(text)?) {
        return Ok(());
    }
    Err(InvalidDocument::WrongMediaType { what, found: text.to_owned() })
}

/// Go writes empty lists and maps as `null`.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Descriptor {
        Descriptor::of(MediaType::OciConfig, b"{}")
    }

    #[test]
    fn nothing_is_lost_on_the_way_through() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{d}","size":2,"data":"e30=","x":1}},"layers":[],"annotations":{{"a":"b"}},"subject":{{"y":[1,2]}}}}"#,
            d = Digest::of(b"{}")
        );
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), text);
    }

    #[test]
    fn regression_content_in_a_descriptor_counts_where_it_is_what_was_promised() {
        let mut descriptor = config();
        for (data, expected) in [("e30=", Some(b"{}".to_vec())), ("e31=", None), ("?", None), ("e30K", None)] {
            descriptor.other.insert("data".to_owned(), data.into());
            assert_eq!(descriptor.embedded(), expected, "{data}");
        }
    }

    #[test]
    fn the_types_of_the_specification_crate_read_what_we_write() {
        let layer = Descriptor::new(MediaType::OciLayer(super::super::LayerCompression::Gzip), Digest::of(b"layer"), 5);
        let bytes = Manifest::new(config(), vec![layer]).to_bytes();
        let read: oci_spec::image::ImageManifest = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read.layers().len(), 1);
        let mut entry = Descriptor::of(MediaType::OciManifest, &bytes);
        entry.platform = Some(Platform::new("linux", "amd64", ""));
        let read: oci_spec::image::ImageIndex = serde_json::from_slice(&Index::new(vec![entry]).to_bytes()).unwrap();
        assert_eq!(read.manifests().len(), 1);
    }

    #[test]
    fn what_is_unsupported_is_refused() {
        let mut foreign = Manifest::new(config(), vec![]);
        let mut layer = config();
        layer.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
        foreign.layers.push(layer);
        assert!(matches!(Manifest::parse(&foreign.to_bytes()), Err(InvalidDocument::MediaType(_))));
        let mut swapped = Manifest::new(config(), vec![config()]);
        assert!(matches!(Manifest::parse(&swapped.to_bytes()), Err(InvalidDocument::WrongMediaType { .. })));
        swapped.layers.clear();
        swapped.schema_version = 1;
        assert!(matches!(Manifest::parse(&swapped.to_bytes()), Err(InvalidDocument::SchemaVersion { .. })));
        let large = vec![b' '; DOCUMENT_MAX as usize + 1];
        assert!(matches!(Manifest::parse(&large), Err(InvalidDocument::TooLarge { .. })));
    }

    #[test]
    fn regression_artifacts_are_told_from_images() {
        for kind in ["application/vnd.oci.empty.v1+json", "application/vnd.cncf.helm.config.v1+json"] {
            let mut artifact = Manifest::new(config(), vec![]);
            artifact.config.media_type = kind.to_owned();
            let error = Manifest::parse(&artifact.to_bytes()).unwrap_err();
            assert!(matches!(&error, InvalidDocument::NotAnImage { config } if config == kind), "{error}");
        }
    }

    #[test]
    fn regression_no_layers_may_be_null() {
        let text = serde_json::json!({ "schemaVersion": 2, "config": config(), "layers": null });
        assert!(Manifest::parse(text.to_string().as_bytes()).unwrap().layers.is_empty());
    }

    #[test]
    fn an_index_is_told_from_a_manifest() {
        let index = br#"{"schemaVersion":2,"manifests":null}"#;
        assert!(matches!(ManifestKind::parse(None, index), Ok(ManifestKind::Index(_))));
        let manifest = Manifest::new(config(), vec![]).to_bytes();
        assert!(matches!(ManifestKind::parse(None, &manifest), Ok(ManifestKind::Image(_))));
        assert!(ManifestKind::parse(Some("application/vnd.oci.image.index.v1+json"), &manifest).is_err());
    }

    #[test]
    fn attestations_are_no_platform() {
        let entry = |os: &str, architecture: &str| {
            let mut entry = Descriptor::of(MediaType::OciManifest, os.as_bytes());
            entry.platform = Some(Platform::new(os, architecture, ""));
            entry
        };
        let index = Index::new(vec![entry("unknown", "unknown"), entry("linux", "arm64")]);
        assert_eq!(index.platforms().len(), 1);
        assert!(index.select(&Platform::new("linux", "amd64", "")).is_none());
        assert!(index.select(&Platform::new("linux", "aarch64", "v8")).is_some());
    }
}
