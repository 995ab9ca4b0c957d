//! The build cache: keys of steps and the layers they made.
//!
//! A key is the SHA-256 of everything a step depends on, each part preceded by its length:
//!
//! | part | of |
//! |---|---|
//! | `layerfs.build.1` | every step |
//! | chainID of the layers below, empty for none | every step |
//! | `workdir`, path, owner | WORKDIR |
//! | `copy`, digest of what is added: paths, types, owners, modes, attributes, contents, no times | COPY, ADD |
//! | `run`, arguments, environment, user, working directory, network, script, hosts where some are given, and each mount | RUN |
//!
//! A mount counts with its fields and with the contents it shows; of a secret only the id and the target count, of a cache only
//! the fields. Proxies do not count. The stage's name, the Dockerfile's text and the time never do.
//!
//! The record of a key is `{"diff_id": …, "size": bytes, "created": RFC 3339}` under `build-<hex of the key>` in the store, which
//! keeps the layer while the record is there. Records are written when the layer is, so that a build that fails later resumes
//! behind its last good step.

use super::Shared;
use super::error::BuildResult;
use super::stage::Work;
use crate::oci::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// The version of keys: another meaning of a key is another number.
const VERSION: &str = "layerfs.build.1";

/// The making of a key.
#[derive(Debug)]
pub(super) struct Key(Hasher);

impl Key {
    /// The key of a step above `parent`.
    pub(super) fn above(parent: Option<Digest>) -> Self {
        let mut key = Self(Hasher::new());
        key.text(VERSION);
        key.text(&parent.map(|parent| parent.to_string()).unwrap_or_default());
        key
    }

    /// Adds a part.
    pub(super) fn bytes(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// Adds a part.
    pub(super) fn text(&mut self, part: &str) {
        self.bytes(part.as_bytes());
    }

    /// Adds a list, its length included.
    pub(super) fn list<S: AsRef<str>>(&mut self, parts: &[S]) {
        self.text(&parts.len().to_string());
        for part in parts {
            self.text(part.as_ref());
        }
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish().0
    }
}

/// A layer that a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) diff_id: Digest,
    /// Bytes of the tar.
    pub(super) size: u64,
    /// When it was made, RFC 3339.
    pub(super) created: String,
}

fn name(key: &Digest) -> String {
    format!("build-{}", key.hex())
}

/// The layer of `key`, when it is known and still there.
pub(super) fn find(work: &Work<'_>, key: &Digest) -> BuildResult<Option<Record>> {
    let build = work.shared.build;
    if !build.options.use_cache || work.ignores_cache() {
        return Ok(None);
    }
    let mut found: Option<Record> =
        build.store.cache_get(&name(key))?.and_then(|value| serde_json::from_value(value).ok());
    if found.is_none()
        && let Some(diff_id) = build.options.cache_from.get(key)
        && let Some(size) = build.store.blob_size(diff_id)?
    {
        found = Some(Record { diff_id: *diff_id, size, created: build.options.clock.rfc3339() });
    }
    match found {
        Some(record) if build.session.has_blob(&record.diff_id)? => {
            if let Err(error) = build.store.cache_touch(&name(key)) {
                // Only `prune --keep-storage` asks when a record was used; one from another image has no file.
                log::debug!("{error}");
            }
            Ok(Some(record))
        }
        _ => Ok(None),
    }
}

/// Remembers the layer of `key`.
pub(super) fn remember(shared: &Shared<'_>, key: &Digest, record: &Record) -> BuildResult<()> {
    let value = serde_json::to_value(record)
        .map_err(|error| super::error::trying("write a cache record")(std::io::Error::from(error)))?;
    Ok(shared.build.store.cache_put(&name(key), &[record.diff_id], value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_its_bounds_count() {
        let key = |parent: Option<&[u8]>, parts: &[&str]| {
            let mut key = Key::above(parent.map(Digest::of));
            key.list(parts);
            key.finish()
        };
        let one = key(None, &["ab", "c"]);
        assert_eq!(one, key(None, &["ab", "c"]));
        for other in
            [key(None, &["a", "bc"]), key(None, &["abc"]), key(Some(b"x"), &["ab", "c"]), key(None, &["ab", "c", ""])]
        {
            assert_ne!(one, other);
        }
    }
}
