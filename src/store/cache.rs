//! Records of the build cache. What a record means is known to those who write it; the store keeps what it needs.

use super::error::{AtPath, StoreError, StoreResult};
use super::files::{list_optional, parse_json, read_optional, remove_optional, replace};
use super::layout::Store;
use crate::oci::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// A record as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct CacheRecord {
    /// Manifests, configurations and layers (by diffID) that are kept while the record is there.
    roots: Vec<Digest>,
    /// The writer's own.
    value: Value,
}

impl Store {
    /// The record of `key`.
    pub fn cache_get(&self, key: &str) -> StoreResult<Option<Value>> {
        let path = self.cache_path(key)?;
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        parse_json::<CacheRecord>(&path, &bytes).map(|record| Some(record.value))
    }

    /// Writes the record of `key`. `roots`, manifests, configurations and diffIDs of layers, are not collected while
    /// it is there.
    pub fn cache_put(&self, key: &str, roots: &[Digest], value: Value) -> StoreResult<()> {
        let path = self.cache_path(key)?;
        let record = CacheRecord { roots: roots.to_vec(), value };
        let bytes = serde_json::to_vec(&record).map_err(std::io::Error::other).at(&path)?;
        let _lock = self.lock_exclusive()?;
        replace(&self.stage_path(), &path, &bytes)
    }

    /// Notes that the record of `key` was used now.
    pub fn cache_touch(&self, key: &str) -> StoreResult<()> {
        let path = self.cache_path(key)?;
        let file = fs::File::options().write(true).open(&path).at(&path)?;
        file.set_modified(std::time::SystemTime::now()).at(&path)
    }

    /// Removes the records that were not used for longest, until the layers that the others keep take no more than `keep`
    /// bytes; returns how many were removed.
    pub fn cache_prune(&self, keep: u64) -> StoreResult<usize> {
        let _lock = self.lock_exclusive()?;
        let mut records = Vec::new();
        for path in self.cache_paths()? {
            let used = fs::metadata(&path).and_then(|metadata| metadata.modified()).at(&path)?;
            if let Some(bytes) = read_optional(&path)? {
                records.push((used, parse_json::<CacheRecord>(&path, &bytes)?.roots, path));
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.0));
        let (mut kept, mut size, mut removed) = (std::collections::HashSet::new(), 0_u64, 0);
        for (_, roots, path) in records {
            let mut added = 0;
            for root in roots.iter().filter(|root| !kept.contains(*root)) {
                added += self.blob_size(root)?.unwrap_or(0);
            }
            if size.saturating_add(added) > keep {
                removed += usize::from(remove_optional(&path)?);
                continue;
            }
            size += added;
            kept.extend(roots);
        }
        Ok(removed)
    }

    /// Removes every record; returns how many there were.
    pub fn cache_clear(&self) -> StoreResult<usize> {
        let _lock = self.lock_exclusive()?;
        let mut count = 0;
        for path in self.cache_paths()? {
            count += usize::from(remove_optional(&path)?);
        }
        Ok(count)
    }

    /// The files of all records.
    pub(super) fn cache_paths(&self) -> StoreResult<Vec<PathBuf>> {
        list_optional(&self.path("cache"))
    }

    /// What the build cache keeps.
    pub(super) fn cache_roots(&self) -> StoreResult<Vec<Digest>> {
        let mut roots = Vec::new();
        for path in self.cache_paths()? {
            if let Some(bytes) = read_optional(&path)? {
                roots.extend(parse_json::<CacheRecord>(&path, &bytes)?.roots);
            }
        }
        Ok(roots)
    }

    fn cache_path(&self, key: &str) -> StoreResult<PathBuf> {
        let valid = !key.is_empty()
            && key.len() <= 200
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if valid { Ok(self.path("cache").join(key)) } else { Err(StoreError::CacheKey(key.to_owned())) }
    }
}
