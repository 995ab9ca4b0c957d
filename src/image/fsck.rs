//! Checking a store, and mending it.
//!
//! Everything is checked from the ground up: every blob against its name, every document an image needs, every table of
//! contents against the tar. What can be made from something that is sound is made at once: a table from its tar, a tar
//! from a compressed form, a compressed form from its tar. What would lose something is done only on request.

use super::error::ImageResult;
use super::layers::{rebuild_table, rebuild_tar, table_of};
use super::progress::{NoProgress, Progress};
use super::repair::{recompress, replace_by_plain};
use crate::oci::{Descriptor, Digest, Hasher, ImageConfig, Manifest, ManifestKind};
use crate::store::{ImageRecord, LayerRecord, Store, StoreError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Bytes read at a time when blobs are hashed.
const BUFFER: usize = 1 << 20;

/// How to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsckOptions {
    /// Only tell: mend nothing.
    pub dry_run: bool,
    /// Also do what loses something: remove damaged files that cannot be made anew, and images that cannot be used.
    pub repair: bool,
}

/// What became of something that was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done.
    Found,
    /// It is right again, and nothing is lost.
    Mended,
    /// It was removed or replaced; something is lost.
    Removed,
    /// It is lost; only loading or pulling the image again helps.
    Lost,
}

/// Something that was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, in one line.
    pub problem: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The images and mounts that it concerns.
    pub affects: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct FsckReport {
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Images that were checked.
    pub images: usize,
    /// Whether the index of all images could be read.
    pub index_is_sound: bool,
    /// What was wrong.
    pub findings: Vec<Finding>,
}

impl FsckReport {
    /// Whether nothing is wrong now.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.outcome, Outcome::Mended | Outcome::Removed))
    }
}

/// Checks the store.
pub fn fsck(store: &Store, options: FsckOptions, progress: &dyn Progress) -> ImageResult<FsckReport> {
    let index = check_index(store, options)?;
    // While the index cannot be read nobody knows which images there are, nor what none of them needs.
    let is_lost = index.as_ref().is_some_and(|finding| finding.outcome == Outcome::Found);
    let entries = if is_lost { Vec::new() } else { store.entries()? };
    let bad = hash_blobs(store, progress)?;
    let mut check = Check { store, options, bad: bad.damaged, report: FsckReport::default(), users: BTreeMap::new() };
    (check.report.blobs, check.report.bytes) = (bad.count, bad.bytes);
    check.report.index_is_sound = index.is_none();
    check.report.findings.extend(index);
    for entry in &entries {
        let label = entry.reference.as_ref().map_or_else(|| entry.target.digest.to_string(), ToString::to_string);
        check.entry(&entry.target, &label)?;
    }
    check.containers()?;
    check.strays(!is_lost && !options.dry_run)?;
    Ok(check.report)
}

/// The index of all images. One that cannot be read is made again on request, without the names.
fn check_index(store: &Store, options: FsckOptions) -> ImageResult<Option<Finding>> {
    let Some(detail) = store.index_damage()? else { return Ok(None) };
    let mut problem = format!("{}: {detail}", store.root().join("index.json").display());
    let mut outcome = Outcome::Found;
    if options.repair && !options.dry_run {
        let Some(rebuilt) = store.rebuild_index()? else { return Ok(None) };
        if let Some(aside) = rebuilt.aside {
            problem = format!("{problem}; set aside as {}", aside.display());
        }
        problem = format!("{problem}; made again, with {} images that have no names now", rebuilt.images);
        outcome = Outcome::Removed;
    }
    Ok(Some(Finding { problem, outcome, affects: Vec::new() }))
}

/// Blobs whose content is not what their name says.
struct Hashed {
    damaged: BTreeSet<Digest>,
    count: usize,
    bytes: u64,
}

/// Hashes every blob, on all cores.
fn hash_blobs(store: &Store, progress: &dyn Progress) -> ImageResult<Hashed> {
    let mut files = store.digest_files("blobs/sha256")?;
    files.sort_by_cached_key(|(path, _)| path.metadata().map_or(0, |metadata| metadata.len()));
    let total = files.iter().filter_map(|(path, _)| path.metadata().ok()).map(|metadata| metadata.len()).sum();
    let count = files.len();
    let (queue, damaged, failed) = (Mutex::new(files), Mutex::new(BTreeSet::new()), Mutex::new(None));
    let work = || {
        let bar = progress.layer("blobs", Some(total));
        let mut buffer = vec![0; BUFFER];
        while let Some((path, digest)) = queue.lock().pop() {
            let result = File::open(&path).and_then(|mut file| {
                let mut hasher = Hasher::new();
                loop {
                    match file.read(&mut buffer)? {
                        0 => return Ok(hasher.finish().0 == digest),
                        read => {
                            hasher.update(buffer.get(..read).unwrap_or_default());
                            bar.advance(read as u64);
                        }
                    }
                }
            });
            match result {
                Ok(true) => {}
                Ok(false) => drop(damaged.lock().insert(digest)),
                // Collected by someone else in the meantime.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // A file that cannot be read to its end is as good as damaged; a store that cannot be read is not.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => drop(damaged.lock().insert(digest)),
                Err(source) => *failed.lock() = Some(StoreError::Io { path, source }),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner().map_or(Ok(()), Err)?;
    Ok(Hashed { damaged: damaged.into_inner(), count, bytes: total })
}

struct Check<'a> {
    store: &'a Store,
    options: FsckOptions,
    /// Blobs that are there and damaged. What is mended is taken out.
    bad: BTreeSet<Digest>,
    report: FsckReport,
    /// Layers that were checked, and the images that have them.
    users: BTreeMap<Digest, Vec<String>>,
}

impl Check<'_> {
    fn finding(&mut self, problem: String, outcome: Outcome, label: &str) {
        self.report.findings.push(Finding { problem, outcome, affects: vec![label.to_owned()] });
    }

    /// Whether a blob is there and what its name says.
    fn is_sound(&self, digest: &Digest) -> ImageResult<bool> {
        Ok(!self.bad.contains(digest) && self.store.blob_size(digest)?.is_some())
    }

    fn state(&self, digest: &Digest) -> &'static str {
        if self.bad.contains(digest) { "damaged" } else { "missing" }
    }

    fn entry(&mut self, target: &Descriptor, label: &str) -> ImageResult<()> {
        if !self.is_sound(&target.digest)? {
            let problem = format!("manifest {} is {}", target.digest, self.state(&target.digest));
            return self.unusable(problem, target, label);
        }
        let manifests = match self.store.read_target(target) {
            Ok(ManifestKind::Image(_)) => vec![target.clone()],
            Ok(ManifestKind::Index(_)) => match self.store.manifests_of(target) {
                Ok(manifests) => manifests,
                // A list in the list; the other entries are looked at all the same.
                Err(error) => return self.unusable(error.to_string(), target, label),
            },
            Err(error) => return self.unusable(error.to_string(), target, label),
        };
        for manifest in manifests {
            self.image(target, &manifest, label)?;
        }
        Ok(())
    }

    fn image(&mut self, target: &Descriptor, descriptor: &Descriptor, label: &str) -> ImageResult<()> {
        self.report.images += 1;
        if !self.is_sound(&descriptor.digest)? {
            let problem = format!("manifest {} is {}", descriptor.digest, self.state(&descriptor.digest));
            return self.unusable(problem, target, label);
        }
        let bytes = self.store.read_document("manifest", &descriptor.digest)?;
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => return self.unusable(format!("manifest {}: {error}", descriptor.digest), target, label),
        };
        let id = manifest.config.digest;
        if !self.is_sound(&id)? {
            return self.unusable(format!("configuration {id} is {}", self.state(&id)), target, label);
        }
        let config = ImageConfig::parse(&self.store.read_document("configuration", &id)?)
            .and_then(|config| config.check_layers(manifest.layers.len()));
        if let Err(error) = config {
            return self.unusable(format!("configuration {id}: {error}"), target, label);
        }
        let image = self.store.image(descriptor, None)?;
        self.layers(target, &image, label)
    }

    /// An image that cannot be used at all. Its entry goes on request.
    fn unusable(&mut self, problem: String, target: &Descriptor, label: &str) -> ImageResult<()> {
        let mut outcome = Outcome::Lost;
        if self.options.repair && !self.options.dry_run {
            self.store.drop_entries(&target.digest)?;
            if self.bad.remove(&target.digest) {
                remove(self.store.blob_path(&target.digest))?;
            }
            outcome = Outcome::Removed;
        }
        self.finding(problem, outcome, label);
        Ok(())
    }

    fn layers(&mut self, target: &Descriptor, image: &ImageRecord, label: &str) -> ImageResult<()> {
        let mut unusable_blobs = Vec::new();
        for layer in &image.layers {
            let known = self.users.contains_key(&layer.diff_id);
            self.users.entry(layer.diff_id).or_default().push(label.to_owned());
            if !known {
                self.tar(layer, label)?;
                self.table(layer, label)?;
            }
            if layer.compressed_digest().is_some() && !self.compressed(layer, label)? {
                unusable_blobs.push(layer.diff_id);
            }
        }
        if unusable_blobs.is_empty() || !self.options.repair || self.options.dry_run {
            return Ok(());
        }
        if target.digest == image.manifest.digest {
            replace_by_plain(self.store, image, &unusable_blobs)?;
            let problem = format!("the manifest {} lists compressed layers that are lost", target.digest);
            self.finding(problem + ": it lists their plain tars now", Outcome::Removed, label);
        }
        Ok(())
    }

    /// The plain tar of a layer.
    fn tar(&mut self, layer: &LayerRecord, label: &str) -> ImageResult<()> {
        if self.is_sound(&layer.diff_id)? {
            return Ok(());
        }
        let mut problem = format!("the tar of layer {} is {}", layer.diff_id, self.state(&layer.diff_id));
        let mut outcome = Outcome::Lost;
        if self.has_compressed_form(layer)? {
            outcome = Outcome::Found;
            if !self.options.dry_run {
                rebuild_tar(&self.store.session()?, layer, &NoProgress)?;
                self.bad.remove(&layer.diff_id);
                outcome = Outcome::Mended;
            }
        } else if self.options.repair && !self.options.dry_run && self.bad.remove(&layer.diff_id) {
            // Out of the way, so that loading the image again brings it back.
            remove(self.store.blob_path(&layer.diff_id))?;
            problem += ": removed, load or pull the image again";
        }
        self.finding(problem, outcome, label);
        Ok(())
    }

    fn has_compressed_form(&self, layer: &LayerRecord) -> ImageResult<bool> {
        let mut forms: Vec<Digest> =
            self.store.compressed(&layer.diff_id)?.into_iter().map(|form| form.digest).collect();
        forms.extend(layer.compressed_digest());
        for form in forms {
            if self.is_sound(&form)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The table of contents of a layer: it must be exactly what the tar gives.
    fn table(&mut self, layer: &LayerRecord, label: &str) -> ImageResult<()> {
        if !self.is_sound(&layer.diff_id)? {
            return Ok(());
        }
        let problem = match std::fs::read(&layer.toc) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "missing",
            Err(source) => return Err(StoreError::Io { path: layer.toc.clone(), source }.into()),
            Ok(bytes) if bytes != table_of(self.store, &layer.diff_id)? => "damaged or of another version",
            Ok(_) => return Ok(()),
        };
        let mut outcome = Outcome::Found;
        if !self.options.dry_run {
            rebuild_table(&self.store.session()?, &layer.diff_id)?;
            outcome = Outcome::Mended;
        }
        self.finding(format!("the table of contents of layer {} is {problem}", layer.diff_id), outcome, label);
        Ok(())
    }

    /// The compressed blob that the manifest lists. The image is mounted without it, but cannot be pushed as it came.
    /// False when it is lost.
    fn compressed(&mut self, layer: &LayerRecord, label: &str) -> ImageResult<bool> {
        let digest = layer.blob.digest;
        if self.is_sound(&digest)? {
            return Ok(true);
        }
        let problem = format!("the compressed layer {digest} is {}", self.state(&digest));
        let tar = self.is_sound(&layer.diff_id)?;
        let mended = tar && !self.options.dry_run && recompress(self.store, layer)?;
        if mended {
            self.bad.remove(&digest);
        }
        let plain = tar && self.options.repair && !self.options.dry_run && !mended;
        if plain && self.bad.remove(&digest) {
            remove(self.store.blob_path(&digest))?;
        }
        let outcome = match (mended, plain) {
            (true, _) => Outcome::Mended,
            (false, true) => Outcome::Removed,
            (false, false) => Outcome::Lost,
        };
        self.finding(problem, outcome, label);
        Ok(mended)
    }

    /// The layers below the named writable mounts.
    fn containers(&mut self) -> ImageResult<()> {
        for container in self.store.containers()? {
            let name = container.record.name;
            for diff_id in container.record.layers {
                if !self.users.contains_key(&diff_id) && !self.is_sound(&diff_id)? {
                    let problem = format!("the tar of layer {diff_id} is {}", self.state(&diff_id));
                    self.finding(problem, Outcome::Lost, &format!("mount {name}"));
                }
            }
        }
        Ok(())
    }

    /// Damaged blobs that no image needs: a later load would take them for what their names say.
    fn strays(&mut self, remove_them: bool) -> ImageResult<()> {
        let told: Vec<String> = self.report.findings.iter().map(|finding| finding.problem.clone()).collect();
        for digest in self.bad.clone() {
            if told.iter().any(|problem| problem.contains(&digest.to_string())) {
                continue;
            }
            let mut outcome = Outcome::Found;
            if remove_them {
                remove(self.store.blob_path(&digest))?;
                outcome = Outcome::Mended;
            }
            self.report.findings.push(Finding {
                problem: format!("blob {digest}, which no image needs, is damaged"),
                outcome,
                affects: Vec::new(),
            });
        }
        Ok(())
    }
}

fn remove(path: PathBuf) -> ImageResult<()> {
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Io { path, source }.into()),
        _ => Ok(()),
    }
}
