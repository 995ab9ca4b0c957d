//! Images that travel between layerfs, podman and skopeo through a registry: the same digests, the same trees.

use super::server::Registry;
use super::{SERVER, layerfs, remote_digest, skopeo};
use crate::image_tree::{umoci_rules, unpacked_by_umoci};
use crate::support::real::{self, RealImage};
use crate::support::{Manifest, Need, Run, Scene};

fn begin() -> Option<(Scene, Registry, RealImage)> {
    let programs = ["podman", "umoci"].map(Need::Program);
    let scene = Scene::begin(&[SERVER, &programs, &[Need::Root, Need::Fuse, Need::Image("small")]].concat())?;
    let registry = Registry::start(&scene);
    Some((scene, registry, real::image("small")))
}

/// podman with a store of the scene's own.
fn podman(scene: &Scene, arguments: &[&str]) -> Run {
    let run = scene.run("podman").arg("--root").arg(scene.path("podman/root"));
    run.arg("--runroot").arg(scene.path("podman/run")).args(["--storage-driver", "vfs"]).args(arguments)
}

/// Lets podman pull `name`, and returns the tree it makes of it. The root itself is podman's own: always of mode 0555.
fn pulled_by_podman(scene: &Scene, name: &str) -> Manifest {
    podman(scene, &["pull", "--tls-verify=false", "--quiet", name]).ok();
    let digest = podman(scene, &["image", "inspect", "--format", "{{.Digest}}", name]).ok().text();
    assert_eq!(digest.trim(), remote_digest(scene, name), "{name}");
    let path = podman(scene, &["image", "mount", name]).ok().text();
    let mut manifest = Manifest::of(path.trim());
    if let Some(root) = manifest.0.get_mut(".") {
        assert_eq!(root.mode, 0o555);
        root.mode = 0o755;
    }
    podman(scene, &["image", "umount", name]).ok();
    // The next form of the same image shall be fetched, and have its own digest.
    podman(scene, &["image", "rm", "--force", name]).ok();
    manifest
}

/// Lets skopeo fetch `name` into a layout and umoci unpack that.
fn pulled_by_skopeo(scene: &Scene, name: &str) -> Manifest {
    let layout = scene.path("skopeo-copy");
    let (from, to) = (format!("docker://{name}"), format!("oci:{}:latest", layout.display()));
    skopeo(scene, &["copy", "--quiet", "--src-tls-verify=false", &from, &to]).ok();
    let manifest = unpacked_by_umoci(scene, &layout);
    std::fs::remove_dir_all(layout).expect("remove a layout");
    manifest
}

/// Pulls `name` by layerfs and mounts it.
fn pulled_by_layerfs(scene: &Scene, name: &str) -> Manifest {
    let pulled = layerfs(scene, &["pull", "--format", "json", name]).ok().json();
    assert_eq!(pulled["digest"].as_str(), Some(remote_digest(scene, name).as_str()), "{name}");
    let mount = scene.mount(["mount", name], "mnt");
    let manifest = Manifest::of(mount.path());
    mount.unmount();
    manifest
}

#[test]
fn what_layerfs_pushes_is_the_same_tree_for_podman_and_skopeo() {
    let Some((scene, registry, image)) = begin() else { return };
    let expected = Manifest::of(image.unpacked());
    let reference = scene.load(&image.docker_archive().to_string_lossy());
    for format in ["gzip", "zstd"] {
        let name = format!("{}/{format}:1", registry.name());
        let said = layerfs(&scene, &["push", "--compression-format", format, "--format", "json", &reference, &name]);
        assert_eq!(said.ok().json()["digest"].as_str(), Some(remote_digest(&scene, &name).as_str()));
        expected.assert_same(&pulled_by_podman(&scene, &name), &umoci_rules());
        // umoci does not know zstd.
        if format == "gzip" {
            expected.assert_same(&pulled_by_skopeo(&scene, &name), &umoci_rules());
        }
    }
}

#[test]
fn what_podman_and_skopeo_push_is_the_same_tree_for_layerfs() {
    let Some((scene, registry, image)) = begin() else { return };
    let expected = Manifest::of(image.unpacked());
    let skopeos = format!("{}/skopeo:1", registry.name());
    let layout = format!("oci:{}:latest", image.oci().display());
    skopeo(&scene, &["copy", "--quiet", "--dest-tls-verify=false", &layout, &format!("docker://{skopeos}")]).ok();
    expected.assert_same(&pulled_by_layerfs(&scene, &skopeos), &umoci_rules());
    podman(&scene, &["pull", "--tls-verify=false", "--quiet", &skopeos]).ok();
    for format in ["oci", "v2s2"] {
        let name = format!("{}/podman:{format}", registry.name());
        podman(&scene, &["push", "--tls-verify=false", "--quiet", "--format", format, &skopeos, &name]).ok();
        expected.assert_same(&pulled_by_layerfs(&scene, &name), &umoci_rules());
    }
}
