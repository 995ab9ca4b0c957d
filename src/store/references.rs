//! References: the entries of `index.json`.

use super::error::{StoreError, StoreResult};
use super::files::{FileLock, parse_json, read_optional, replace};
use super::layout::Store;
use crate::oci::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Digest, Index, InvalidReference, Reference,
};

/// The annotation that holds the references by digest under which a registry has an image, separated by commas.
pub const REPO_DIGESTS_ANNOTATION: &str = "io.layerfs.repo-digests";

/// The annotation that holds the name an image had in the image layout it was loaded from, where that was only a tag: it can be asked
/// for by it as long as no other image has the same.
pub const LAYOUT_NAME_ANNOTATION: &str = "io.layerfs.layout-name";

/// One image, or list of images by platform, that the store keeps. The name stands in the annotation
/// `org.opencontainers.image.ref.name` in the form people write, so that `oci:ROOT:NAME` means to other tools what
/// NAME means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// What the entry is called; none for an image that has lost its name, or never had one.
    pub reference: Option<Reference>,
    /// The manifest or index, with all annotations.
    pub target: Descriptor,
    /// References by digest under which a registry has it.
    pub repo_digests: Vec<Reference>,
}

impl IndexEntry {
    /// An entry. Names in the annotations of `target`, which are those of where it came from, do not count.
    pub fn new(reference: Option<Reference>, mut target: Descriptor, repo_digests: Vec<Reference>) -> Self {
        for name in [ANNOTATION_REF_NAME, ANNOTATION_CONTAINERD_NAME, REPO_DIGESTS_ANNOTATION] {
            target.annotations.remove(name);
        }
        Self { reference, target, repo_digests }
    }

    fn from_descriptor(descriptor: &Descriptor) -> Self {
        let annotation = |name: &str| descriptor.annotations.get(name).map(String::as_str);
        let full = annotation(ANNOTATION_CONTAINERD_NAME).and_then(|text| text.parse().ok());
        let named = || annotation(ANNOTATION_REF_NAME).and_then(|text| text.parse::<Reference>().ok());
        let reference = full.or_else(named).map(Reference::or_latest);
        let digests = annotation(REPO_DIGESTS_ANNOTATION).unwrap_or_default();
        let repo_digests = digests.split(',').filter_map(|text| text.parse().ok()).collect();
        Self::new(reference, descriptor.clone(), repo_digests)
    }

    fn to_descriptor(&self) -> Descriptor {
        let mut descriptor = self.target.clone();
        if let Some(reference) = &self.reference {
            descriptor.annotations.insert(ANNOTATION_REF_NAME.to_owned(), reference.familiar());
            descriptor.annotations.insert(ANNOTATION_CONTAINERD_NAME.to_owned(), reference.canonical());
        }
        if !self.repo_digests.is_empty() {
            let digests: Vec<_> = self.repo_digests.iter().map(Reference::canonical).collect();
            descriptor.annotations.insert(REPO_DIGESTS_ANNOTATION.to_owned(), digests.join(","));
        }
        descriptor
    }

    /// Puts the entry in place of the one of its name. What the name pointed to before stays, nameless, unless it has
    /// other names; a nameless entry of the same target is taken over.
    pub(super) fn insert_into(self, entries: &mut Vec<Self>) {
        let same_target = |entry: &Self| entry.target.digest == self.target.digest;
        if self.reference.is_none() {
            if !entries.iter().any(same_target) {
                entries.push(self);
            }
            return;
        }
        entries.retain(|entry| entry.reference.is_some() || !same_target(entry));
        match entries.iter_mut().find(|entry| entry.reference == self.reference) {
            Some(entry) => {
                let old = std::mem::replace(entry, self);
                let nameless = Self { reference: None, repo_digests: Vec::new(), ..old };
                nameless.insert_into(entries);
            }
            None => entries.push(self),
        }
    }
}

/// Refuses names that no image may have.
pub(super) fn check_name(reference: &Reference) -> StoreResult<()> {
    reference.check_as_name().map_err(|source| StoreError::Reference { text: reference.familiar(), source })
}

/// Refuses a name by digest for an image of another: whoever asks for a digest relies on it.
pub(super) fn check_digest(reference: &Reference, target: &Digest) -> StoreResult<()> {
    match reference.digest() {
        Some(digest) if digest != target => {
            Err(StoreError::Reference { text: reference.familiar(), source: InvalidReference::NewDigest })
        }
        _ => Ok(()),
    }
}

impl Store {
    /// Every entry, in the order in which they were made.
    pub fn entries(&self) -> StoreResult<Vec<IndexEntry>> {
        Ok(self.read_index()?.manifests.iter().map(IndexEntry::from_descriptor).collect())
    }

    /// Gives what `target` points to another name.
    pub fn tag(&self, entry: &IndexEntry, reference: &Reference) -> StoreResult<()> {
        check_name(reference)?;
        let entry = IndexEntry { reference: Some(reference.clone()), ..entry.clone() };
        self.update_index(|entries| entry.insert_into(entries))
    }

    /// Lets every entry of `old` point to `new`, the same image in another form, and notes that a registry has it under
    /// `repo_digest`.
    pub(super) fn retarget(&self, old: &Digest, new: &Descriptor, repo_digest: &Reference) -> StoreResult<()> {
        self.update_index(|entries| {
            for entry in entries.iter_mut().filter(|entry| entry.target.digest == *old) {
                let mut digests = entry.repo_digests.clone();
                digests.retain(|digest| digest.name() != repo_digest.name());
                digests.push(repo_digest.clone());
                *entry = IndexEntry::new(entry.reference.clone(), new.clone(), digests);
            }
        })
    }

    /// Drops every entry of a target, whatever its name.
    pub fn drop_entries(&self, target: &Digest) -> StoreResult<()> {
        self.update_index(|entries| entries.retain(|entry| entry.target.digest != *target))
    }

    /// Replaces every entry of a target by what `with` makes of it.
    pub fn replace_entries(&self, target: &Digest, with: impl Fn(&IndexEntry) -> IndexEntry) -> StoreResult<()> {
        self.update_index(|entries| {
            for entry in entries.iter_mut().filter(|entry| entry.target.digest == *target) {
                *entry = with(entry);
            }
        })
    }

    /// Changes the entries under the lock.
    pub(super) fn update_index(&self, change: impl FnOnce(&mut Vec<IndexEntry>)) -> StoreResult<()> {
        let lock = self.lock_exclusive()?;
        let mut entries = self.entries()?;
        change(&mut entries);
        self.write_entries(&lock, &entries)
    }

    /// Replaces the entries; the lock proves that nobody else does.
    pub(super) fn write_entries(&self, _lock: &FileLock, entries: &[IndexEntry]) -> StoreResult<()> {
        let old = self.read_index()?;
        let manifests: Vec<Descriptor> = entries.iter().map(IndexEntry::to_descriptor).collect();
        if manifests == old.manifests {
            return Ok(());
        }
        let index = Index { manifests, ..old };
        replace(&self.stage_path(), &self.path("index.json"), &index.to_bytes())
    }

    fn read_index(&self) -> StoreResult<Index> {
        let path = self.path("index.json");
        let Some(bytes) = read_optional(&path)? else {
            return Err(StoreError::Damaged { path, detail: "the file is missing".to_owned() });
        };
        parse_json(&path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn entry(name: &str, content: &str) -> IndexEntry {
        let reference = Some(name).filter(|name| !name.is_empty()).map(|name| name.parse().unwrap());
        IndexEntry::new(reference, Descriptor::of(MediaType::OciManifest, content.as_bytes()), Vec::new())
    }

    fn names(entries: &[IndexEntry]) -> Vec<String> {
        let name = |entry: &IndexEntry| entry.reference.as_ref().map_or_else(|| "-".to_owned(), Reference::familiar);
        entries.iter().map(name).collect()
    }

    #[test]
    fn a_name_moves_and_what_loses_its_last_name_stays_nameless() {
        let mut entries = Vec::new();
        entry("a:1", "x").insert_into(&mut entries);
        entry("b:1", "x").insert_into(&mut entries);
        entry("a:1", "y").insert_into(&mut entries);
        assert_eq!(names(&entries), ["a:1", "b:1"], "x is still b:1");
        entry("a:1", "z").insert_into(&mut entries);
        assert_eq!(names(&entries), ["a:1", "b:1", "-"], "y has no name any more");
        entry("c:1", "y").insert_into(&mut entries);
        assert_eq!(names(&entries), ["a:1", "b:1", "c:1"]);
        entry("", "y").insert_into(&mut entries);
        entry("", "w").insert_into(&mut entries);
        entry("", "w").insert_into(&mut entries);
        assert_eq!(names(&entries), ["a:1", "b:1", "c:1", "-"]);
    }

    #[test]
    fn the_index_keeps_what_it_does_not_know() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = crate::oci::Digest::of(b"x");
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1,"annotations":{{"org.opencontainers.image.ref.name":"a:1","other":"kept"}},"new":1}}],"extra":true}}"#
        );
        std::fs::write(store.path("index.json"), text).unwrap();
        let entries = store.entries().unwrap();
        store.tag(&entries[0], &"b:2".parse().unwrap()).unwrap();
        let index = store.read_index().unwrap();
        assert!(index.other.contains_key("extra"));
        assert_eq!(names(&store.entries().unwrap()), ["a:1", "b:2"]);
        for entry in &index.manifests {
            assert_eq!(entry.annotations.get("other").map(String::as_str), Some("kept"));
            assert!(entry.other.contains_key("new"));
        }
    }

    #[test]
    fn repo_digests_survive() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let reference: Reference = "example.com/a:1".parse().unwrap();
        let target = Descriptor::of(MediaType::OciManifest, b"x");
        let by_digest = reference.with_digest(target.digest);
        let session = store.session().unwrap();
        session.set_reference_with(Some(&reference), &target, std::slice::from_ref(&by_digest)).unwrap();
        assert_eq!(store.entries().unwrap()[0].repo_digests, [by_digest]);
    }
}
