//! Images: what the entries of the index point to, and how they are found.

use super::error::{StoreError, StoreResult};
use super::layout::Store;
use super::references::{IndexEntry, LAYOUT_NAME_ANNOTATION};
use crate::oci::{
    Descriptor, Digest, ImageConfig, Index, Manifest, ManifestKind, MediaType, Platform, Reference, chain_ids,
};
use std::path::PathBuf;

/// An image of one platform, with its layers.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// What Docker calls the image ID: the digest of the configuration.
    pub id: Digest,
    /// The manifest.
    pub manifest: Descriptor,
    /// What the index entry points to: the manifest, or a list of images by platform that has it.
    pub target: Descriptor,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// The names of the image.
    pub references: Vec<Reference>,
    /// The references by digest under which registries have it.
    pub repo_digests: Vec<Reference>,
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub struct LayerRecord {
    /// The digest of the plain tar.
    pub diff_id: Digest,
    /// What this layer and those below it are together called.
    pub chain_id: Digest,
    /// The layer as the manifest lists it: the compressed blob, or the plain tar.
    pub blob: Descriptor,
    /// The plain tar.
    pub tar: PathBuf,
    /// Its table of contents.
    pub toc: PathBuf,
}

impl LayerRecord {
    /// The digest of the compressed blob; none where the manifest lists the plain tar.
    pub fn compressed_digest(&self) -> Option<&Digest> {
        Some(&self.blob.digest).filter(|digest| **digest != self.diff_id)
    }

    /// The size of the plain tar in bytes, 0 when it is not there.
    pub fn tar_size(&self) -> u64 {
        std::fs::metadata(&self.tar).map_or(0, |metadata| metadata.len())
    }

    /// The size of the table of contents in bytes, 0 when it is not there.
    pub fn toc_size(&self) -> u64 {
        std::fs::metadata(&self.toc).map_or(0, |metadata| metadata.len())
    }
}

impl ImageRecord {
    /// The size of all plain tars in bytes: what Docker calls the size of an image.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(LayerRecord::tar_size).sum()
    }

    /// The diffIDs, bottom first.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// What the image is called in messages: its first name, or its short ID.
    pub fn label(&self) -> String {
        self.references.first().map_or_else(|| self.id.short(), Reference::familiar)
    }
}

impl Store {
    /// The image that `text` names: a reference, an image ID or a prefix of one, or the digest of a manifest; for the
    /// platform of this machine where there are several.
    pub fn resolve(&self, text: &str) -> StoreResult<ImageRecord> {
        self.resolve_for(text, None)
    }

    /// As [`Self::resolve`], for a platform. An image of one platform that was asked for by its name is returned only
    /// when it serves `platform`; without a platform, whatever there is.
    pub fn resolve_for(&self, text: &str, platform: Option<&Platform>) -> StoreResult<ImageRecord> {
        let entries = self.entries()?;
        if let Some(entry) = find_by_reference(&entries, text)? {
            return self.image_in(&entries, &entry.target, platform, text);
        }
        let found = self.find_by_id(&entries, text);
        let missing = matches!(found, Err(StoreError::NoSuchImage(_)));
        match find_by_layout_name(&entries, text).filter(|_| missing) {
            Some(entry) => self.image_in(&entries, &entry.target, platform, text),
            None => found,
        }
    }

    /// The index entry of a name, without looking at what it points to.
    pub fn entry(&self, reference: &Reference) -> StoreResult<Option<IndexEntry>> {
        let reference = reference.clone().or_latest();
        Ok(self.entries()?.into_iter().find(|entry| entry.reference.as_ref() == Some(&reference)))
    }

    /// Every image: each once with all its names, in the order of the index. Lists of images by platform give one
    /// image for each platform that is there. One that is damaged is left out with a warning: it must not hide the others.
    pub fn images(&self) -> StoreResult<Vec<ImageRecord>> {
        let entries = self.entries()?;
        let mut images: Vec<ImageRecord> = Vec::new();
        for entry in &entries {
            let known = |images: &[ImageRecord], digest| images.iter().any(|image| image.manifest.digest == digest);
            let loaded = self.manifests_of(&entry.target).and_then(|manifests| {
                let new = manifests.into_iter().filter(|manifest| !known(&images, manifest.digest));
                new.map(|manifest| self.load_image(&entries, &entry.target, &manifest)).collect::<StoreResult<Vec<_>>>()
            });
            match loaded {
                Ok(loaded) => images.extend(loaded),
                Err(error) => warn_of_damage(entry, &error),
            }
        }
        Ok(images)
    }

    /// The image of a manifest, or the one of an index that serves `platform`, as it is in the store.
    pub fn image(&self, target: &Descriptor, platform: Option<&Platform>) -> StoreResult<ImageRecord> {
        self.image_in(&self.entries()?, target, platform, &target.digest.to_string())
    }

    /// The manifests that are there of what an entry points to.
    pub fn manifests_of(&self, target: &Descriptor) -> StoreResult<Vec<Descriptor>> {
        match self.read_target(target)? {
            ManifestKind::Image(_) => Ok(vec![target.clone()]),
            ManifestKind::Index(index) => self.present_manifests(&index),
        }
    }

    /// Reads and parses a manifest or index.
    pub fn read_target(&self, target: &Descriptor) -> StoreResult<ManifestKind> {
        let bytes = self.read_document("manifest", &target.digest)?;
        ManifestKind::parse(Some(&target.media_type), &bytes)
            .map_err(|source| StoreError::Document { digest: target.digest, source })
    }

    /// The list with what is in the lists in it, as far as they are there.
    pub fn flat(&self, index: &Index) -> StoreResult<Index> {
        index.flattened(None, |entry, nesting| {
            let digest = entry.digest;
            if self.blob_size(&digest)?.is_none() {
                return Ok(None);
            }
            nesting.check().map_err(|source| StoreError::Document { digest, source })?;
            match self.read_target(entry)? {
                ManifestKind::Index(inner) => Ok(Some(inner)),
                ManifestKind::Image(_) => Ok(None),
            }
        })
    }

    fn present_manifests(&self, index: &Index) -> StoreResult<Vec<Descriptor>> {
        let mut present = Vec::new();
        for entry in &self.flat(index)?.manifests {
            if entry.is_image() && self.blob_size(&entry.digest)?.is_some() {
                present.push(entry.clone());
            }
        }
        Ok(present)
    }

    fn image_in(
        &self,
        entries: &[IndexEntry],
        target: &Descriptor,
        platform: Option<&Platform>,
        label: &str,
    ) -> StoreResult<ImageRecord> {
        let unavailable = |offered: Vec<Platform>, wanted: &Platform| StoreError::NoPlatform {
            image: label.to_owned(),
            wanted: wanted.to_string(),
            offered: offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        match self.read_target(target)? {
            ManifestKind::Image(_) => {
                let image = self.load_image(entries, target, target)?;
                let offered = image.config.platform();
                match platform {
                    Some(wanted) if wanted.distance_to(&offered).is_none() => Err(unavailable(vec![offered], wanted)),
                    _ => Ok(image),
                }
            }
            ManifestKind::Index(index) => {
                let present = self.present_manifests(&index)?;
                let host = Platform::host();
                let wanted = platform.unwrap_or(&host);
                let best = wanted.best(&present, |entry| entry.platform.clone());
                let only = || present.first().filter(|_| platform.is_none() && present.len() == 1);
                // Where the list says nothing, the configurations do.
                let own = |entry: &Descriptor| entry.platform.clone().or_else(|| self.configured_platform(entry));
                let Some(manifest) = best.or_else(only).or_else(|| wanted.best(&present, own)) else {
                    let offered = present.iter().filter_map(|entry| entry.platform.clone()).collect();
                    return Err(unavailable(offered, wanted));
                };
                self.load_image(entries, target, manifest)
            }
        }
    }

    fn configured_platform(&self, manifest: &Descriptor) -> Option<Platform> {
        let id = self.config_digest(manifest).ok()?;
        Some(ImageConfig::parse(&self.read_document("configuration", &id).ok()?).ok()?.platform())
    }

    pub(super) fn load_image(
        &self,
        entries: &[IndexEntry],
        target: &Descriptor,
        descriptor: &Descriptor,
    ) -> StoreResult<ImageRecord> {
        let digest = descriptor.digest;
        let bytes = self.read_document("manifest", &digest)?;
        let manifest = Manifest::parse(&bytes).map_err(|source| StoreError::Document { digest, source })?;
        let id = manifest.config.digest;
        let bytes = self.read_document("configuration", &id)?;
        let config = ImageConfig::parse(&bytes)
            .and_then(|config| config.check_layers(manifest.layers.len()).map(|()| config))
            .map_err(|source| StoreError::Config { digest: id, source })?;
        let named = || entries.iter().filter(|entry| entry.target.digest == target.digest);
        let mut repo_digests: Vec<Reference> = named().flat_map(|entry| entry.repo_digests.clone()).collect();
        repo_digests.sort();
        repo_digests.dedup();
        Ok(ImageRecord {
            id,
            manifest: descriptor.clone(),
            target: target.clone(),
            layers: self.layer_records(&config, manifest.layers),
            config,
            references: named().filter_map(|entry| entry.reference.clone()).collect(),
            repo_digests,
        })
    }

    fn layer_records(&self, config: &ImageConfig, blobs: Vec<Descriptor>) -> Vec<LayerRecord> {
        let diff_ids = &config.rootfs.diff_ids;
        let chain = chain_ids(diff_ids);
        let layer = |((diff_id, chain_id), blob): ((&Digest, Digest), Descriptor)| LayerRecord {
            diff_id: *diff_id,
            chain_id,
            blob,
            tar: self.blob_path(diff_id),
            toc: self.toc_path(diff_id),
        };
        diff_ids.iter().zip(chain).zip(blobs).map(layer).collect()
    }

    fn find_by_id(&self, entries: &[IndexEntry], text: &str) -> StoreResult<ImageRecord> {
        let not_found = || StoreError::NoSuchImage(with_default_tag(text));
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(not_found());
        }
        let mut matches: Vec<ImageRecord> = Vec::new();
        for entry in entries {
            if let Err(error) = self.match_entry(entries, entry, prefix, &mut matches) {
                warn_of_damage(entry, &error);
            }
        }
        if matches.is_empty() && prefix.len() == 64 {
            matches.extend(self.image_of_container(prefix)?);
        }
        let mut ids: Vec<Digest> = matches.iter().map(|image| image.id).collect();
        ids.sort();
        ids.dedup();
        if ids.len() > 1 {
            return Err(StoreError::Ambiguous { prefix: prefix.to_owned(), matches: ids });
        }
        matches.into_iter().next().ok_or_else(not_found)
    }

    /// Adds the images of an entry whose ID begins with `prefix`, or whose manifest has the whole digest.
    fn match_entry(
        &self,
        entries: &[IndexEntry],
        entry: &IndexEntry,
        prefix: &str,
        matches: &mut Vec<ImageRecord>,
    ) -> StoreResult<()> {
        for manifest in self.manifests_of(&entry.target)? {
            let known = matches.iter().any(|image| image.manifest.digest == manifest.digest);
            let id = self.config_digest(&manifest)?;
            let whole = [manifest.digest, entry.target.digest].iter().any(|digest| digest.hex() == prefix);
            if !known && (id.hex().starts_with(prefix) || whole) {
                matches.push(self.load_image(entries, &entry.target, &manifest)?);
            }
        }
        Ok(())
    }

    /// An image that was removed by force while a named mount is made of it: the mount keeps it.
    fn image_of_container(&self, hex: &str) -> StoreResult<Option<ImageRecord>> {
        let is_meant = |digest: &Digest| digest.hex() == hex;
        let containers = self.containers()?;
        let found = containers.iter().map(|container| &container.record);
        let Some(record) = found.into_iter().find(|record| is_meant(&record.manifest) || is_meant(&record.image_id))
        else {
            return Ok(None);
        };
        let bytes = self.read_document("manifest", &record.manifest)?;
        let kind = Manifest::parse(&bytes).map_or(MediaType::OciManifest, |manifest| manifest.kind());
        let descriptor = Descriptor::new(kind, record.manifest, bytes.len() as u64);
        self.load_image(&[], &descriptor, &descriptor).map(Some)
    }

    fn config_digest(&self, manifest: &Descriptor) -> StoreResult<Digest> {
        match self.read_target(manifest)? {
            ManifestKind::Image(image) => Ok(image.config.digest),
            ManifestKind::Index(_) => Ok(manifest.digest),
        }
    }
}

/// The entry that a text names as a reference. A text that cannot be one is no error here: it may be an ID.
fn find_by_reference<'a>(entries: &'a [IndexEntry], text: &str) -> StoreResult<Option<&'a IndexEntry>> {
    let reference = match text.parse::<Reference>() {
        Ok(reference) => reference.or_latest(),
        Err(_) if looks_like_id(text) => return Ok(None),
        Err(source) => return Err(StoreError::Reference { text: text.to_owned(), source }),
    };
    let named = entries.iter().find(|entry| entry.reference.as_ref() == Some(&reference));
    let Some(digest) = reference.digest() else { return Ok(named) };
    let by_digest = |entry: &&IndexEntry| {
        let same_name = |other: &Reference| other.name() == reference.name();
        let listed = entry.repo_digests.iter().any(|other| same_name(other) && other.digest() == Some(digest));
        listed || (entry.target.digest == *digest && entry.reference.as_ref().is_some_and(same_name))
    };
    Ok(named.or_else(|| entries.iter().find(by_digest)))
}

fn warn_of_damage(entry: &IndexEntry, error: &StoreError) {
    let name = entry.reference.as_ref().map_or_else(|| entry.target.digest.to_string(), Reference::familiar);
    log::warn!(target: "layerfs::store", "image {name} cannot be used: {error}");
}

/// The one image that had the name `text` in the layout it came from.
fn find_by_layout_name<'a>(entries: &'a [IndexEntry], text: &str) -> Option<&'a IndexEntry> {
    let has_name =
        |entry: &&IndexEntry| entry.target.annotations.get(LAYOUT_NAME_ANNOTATION).is_some_and(|name| name == text);
    let mut found = entries.iter().filter(has_name);
    let first = found.next()?;
    found.all(|entry| entry.target.digest == first.target.digest).then_some(first)
}

fn looks_like_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    !hex.is_empty() && hex.len() <= 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The text as Docker repeats it: with the tag it implies.
fn with_default_tag(text: &str) -> String {
    text.parse::<Reference>().map_or_else(|_| text.to_owned(), |reference| reference.or_latest().familiar())
}
