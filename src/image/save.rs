//! Saving images as archives and image layouts.
//!
//! Both kinds of archive hold the same image layout; a docker-archive has `manifest.json` beside it, as Docker itself
//! writes since version 25. The bytes depend on the images and the form of their layers alone: entries are in a fixed
//! order and carry no time.

use super::bundle::{BlobSource, Bundle};
use super::compress::{LayerForm, layer_in_form};
use super::error::{ImageError, ImageResult};
use super::progress::Progress;
use crate::oci::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Digest, Index, LayerCompression, Manifest,
    ManifestKind, MediaType, Platform, Reference,
};
use crate::store::{ImageRecord, IndexEntry, Session, Store, StoreError};
use serde_json::json;
use std::io::Write;
use std::path::Path;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// A tar for `docker load`.
    DockerArchive,
    /// A tar of an image layout.
    OciArchive,
    /// An image layout directory.
    OciDirectory,
}

/// How to save.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// The form of all layers; as they came when nothing is said.
    pub form: Option<LayerForm>,
    /// Of an image for several platforms, this one. Without it an OCI format takes all that there are, a docker-archive
    /// the one of this machine.
    pub platform: Option<Platform>,
    /// The name in an image layout, in place of the image's own.
    pub name: Option<String>,
}

/// Writes images into a tar.
pub fn save_archive(
    store: &Store,
    images: &[String],
    format: SaveFormat,
    options: &SaveOptions,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> ImageResult<()> {
    let session = store.session_to_read()?;
    let bundle = collect(&session, images, format, options, progress)?;
    bundle.write_tar(format == SaveFormat::DockerArchive, output, progress)
}

/// Writes images into an image layout directory: a new one, or beside the images of one that is there.
pub fn save_directory(
    store: &Store,
    images: &[String],
    options: &SaveOptions,
    directory: &Path,
    progress: &dyn Progress,
) -> ImageResult<()> {
    let session = store.session_to_read()?;
    let bundle = collect(&session, images, SaveFormat::OciDirectory, options, progress)?;
    bundle.write_directory(directory, progress)
}

/// Gathers everything that the images need.
fn collect(
    session: &Session,
    images: &[String],
    format: SaveFormat,
    options: &SaveOptions,
    progress: &dyn Progress,
) -> ImageResult<Bundle> {
    let mut saving = Saving { session, format, options, progress, bundle: Bundle::default() };
    let mut count = 0;
    for text in images {
        for (target, references) in saving.targets(text)? {
            saving.add(&target, &references, text)?;
            count += 1;
        }
    }
    if options.name.is_some() && count > 1 {
        let offered = images.join(", ");
        return Err(ImageError::SeveralImages { what: "the selection".to_owned(), count, offered });
    }
    Ok(saving.bundle)
}

struct Saving<'a> {
    session: &'a Session,
    format: SaveFormat,
    options: &'a SaveOptions,
    progress: &'a dyn Progress,
    bundle: Bundle,
}

impl Saving<'_> {
    /// What `text` means: an image with the name it was given by, or without a name by its ID; all names of a repository
    /// where only that is given, as Docker does it.
    fn targets(&self, text: &str) -> ImageResult<Vec<(Descriptor, Vec<Reference>)>> {
        let store = self.session.store();
        let entries = store.entries()?;
        if let Ok(reference) = text.parse::<Reference>() {
            let whole = reference.tag().is_none() && reference.digest().is_none();
            let wanted = reference.clone().or_latest();
            let is_meant = |name: &Reference| *name == wanted || (whole && name.name() == reference.name());
            let mut found: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
            for IndexEntry { reference, target, .. } in entries {
                let Some(name) = reference.filter(|name| is_meant(name)) else { continue };
                match found.iter_mut().find(|(other, _)| other.digest == target.digest) {
                    Some((_, names)) => names.push(name),
                    None => found.push((target, vec![name])),
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let image = store.resolve_for(text, self.options.platform.as_ref())?;
        Ok(vec![(image.manifest, Vec::new())])
    }

    fn add(&mut self, target: &Descriptor, references: &[Reference], text: &str) -> ImageResult<()> {
        let store = self.session.store();
        self.session.protect(&target.digest)?;
        let one_platform = self.options.platform.is_some() || self.format == SaveFormat::DockerArchive;
        let saved = match store.read_target(target)? {
            ManifestKind::Index(index) if !one_platform => self.add_index(target, index)?,
            _ => {
                let platform = self.options.platform.as_ref();
                let image = store.image(target, platform).map_err(|error| renamed(error, text))?;
                let (descriptor, manifest) = self.add_image(&image)?;
                self.add_docker_item(&manifest, references);
                descriptor
            }
        };
        self.add_names(&saved, references);
        Ok(())
    }

    /// One image; returns its manifest as it is saved.
    fn add_image(&mut self, image: &ImageRecord) -> ImageResult<(Descriptor, Manifest)> {
        let store = self.session.store();
        let digest = image.manifest.digest;
        let bytes = store.read_document("manifest", &digest)?;
        let parsed = Manifest::parse(&bytes).map_err(|source| StoreError::Document { digest, source });
        let mut manifest = parsed?;
        let mut layers = Vec::new();
        for (layer, listed) in image.layers.iter().zip(&manifest.layers) {
            self.session.protect(&layer.diff_id)?;
            let same = self.options.form.is_none() && self.session.has_blob(&listed.digest)?;
            let form = self.options.form.unwrap_or(LayerForm::new(LayerCompression::None));
            let descriptor =
                if same { listed.clone() } else { layer_in_form(self.session, layer, form, self.progress)? };
            let path = store.blob_path(&descriptor.digest);
            self.bundle.blobs.insert(descriptor.digest, BlobSource::File { path, size: descriptor.size });
            layers.push(if descriptor.digest == listed.digest { listed.clone() } else { descriptor });
        }
        let config = store.read_document("configuration", &image.id)?;
        self.bundle.blobs.insert(image.id, BlobSource::Bytes(config));
        if layers == manifest.layers {
            self.bundle.blobs.insert(digest, BlobSource::Bytes(bytes));
            return Ok((image.manifest.clone(), manifest));
        }
        manifest.layers = layers;
        into_oci(&mut manifest);
        let bytes = manifest.to_bytes();
        let descriptor =
            Descriptor { platform: image.manifest.platform.clone(), ..Descriptor::of(MediaType::OciManifest, &bytes) };
        self.bundle.blobs.insert(descriptor.digest, BlobSource::Bytes(bytes));
        Ok((descriptor, manifest))
    }

    /// All images of a list that are there, and the list, changed only where a manifest is.
    fn add_index(&mut self, target: &Descriptor, mut index: Index) -> ImageResult<Descriptor> {
        let store = self.session.store();
        // Lists in it go: few tools read such.
        let mut changed = index.is_nested();
        index = store.flat(&index)?;
        for manifest in store.manifests_of(target)? {
            let image = store.image(&manifest, None)?;
            let (saved, _) = self.add_image(&image)?;
            if saved.digest != manifest.digest {
                changed = true;
                let listed = index.manifests.iter_mut().filter(|entry| entry.digest == manifest.digest);
                listed.for_each(|entry| {
                    (entry.digest, entry.size) = (saved.digest, saved.size);
                    entry.media_type.clone_from(&saved.media_type);
                });
            }
        }
        let bytes = if changed { index.to_bytes() } else { store.read_document("index", &target.digest)? };
        let kind = target.kind().unwrap_or(MediaType::OciIndex);
        let descriptor = if changed { Descriptor::of(kind, &bytes) } else { target.clone() };
        self.bundle.blobs.insert(descriptor.digest, BlobSource::Bytes(bytes));
        Ok(descriptor)
    }

    /// The image in `manifest.json`.
    fn add_docker_item(&mut self, manifest: &Manifest, references: &[Reference]) {
        let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let tags: Vec<String> = references.iter().map(Reference::familiar).collect();
        let layers: Vec<String> = manifest.layers.iter().map(|layer| blob(&layer.digest)).collect();
        let tags = if tags.is_empty() { serde_json::Value::Null } else { json!(tags) };
        self.bundle.docker.push(json!({ "Config": blob(&manifest.config.digest), "RepoTags": tags, "Layers": layers }));
    }

    /// The entries of `index.json`, one a name.
    fn add_names(&mut self, saved: &Descriptor, references: &[Reference]) {
        let mut plain = saved.clone();
        plain.annotations.clear();
        if let Some(name) = &self.options.name {
            plain.annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.clone());
            self.bundle.index.push(plain);
            return;
        }
        if references.is_empty() {
            self.bundle.index.push(plain);
            return;
        }
        for reference in references {
            let mut named = plain.clone();
            named.annotations.insert(ANNOTATION_REF_NAME.to_owned(), reference.familiar());
            named.annotations.insert(ANNOTATION_CONTAINERD_NAME.to_owned(), reference.canonical());
            self.bundle.index.push(named);
        }
    }
}

/// Gives a manifest whose layers were changed the media types of OCI: Docker's have no name for zstd.
fn into_oci(manifest: &mut Manifest) {
    manifest.media_type = Some(MediaType::OciManifest.as_str().to_owned());
    MediaType::OciConfig.as_str().clone_into(&mut manifest.config.media_type);
    for layer in &mut manifest.layers {
        let compression = layer.kind().ok().and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
        MediaType::OciLayer(compression).as_str().clone_into(&mut layer.media_type);
    }
}

/// An error about a platform names the image as it was asked for.
fn renamed(error: StoreError, text: &str) -> StoreError {
    match error {
        StoreError::NoPlatform { wanted, offered, .. } => {
            StoreError::NoPlatform { image: text.to_owned(), wanted, offered }
        }
        other => other,
    }
}
