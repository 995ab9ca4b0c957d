//! Media types of manifests, configurations and layers.

/// How the bytes of a layer blob are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerCompression {
    /// A plain tar.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// zstd, of one or several frames.
    Zstd,
}

/// What a media type says a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// One image (OCI).
    OciManifest,
    /// One image (Docker schema 2).
    DockerManifest,
    /// Several images by platform (OCI).
    OciIndex,
    /// Several images by platform (Docker's manifest list).
    DockerManifestList,
    /// The configuration of an image (OCI).
    OciConfig,
    /// The configuration of an image (Docker).
    DockerConfig,
    /// A layer (OCI).
    OciLayer(LayerCompression),
    /// A layer (Docker): gzip, or plain where a tool wrote it so.
    DockerLayer(LayerCompression),
}

/// A media type that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedMediaType {
    /// A layer whose content lies elsewhere and may not be distributed.
    #[error("foreign layers are not supported (media type {0})")]
    Foreign(String),
    /// A manifest of Docker's schema 1, which has no digests of layers.
    #[error(
        "manifests of Docker's schema 1 are not supported (media type {0}): the image must be pushed again by a current tool"
    )]
    Schema1(String),
    /// An encrypted layer.
    #[error("encrypted layers are not supported (media type {0})")]
    Encrypted(String),
    /// Nothing known.
    #[error("unsupported media type {0:?}")]
    Unknown(String),
}

const TABLE: &[(&str, MediaType)] = &[
    ("application/vnd.oci.image.manifest.v1+json", MediaType::OciManifest),
    ("application/vnd.docker.distribution.manifest.v2+json", MediaType::DockerManifest),
    ("application/vnd.oci.image.index.v1+json", MediaType::OciIndex),
    ("application/vnd.docker.distribution.manifest.list.v2+json", MediaType::DockerManifestList),
    ("application/vnd.oci.image.config.v1+json", MediaType::OciConfig),
    ("application/vnd.docker.container.image.v1+json", MediaType::DockerConfig),
    ("application/vnd.oci.image.layer.v1.tar", MediaType::OciLayer(LayerCompression::None)),
    ("application/vnd.oci.image.layer.v1.tar+gzip", MediaType::OciLayer(LayerCompression::Gzip)),
    ("application/vnd.oci.image.layer.v1.tar+zstd", MediaType::OciLayer(LayerCompression::Zstd)),
    ("application/vnd.docker.image.rootfs.diff.tar", MediaType::DockerLayer(LayerCompression::None)),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", MediaType::DockerLayer(LayerCompression::Gzip)),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", MediaType::DockerLayer(LayerCompression::Zstd)),
];

impl MediaType {
    /// The kind that `text` names; parameters after `;` do not count.
    pub fn parse(text: &str) -> Result<Self, UnsupportedMediaType> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        if let Some((_, kind)) = TABLE.iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)) {
            return Ok(*kind);
        }
        let owned = essence.to_owned();
        Err(match essence {
            _ if essence.ends_with("+encrypted") => UnsupportedMediaType::Encrypted(owned),
            _ if essence.contains("foreign") || essence.contains("nondistributable") => {
                UnsupportedMediaType::Foreign(owned)
            }
            _ if essence.starts_with("application/vnd.docker.distribution.manifest.v1") => {
                UnsupportedMediaType::Schema1(owned)
            }
            _ => UnsupportedMediaType::Unknown(owned),
        })
    }

    /// The media type as it is written.
    pub fn as_str(self) -> &'static str {
        TABLE.iter().find(|(_, kind)| *kind == self).map_or("application/octet-stream", |(name, _)| name)
    }

    /// Whether this is one image.
    pub fn is_manifest(self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }

    /// Whether this is a list of images by platform.
    pub fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerManifestList)
    }

    /// Whether this is the configuration of an image.
    pub fn is_config(self) -> bool {
        matches!(self, Self::OciConfig | Self::DockerConfig)
    }

    /// The compression of a layer; none for what is no layer.
    pub fn layer_compression(self) -> Option<LayerCompression> {
        match self {
            Self::OciLayer(compression) | Self::DockerLayer(compression) => Some(compression),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_are_written_as_they_are_read() {
        for (name, kind) in TABLE {
            assert_eq!(MediaType::parse(name), Ok(*kind));
            assert_eq!(kind.as_str(), *name);
        }
        assert_eq!(MediaType::parse("application/vnd.oci.image.index.v1+json; charset=utf-8"), Ok(MediaType::OciIndex));
    }

    #[test]
    fn others_are_refused_by_name() {
        let refused = |text: &str| MediaType::parse(text).unwrap_err();
        assert!(matches!(
            refused("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            UnsupportedMediaType::Foreign(_)
        ));
        assert!(matches!(
            refused("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            UnsupportedMediaType::Foreign(_)
        ));
        assert!(matches!(
            refused("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            UnsupportedMediaType::Schema1(_)
        ));
        assert!(matches!(
            refused("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            UnsupportedMediaType::Encrypted(_)
        ));
        assert!(matches!(refused("text/plain"), UnsupportedMediaType::Unknown(_)));
    }
}
