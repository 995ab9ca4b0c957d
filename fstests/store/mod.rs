//! The store and what goes in and out of it, with archives made by other tools.

mod bad_input;
mod check;
mod formats;
mod full_disk;
mod killed;
mod lifecycle;
mod saving;
mod unwritable;

use super::support::{Image, Scene};
use std::path::{Path, PathBuf};

/// An image of two layers, the second of which deletes and overwrites.
fn two_layers() -> Image {
    Image::new()
        .layer("dir etc\nfile etc/name =one\nfile etc/gone =x\nfile big #3000000\nlink etc/alias ->name")
        .layer("dir etc\nfile etc/name =two 0600 7:8\nwhiteout etc/gone\nhard etc/second =>etc/name")
}

/// The files below a directory of the store, stage and leases included.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// What a store holds of images: blobs, tables of contents, staged files.
fn contents(store: &Path) -> Vec<PathBuf> {
    ["blobs", "toc", "compressed", "stage", "leases"].iter().flat_map(|name| files_below(&store.join(name))).collect()
}

/// The store of whoever runs the tests.
fn store_of(scene: &Scene) -> PathBuf {
    scene.path("me/store")
}

/// The diffIDs of an image.
fn diff_ids(scene: &Scene, image: &str) -> Vec<String> {
    let described = scene.layerfs(["inspect", image]).ok().json();
    let layers = described[0]["RootFS"]["Layers"].as_array().expect("layers").clone();
    layers.iter().map(|layer| layer.as_str().expect("a digest").to_owned()).collect()
}

/// Fails unless the check of the store finds nothing at all.
#[track_caller]
fn assert_clean(scene: &Scene) {
    let report = scene.layerfs(["fsck", "--format", "json"]).ok().json();
    assert_eq!(report["Findings"], serde_json::json!([]), "{report}");
}
