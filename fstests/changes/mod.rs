//! Changes in writable mounts become layers: diff and commit, against the mount itself and against other tools.

mod adversary;
mod bad_input;
mod classics;
mod others;
mod random;

use crate::support::{Image, Manifest, Rules, Scene};
use serde_json::Value;

/// Times are written in whole seconds. A layer counts the names that a later one hides; the groups of names are compared.
pub(crate) fn rules() -> Rules {
    Rules { whole_seconds: true, without: vec!["nlink"], ..Rules::default() }
}

/// A store with the image `base:1` of one layer.
pub(crate) fn based_on(scene: &Scene, text: &str) {
    Image::new().layer(text).write_oci(&scene.path("base-layout"), "base:1");
    scene.layerfs(["load", "base-layout"]).ok();
}

/// Mounts `base:1` under the name `work`, runs `script` in it, and returns what there is to see then.
pub(crate) fn changed_by(scene: &Scene, script: &str) -> Manifest {
    let mount = scene.mount(["mount", "--rw", "--name", "work", "base:1"], "mnt");
    scene.sh(script).in_dir(mount.path()).ok();
    let seen = Manifest::of(mount.path());
    mount.unmount();
    seen
}

/// What a mount of `image` shows.
pub(crate) fn shown(scene: &Scene, image: &str) -> Manifest {
    let mount = scene.mount(["mount", image], "look");
    let seen = Manifest::of(mount.path());
    mount.unmount();
    seen
}

/// The lines of `layerfs diff work`.
pub(crate) fn diff_lines(scene: &Scene) -> Vec<String> {
    scene.layerfs(["diff", "work"]).ok().text().lines().map(str::to_owned).collect()
}

/// The names in the tar of the topmost layer of `image`, in their order.
pub(crate) fn layer_names(scene: &Scene, image: &str) -> Vec<String> {
    let inspected: Value = scene.layerfs(["inspect", image]).ok().json();
    let layers = inspected[0]["RootFS"]["Layers"].as_array().expect("diffIDs").clone();
    let top = layers.last().and_then(Value::as_str).expect("a layer").trim_start_matches("sha256:").to_owned();
    let listed = scene.sh(format!("tar -tf \"$LAYERFS_ROOT\"/blobs/sha256/{top}")).ok().text();
    listed.lines().map(str::to_owned).collect()
}
