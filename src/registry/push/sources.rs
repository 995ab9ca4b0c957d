//! Which repositories of a registry are known to have a blob.

use crate::oci::{Digest, Manifest, Reference};
use crate::registry::Error;
use crate::store::{ImageRecord, Store};
use std::collections::{BTreeSet, HashMap};

/// Repositories asked for at most: each costs a scope in the token.
const MOST: usize = 8;

/// Blob digest → repository at the registry of `destination` that has it. Known from earlier pulls and pushes.
pub(super) fn known_sources(store: &Store, destination: &Reference) -> Result<HashMap<Digest, String>, Error> {
    let mut known = HashMap::new();
    for entry in store.entries()? {
        let here = |digest: &&Reference| digest.domain() == destination.domain() && digest.path() != destination.path();
        let Some(source) = entry.repo_digests.iter().find(here) else { continue };
        for manifest in store.manifests_of(&entry.target)? {
            let bytes = store.read_document("manifest", &manifest.digest)?;
            let Ok(manifest) = Manifest::parse(&bytes) else { continue };
            let blobs = manifest.layers.iter().map(|layer| layer.digest);
            known.extend(blobs.map(|digest| (digest, source.path().to_owned())));
        }
    }
    Ok(known)
}

/// The repositories that have layers of these images.
pub(super) fn repositories(known: &HashMap<Digest, String>, images: &[ImageRecord]) -> Vec<String> {
    let layers = images.iter().flat_map(|image| &image.layers);
    let found: BTreeSet<&String> = layers.filter_map(|layer| known.get(&layer.blob.digest)).collect();
    found.into_iter().take(MOST).cloned().collect()
}
