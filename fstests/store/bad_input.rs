//! Bad input: one clear line with a hint, exit code 1, nothing left.

use super::{contents, store_of, two_layers};
use crate::support::image::Packing;
use crate::support::{Image, Need, Scene};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Loads something bad in both ways, and checks what is said and that nothing is left.
#[track_caller]
fn assert_refused(scene: &Scene, source: &str, parts: &[&str]) {
    let mut ways = vec![scene.layerfs(["load", source])];
    if scene.path(source).is_file() {
        ways.push(scene.layerfs(["load"]).stdin(std::fs::read(scene.path(source)).unwrap()));
    }
    for way in ways {
        let done = way.output().fails(1, &["layerfs: ", "hint: "]).fails(1, parts);
        let lines = done.error_text().lines().filter(|line| line.starts_with("layerfs: ")).count();
        assert_eq!((lines, done.error_text().lines().count()), (1, 2), "{}", done.error_text());
        assert_eq!(contents(&store_of(scene)), Vec::<PathBuf>::new());
        assert_eq!(scene.layerfs(["images", "-q"]).ok().text(), "");
    }
}

fn largest_blob(layout: &Path) -> PathBuf {
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten().map(|entry| entry.path());
    blobs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let Some(scene) = Scene::begin(&[Need::Program("gzip")]) else { return };
    two_layers().write_docker_archive(&scene.path("whole.tar"), "bad:1");
    scene.sh("gzip -k whole.tar; head -c 1000000 whole.tar > cut.tar; head -c 2000 whole.tar.gz > cut.gz").ok();
    scene.sh("head -c 100000 /dev/urandom > random; : > empty; tar -cf rootfs.tar cut.gz").ok();
    assert_refused(&scene, "cut.tar", &["ends too early"]);
    assert_refused(&scene, "cut.gz", &["ends too early"]);
    assert_refused(&scene, "random", &[]);
    assert_refused(&scene, "empty", &["is no image archive"]);
    assert_refused(&scene, "rootfs.tar", &["layerfs import"]);
    assert_refused(&scene, "nowhere", &["nowhere"]);
}

#[test]
fn damaged_layouts_are_refused() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let Some(scene) = Scene::begin(&[]) else { return };
        let make = |name: &str| two_layers().packing(packing).write_oci(&scene.path(name), "bad:1");
        let flipped = largest_blob(&make("flipped"));
        let mut bytes = std::fs::read(&flipped).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::write(&flipped, &bytes).unwrap();
        assert_refused(&scene, "flipped", &["layer sha256:"]);
        let cut = largest_blob(&make("cut"));
        let length = cut.metadata().unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(length - 700).unwrap();
        assert_refused(&scene, "cut", &["layer sha256:"]);
        std::fs::remove_file(largest_blob(&make("missing"))).unwrap();
        assert_refused(&scene, "missing", &["is missing"]);
    }
}

/// Changes the manifest of a layout, with everything that points to it.
fn rewrite_manifest(layout: &Path, change: impl Fn(&mut Value)) {
    let read = |path: &Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let mut index = read(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    let mut manifest = read(&layout.join("blobs/sha256").join(&digest));
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let digest = crate::support::image::digest(&bytes);
    std::fs::write(layout.join("blobs/sha256").join(&digest["sha256:".len()..]), &bytes).unwrap();
    index["manifests"][0]["digest"] = json!(digest);
    index["manifests"][0]["size"] = json!(bytes.len());
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn documents_that_contradict_the_layers_are_refused() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let make = |name: &str, change: &dyn Fn(&mut Value)| {
        let layout = two_layers().packing(Packing::Gzip).write_oci(&scene.path(name), "bad:1");
        rewrite_manifest(&layout, change);
    };
    make("size", &|manifest| manifest["layers"][0]["size"] = json!(17));
    assert_refused(&scene, "size", &["size mismatch"]);
    make("foreign", &|manifest| {
        manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    });
    assert_refused(&scene, "foreign", &["foreign layers are not supported"]);
    make("unknown", &|manifest| manifest["layers"][0]["mediaType"] = json!("application/x-nothing"));
    assert_refused(&scene, "unknown", &["unsupported media type", "application/x-nothing"]);
    make("artifact", &|manifest| {
        manifest["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
    });
    assert_refused(&scene, "artifact", &["it is no container image", "application/vnd.oci.empty.v1+json", "artifacts"]);
    make("count", &|manifest| drop(manifest["layers"].as_array_mut().unwrap().pop()));
    assert_refused(&scene, "count", &["1 layers", "2 diffIDs"]);
    make("swapped", &|manifest| manifest["layers"].as_array_mut().unwrap().reverse());
    assert_refused(&scene, "swapped", &["digest mismatch"]);
    make("sha512", &|manifest| manifest["config"]["digest"] = json!(format!("sha512:{}", "0".repeat(128))));
    assert_refused(&scene, "sha512", &["unsupported digest algorithm"]);
    make("version", &|_| {});
    std::fs::write(scene.path("version/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert_refused(&scene, "version", &["version \"2.0.0\""]);
    make("one blob as two layers", &|manifest| manifest["layers"][1] = manifest["layers"][0].clone());
    assert_refused(&scene, "one blob as two layers", &["digest mismatch"]);
    make("schema1", &|manifest| manifest["schemaVersion"] = json!(1));
    assert_refused(&scene, "schema1", &["schema version 1"]);
}

#[test]
fn regression_one_file_is_not_taken_for_two_layers() {
    let Some(scene) = Scene::begin(&[Need::Program("tar")]) else { return };
    let layout = two_layers().packing(Packing::Gzip).write_oci(&scene.path("twice"), "bad:1");
    rewrite_manifest(&layout, |manifest| manifest["layers"][1] = manifest["layers"][0].clone());
    scene.sh("tar -C twice -cf twice.tar .").ok();
    assert_refused(&scene, "twice.tar", &["digest mismatch"]);
    two_layers().write_docker_archive(&scene.path("docker.tar"), "bad:1");
    // The second layer's file is a link to the first.
    let script = "import json, tarfile
source = tarfile.open('docker.tar')
names = json.load(source.extractfile('manifest.json'))[0]['Layers']
with tarfile.open('linked.tar', 'w') as target:
    for member in source:
        data = source.extractfile(member)
        if member.name == names[1]:
            member.type, member.linkname, member.size, data = tarfile.SYMTYPE, names[0], 0, None
        target.addfile(member, data)
";
    scene.run("python3").args(["-c", script]).ok();
    assert_refused(&scene, "linked.tar", &["digest mismatch"]);
}

#[test]
fn regression_a_wrong_size_of_a_layer_that_is_here_is_noticed() {
    let Some(scene) = Scene::begin(&[]) else { return };
    for packing in [Packing::Plain, Packing::Gzip] {
        two_layers().packing(packing).write_oci(&scene.path(format!("good-{packing:?}")), "good:1");
        scene.layerfs(["load", &format!("oci:good-{packing:?}")]).ok();
        let layout = two_layers().packing(packing).write_oci(&scene.path(format!("bad-{packing:?}")), "bad:1");
        rewrite_manifest(&layout, |manifest| manifest["layers"][0]["size"] = json!(17));
        let refused = scene.layerfs(["load", &format!("oci:bad-{packing:?}")]).output();
        refused.fails(1, &["size mismatch", "17", "hint: "]);
        assert_eq!(scene.layerfs(["images", "-q"]).ok().text().lines().count(), 1);
    }
}

#[test]
fn a_layer_that_is_no_archive_is_refused() {
    let Some(scene) = Scene::begin(&[]) else { return };
    Image::new().layer_tar(vec![b'x'; 10_000]).write_docker_archive(&scene.path("text.tar"), "bad:1");
    assert_refused(&scene, "text.tar", &[]);
    // A whiteout without a name, and a name that leaves the root.
    Image::new().layer("whiteout etc/x\nfile a =b").layer_tar(member("../x")).write_oci(&scene.path("climbs"), "bad:1");
    assert_refused(&scene, "climbs", &["../x"]);
    Image::new().layer_tar(member("a/.wh.")).write_oci(&scene.path("bare"), "bad:1");
    assert_refused(&scene, "bare", &[".wh."]);
}

/// A tar with one empty file of a name that no careful writer would write.
fn member(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(512 * 3, 0);
    bytes
}

#[test]
fn a_full_disk_leaves_nothing() {
    let Some(scene) = Scene::begin(&[Need::Root]) else { return };
    Image::new()
        .layer("file big #12000000\nfile bigger #12000000")
        .write_docker_archive(&scene.path("a.tar"), "full:1");
    let disk = scene.dir("disk");
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&disk).ok();
    let root = disk.join("store");
    let done = scene.layerfs(["load", "a.tar", "--root"]).arg(&root).output();
    let left = contents(&root);
    scene.run("umount").arg(&disk).ok();
    done.fails(1, &["No space left", "hint: ", "prune"]);
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn a_layer_beyond_a_limit_is_refused() {
    let Some(scene) = Scene::begin(&[]) else { return };
    two_layers().packing(Packing::Gzip).write_oci(&scene.path("layout"), "bad:1");
    let load = |limit: &str| scene.layerfs(["load", "layout", "--limit", limit]).output();
    load("entries=2").fails(1, &["exceed the limit of 2", "hint: ", "--limit"]);
    load("nothing=2").fails(1, &["unknown"]);
    assert_eq!(contents(&store_of(&scene)), Vec::<PathBuf>::new());
    load("entries=100").ok();
}
