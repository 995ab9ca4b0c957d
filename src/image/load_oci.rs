//! OCI image layouts: index.json, and blobs by their digests.

use super::archive_files::ArchiveFiles;
use super::error::{ImageError, ImageResult};
use super::ingest::Expected;
use super::load::{LoadOptions, PlannedEntry, PlannedImage, PlannedIndex, PlannedLayer, PlannedManifest};
use super::load_docker::{check_platform, docker_names};
use super::source::{is_only_tag, layout_reference};
use crate::oci::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Digest, ImageConfig, Index, Manifest, ManifestKind,
    MediaType, Platform, Reference,
};
use crate::store::LAYOUT_NAME_ANNOTATION;

/// The images of an image layout that are asked for.
pub(super) fn oci_images(files: &ArchiveFiles, options: &LoadOptions, index: &[u8]) -> ImageResult<Vec<PlannedEntry>> {
    check_version(files, options)?;
    let document = |source| ImageError::Document { what: "index.json".to_owned(), source };
    let index = Index::parse(index).map_err(document)?;
    let layout = Layout { files, options, base: options.source.base_name() };
    let chosen = layout.choose(&index)?;
    let mut entries: Vec<PlannedEntry> = Vec::new();
    for group in chosen {
        entries.push(layout.plan_entry(&group)?);
    }
    Ok(entries)
}

/// Fails for an image layout of another version than 1. Where it says none it is taken as it is.
fn check_version(files: &ArchiveFiles, options: &LoadOptions) -> ImageResult<()> {
    let Some(bytes) = files.document("oci-layout", options.limits.manifest)? else { return Ok(()) };
    let document: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let version = document.as_ref().and_then(|document| document.get("imageLayoutVersion")?.as_str());
    match version {
        Some(version) if !version.starts_with("1.") => Err(ImageError::NotAnImage {
            what: options.source.label(),
            detail: format!("it is an image layout of version {version:?}, and only 1.0.0 is known"),
        }),
        _ => Ok(()),
    }
}

/// Entries of one name. More than one are the same image for several platforms.
type Group<'a> = (Option<&'a str>, Vec<&'a Descriptor>);

/// What an entry stands for.
#[derive(Default)]
struct Target {
    images: Vec<PlannedImage>,
    index: Option<PlannedIndex>,
    lists: Vec<PlannedIndex>,
}

struct Layout<'a> {
    files: &'a ArchiveFiles,
    options: &'a LoadOptions,
    base: Option<String>,
}

impl Layout<'_> {
    /// The entries that are meant, grouped by their names.
    fn choose<'b>(&self, index: &'b Index) -> ImageResult<Vec<Group<'b>>> {
        let mut groups: Vec<Group<'b>> = Vec::new();
        for entry in index.manifests.iter().filter(|entry| !entry.is_attestation()) {
            let name = entry_name(entry);
            let has_platform = entry.platform.is_some();
            match groups.iter_mut().find(|(other, _)| has_platform && *other == name) {
                Some((_, entries)) if entries.iter().all(|entry| entry.platform.is_some()) => entries.push(entry),
                _ => groups.push((name, vec![entry])),
            }
        }
        let Some(wanted) = &self.options.source.name else { return Ok(groups) };
        let offered: Vec<&str> = groups.iter().filter_map(|(name, _)| *name).collect();
        let offered = offered.join(", ");
        groups.retain(|(_, entries)| entries.iter().any(|entry| self.is_named(entry, wanted)));
        if groups.is_empty() {
            let what = self.options.source.label();
            return Err(ImageError::NoSuchName { what, wanted: wanted.clone(), offered });
        }
        Ok(groups)
    }

    fn is_named(&self, entry: &Descriptor, wanted: &str) -> bool {
        let annotation = |name: &str| entry.annotations.get(name).map(String::as_str);
        let names = [annotation(ANNOTATION_REF_NAME), annotation(ANNOTATION_CONTAINERD_NAME)];
        let same_reference = |name: &str| {
            let base = self.base.as_deref();
            let wanted = layout_reference(wanted, base).or_else(|_| layout_reference(wanted, None));
            wanted.is_ok_and(|wanted| layout_reference(name, base).is_ok_and(|reference| reference == wanted))
        };
        names.into_iter().flatten().any(|name| name == wanted || same_reference(name))
            || entry.digest.to_string() == wanted
    }

    fn plan_entry(&self, (name, entries): &Group<'_>) -> ImageResult<PlannedEntry> {
        let Target { mut images, mut index, lists } = match entries.as_slice() {
            [entry] => self.plan_target(entry)?,
            several => {
                let list = Index::new(several.iter().map(|entry| (*entry).clone()).collect());
                let bytes = list.to_bytes();
                let descriptor = Descriptor::of(MediaType::OciIndex, &bytes);
                self.plan_index(&list, &bytes, &descriptor)?
            }
        };
        // A name given in place of that in the layout makes up for one that is none.
        let own = name.filter(|_| self.options.name.is_none());
        let mut references: Vec<Reference> =
            own.map(|name| layout_reference(name, self.base.as_deref())).transpose()?.into_iter().collect();
        if let Some(tag) = name.filter(|name| self.base.is_some() && is_only_tag(name)) {
            let target = match (&mut index, images.first_mut().map(|image| &mut image.manifest)) {
                (Some((_, descriptor)), _) => Some(descriptor),
                (None, Some(PlannedManifest::Given { descriptor, .. })) => Some(&mut **descriptor),
                _ => None,
            };
            if let Some(target) = target {
                target.annotations.insert(LAYOUT_NAME_ANNOTATION.to_owned(), tag.to_owned());
            }
        }
        if let (true, Some(image)) = (references.is_empty(), images.first()) {
            references = docker_names(self.files, &image.config_digest, self.options.limits.manifest)?;
        }
        Ok(PlannedEntry { references, images, index, lists })
    }

    fn plan_target(&self, entry: &Descriptor) -> ImageResult<Target> {
        let bytes = self.blob("manifest", entry)?;
        let in_document = |source| ImageError::Document { what: format!("manifest {}", entry.digest), source };
        match ManifestKind::parse(Some(&entry.media_type), &bytes).map_err(in_document)? {
            ManifestKind::Image(manifest) => {
                let image = self.plan_image(entry, bytes, &manifest, self.options.platform.is_some())?;
                Ok(Target { images: vec![image], ..Target::default() })
            }
            ManifestKind::Index(index) => self.plan_index(&index, &bytes, entry),
        }
    }

    fn plan_index(&self, index: &Index, bytes: &[u8], descriptor: &Descriptor) -> ImageResult<Target> {
        if self.options.all_platforms {
            let (flat, lists) = self.flattened(index, None)?;
            let present = self.present(&flat);
            if !present.manifests.is_empty() {
                let images = present.manifests.iter().map(|entry| self.plan_manifest(entry));
                let images = images.collect::<ImageResult<_>>()?;
                return Ok(Target { images, index: Some((bytes.to_vec(), descriptor.clone())), lists });
            }
        }
        let host = Platform::host();
        let wanted = self.options.platform.as_ref().unwrap_or(&host);
        let mut present = self.present(index);
        // What another image says is read only where none is there by its own word: it may be damaged, and is not asked for.
        if present.select(wanted).is_none() {
            present = self.present(&self.flattened(index, Some(wanted))?.0);
        }
        if present.select(wanted).is_none() {
            present.fill_in_platforms(|entry| self.configured_platform(entry))?;
        }
        let Some(entry) = present.select(wanted) else {
            let offered: Vec<String> = present.platforms().iter().map(ToString::to_string).collect();
            return Err(ImageError::NoPlatform {
                what: self.options.source.label(),
                wanted: wanted.to_string(),
                offered: if offered.is_empty() { "none".to_owned() } else { offered.join(", ") },
            });
        };
        Ok(Target { images: vec![self.plan_manifest(entry)?], ..Target::default() })
    }

    /// The images of a list that the archive has: those of one platform may list others that they do not have.
    fn present(&self, index: &Index) -> Index {
        let has = |entry: &&Descriptor| self.has(entry);
        Index::new(index.manifests.iter().filter(|entry| entry.is_image()).filter(has).cloned().collect())
    }

    /// Whether the archive has a document, be it in the descriptor.
    fn has(&self, entry: &Descriptor) -> bool {
        self.files.has_document(&blob_name(&entry.digest)) || entry.embedded().is_some()
    }

    /// The list with what is in the lists in it, and these.
    fn flattened(&self, index: &Index, wanted: Option<&Platform>) -> ImageResult<(Index, Vec<PlannedIndex>)> {
        let mut lists = Vec::new();
        let flat = index.flattened(wanted, |entry, nesting| {
            let in_document = |source| ImageError::Document { what: format!("index {}", entry.digest), source };
            if !self.has(entry) {
                return Ok::<_, ImageError>(None);
            }
            nesting.check().map_err(in_document)?;
            let bytes = self.blob("index", entry)?;
            let inner = Index::parse(&bytes).map_err(in_document)?;
            lists.push((bytes, entry.clone()));
            Ok(Some(inner))
        })?;
        Ok((flat, lists))
    }

    /// The platform that the configuration of the image `entry` names; none for an artifact.
    fn configured_platform(&self, entry: &Descriptor) -> ImageResult<Option<Platform>> {
        let Ok(manifest) = Manifest::parse(&self.blob("manifest", entry)?) else { return Ok(None) };
        Ok(ImageConfig::parse(&self.blob("configuration", &manifest.config)?).ok().map(|config| config.platform()))
    }

    fn plan_manifest(&self, entry: &Descriptor) -> ImageResult<PlannedImage> {
        let bytes = self.blob("manifest", entry)?;
        let manifest = Manifest::parse(&bytes)
            .map_err(|source| ImageError::Document { what: format!("manifest {}", entry.digest), source })?;
        self.plan_image(entry, bytes, &manifest, false)
    }

    fn plan_image(
        &self,
        entry: &Descriptor,
        bytes: Vec<u8>,
        manifest: &Manifest,
        check: bool,
    ) -> ImageResult<PlannedImage> {
        let config = self.blob("configuration", &manifest.config)?;
        let parsed = ImageConfig::parse(&config)
            .and_then(|config| config.check_layers(manifest.layers.len()).map(|()| config))
            .map_err(|source| ImageError::Config {
                what: format!("configuration {}", manifest.config.digest),
                source,
            })?;
        if check {
            check_platform(self.options, &parsed)?;
        }
        let layer = |(layer, diff_id): (&Descriptor, &Digest)| PlannedLayer {
            name: blob_name(&layer.digest),
            expected: Expected {
                label: None,
                blob: Some((layer.digest, layer.size)),
                diff_id: Some(*diff_id),
                media_type: Some(layer.media_type.clone()),
                ..Expected::default()
            },
            diff_id: *diff_id,
        };
        let layers = manifest.layers.iter().zip(&parsed.rootfs.diff_ids).map(layer).collect();
        let config_digest = manifest.config.digest;
        let manifest = PlannedManifest::Given { bytes, descriptor: Box::new(entry.clone()) };
        Ok(PlannedImage { config, config_digest, manifest, layers })
    }

    /// A document, verified.
    fn blob(&self, what: &'static str, descriptor: &Descriptor) -> ImageResult<Vec<u8>> {
        let digest = descriptor.digest;
        let missing =
            || ImageError::Incomplete { what: self.options.source.label(), missing: format!("{what} {digest}") };
        let found = self.files.document(&blob_name(&digest), self.options.limits.manifest)?;
        let bytes = found.or_else(|| descriptor.embedded()).ok_or_else(missing)?;
        let verified = digest.verify(descriptor.size, &bytes);
        verified.map_err(|source| ImageError::Mismatch { layer: what.to_owned(), source })?;
        Ok(bytes)
    }
}

/// The name of an entry: the full one that containerd and Docker write, or that of the specification.
fn entry_name(entry: &Descriptor) -> Option<&str> {
    let annotation = |name: &str| entry.annotations.get(name).map(String::as_str).filter(|name| !name.is_empty());
    annotation(ANNOTATION_CONTAINERD_NAME).or_else(|| annotation(ANNOTATION_REF_NAME))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
