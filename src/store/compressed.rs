//! Which compressed blobs belong to which layers.
//!
//! One small file a layer, named by its diffID. It says what was seen to be true: these compressed bytes inflate to
//! that tar. So a compressed blob that comes again need not be read, and a layer that was compressed once for a
//! registry need not be compressed again. The files are not synced: one that is torn by a crash is taken for nothing known.

use super::error::{AtPath, StoreResult};
use super::files::read_optional;
use super::layout::Store;
use crate::oci::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// A compressed form of a layer. Its blob need not be in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compressed {
    /// The digest of the compressed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The media type of the layer in this form.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// How it was compressed, where layerfs did it: equal parameters give equal bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
}

impl Store {
    /// The compressed forms of the layer `diff_id` that are known.
    pub fn compressed(&self, diff_id: &Digest) -> StoreResult<Vec<Compressed>> {
        let path = self.compressed_path(diff_id);
        let bytes = read_optional(&path)?.unwrap_or_default();
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// The diffID of every compressed blob that is known, by its digest.
    pub fn diff_ids(&self) -> StoreResult<HashMap<Digest, Digest>> {
        let mut found = HashMap::new();
        for (_, diff_id) in self.digest_files("compressed/sha256")? {
            for compressed in self.compressed(&diff_id)? {
                found.insert(compressed.digest, diff_id);
            }
        }
        Ok(found)
    }

    /// Remembers a compressed form of the layer `diff_id`.
    pub fn remember_compressed(&self, diff_id: &Digest, compressed: &Compressed) -> StoreResult<()> {
        let _lock = self.lock_exclusive()?;
        let mut known = self.compressed(diff_id)?;
        if known.contains(compressed) {
            return Ok(());
        }
        known.retain(|other| other.digest != compressed.digest || other.parameters != compressed.parameters);
        known.push(compressed.clone());
        let bytes = serde_json::to_vec(&known).map_err(std::io::Error::other);
        let (stage, path) = (self.stage_path(), self.compressed_path(diff_id));
        std::fs::write(&stage, bytes.at(&path)?).at(&stage)?;
        std::fs::rename(&stage, &path).at(&path)
    }

    /// Where the compressed forms of a layer are remembered.
    pub(super) fn compressed_path(&self, diff_id: &Digest) -> PathBuf {
        self.path("compressed/sha256").join(diff_id.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_answered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (diff_id, digest) = (Digest::of(b"tar"), Digest::of(b"gz"));
        let compressed = Compressed { digest, size: 2, media_type: "m".to_owned(), parameters: None };
        assert!(store.compressed(&diff_id).unwrap().is_empty());
        store.remember_compressed(&diff_id, &compressed).unwrap();
        store.remember_compressed(&diff_id, &compressed).unwrap();
        assert_eq!(store.compressed(&diff_id).unwrap(), [compressed]);
        assert_eq!(store.diff_ids().unwrap().get(&digest), Some(&diff_id));
        std::fs::write(store.compressed_path(&diff_id), "[{").unwrap();
        assert!(store.compressed(&diff_id).unwrap().is_empty(), "torn by a crash");
    }
}
