//! What is still needed, what is not, and how much space either takes.

use super::error::{AtPath, StoreResult};
use super::files::{list_optional, remove_optional};
use super::layout::Store;
use super::leases::{LeaseRecord, is_held};
use super::references::IndexEntry;
use crate::oci::{DOCUMENT_MAX, Descriptor, Digest, ImageConfig, ManifestKind};
use crate::sandbox::{Identity, Task};
use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What `prune` removes.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneOptions {
    /// Also images that have names but that no mount uses, and the build cache.
    pub all: bool,
    /// Only tell.
    pub dry_run: bool,
}

/// One thing that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// An image: its name, where it has one, and its manifest.
    Image {
        /// The name.
        reference: Option<String>,
        /// The manifest or index.
        target: Digest,
    },
    /// A blob or table of contents.
    Blob {
        /// The file.
        path: PathBuf,
        /// Its digest, or the diffID of its layer.
        digest: Digest,
        /// Bytes on disk.
        size: u64,
    },
    /// What a process that ended in the middle left, and other small files.
    Leftover {
        /// The file or directory.
        path: PathBuf,
        /// Bytes on disk.
        size: u64,
    },
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default)]
pub struct Freed {
    /// The things, images first.
    pub items: Vec<Garbage>,
}

impl Freed {
    /// The space that the things take, in bytes.
    pub fn bytes(&self) -> u64 {
        let size = |item: &Garbage| match item {
            Garbage::Image { .. } => 0,
            Garbage::Blob { size, .. } | Garbage::Leftover { size, .. } => *size,
        };
        self.items.iter().map(size).sum()
    }

    /// The tables of contents among the things, which lie below `place`.
    fn tables(&self, place: &Path) -> Vec<PathBuf> {
        let path = |item: &Garbage| match item {
            Garbage::Blob { path, .. } if path.starts_with(place) => Some(path.clone()),
            _ => None,
        };
        self.items.iter().filter_map(path).collect()
    }
}

/// How much space the store takes, in bytes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of images.
    pub images: usize,
    /// Number of images that a mount uses, running or named.
    pub active_images: usize,
    /// Plain tars of layers.
    pub tars: u64,
    /// Compressed layers.
    pub compressed: u64,
    /// Tables of contents.
    pub tables: u64,
    /// Manifests and configurations.
    pub documents: u64,
    /// Number of named writable mounts.
    pub containers: usize,
    /// Number of those that are mounted now.
    pub mounted_containers: usize,
    /// What was changed in them.
    pub container_bytes: u64,
    /// Number of records of the build cache.
    pub cache_records: usize,
    /// What the build cache alone keeps: images and layers that no name, mount or other image needs.
    pub cache_bytes: u64,
    /// What `prune` would free.
    pub garbage: u64,
    /// What `prune --all` would free.
    pub garbage_all: u64,
}

/// Everything that is needed, by digest. A diffID stands for its table of contents as well.
#[derive(Debug, Default)]
pub(super) struct Reachable {
    digests: HashSet<Digest>,
}

impl Reachable {
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }
}

/// Who uses what, read under the exclusive lock.
#[derive(Debug)]
pub(super) struct Users {
    pub(super) leases: Vec<LeaseRecord>,
    pub(super) dead_leases: Vec<PathBuf>,
    pub(super) containers: Vec<super::ContainerRecord>,
    session_digests: Vec<Digest>,
    dead_stage: Vec<PathBuf>,
}

impl Users {
    /// Whether a mount, running or named, is of this manifest.
    pub(super) fn use_manifest(&self, digest: &Digest) -> bool {
        self.leases.iter().any(|lease| lease.manifest == *digest)
            || self.containers.iter().any(|container| container.manifest == *digest)
    }
}

impl Store {
    /// Removes what nobody needs.
    pub fn prune(&self, options: PruneOptions) -> StoreResult<Freed> {
        if options.dry_run {
            let _lock = self.lock_to_look()?;
            return self.find_garbage(options).map(|(freed, _)| freed);
        }
        let lock = self.lock_exclusive()?;
        let (freed, kept) = self.find_garbage(options)?;
        if freed.items.iter().any(|item| matches!(item, Garbage::Image { .. })) {
            self.write_fewer_entries(&lock, &kept, &freed.tables(&self.path("toc")))?;
        }
        remove_items(&freed)?;
        Ok(freed)
    }

    /// What nobody needs, and the entries that stay. The caller holds the lock.
    fn find_garbage(&self, options: PruneOptions) -> StoreResult<(Freed, Vec<IndexEntry>)> {
        let users = self.users()?;
        let (kept, dropped) = self.split_entries(&users, options.all)?;
        let mut freed = Freed::default();
        for entry in &dropped {
            let reference = entry.reference.as_ref().map(ToString::to_string);
            freed.items.push(Garbage::Image { reference, target: entry.target.digest });
        }
        let reachable = self.reachable(&kept, &users, !options.all)?;
        freed.items.extend(self.unreachable(&reachable)?);
        let cache = if options.all { self.cache_paths()? } else { Vec::new() };
        for path in users.dead_stage.iter().chain(&users.dead_leases).chain(&cache) {
            freed.items.push(Garbage::Leftover { path: path.clone(), size: tree_size(path) });
        }
        Ok((freed, kept))
    }

    /// Adds up what the store takes.
    pub fn usage(&self) -> StoreResult<Usage> {
        let mut usage = Usage::default();
        let images = self.images()?;
        let layers: HashSet<Digest> = images.iter().flat_map(super::ImageRecord::diff_ids).collect();
        let compressed: HashSet<Digest> =
            images.iter().flat_map(|image| image.layers.iter().map(|layer| layer.blob.digest)).collect();
        for (path, digest) in self.digest_files("blobs/sha256")? {
            let size = disk_size(&path);
            match digest {
                digest if layers.contains(&digest) => usage.tars += size,
                digest if compressed.contains(&digest) => usage.compressed += size,
                _ if size > crate::oci::MANIFEST_MAX => usage.tars += size,
                _ => usage.documents += size,
            }
        }
        usage.tables = self.digest_files("toc/sha256")?.iter().map(|(path, _)| disk_size(path)).sum();
        let containers = self.containers()?;
        usage.containers = containers.len();
        for container in &containers {
            usage.mounted_containers += usize::from(container.is_mounted()?);
            usage.container_bytes += tree_size(&container.upper());
        }
        usage.cache_records = self.cache_paths()?.len();
        usage.images = images.len();
        {
            let _lock = self.lock_to_look()?;
            let users = self.users()?;
            usage.active_images = images.iter().filter(|image| users.use_manifest(&image.manifest.digest)).count();
            usage.cache_bytes = self.kept_by_cache(&users)?;
        }
        usage.garbage = self.prune(PruneOptions { all: false, dry_run: true })?.bytes();
        usage.garbage_all = self.prune(PruneOptions { all: true, dry_run: true })?.bytes();
        Ok(usage)
    }

    /// What would be garbage without the build cache and is not, in bytes. The caller holds the exclusive lock.
    fn kept_by_cache(&self, users: &Users) -> StoreResult<u64> {
        let (kept, _) = self.split_entries(users, false)?;
        let garbage = |with_cache| {
            let items = self.unreachable(&self.reachable(&kept, users, with_cache)?)?;
            StoreResult::Ok(Freed { items }.bytes())
        };
        Ok(garbage(false)?.saturating_sub(garbage(true)?))
    }

    /// The files of a directory of digests.
    pub fn digest_files(&self, below: &str) -> StoreResult<Vec<(PathBuf, Digest)>> {
        let mut files = Vec::new();
        for path in list_optional(&self.path(below))? {
            let digest = path.file_name().and_then(|name| name.to_str()).and_then(|hex| Digest::from_hex(hex).ok());
            files.extend(digest.map(|digest| (path, digest)));
        }
        Ok(files)
    }

    /// Reads who uses what. The caller holds the exclusive lock.
    pub(super) fn users(&self) -> StoreResult<Users> {
        let (leases, dead_leases) = self.leases()?;
        let containers = self.containers()?.into_iter().map(|container| container.record).collect();
        let (mut session_digests, mut dead_stage) = (Vec::new(), Vec::new());
        for path in list_optional(&self.path("stage"))? {
            let lease = path.join("lease");
            if is_held(&lease)? {
                let text = fs::read_to_string(&lease).unwrap_or_default();
                session_digests.extend(text.lines().filter_map(|line| line.parse::<Digest>().ok()));
            } else {
                dead_stage.push(path);
            }
        }
        Ok(Users { leases, dead_leases, containers, session_digests, dead_stage })
    }

    /// Everything that `entries` and `users` need. With `cache` also what saves work later: what the build cache refers to, and
    /// the forms into which layers that are needed were compressed here.
    pub(super) fn reachable(&self, entries: &[IndexEntry], users: &Users, cache: bool) -> StoreResult<Reachable> {
        let mut reachable = Reachable::default();
        for entry in entries {
            self.mark_target(&entry.target, &mut reachable)?;
        }
        let mut loose: Vec<Digest> = users.session_digests.clone();
        loose.extend(users.leases.iter().flat_map(|lease| [lease.manifest, lease.image]));
        for container in &users.containers {
            loose.extend([container.manifest, container.image_id]);
            loose.extend(&container.layers);
        }
        if cache {
            loose.extend(self.cache_roots()?);
        }
        for digest in loose {
            self.mark_loose(&digest, &mut reachable);
        }
        if cache {
            self.mark_compressed(&mut reachable)?;
        }
        Ok(reachable)
    }

    /// Marks what a descriptor of a manifest or index needs.
    fn mark_target(&self, target: &Descriptor, reachable: &mut Reachable) -> StoreResult<()> {
        if reachable.digests.contains(&target.digest) {
            return Ok(());
        }
        let kind = self.read_target(target)?;
        reachable.digests.insert(target.digest);
        match kind {
            ManifestKind::Image(manifest) => {
                reachable.digests.insert(manifest.config.digest);
                reachable.digests.extend(manifest.layers.iter().map(|layer| layer.digest));
                self.mark_config(&manifest.config.digest, reachable);
            }
            ManifestKind::Index(index) => {
                for entry in &index.manifests {
                    // Other platforms are not there; attestations may be, and need not be understood.
                    self.mark_loose(&entry.digest, reachable);
                }
            }
        }
        Ok(())
    }

    fn mark_config(&self, digest: &Digest, reachable: &mut Reachable) {
        // A configuration that cannot be read names no layers; fsck tells of it.
        let config = self.read_document("configuration", digest).ok();
        if let Some(config) = config.and_then(|bytes| ImageConfig::parse(&bytes).ok()) {
            reachable.digests.extend(config.rootfs.diff_ids);
        }
    }

    fn mark_compressed(&self, reachable: &mut Reachable) -> StoreResult<()> {
        for (_, diff_id) in self.digest_files("compressed/sha256")? {
            if reachable.contains(&diff_id) {
                let made_here = self.compressed(&diff_id)?.into_iter().filter(|form| form.parameters.is_some());
                reachable.digests.extend(made_here.map(|form| form.digest));
            }
        }
        Ok(())
    }

    /// Marks a digest that may be of anything.
    fn mark_loose(&self, digest: &Digest, reachable: &mut Reachable) {
        if reachable.digests.contains(digest) {
            return;
        }
        let path = self.blob_path(digest);
        let bytes = read_json(&path).unwrap_or_default();
        if !bytes.is_empty() {
            if let Ok(kind) = ManifestKind::parse(None, &bytes) {
                let media_type = match kind {
                    ManifestKind::Image(manifest) => manifest.kind(),
                    ManifestKind::Index(_) => crate::oci::MediaType::OciIndex,
                };
                let target = Descriptor::new(media_type, *digest, bytes.len() as u64);
                // It has just been read and parsed; what fails now is no manifest after all.
                let _ = self.mark_target(&target, reachable);
            } else {
                self.mark_config(digest, reachable);
            }
        }
        reachable.digests.insert(*digest);
    }

    /// The files that nothing reachable needs.
    fn unreachable(&self, reachable: &Reachable) -> StoreResult<Vec<Garbage>> {
        let mut garbage = Vec::new();
        for below in ["blobs/sha256", "toc/sha256", "compressed/sha256"] {
            for (path, digest) in self.digest_files(below)? {
                if !reachable.contains(&digest) {
                    let size = disk_size(&path);
                    garbage.push(Garbage::Blob { path, digest, size });
                }
            }
        }
        Ok(garbage)
    }

    /// Removes those of `candidates` that nothing and nobody needs.
    pub(super) fn collect_unreferenced(&self, candidates: &[Digest]) -> StoreResult<()> {
        if candidates.is_empty() {
            return Ok(());
        }
        let _lock = self.lock_exclusive()?;
        let reachable = self.reachable(&self.entries()?, &self.users()?, true)?;
        self.collect(candidates, &reachable).map(drop)
    }

    /// Removes those of `candidates` that are not reachable; returns which.
    pub(super) fn collect(&self, candidates: &[Digest], reachable: &Reachable) -> StoreResult<Vec<Digest>> {
        let mut removed = Vec::new();
        for digest in candidates {
            if reachable.contains(digest) || removed.contains(digest) {
                continue;
            }
            let paths = [self.blob_path(digest), self.toc_path(digest), self.compressed_path(digest)];
            for path in &paths {
                remove_optional(path)?;
            }
            removed.push(*digest);
        }
        Ok(removed)
    }

    fn split_entries(&self, users: &Users, all: bool) -> StoreResult<(Vec<IndexEntry>, Vec<IndexEntry>)> {
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for entry in self.entries()? {
            let candidate = all || entry.reference.is_none();
            let used = candidate && self.is_used(&entry, users)?;
            if candidate && !used { dropped.push(entry) } else { kept.push(entry) }
        }
        Ok((kept, dropped))
    }

    fn is_used(&self, entry: &IndexEntry, users: &Users) -> StoreResult<bool> {
        let manifests = self.manifests_of(&entry.target)?;
        Ok(manifests.iter().any(|manifest| users.use_manifest(&manifest.digest)))
    }
}

/// Removes all things that can be removed; the first failure is told when the others are gone.
fn remove_items(freed: &Freed) -> StoreResult<()> {
    let remove = |item: &Garbage| match item {
        Garbage::Image { .. } => Ok(()),
        Garbage::Blob { path, .. } => remove_optional(path).map(drop),
        Garbage::Leftover { path, .. } => remove_tree(path),
    };
    let failures: Vec<_> = freed.items.iter().filter_map(|item| remove(item).err()).collect();
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Removes a file or a tree, however deep it is, whatever permissions its directories have and whichever of the user's numbers they
/// belong to. What is gone already is no error.
pub(super) fn remove_tree(path: &Path) -> StoreResult<()> {
    let removed = crate::sys::remove_tree(path);
    if removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        && matches!(Identity::detect(), Identity::Ranges { .. })
    {
        // Commands in containers give files to subordinate numbers, over which only the root of such a container has power.
        return Task::Remove(path.into()).carry_out(None).map_err(io::Error::other).at(path);
    }
    removed.at(path)
}

fn disk_size(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

fn tree_size(path: &Path) -> u64 {
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => tree_size(&entry.path()),
        _ => disk_size(&entry.path()),
    };
    disk_size(path) + fs::read_dir(path).into_iter().flatten().flatten().map(below).sum::<u64>()
}

/// The file at `path` where it begins as a document does and is not too large for one.
pub(super) fn read_json(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0];
    file.read_exact(&mut bytes)?;
    if bytes != b"{" || file.metadata()?.len() > DOCUMENT_MAX {
        return Ok(Vec::new());
    }
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
