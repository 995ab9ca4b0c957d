//! Removing images as Docker removes them: names first, the image with its last name.

use super::error::{StoreError, StoreResult};
use super::files::{FileLock, remove_optional};
use super::gc::Users;
use super::layout::Store;
use super::references::IndexEntry;
use crate::oci::{Descriptor, Digest, Manifest, ManifestKind, Reference};
use std::fmt;
use std::path::PathBuf;

/// One line of what `rmi` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(String),
    /// An image, by its ID, or a layer, by its chainID, is gone.
    Deleted(Digest),
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// What an image consists of, for its removal.
#[derive(Debug, Default)]
struct Parts {
    /// Image IDs and chainIDs from the top, each with the blob whose removal it tells of.
    told: Vec<(Digest, Digest)>,
    blobs: Vec<Digest>,
}

impl Store {
    /// Removes the image or the name `text`. With `force` also when it has several names or is in use; what a mount
    /// uses then stays on disk until `prune` finds it unused.
    pub fn remove_image(&self, text: &str, force: bool) -> StoreResult<Vec<Removed>> {
        let lock = self.lock_exclusive()?;
        let entries = self.entries()?;
        let (targets, by_name) = self.removal_targets(&entries, text)?;
        let users = self.users()?;
        let digest = targets.first().map(|entry| entry.target.digest);
        let same = |entry: &&IndexEntry| Some(entry.target.digest) == digest;
        let last_name = entries.iter().filter(same).count() == targets.len();
        if !force && (last_name || !by_name) {
            self.check_removal(&targets, by_name, text, &users)?;
        }
        let kept: Vec<IndexEntry> = entries.iter().filter(|entry| !targets.contains(entry)).cloned().collect();
        let mut removed = untagged(&targets, last_name);
        let Some(entry) = targets.first().filter(|_| last_name) else {
            self.write_entries(&lock, &kept)?;
            return Ok(removed);
        };
        let mut parts = Parts::default();
        self.collect_parts(&entry.target, &mut parts);
        let reachable = self.reachable(&kept, &users, true)?;
        let unneeded = parts.blobs.iter().filter(|digest| !reachable.contains(digest));
        let tables: Vec<PathBuf> = unneeded.map(|digest| self.toc_path(digest)).collect();
        self.write_fewer_entries(&lock, &kept, &tables)?;
        let gone = self.collect(&parts.blobs, &reachable)?;
        let told = parts.told.iter().filter(|(_, blob)| gone.contains(blob));
        removed.extend(told.map(|(told, _)| Removed::Deleted(*told)));
        Ok(removed)
    }

    /// Writes what is left of the entries. On a full disk not even the shorter index fits beside the old one, and nothing could be removed
    /// any more: then `tables` make room, tables of contents that nobody needs without the entries that go. Should these stay
    /// after all, the tables are made anew.
    pub(super) fn write_fewer_entries(
        &self,
        lock: &FileLock,
        kept: &[IndexEntry],
        tables: &[PathBuf],
    ) -> StoreResult<()> {
        match self.write_entries(lock, kept) {
            Err(error) if error.is_disk_full() => {
                for path in tables {
                    remove_optional(path)?;
                }
                self.write_entries(lock, kept)
            }
            written => written,
        }
    }

    /// The entries that go, and whether `text` was a name. By ID these are all entries of the image.
    fn removal_targets(&self, entries: &[IndexEntry], text: &str) -> StoreResult<(Vec<IndexEntry>, bool)> {
        if let Ok(reference) = text.parse::<Reference>() {
            let reference = reference.or_latest();
            if let Some(entry) = entries.iter().find(|entry| entry.reference.as_ref() == Some(&reference)) {
                return Ok((vec![entry.clone()], true));
            }
        }
        let target = self.removal_by_digest(entries, text)?;
        Ok((entries.iter().filter(|entry| entry.target.digest == target).cloned().collect(), false))
    }

    /// The target of an ID or a digest. A damaged image, which cannot be resolved, is found by its manifest's digest.
    fn removal_by_digest(&self, entries: &[IndexEntry], text: &str) -> StoreResult<Digest> {
        if let Ok(digest) = text.parse::<Digest>()
            && entries.iter().any(|entry| entry.target.digest == digest)
        {
            return Ok(digest);
        }
        self.resolve(text).map(|image| image.target.digest)
    }

    fn check_removal(&self, targets: &[IndexEntry], by_name: bool, text: &str, users: &Users) -> StoreResult<()> {
        let Some(entry) = targets.first() else { return Ok(()) };
        let mut parts = Parts::default();
        self.collect_parts(&entry.target, &mut parts);
        let id = parts.told.first().map_or(entry.target.digest, |(id, _)| *id).short();
        let action = if by_name { format!("remove repository reference {text:?}") } else { format!("delete {id}") };
        // As moby words them (daemon/images/image_delete.go): a name "must force", an ID "must be forced".
        let remedy = if by_name { "must force" } else { "must be forced" };
        let conflict = |reason: String| Err(StoreError::ImageInUse { action: action.clone(), remedy, reason });
        if let Some(lease) = users.leases.iter().find(|lease| parts.blobs.contains(&lease.manifest)) {
            return conflict(format!("image {id} is mounted on {}", lease.user));
        }
        if let Some(user) = users.containers.iter().find(|user| parts.blobs.contains(&user.manifest)) {
            return conflict(if by_name {
                format!("container {} is using its referenced image {id}", user.name)
            } else {
                format!("image is being used by stopped container {}", user.name)
            });
        }
        if !by_name && targets.len() > 1 {
            return conflict("image is referenced in multiple repositories".to_owned());
        }
        Ok(())
    }

    fn collect_parts(&self, target: &Descriptor, parts: &mut Parts) {
        parts.blobs.push(target.digest);
        match self.read_target(target) {
            Ok(ManifestKind::Image(manifest)) => self.collect_image(target, &manifest, parts),
            Ok(ManifestKind::Index(index)) => {
                for entry in &index.manifests {
                    self.collect_parts(entry, parts);
                }
            }
            // Damaged, or of a platform that is not there: nothing more is known of it, and `prune` finds the rest.
            Err(_) => {}
        }
    }

    fn collect_image(&self, target: &Descriptor, manifest: &Manifest, parts: &mut Parts) {
        let id = manifest.config.digest;
        parts.told.push((id, id));
        parts.blobs.push(id);
        parts.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
        if let Ok(image) = self.image(target, None) {
            parts.told.extend(image.layers.iter().rev().map(|layer| (layer.chain_id, layer.diff_id)));
            for diff_id in image.diff_ids() {
                parts.blobs.push(diff_id);
                // What cannot be read is left for `prune`.
                let forms = self.compressed(&diff_id).unwrap_or_default();
                parts.blobs.extend(forms.iter().map(|form| form.digest));
            }
        }
    }
}

/// The names that go. With the last name of a repository its references by digest go as well.
fn untagged(targets: &[IndexEntry], last_name: bool) -> Vec<Removed> {
    let names = targets.iter().filter_map(|entry| entry.reference.as_ref()).map(Reference::familiar);
    let mut removed: Vec<Removed> = names.map(Removed::Untagged).collect();
    if last_name {
        for digest in targets.iter().flat_map(|entry| &entry.repo_digests) {
            let line = Removed::Untagged(digest.familiar());
            if !removed.contains(&line) {
                removed.push(line);
            }
        }
    }
    removed
}
