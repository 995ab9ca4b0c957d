//! Images, their removal and their collection, on stores made by hand.

use super::*;
use crate::oci::{Descriptor, Digest, ImageConfig, Index, LayerCompression, Manifest, MediaType, Platform, Reference};
use std::io::Write;

/// A store in a directory of its own.
fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn put_layer(session: &Session, content: &str) -> Digest {
    let mut writer = session.begin_blob().unwrap();
    writer.write_all(content.as_bytes()).unwrap();
    let digest = Digest::of(content.as_bytes());
    writer.publish(&digest).unwrap();
    session.put_toc(&digest, b"toc").unwrap();
    digest
}

/// Makes an image of `layers` for `platform`; returns its manifest.
fn put_image(session: &Session, layers: &[&str], platform: &str) -> Descriptor {
    let platform: Platform = platform.parse().unwrap();
    let mut config = ImageConfig::new(&platform);
    config.rootfs.diff_ids = layers.iter().map(|layer| put_layer(session, layer)).collect();
    let config = config.to_bytes();
    session.put_document(&config).unwrap();
    let layer = |text: &&str| Descriptor::of(MediaType::OciLayer(LayerCompression::None), text.as_bytes());
    let manifest = Manifest::new(Descriptor::of(MediaType::OciConfig, &config), layers.iter().map(layer).collect());
    let bytes = manifest.to_bytes();
    session.put_document(&bytes).unwrap();
    Descriptor { platform: Some(platform), ..Descriptor::of(MediaType::OciManifest, &bytes) }
}

fn add(store: &Store, name: &str, layers: &[&str]) -> Descriptor {
    let session = store.session().unwrap();
    let target = put_image(&session, layers, "linux/amd64");
    let reference: Option<Reference> = Some(name).filter(|name| !name.is_empty()).map(|name| name.parse().unwrap());
    session.set_reference(reference.as_ref(), &target).unwrap();
    target
}

fn blobs(store: &Store) -> usize {
    store.digest_files("blobs/sha256").unwrap().len()
}

#[test]
fn a_session_takes_back_what_nothing_refers_to() {
    let (_dir, store) = store();
    {
        let session = store.session().unwrap();
        put_layer(&session, "lost");
        let mut unfinished = session.begin_blob().unwrap();
        unfinished.write_all(b"half").unwrap();
    }
    assert_eq!(blobs(&store), 0);
    assert!(store.digest_files("toc/sha256").unwrap().is_empty());
    add(&store, "a:1", &["kept"]);
    {
        let session = store.session().unwrap();
        put_layer(&session, "kept");
        put_layer(&session, "lost");
    }
    assert_eq!(blobs(&store), 3, "the layer that another image has stays");
}

#[test]
fn regression_directories_that_a_backup_dropped_are_made_again() {
    let (dir, store) = store();
    add(&store, "a:1", &["kept"]);
    let gone = ["toc", "compressed", "containers", "cache", "stage", "leases"];
    for name in gone {
        std::fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
    // Whoever has the store open reads it as it is.
    assert!(store.containers().unwrap().is_empty());
    assert!(store.digest_files("toc/sha256").unwrap().is_empty());
    let store = Store::open(dir.path()).unwrap();
    for name in gone {
        assert!(dir.path().join(name).is_dir(), "{name}");
    }
    drop(store.use_lease(&store.resolve("a:1").unwrap(), "here").unwrap());
    add(&store, "b:1", &["more"]);
    assert!(store.prune(PruneOptions::default()).is_ok());
}

#[test]
fn what_a_live_session_has_is_not_collected() {
    let (_dir, store) = store();
    let session = store.session().unwrap();
    let layer = put_layer(&session, "in use");
    let freed = store.prune(PruneOptions { all: true, dry_run: false }).unwrap();
    assert!(freed.items.is_empty(), "{freed:?}");
    assert!(store.blob_path(&layer).exists() && store.toc_path(&layer).exists());
}

#[test]
fn what_a_dead_session_left_is_swept() {
    let (dir, store) = store();
    let left = dir.path().join("stage/dead");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("lease"), "").unwrap();
    std::fs::write(left.join("0"), "half").unwrap();
    let partial = dir.path().join("stage/partial-x");
    std::fs::create_dir(&partial).unwrap();
    drop(store.session().unwrap());
    assert!(!left.exists() && partial.exists());
    store.prune(PruneOptions::default()).unwrap();
    assert!(!partial.exists());
}

#[test]
fn images_are_removed_as_docker_removes_them() {
    let (_dir, store) = store();
    add(&store, "a:1", &["one", "two"]);
    add(&store, "a:2", &["one", "two"]);
    add(&store, "b:1", &["one"]);
    let id = store.resolve("a:1").unwrap().id;
    let refused = store.remove_image(&id.short(), false).unwrap_err();
    assert!(refused.to_string().contains("image is referenced in multiple repositories"), "{refused}");
    assert_eq!(store.remove_image("a:1", false).unwrap(), [Removed::Untagged("a:1".to_owned())]);
    let removed = store.remove_image("a:2", false).unwrap();
    assert_eq!(removed.len(), 3, "the name, the image, the layer that b has not: {removed:?}");
    assert_eq!(removed[1], Removed::Deleted(id));
    assert_eq!(store.resolve("b:1").unwrap().layers.len(), 1);
    assert!(matches!(store.remove_image("a:2", false), Err(StoreError::NoSuchImage(name)) if name == "a:2"));
}

#[test]
fn an_image_in_use_is_removed_by_force_only_and_stays_on_disk() {
    let (_dir, store) = store();
    add(&store, "a:1", &["one"]);
    let image = store.resolve("a:1").unwrap();
    let lease = store.use_lease(&image, "/mnt").unwrap();
    let refused = store.remove_image("a:1", false).unwrap_err().to_string();
    assert!(refused.starts_with("conflict: unable to remove") && refused.contains("/mnt"), "{refused}");
    assert_eq!(store.remove_image("a:1", true).unwrap(), [Removed::Untagged("a:1".to_owned())]);
    store.prune(PruneOptions { all: true, dry_run: false }).unwrap();
    assert!(image.layers[0].tar.exists());
    drop(lease);
    store.prune(PruneOptions::default()).unwrap();
    assert_eq!(blobs(&store), 0);
}

#[test]
fn the_image_of_a_container_outlives_its_name() {
    let (_dir, store) = store();
    add(&store, "a:1", &["one"]);
    let image = store.resolve("a:1").unwrap();
    let record = ContainerRecord::new("box", "a:1", &image, "2024-01-01T00:00:00Z");
    store.create_container(&record).unwrap();
    let refused = store.remove_image("a:1", false).unwrap_err().to_string();
    assert!(refused.contains("container box is using"), "{refused}");
    store.remove_image("a:1", true).unwrap();
    store.prune(PruneOptions { all: true, dry_run: false }).unwrap();
    assert_eq!(store.resolve(&image.id.to_string()).unwrap().diff_ids(), image.diff_ids());
    store.remove_container("box").unwrap();
    store.prune(PruneOptions::default()).unwrap();
    assert_eq!(blobs(&store), 0);
}

#[test]
fn prune_takes_the_nameless_and_with_all_the_unused() {
    let (_dir, store) = store();
    add(&store, "", &["one"]);
    add(&store, "b:1", &["two"]);
    let told = store.prune(PruneOptions { all: false, dry_run: true }).unwrap();
    assert_eq!(blobs(&store), 6, "only told");
    assert_eq!(store.prune(PruneOptions::default()).unwrap().items, told.items);
    assert_eq!(blobs(&store), 3);
    store.cache_put("step", &[store.resolve("b:1").unwrap().manifest.digest], serde_json::json!(1)).unwrap();
    assert_eq!(store.usage().unwrap().cache_bytes, 0, "the image needs it, too");
    store.remove_image("b:1", false).unwrap();
    assert_eq!(blobs(&store), 3, "the build cache keeps it");
    let usage = store.usage().unwrap();
    assert!(usage.cache_bytes > 0 && usage.garbage == 0, "{usage:?}");
    store.prune(PruneOptions { all: true, dry_run: false }).unwrap();
    assert_eq!(blobs(&store), 0);
    assert_eq!(store.cache_get("step").unwrap(), None);
}

#[test]
fn one_of_several_platforms_is_chosen() {
    let (_dir, store) = store();
    let session = store.session().unwrap();
    let images =
        ["linux/amd64", "linux/arm64", "linux/arm/v6"].map(|platform| put_image(&session, &[platform], platform));
    let mut list = Index::new(images.to_vec());
    // Listed, and not there.
    list.manifests.push(Descriptor {
        platform: Some("linux/s390x".parse().unwrap()),
        ..Descriptor::of(MediaType::OciManifest, b"elsewhere")
    });
    let bytes = list.to_bytes();
    session.put_document(&bytes).unwrap();
    session.set_reference(Some(&"m:1".parse().unwrap()), &Descriptor::of(MediaType::OciIndex, &bytes)).unwrap();
    drop(session);
    let resolve = |platform: &str| store.resolve_for("m:1", Some(&platform.parse().unwrap()));
    assert_eq!(resolve("linux/arm64/v8").unwrap().config.architecture, "arm64");
    assert_eq!(resolve("linux/arm/v7").unwrap().config.architecture, "arm");
    let missing = resolve("linux/s390x").unwrap_err().to_string();
    assert_eq!(missing, "m:1 is not available for linux/s390x, only for linux/amd64, linux/arm64, linux/arm/v6");
    assert_eq!(store.images().unwrap().len(), 3);
    assert!(store.prune(PruneOptions::default()).unwrap().items.is_empty());
    assert_eq!(store.remove_image("m:1", false).unwrap().len(), 1 + 3 + 3);
    assert_eq!(blobs(&store), 0);
}

#[test]
fn a_damaged_image_hides_no_other() {
    let (_dir, store) = store();
    add(&store, "good:1", &["one"]);
    let bad = add(&store, "bad:1", &["two"]);
    std::fs::write(store.blob_path(&bad.digest), "{").unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
    assert!(store.resolve("good:1").is_ok());
    assert!(matches!(store.resolve("bad:1"), Err(StoreError::Mismatch(_))));
    assert!(store.prune(PruneOptions::default()).is_err(), "what it needs is not known, so nothing is collected");
    store.remove_image("bad:1", false).unwrap();
    store.prune(PruneOptions::default()).unwrap();
    assert_eq!(blobs(&store), 3);
}
