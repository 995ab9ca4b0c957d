//! Registries: pull, push, login, against a real registry, a registry with tokens, and a proxy that breaks things.

mod exchange;
mod faults;
mod login;
mod mirrors;
mod proxy;
mod pull;
mod push;
mod raw;
mod remote;
mod secrets;
mod server;
mod tls;
mod token;

use crate::support::{Image, Need, Run, Scene};
use serde_json::Value;

/// What nearly every test here needs.
pub(crate) const SERVER: &[Need] = &[Need::Program("docker-registry"), Need::Program("skopeo")];

/// `layerfs` with arguments, away from the machine's own configuration, and impatient.
pub(crate) fn layerfs(scene: &Scene, arguments: &[&str]) -> Run {
    let registries = scene.path("registries.conf");
    if !registries.exists() {
        std::fs::write(&registries, "").expect("registries.conf");
    }
    scene
        .layerfs(arguments)
        .env("CONTAINERS_REGISTRIES_CONF", registries)
        .env("DOCKER_CONFIG", scene.path("docker"))
        .env_remove("REGISTRY_AUTH_FILE")
        .env("RUST_BACKTRACE", "0")
}

/// A small image of three layers.
pub(crate) fn small_image() -> Image {
    Image::new()
        .layer("dir etc\nfile etc/name =hello\nfile etc/big #300000")
        .layer("dir usr\ndir usr/bin\nfile usr/bin/tool #1200000 0755")
        .layer("dir etc\nwhiteout etc/name\nfile etc/other =there")
}

/// Lets skopeo copy `image` into a registry as `name`; the digest it has there.
pub(crate) fn seed(scene: &Scene, image: &Image, name: &str) -> String {
    let directory = scene.path(format!("seed-{}", name.replace(['/', ':'], "-")));
    image.write_oci(&directory, "seed");
    let source = format!("oci:{}:seed", directory.display());
    skopeo(scene, &["copy", "--dest-tls-verify=false", &source, &format!("docker://{name}")]).ok();
    remote_digest(scene, name)
}

/// The digest that skopeo sees at a registry.
pub(crate) fn remote_digest(scene: &Scene, name: &str) -> String {
    let name = format!("docker://{name}");
    let done = skopeo(scene, &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]).ok();
    done.text().trim().to_owned()
}

/// `skopeo` without the machine's registries and policy.
pub(crate) fn skopeo(scene: &Scene, arguments: &[&str]) -> Run {
    scene.run("skopeo").arg("--insecure-policy").args(arguments)
}

/// What the store holds that it should not: staged files, blobs that do not match their names.
pub(crate) fn assert_store_clean(scene: &Scene) {
    let store = scene.path("me/store");
    let stage = store.join("stage");
    let staged: Vec<_> = std::fs::read_dir(&stage).map(|dir| dir.flatten().collect()).unwrap_or_default();
    let left: Vec<String> = staged.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // The beginning of a blob that may be taken up is no litter.
    let litter: Vec<&String> = left.iter().filter(|name| !name.starts_with("partial-")).collect();
    assert!(litter.is_empty(), "left in the store: {litter:?}");
    let Ok(blobs) = std::fs::read_dir(store.join("blobs/sha256")) else { return };
    for entry in blobs.flatten() {
        let bytes = std::fs::read(entry.path()).expect("a blob");
        let digest = crate::support::image::digest(&bytes);
        assert_eq!(digest.trim_start_matches("sha256:"), entry.file_name().to_string_lossy(), "a wrong blob");
    }
}

/// The references in the store's index.
pub(crate) fn names(scene: &Scene) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(scene.path("me/store/index.json")) else { return Vec::new() };
    let index: Value = serde_json::from_str(&text).expect("index.json");
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
    entries.iter().filter_map(name).collect()
}
