//! What `docker save` and `podman save` write: manifest.json, configurations, layers.

use super::archive_files::ArchiveFiles;
use super::error::{ImageError, ImageResult};
use super::ingest::Expected;
use super::load::{LoadOptions, PlannedEntry, PlannedImage, PlannedLayer, PlannedManifest};
use crate::oci::{Digest, ImageConfig, InvalidDocument, MediaType, Reference};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One image of manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// Descriptors of layers that lie elsewhere, by diffID.
    #[serde(default)]
    layer_sources: Option<BTreeMap<String, Value>>,
}

/// The images that manifest.json lists.
pub(super) fn docker_images(
    files: &ArchiveFiles,
    options: &LoadOptions,
    manifest: &[u8],
) -> ImageResult<Vec<PlannedEntry>> {
    let wanted = options.source.name.as_deref().map(parse_reference).transpose()?.map(Reference::or_latest);
    let mut entries = Vec::new();
    let mut offered = Vec::new();
    for item in parse_items(manifest)? {
        let tags = item.repo_tags.iter().flatten();
        let mut references = tags.map(|tag| parse_reference(tag)).collect::<ImageResult<Vec<_>>>()?;
        offered.extend(references.iter().map(Reference::familiar));
        if let Some(wanted) = &wanted {
            references.retain(|reference| reference == wanted);
            if references.is_empty() {
                continue;
            }
        }
        entries.push(PlannedEntry {
            references,
            images: vec![plan_image(files, options, &item)?],
            index: None,
            lists: Vec::new(),
        });
    }
    match &wanted {
        Some(wanted) if entries.is_empty() => Err(ImageError::NoSuchName {
            what: options.source.label(),
            wanted: wanted.familiar(),
            offered: offered.join(", "),
        }),
        _ => Ok(entries),
    }
}

/// The names that manifest.json gives to the image with this configuration: for image layouts whose index has none.
pub(super) fn docker_names(files: &ArchiveFiles, config: &Digest, limit: u64) -> ImageResult<Vec<Reference>> {
    let Some(manifest) = files.document("manifest.json", limit)? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for item in parse_items(&manifest)?.iter().filter(|item| named_digest(&item.config) == Some(*config)) {
        for tag in item.repo_tags.iter().flatten() {
            names.push(parse_reference(tag)?);
        }
    }
    Ok(names)
}

fn plan_image(files: &ArchiveFiles, options: &LoadOptions, item: &Item) -> ImageResult<PlannedImage> {
    refuse_foreign(item)?;
    let incomplete = || ImageError::Incomplete {
        what: options.source.label(),
        missing: format!("the configuration {}", item.config),
    };
    let bytes = files.document(&item.config, options.limits.manifest)?.ok_or_else(incomplete)?;
    let config_digest = Digest::of(&bytes);
    if let Some(expected) = named_digest(&item.config) {
        let verified = expected.verify(bytes.len() as u64, &bytes);
        verified.map_err(|source| ImageError::Mismatch { layer: item.config.clone(), source })?;
    }
    let names = item.layers.as_deref().unwrap_or_default();
    let config = ImageConfig::parse(&bytes)
        .and_then(|config| config.check_layers(names.len()).map(|()| config))
        .map_err(|source| ImageError::Config { what: item.config.clone(), source })?;
    check_platform(options, &config)?;
    let layer = |(name, diff_id): (&String, &Digest)| PlannedLayer {
        name: name.clone(),
        expected: Expected { label: Some(format!("layer {name}")), diff_id: Some(*diff_id), ..Expected::default() },
        diff_id: *diff_id,
    };
    let layers = names.iter().zip(&config.rootfs.diff_ids).map(layer).collect();
    Ok(PlannedImage { config: bytes, config_digest, manifest: PlannedManifest::Made, layers })
}

/// Fails when the image is for another platform than the one that was asked for.
pub(super) fn check_platform(options: &LoadOptions, config: &ImageConfig) -> ImageResult<()> {
    match &options.platform {
        Some(wanted) if wanted.distance_to(&config.platform()).is_none() => Err(ImageError::NoPlatform {
            what: options.source.label(),
            wanted: wanted.to_string(),
            offered: config.platform().to_string(),
        }),
        _ => Ok(()),
    }
}

fn refuse_foreign(item: &Item) -> ImageResult<()> {
    for (diff_id, source) in item.layer_sources.iter().flatten() {
        let media_type = source.get("mediaType").and_then(Value::as_str).unwrap_or_default();
        if let Err(source @ crate::oci::UnsupportedMediaType::Foreign(_)) = MediaType::parse(media_type) {
            return Err(ImageError::MediaType { what: format!("layer {diff_id}"), source });
        }
    }
    Ok(())
}

fn parse_items(manifest: &[u8]) -> ImageResult<Vec<Item>> {
    serde_json::from_slice(manifest).map_err(|source| ImageError::Document {
        what: "manifest.json".to_owned(),
        source: InvalidDocument::Json { what: "list of images", source },
    })
}

fn parse_reference(text: &str) -> ImageResult<Reference> {
    let parsed = text.parse::<Reference>();
    parsed.map(Reference::or_latest).map_err(|source| ImageError::Reference { text: text.to_owned(), source })
}

/// The digest in the name of a configuration: `<hex>.json`, or `blobs/sha256/<hex>`.
fn named_digest(name: &str) -> Option<Digest> {
    let file = name.rsplit('/').next()?;
    Digest::from_hex(file.strip_suffix(".json").unwrap_or(file)).ok()
}
