//! Loading images from archives and image layouts.
//!
//! First the documents are read and checked, then the layers that are missing are brought in, several at once, then the
//! documents are stored; the references move last, all together.

use super::archive_files::{ArchiveFiles, LayerContext, Members};
use super::error::{ImageError, ImageResult};
use super::ingest::{Expected, Ingested, Limits};
use super::load_docker::docker_images;
use super::load_oci::oci_images;
use super::progress::Progress;
use super::source::{ArchiveFormat, Location, Source};
use super::stream::Streamed;
use crate::oci::{Descriptor, Digest, LayerCompression, Manifest, MediaType, Platform, Reference};
use crate::store::{ImageRecord, Session, Store};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Layers that are brought in at once, at the most: each has up to five threads and 6 MiB of buffers.
const PARALLEL_MAX: usize = 8;

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where from.
    pub source: Source,
    /// For which platform; this machine's where there is a choice and nothing is said.
    pub platform: Option<Platform>,
    /// For all platforms that there are: the list of images by platform is kept as one image.
    pub all_platforms: bool,
    /// The name to give, in place of those in the archive.
    pub name: Option<Reference>,
    /// How large layers may be.
    pub limits: Limits,
}

impl LoadOptions {
    /// Everything in `source`, for this machine, under its own names.
    pub fn new(source: Source) -> Self {
        Self { source, platform: None, all_platforms: false, name: None, limits: Limits::default() }
    }
}

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its name, where it has one.
    pub reference: Option<Reference>,
    /// Its ID; of a list of images by platform the digest of the list.
    pub id: Digest,
    /// The manifest or the list.
    pub target: Descriptor,
}

/// One image of one platform as an archive has it: everything but its layers has been read and checked.
#[derive(Debug)]
pub(super) struct PlannedImage {
    pub(super) config: Vec<u8>,
    pub(super) config_digest: Digest,
    pub(super) manifest: PlannedManifest,
    pub(super) layers: Vec<PlannedLayer>,
}

/// The manifest of an image to be.
#[derive(Debug)]
pub(super) enum PlannedManifest {
    /// As the archive has it.
    Given { bytes: Vec<u8>, descriptor: Box<Descriptor> },
    /// To be made when the layers are known: docker-archives have none.
    Made,
}

/// One layer of an image to be.
#[derive(Debug, Clone)]
pub(super) struct PlannedLayer {
    /// The file of the archive.
    pub(super) name: String,
    pub(super) expected: Expected,
    pub(super) diff_id: Digest,
}

/// A list of images by platform: its bytes and what points to it.
pub(super) type PlannedIndex = (Vec<u8>, Descriptor);

/// What a name will point to.
#[derive(Debug)]
pub(super) struct PlannedEntry {
    pub(super) references: Vec<Reference>,
    pub(super) images: Vec<PlannedImage>,
    /// The list of images by platform, where it is kept.
    pub(super) index: Option<PlannedIndex>,
    /// The lists in it.
    pub(super) lists: Vec<PlannedIndex>,
}

/// Loads images into the store.
pub fn load(store: &Store, options: &LoadOptions, progress: &dyn Progress) -> ImageResult<Vec<Loaded>> {
    let session = store.session()?;
    let context = LayerContext { session: &session, limits: &options.limits, progress };
    let files = open(options, &context)?;
    let mut entries = plan(&files, options)?;
    if let Some(name) = &options.name {
        rename(&mut entries, name, options)?;
    }
    let layers = ingest_all(&files, &context, &entries)?;
    let mut targets = Vec::new();
    for entry in &entries {
        targets.push(store_documents(&session, entry, &layers)?);
    }
    let mut loaded = Vec::new();
    for (entry, (id, target)) in entries.iter().zip(targets) {
        // What an archive calls by the digest of something else has no name.
        let is_told = |reference: &&Reference| reference.digest().is_none_or(|digest| *digest == target.digest);
        let references: Vec<&Reference> = entry.references.iter().filter(is_told).collect();
        if references.is_empty() {
            session.set_reference(None, &target)?;
            loaded.push(Loaded { reference: None, id, target: target.clone() });
        }
        for reference in references {
            session.set_reference(Some(reference), &target)?;
            loaded.push(Loaded { reference: Some(reference.clone()), id, target: target.clone() });
        }
    }
    Ok(loaded)
}

/// The image that `text` names: one of the store, or the one in `oci:DIR[:TAG]`, `oci-archive:FILE` or
/// `docker-archive:FILE`, which is brought into the store without a name.
pub fn resolve_or_load(
    store: &Store,
    text: &str,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> ImageResult<ImageRecord> {
    let Some(source) = Source::parse_prefixed(text) else { return Ok(store.resolve_for(text, platform)?) };
    // An image that came out of a directory called `oci` is itself known as `oci:TAG`.
    if matches!(&source.location, Location::Path(path) if !path.exists())
        && let Ok(record) = store.resolve_for(text, platform)
    {
        return Ok(record);
    }
    let options = LoadOptions { platform: platform.cloned(), ..LoadOptions::new(source) };
    let session = store.session()?;
    let context = LayerContext { session: &session, limits: &options.limits, progress };
    let files = open(&options, &context)?;
    let mut entries = plan(&files, &options)?;
    let (Some(entry), true) = (entries.pop(), entries.is_empty()) else {
        return Err(several(&options.source, &plan(&files, &options)?));
    };
    let layers = ingest_all(&files, &context, std::slice::from_ref(&entry))?;
    let (_, target) = store_documents(&session, &entry, &layers)?;
    session.set_reference(None, &target)?;
    Ok(store.image(&target, platform)?)
}

fn several(source: &Source, entries: &[PlannedEntry]) -> ImageError {
    let names =
        |entry: &PlannedEntry| entry.references.first().map_or_else(|| "<none>".to_owned(), Reference::familiar);
    let offered = entries.iter().map(names).collect::<Vec<_>>().join(", ");
    ImageError::SeveralImages { what: source.label(), count: entries.len(), offered }
}

fn rename(entries: &mut [PlannedEntry], name: &Reference, options: &LoadOptions) -> ImageResult<()> {
    match entries {
        [entry] => {
            entry.references = vec![name.clone().or_latest()];
            Ok(())
        }
        _ => Err(several(&options.source, entries)),
    }
}

/// Opens a source: anything that can be read at any offset is, the rest goes by once.
fn open(options: &LoadOptions, context: &LayerContext<'_>) -> ImageResult<ArchiveFiles> {
    let what = options.source.label();
    let read_error = |source: io::Error| ImageError::Read { what: what.clone(), source };
    let file = match &options.source.location {
        Location::Path(path) if path.is_dir() => return Ok(ArchiveFiles::Directory(path.clone())),
        Location::Path(path) => File::open(path),
        Location::Stdin => io::stdin().as_fd().try_clone_to_owned().map(File::from),
    };
    let file = file.map_err(read_error)?;
    if file.metadata().map_err(read_error)?.is_file() {
        let again = file.try_clone().map_err(read_error)?;
        if let Some(members) = Members::scan(&what, file)? {
            return Ok(ArchiveFiles::Tar(members));
        }
        return Streamed::read(&what, again, context).map(ArchiveFiles::Streamed);
    }
    Streamed::read(&what, file, context).map(ArchiveFiles::Streamed)
}

/// Reads the documents.
fn plan(files: &ArchiveFiles, options: &LoadOptions) -> ImageResult<Vec<PlannedEntry>> {
    let what = options.source.label();
    let (format, limit) = (options.source.format, options.limits.manifest);
    let entries = match files.document("index.json", limit)? {
        Some(index) if format != ArchiveFormat::Docker => oci_images(files, options, &index)?,
        _ => match files.document("manifest.json", limit)? {
            Some(manifest) if format != ArchiveFormat::Oci => docker_images(files, options, &manifest)?,
            _ => return Err(ImageError::NotAnImage { what, detail: missing(files, options) }),
        },
    };
    if entries.is_empty() {
        return Err(ImageError::NotAnImage { what, detail: "it lists no image".to_owned() });
    }
    Ok(entries)
}

fn missing(files: &ArchiveFiles, options: &LoadOptions) -> String {
    match options.source.format {
        _ if files.has_document("repositories") => {
            "it is of the format before Docker 1.10, without manifest.json".to_owned()
        }
        ArchiveFormat::Docker => "there is no manifest.json in it".to_owned(),
        ArchiveFormat::Oci => "there is no index.json in it".to_owned(),
        ArchiveFormat::Any => "there is neither index.json nor manifest.json in it".to_owned(),
    }
}

/// Brings the layers of all images in, each once. A file that is called two layers is looked at twice: one of the names is
/// wrong.
fn ingest_all(
    files: &ArchiveFiles,
    context: &LayerContext<'_>,
    entries: &[PlannedEntry],
) -> ImageResult<HashMap<String, Ingested>> {
    let mut seen = HashSet::new();
    let planned = entries.iter().flat_map(|entry| &entry.images).flat_map(|image| &image.layers);
    let mut jobs: Vec<&PlannedLayer> =
        planned.filter(|layer| seen.insert((layer.name.clone(), layer.diff_id))).collect();
    // The largest go first, so that none of them is left for the end: the queue is taken from its back.
    jobs.sort_by_cached_key(|layer| files.size(&layer.name));
    let (queue, done) = (Mutex::new(jobs), Mutex::new(HashMap::new()));
    let failed = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    let work = || {
        while let Some(layer) = queue.lock().pop() {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            match ingest_one(files, context, layer, &|| failed.load(Ordering::Relaxed)) {
                Ok(ingested) => drop(done.lock().insert(layer.name.clone(), ingested)),
                Err(error) => {
                    // Those who were stopped because of the first error come after it.
                    first_error.lock().get_or_insert(error);
                    failed.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // One more than there are cores: one of them waits for the disk, or is at its end.
    let workers = if files.is_random_access() { (cores + 1).min(PARALLEL_MAX) } else { 1 };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    first_error.into_inner().map_or(Ok(()), Err)?;
    Ok(done.into_inner())
}

fn ingest_one(
    files: &ArchiveFiles,
    context: &LayerContext<'_>,
    layer: &PlannedLayer,
    stop: &dyn Fn() -> bool,
) -> ImageResult<Ingested> {
    if let Some(present) = present(context.session, layer)? {
        return Ok(present);
    }
    let lost = || ImageError::Incomplete { what: "the archive".to_owned(), missing: format!("layer {}", layer.name) };
    files.layer(context, &layer.name, &layer.expected, stop)?.ok_or_else(lost)
}

/// The layer, when the store has it. One that an archive may have in any form is taken as the plain tar it is here.
fn present(session: &Session, layer: &PlannedLayer) -> ImageResult<Option<Ingested>> {
    let diff_id = layer.diff_id;
    let (digest, size) = layer.expected.blob.unwrap_or((diff_id, 0));
    if !super::has_layer(session, &diff_id, &digest, layer.expected.blob.map(|(_, size)| size))? {
        return Ok(None);
    }
    if !session.store().toc_path(&diff_id).exists() {
        super::layers::rebuild_table(session, &diff_id)?;
    }
    let tar_size = session.store().blob_size(&diff_id)?.unwrap_or_default();
    let size = if digest == diff_id { tar_size } else { size };
    let kind = layer.expected.media_type.as_deref().and_then(|text| MediaType::parse(text).ok());
    let compression = kind.and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
    Ok(Some(Ingested { diff_id, tar_size, digest, size, compression }))
}

/// Stores the documents of an entry; returns its ID and what its names will point to.
fn store_documents(
    session: &Session,
    entry: &PlannedEntry,
    layers: &HashMap<String, Ingested>,
) -> ImageResult<(Digest, Descriptor)> {
    let mut first = None;
    for image in &entry.images {
        session.put_document(&image.config)?;
        let descriptor = match &image.manifest {
            PlannedManifest::Given { bytes, descriptor } => {
                session.put_verified(descriptor, bytes)?;
                (**descriptor).clone()
            }
            PlannedManifest::Made => {
                let bytes = made_manifest(image, layers).to_bytes();
                session.put_document(&bytes)?;
                Descriptor::of(MediaType::OciManifest, &bytes)
            }
        };
        first.get_or_insert((image.config_digest, descriptor));
    }
    for (bytes, descriptor) in &entry.lists {
        session.put_verified(descriptor, bytes)?;
    }
    if let Some((bytes, descriptor)) = &entry.index {
        session.put_verified(descriptor, bytes)?;
        return Ok((descriptor.digest, descriptor.clone()));
    }
    first.ok_or_else(|| ImageError::NotAnImage {
        what: "the archive".to_owned(),
        detail: "it lists no image".to_owned(),
    })
}

/// The manifest of an image whose archive has none. It depends on the configuration and the layers only.
fn made_manifest(image: &PlannedImage, layers: &HashMap<String, Ingested>) -> Manifest {
    let descriptors = image.layers.iter().filter_map(|layer| layers.get(&layer.name));
    let descriptors = descriptors.map(|layer| Descriptor::new(layer.media_type(), layer.digest, layer.size)).collect();
    Manifest::new(Descriptor::of(MediaType::OciConfig, &image.config), descriptors)
}
