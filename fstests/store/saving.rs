//! What is saved is read by other tools, and comes back as it left.

use super::{assert_clean, diff_ids, store_of, two_layers};
use crate::support::image::Packing;
use crate::support::{Image, Manifest, Need, Rules, Scene};

fn loaded(needs: &[Need], packing: Packing) -> Option<Scene> {
    let scene = Scene::begin(needs)?;
    two_layers().packing(packing).write_oci(&scene.path("layout"), "app:1");
    scene.layerfs(["load", "layout"]).ok();
    Some(scene)
}

#[test]
fn layers_leave_as_they_came() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let Some(scene) = loaded(&[Need::Program("tar")], packing) else { return };
        scene.layerfs(["save", "app:1", "-o", "oci:saved:app:1"]).ok();
        scene.sh("diff -r layout/blobs saved/blobs").ok();
        scene.layerfs(["save", "app:1", "-o", "docker.tar"]).ok();
        scene.layerfs(["save", "app:1", "--format", "oci-archive", "-o", "oci.tar"]).ok();
        scene.sh("mkdir a b; tar -C a -xf docker.tar; tar -C b -xf oci.tar; diff -r layout/blobs a/blobs; diff -r layout/blobs b/blobs").ok();
        let again = scene.layerfs(["save", "app:1"]).ok().stdout;
        assert!(
            again == std::fs::read(scene.path("docker.tar")).unwrap(),
            "standard output and file are the same bytes"
        );
    }
}

#[test]
fn every_compression_comes_back_as_the_same_image() {
    let Some(scene) = loaded(&[], Packing::Plain) else { return };
    let (layers, id) = (diff_ids(&scene, "app:1"), scene.layerfs(["images", "-q", "--no-trunc"]).ok().text());
    for (number, form) in
        [["none", "1"], ["gzip", "1"], ["gzip", "9"], ["zstd", "3"], ["zstd", "19"]].iter().enumerate()
    {
        let file = format!("{number}.tar");
        let mut save = scene.layerfs(["save", "app:1", "--compress", form[0], "-o", &file]);
        if form[0] != "none" {
            save = save.args(["--level", form[1], "--threads", "1"]);
        }
        save.ok();
        let root = scene.path(format!("store{number}"));
        scene.layerfs(["load", &file, "--root"]).arg(&root).ok();
        assert_eq!(scene.layerfs(["images", "-q", "--no-trunc", "--root"]).arg(&root).ok().text(), id);
        scene.layerfs(["fsck", "--root"]).arg(&root).ok();
    }
    scene.layerfs(["save", "app:1", "--compress", "gzip", "--threads", "2", "-o", "two.tar"]).ok();
    scene.layerfs(["prune", "--all", "--dry-run"]).ok();
    let root = scene.path("fresh");
    scene.layerfs(["load", "layout", "--root"]).arg(&root).ok();
    scene.layerfs(["save", "app:1", "--compress", "gzip", "--threads", "1", "-o", "one.tar", "--root"]).arg(&root).ok();
    scene.sh("cmp one.tar two.tar").ok();
    assert_eq!(diff_ids(&scene, "app:1"), layers);
    scene.layerfs(["save", "app:1", "--compress", "gzip", "--level", "10"]).output().fails(1, &["out of range"]);
    scene.layerfs(["save", "missing:1", "-o", "no.tar"]).output().fails(1, &["no such image"]);
    assert!(!scene.path("no.tar").exists());
    assert_clean(&scene);
}

#[test]
fn other_tools_take_what_is_saved() {
    let needs = [Need::Root, Need::Program("skopeo"), Need::Program("umoci"), Need::Program("podman")];
    let Some(scene) = loaded(&needs, Packing::Gzip) else { return };
    scene.layerfs(["tag", "app:1", "example.com/other:2"]).ok();
    scene.layerfs(["save", "app:1", "example.com/other:2", "-o", "docker.tar"]).ok();
    scene.layerfs(["save", "app:1", "-o", "oci-archive:oci.tar:latest"]).ok();
    scene.layerfs(["save", "app:1", "--compress", "zstd", "-o", "oci:layout2:latest"]).ok();
    scene.sh("skopeo copy -q docker-archive:docker.tar:example.com/other:2 oci:copied:x").ok();
    scene.sh("skopeo copy -q oci-archive:oci.tar:latest oci:copied:y; skopeo inspect oci:layout2:latest").ok();
    scene.sh("umoci unpack --image copied:x unpacked").ok();
    let script =
        "printf '[storage]\\ndriver = \"vfs\"\\nrunroot = \"%s/run\"\\ngraphroot = \"%s/storage\"\\n' $PWD $PWD > conf
        export CONTAINERS_STORAGE_CONF=$PWD/conf BUILDAH_ISOLATION=chroot
        for f in docker.tar oci.tar; do podman load -q -i $f; done";
    let loaded = scene.sh(script).ok().text();
    assert!(loaded.contains("/app:1") && loaded.contains("example.com/other:2"), "{loaded}");
    assert_eq!(std::fs::read(scene.path("unpacked/rootfs/etc/name")).unwrap(), b"two");
}

#[test]
fn an_export_is_the_tree() {
    let Some(scene) = loaded(&[Need::Root, Need::Program("umoci"), Need::Program("tar")], Packing::Gzip) else {
        return;
    };
    scene.layerfs(["export", "app:1", "-o", "tree.tar"]).ok();
    scene.sh("umoci unpack --image layout:app:1 bundle; mkdir tree; tar --xattrs --xattrs-include='*' -C tree -xpf tree.tar").ok();
    let rules = Rules { whole_seconds: true, ..Rules::default() };
    Manifest::of(scene.path("tree")).assert_same(&Manifest::of(scene.path("bundle/rootfs")), &rules);
    let again = scene.layerfs(["export", "app:1"]).ok().stdout;
    assert!(again == std::fs::read(scene.path("tree.tar")).unwrap());
}

/// The keys that scripts ask docker and podman for, in docker's order.
#[test]
fn an_image_is_described_as_by_docker_and_podman() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let config = serde_json::json!({"User": "me", "Labels": {"a": "b"}, "Env": ["A=1"]});
    Image::new().layer("file a =1").config(config).write_oci(&scene.path("layout"), "app:1");
    scene.layerfs(["load", "layout"]).ok();
    let described = scene.layerfs(["inspect", "app:1"]).ok().json();
    let image = described[0].as_object().unwrap();
    let keys: Vec<&str> = image.keys().map(String::as_str).collect();
    let docker = "Id RepoTags RepoDigests Parent Comment Created DockerVersion Author Config Architecture Variant Os OsVersion \
                  Size VirtualSize GraphDriver RootFS Metadata";
    assert_eq!(keys[..18].join(" "), docker);
    for key in ["Digest", "Labels", "Annotations", "ManifestType", "User", "History"] {
        assert!(keys.contains(&key), "{key}");
    }
    assert_eq!((&image["User"], &image["Labels"]["a"], &image["Parent"]), (&"me".into(), &"b".into(), &"".into()));
    assert_eq!(image["Size"], image["VirtualSize"]);
    assert!(image["Digest"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn squashing_keeps_the_tree() {
    let Some(scene) = Scene::begin(&[Need::Program("tar")]) else { return };
    let image = Image::new()
        .layer("dir a\nfile a/x #1000\nfile a/y =y\ndir b\nfile b/z =z")
        .layer("file big #5000000\nwhiteout a/x")
        .layer("whiteout big\ndir b\nopaque b\nfile b/new =n\nwhiteout nothing");
    image.write_oci(&scene.path("layout"), "app:1");
    scene.layerfs(["load", "layout"]).ok();
    let tree = scene.layerfs(["export", "app:1"]).ok().stdout;
    scene.layerfs(["squash", "app:1", "whole:1"]).ok();
    let id = |name: &str| scene.layerfs(["inspect", name]).ok().json()[0]["Id"].as_str().unwrap()[7..19].to_owned();
    let told = scene.layerfs(["squash", "app:1", "whole:1"]).output().ok().error_text();
    let [old, new] = ["app:1", "whole:1"].map(id);
    assert!(told.starts_with(&format!("3 layers of app:1 made one: {old} -> {new}\n")), "{told}");
    scene.layerfs(["squash", "app:1", "last:1", "--last", "2"]).ok();
    for (name, layers) in [("whole:1", 1), ("last:1", 2)] {
        assert_eq!(diff_ids(&scene, name).len(), layers, "{name}");
        assert!(scene.layerfs(["export", name]).ok().stdout == tree, "{name} has another tree");
    }
    let names = |image: &str| {
        let described = scene.layerfs(["inspect", image]).ok().json();
        let tar = described[0]["Layers"].as_array().unwrap().last().unwrap()["Tar"].as_str().unwrap().to_owned();
        scene.run("tar").args(["-tf", &tar]).ok().text()
    };
    assert!(!names("whole:1").contains(".wh."), "a whole tree hides nothing: {}", names("whole:1"));
    let last = names("last:1");
    assert!(last.contains("a/.wh.x") && !last.contains("big") && !last.contains("nothing"), "{last}");
    let history = scene.layerfs(["history", "whole:1", "--format", "json"]).ok().json();
    assert!(history[0]["Comment"].as_str().unwrap().contains("3 layers"), "{history}");
    assert!(store_of(&scene).exists());
    // The name moves; nobody loses an image without a word.
    scene.layerfs(["tag", "last:1", "moving:1"]).ok();
    scene.layerfs(["rmi", "last:1"]).ok();
    let lost = id("moving:1");
    let told = scene.layerfs(["squash", "moving:1"]).output().ok().error_text();
    let new = id("moving:1");
    assert!(told.contains(&format!("\nmoving:1 is {new} now, no longer {lost}\n")), "{told}");
    assert!(told.contains(&format!("\n{lost} has no name any more: layerfs tag {lost} NAME")), "{told}");
    scene.layerfs(["squash", "app:1", "--last", "9"]).output().fails(1, &["3 layers"]);
    assert_clean(&scene);
}
