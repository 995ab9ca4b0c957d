//! The index made again from the manifests that are there, where it is lost itself.
//!
//! The names of images stand nowhere else, so what is found has none.

use super::error::{AtPath, StoreError, StoreResult};
use super::files::replace;
use super::gc::read_json;
use super::layout::Store;
use crate::oci::{Descriptor, Digest, Index, ManifestKind, MediaType};
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

/// What became of an index that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltIndex {
    /// Where the old one lies now; none where there was none.
    pub aside: Option<PathBuf>,
    /// How many images and lists of images the new one has.
    pub images: usize,
}

impl Store {
    /// What is wrong with `index.json`; none when it can be read.
    pub fn index_damage(&self) -> StoreResult<Option<String>> {
        match self.entries() {
            Ok(_) => Ok(None),
            Err(StoreError::Damaged { detail, .. }) => Ok(Some(detail)),
            Err(error) => Err(error),
        }
    }

    /// Sets an index aside that cannot be read, and makes one of every image whose configuration and layers are there. One
    /// that can be read is left as it is: somebody else has mended it.
    pub fn rebuild_index(&self) -> StoreResult<Option<RebuiltIndex>> {
        let _lock = self.lock_exclusive()?;
        if self.index_damage()?.is_none() {
            return Ok(None);
        }
        let targets = self.find_targets()?;
        let path = self.path("index.json");
        let aside = self.path_aside();
        let aside = match fs::rename(&path, &aside) {
            Ok(()) => Some(aside),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at(&path),
        };
        let images = targets.len();
        replace(&self.stage_path(), &path, &Index::new(targets).to_bytes())?;
        Ok(Some(RebuiltIndex { aside, images }))
    }

    /// A name that no index was set aside under before.
    fn path_aside(&self) -> PathBuf {
        let names = (2..).map(|count| format!("index.json.damaged-{count}"));
        let mut paths = std::iter::once("index.json.damaged".to_owned()).chain(names).map(|name| self.path(&name));
        paths.find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| self.path("index.json.damaged"))
    }

    /// What an index can point to, oldest first: lists of images, and the images that are in none.
    fn find_targets(&self) -> StoreResult<Vec<Descriptor>> {
        let (mut found, mut listed) = (Vec::new(), HashSet::new());
        for (path, digest) in self.digest_files("blobs/sha256")? {
            // What cannot be read or is not what its name says is for the rest of the check to tell.
            let bytes = read_json(&path).unwrap_or_default();
            if bytes.is_empty() || Digest::of(&bytes) != digest {
                continue;
            }
            let Ok(kind) = ManifestKind::parse(None, &bytes) else { continue };
            let media_type = match &kind {
                ManifestKind::Image(manifest) => manifest.kind(),
                ManifestKind::Index(index) => index.media_type.as_deref().map_or(MediaType::OciIndex, index_kind),
            };
            let target = Descriptor::new(media_type, digest, bytes.len() as u64);
            let manifests = self.manifests_of(&target).unwrap_or_default();
            if !manifests.iter().any(|manifest| self.is_whole(manifest)) {
                continue;
            }
            if let ManifestKind::Index(index) = kind {
                listed.extend(index.manifests.iter().map(|entry| entry.digest));
            }
            let made = fs::metadata(&path).and_then(|metadata| metadata.modified()).at(&path)?;
            found.push((made, target));
        }
        found.retain(|(_, target)| !listed.contains(&target.digest));
        found.sort_by_key(|(made, target)| (*made, target.digest));
        Ok(found.into_iter().map(|(_, target)| target).collect())
    }

    /// Whether the configuration of an image and each of its layers, in one form or the other, are there.
    fn is_whole(&self, manifest: &Descriptor) -> bool {
        let is_there = |digest: &Digest| self.blob_path(digest).exists();
        self.load_image(&[], manifest, manifest).is_ok_and(|image| {
            image.layers.iter().all(|layer| is_there(&layer.diff_id) || is_there(&layer.blob.digest))
        })
    }
}

fn index_kind(text: &str) -> MediaType {
    MediaType::parse(text).ok().filter(|kind| kind.is_index()).unwrap_or(MediaType::OciIndex)
}
