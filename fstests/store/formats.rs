//! The same image in every format and by every way in is the same image.

use super::{assert_clean, contents, diff_ids, store_of, two_layers};
use crate::support::image::Packing;
use crate::support::{Image, Need, Scene};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn every_way_in_gives_the_same_layers() {
    let Some(scene) = Scene::begin(&[Need::Program("gzip"), Need::Program("zstd"), Need::Program("tar")]) else {
        return;
    };
    let image = two_layers();
    image.write_docker_archive(&scene.path("docker.tar"), "example.com/app:1");
    image.write_oci(&scene.path("layout"), "example.com/app:1");
    image.packing(Packing::Gzip).write_oci(&scene.path("gzip"), "example.com/app:1");
    two_layers().packing(Packing::Zstd).write_oci(&scene.path("zstd"), "example.com/app:1");
    scene.sh("gzip -k docker.tar; zstd -q docker.tar; for f in layout gzip zstd; do tar -C $f -cf $f.tar .; done").ok();
    let mut seen: Option<Vec<String>> = None;
    for source in [
        "docker.tar",
        "docker-archive:docker.tar",
        "docker.tar.gz",
        "docker.tar.zst",
        "layout",
        "oci:layout",
        "oci:layout:example.com/app:1",
        "layout.tar",
        "oci-archive:gzip.tar",
        "gzip",
        "zstd",
        "zstd.tar",
    ] {
        scene.layerfs(["load", source]).ok();
        let layers = diff_ids(&scene, "example.com/app:1");
        assert_eq!(seen.get_or_insert_with(|| layers.clone()), &layers, "{source}");
        assert_clean(&scene);
        scene.layerfs(["rmi", "example.com/app:1"]).ok();
        assert_eq!(contents(&store_of(&scene)), Vec::<std::path::PathBuf>::new(), "{source}");
    }
    for source in ["docker.tar", "docker.tar.gz", "docker.tar.zst", "layout.tar", "gzip.tar", "zstd.tar"] {
        scene.layerfs(["load"]).stdin(std::fs::read(scene.path(source)).unwrap()).ok();
        assert_eq!(Some(diff_ids(&scene, "example.com/app:1")), seen, "{source} from standard input");
        scene.layerfs(["rmi", "example.com/app:1"]).ok();
        assert_eq!(contents(&store_of(&scene)), Vec::<std::path::PathBuf>::new(), "{source} from standard input");
    }
}

#[test]
fn archives_of_other_tools_are_loaded_and_the_store_is_read_by_them() {
    let needs = [Need::Program("skopeo"), Need::Program("umoci")];
    let Some(scene) = Scene::begin(&needs) else { return };
    two_layers().packing(Packing::Gzip).write_oci(&scene.path("layout"), "tool:1");
    scene.sh("skopeo copy -q oci:layout:tool:1 docker-archive:skopeo.tar:tool:2").ok();
    scene.sh("skopeo copy -q oci:layout:tool:1 oci-archive:archive.tar:tool:3").ok();
    scene.sh("umoci init --layout new; umoci new --image new:empty").ok();
    for source in ["layout", "skopeo.tar", "archive.tar"] {
        scene.layerfs(["load", source]).ok();
    }
    let first = diff_ids(&scene, "tool:1");
    assert_eq!(diff_ids(&scene, "tool:2"), first);
    assert_eq!(diff_ids(&scene, "tool:3"), first);
    scene.layerfs(["load", "oci:new:empty"]).ok();
    assert!(diff_ids(&scene, "new:empty").is_empty(), "an image without layers");
    let root = store_of(&scene);
    for tag in ["tool:1", "tool:2", "tool:3"] {
        let seen = scene.run("skopeo").args(["inspect", "--raw"]).arg(format!("oci:{}:{tag}", root.display())).ok();
        assert!(seen.json()["layers"].is_array());
        scene.run("skopeo").arg("inspect").arg(format!("oci:{}:{tag}", root.display())).ok();
    }
    let listed = scene.run("umoci").args(["ls", "--layout"]).arg(&root).ok().text();
    assert_eq!(listed.lines().filter(|line| line.starts_with("tool:")).count(), 3, "{listed}");
    scene.sh(format!("umoci unpack --rootless --image {}:tool:1 bundle", root.display())).ok();
    assert_eq!(std::fs::read(scene.path("bundle/rootfs/etc/name")).unwrap(), b"two");
    assert!(!scene.path("bundle/rootfs/etc/gone").exists());
}

#[test]
fn platforms_are_chosen_and_kept() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let other = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
    let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    write_multi_platform(&scene, own, other);
    scene.layerfs(["load", "oci:multi"]).ok();
    let described = scene.layerfs(["inspect", "multi:1"]).ok().json();
    assert_eq!(described[0]["Architecture"], own);
    scene.layerfs(["load", "--platform", &format!("linux/{other}"), "oci:multi"]).ok();
    assert_eq!(scene.layerfs(["inspect", "multi:1"]).ok().json()[0]["Architecture"], other);
    scene.layerfs(["load", "--platform", "linux/s390x", "oci:multi"]).output().fails(1, &["linux/s390x", "hint:"]);
    scene.layerfs(["load", "--all-platforms", "oci:multi"]).ok();
    for architecture in [own, other] {
        let platform = format!("linux/{architecture}");
        let described = scene.layerfs(["inspect", "--platform", &platform, "multi:1"]).ok().json();
        assert_eq!(described[0]["Architecture"], architecture);
    }
    scene.layerfs(["prune"]).ok();
    assert_clean(&scene);
}

/// An image layout whose one entry is an index of images for two architectures, and an attestation.
fn write_multi_platform(scene: &Scene, first: &str, second: &str) {
    let image = |architecture: &str| {
        let directory = scene.path(architecture);
        let image = Image::new().layer(&format!("file arch ={architecture}"));
        image.write_oci(&directory, "x");
        let config = String::from_utf8(image.configuration()).unwrap();
        let (from, to) = (first_architecture(&config), format!("\"architecture\":\"{architecture}\""));
        let config = config.replace(&from, &to).into_bytes();
        let blobs = scene.dir("multi/blobs/sha256");
        for entry in std::fs::read_dir(directory.join("blobs/sha256")).unwrap().flatten() {
            std::fs::copy(entry.path(), blobs.join(entry.file_name())).unwrap();
        }
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(directory.join("index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&std::fs::read(blobs.join(digest)).unwrap()).unwrap();
        manifest["config"] = put(scene, &config, "application/vnd.oci.image.config.v1+json");
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let mut entry = put(scene, &bytes, "application/vnd.oci.image.manifest.v1+json");
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entry
    };
    let mut attestation = put(scene, b"{}", "application/vnd.oci.image.manifest.v1+json");
    attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    let list = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [attestation, image(second), image(first)]});
    let mut entry = put(scene, &serde_json::to_vec(&list).unwrap(), "application/vnd.oci.image.index.v1+json");
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(scene.path("multi/index.json"), index.to_string()).unwrap();
    std::fs::write(scene.path("multi/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// The same for the platform that this runs on, and another one.
fn write_own_and_other(scene: &Scene) -> (&'static str, &'static str) {
    let (own, other) = if cfg!(target_arch = "x86_64") { ("amd64", "arm64") } else { ("arm64", "amd64") };
    write_multi_platform(scene, own, other);
    (own, other)
}

#[test]
fn regression_platforms_are_read_from_the_configurations_where_an_index_has_none() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let (own, other) = write_own_and_other(&scene);
    let read = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(scene.path(path)).unwrap()).unwrap()
    };
    let mut index = read("multi/index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let mut list = read(&format!("multi/blobs/sha256/{digest}"));
    list["manifests"].as_array_mut().unwrap().remove(0);
    for entry in list["manifests"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("platform");
    }
    let mut entry = put(&scene, list.to_string().as_bytes(), "application/vnd.oci.image.index.v1+json");
    entry["annotations"] = index["manifests"][0]["annotations"].take();
    index["manifests"][0] = entry;
    std::fs::write(scene.path("multi/index.json"), index.to_string()).unwrap();
    scene.layerfs(["load", "oci:multi"]).ok();
    assert_eq!(scene.layerfs(["inspect", "multi:1"]).ok().json()[0]["Architecture"], own);
    let missing = scene.layerfs(["load", "--platform", "linux/s390x", "oci:multi"]).output();
    missing.fails(1, &["linux/s390x", &format!("linux/{other}"), &format!("linux/{own}")]);
}

/// Changes the list of images that the layout's one entry points to.
fn change_list(scene: &Scene, change: impl FnOnce(&mut Value)) {
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(scene.path(path)).unwrap()).unwrap() };
    let mut index = read("multi/index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let mut list = read(&format!("multi/blobs/sha256/{digest}"));
    change(&mut list);
    let mut entry = put(scene, list.to_string().as_bytes(), OCI_INDEX);
    entry["annotations"] = index["manifests"][0]["annotations"].take();
    index["manifests"][0] = entry;
    std::fs::write(scene.path("multi/index.json"), index.to_string()).unwrap();
}

#[test]
fn regression_only_the_image_that_is_chosen_is_read() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let (own, other) = write_own_and_other(&scene);
    change_list(&scene, |list| {
        // It says no platform, and what it points to is damaged.
        list["manifests"][1].as_object_mut().unwrap().remove("platform");
        let digest = list["manifests"][1]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        std::fs::write(scene.path("multi/blobs/sha256").join(digest), "{").unwrap();
    });
    scene.layerfs(["load", "oci:multi"]).ok();
    assert_eq!(scene.layerfs(["inspect", "multi:1"]).ok().json()[0]["Architecture"], own);
    scene.layerfs(["load", "--platform", &format!("linux/{other}"), "oci:multi"]).output().fails(1, &[]);
}

#[test]
fn lists_of_images_in_lists_of_images() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let (own, other) = write_own_and_other(&scene);
    // Each image in a list of its own, one of which says for whom it is; both lists in a third.
    change_list(&scene, |list| {
        let entries = list["manifests"].as_array_mut().unwrap();
        let list_of = |entry: &Value| json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        let [mut first, second] = [1, 2].map(|at| put(&scene, list_of(&entries[at]).to_string().as_bytes(), OCI_INDEX));
        first["platform"] = entries[1]["platform"].clone();
        let both = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [first, second]});
        *entries = vec![put(&scene, both.to_string().as_bytes(), OCI_INDEX)];
    });
    let architecture =
        |arguments: &[&str]| scene.layerfs(arguments).ok().json()[0]["Architecture"].as_str().unwrap().to_owned();
    scene.layerfs(["load", "oci:multi"]).ok();
    assert_eq!(architecture(&["inspect", "multi:1"]), own);
    let platform = format!("linux/{other}");
    scene.layerfs(["load", "--platform", &platform, "oci:multi"]).ok();
    assert_eq!(architecture(&["inspect", "multi:1"]), other);
    scene.layerfs(["load", "--all-platforms", "oci:multi"]).ok();
    scene.layerfs(["prune"]).ok();
    assert_eq!(architecture(&["inspect", "multi:1"]), own);
    assert_eq!(architecture(&["inspect", "--platform", &platform, "multi:1"]), other);
    scene.layerfs(["fsck"]).ok();
    assert_clean(&scene);
    // What is saved is one list, as every tool reads it.
    scene.layerfs(["save", "-o", "oci:saved", "multi:1"]).ok();
    scene.layerfs(["rmi", "multi:1"]).ok();
    scene.layerfs(["load", "--all-platforms", "-t", "again:1", "oci:saved"]).ok();
    assert_eq!(architecture(&["inspect", "again:1"]), own);
    assert_eq!(architecture(&["inspect", "--platform", &platform, "again:1"]), other);
}

#[test]
fn lists_of_images_without_an_end() {
    let Some(scene) = Scene::begin(&[]) else { return };
    write_multi_platform(&scene, "s390x", "ppc64le");
    change_list(&scene, |list| {
        for _ in 0..20 {
            let inner = put(&scene, list.to_string().as_bytes(), OCI_INDEX);
            *list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]});
        }
    });
    scene.layerfs(["load", "oci:multi"]).output().fails(1, &["lists of images are more than 8 deep", "\nhint: "]);
}

#[test]
fn the_limit_of_documents_can_be_raised() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let label = "x".repeat(5 << 20);
    let image = Image::new().layer("file a =1").config(json!({"Labels": {"large": label}}));
    image.write_docker_archive(&scene.path("large.tar"), "large:1");
    image.write_oci(&scene.path("large"), "1");
    let piped = std::fs::read(scene.path("large.tar")).unwrap();
    let hint = "hint: an honest document that large is taken with --limit manifest=BYTES";
    scene.layerfs(["load", "-i", "large.tar"]).output().fails(1, &["is too large", hint]);
    scene.layerfs(["load"]).stdin(piped.clone()).output().fails(1, &["is too large", hint]);
    scene.layerfs(["load", "oci:large"]).output().fails(1, &["is too large", hint]);
    for source in ["large.tar", "oci:large", "-"] {
        scene.layerfs(["load", "--limit", "manifest=6000000", "-t", "large:1", "-i", source]).stdin(piped.clone()).ok();
        assert_eq!(scene.layerfs(["inspect", "large:1"]).ok().json()[0]["Config"]["Labels"]["large"], label.as_str());
        scene.layerfs(["prune"]).ok();
        assert_eq!(scene.layerfs(["cat", "large:1:/a"]).ok().text(), "1");
        scene.layerfs(["rmi", "large:1"]).ok();
    }
    assert_clean(&scene);
}

#[test]
fn regression_an_image_without_layers_is_an_empty_directory() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    Image::new().write_docker_archive(&scene.path("nothing.tar"), "nothing:1");
    scene.layerfs(["load", "nothing.tar"]).ok();
    let mounted = scene.mount(["mount", "nothing:1"], "nothing");
    assert_eq!(std::fs::read_dir(mounted.path()).unwrap().count(), 0);
    assert_eq!(std::fs::metadata(mounted.path()).unwrap().permissions().mode() & 0o7777, 0o755);
    mounted.unmount();
    assert_eq!(scene.layerfs(["ls", "nothing:1:/"]).ok().text(), "");
    scene.layerfs(["export", "-o", "tree.tar", "nothing:1"]).ok();
}

#[test]
fn regression_a_name_given_makes_up_for_one_that_is_none() {
    let Some(scene) = Scene::begin(&[]) else { return };
    two_layers().write_oci(&scene.path("layout"), "no name!");
    scene.layerfs(["load", "oci:layout"]).output().fails(1, &["no name!", "hint: "]);
    scene.layerfs(["load", "-t", "good:1", "oci:layout"]).ok();
    assert_eq!(diff_ids(&scene, "good:1").len(), 2);
}

fn first_architecture(config: &str) -> String {
    let start = config.find("\"architecture\":\"").unwrap();
    let end = start + config[start..].find(',').unwrap();
    config[start..end].to_owned()
}

fn put(scene: &Scene, bytes: &[u8], media_type: &str) -> serde_json::Value {
    let digest = crate::support::image::digest(bytes);
    std::fs::write(scene.dir("multi/blobs/sha256").join(&digest["sha256:".len()..]), bytes).unwrap();
    serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

#[test]
fn what_podman_and_buildah_write_is_loaded() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Program("buildah"), Need::Program("podman")]) else { return };
    let script = "
        printf '[storage]\\ndriver = \"vfs\"\\nrunroot = \"%s/run\"\\ngraphroot = \"%s/storage\"\\n' $PWD $PWD > conf
        export CONTAINERS_STORAGE_CONF=$PWD/conf BUILDAH_ISOLATION=chroot
        c=$(buildah from scratch)
        echo one > one; buildah copy -q $c one /one
        buildah config --cmd '/one' $c; buildah commit -q $c made:1 >/dev/null
        buildah push -q made:1 docker-archive:buildah.tar:made:1
        buildah push -q made:1 oci-archive:buildah.oci:made:1
        podman save -q --format docker-archive -o podman.tar localhost/made:1
        podman save -q --format oci-archive -o podman.oci localhost/made:1
        podman save -q --format oci-dir -o podman.dir localhost/made:1
        podman save -q --format docker-archive -m -o several.tar localhost/made:1";
    scene.sh(script).ok();
    let mut seen = None;
    for source in ["buildah.tar", "buildah.oci", "podman.tar", "podman.oci", "podman.dir", "several.tar"] {
        let loaded = scene.layerfs(["load", "--format", "json", source]).ok().json();
        let name = loaded[0]["Reference"].as_str().expect("a name").to_owned();
        let layers = diff_ids(&scene, &name);
        assert_eq!(seen.get_or_insert_with(|| layers.clone()), &layers, "{source}");
        scene.layerfs(["rmi", &name]).ok();
    }
}

#[test]
fn old_archives_with_linked_layers_are_loaded() {
    let Some(scene) = Scene::begin(&[Need::Program("tar")]) else { return };
    let image = Image::new().layer("file a =x").layer("file a =x");
    image.write_docker_archive(&scene.path("flat.tar"), "old:1");
    // The second of two equal layers is a symlink to the first, in a directory of its own, as Docker wrote it for years.
    let script = "
        mkdir old && tar -C old -xf flat.tar && cd old
        tar=$(ls *.tar); mkdir one two; mv $tar one/layer.tar; ln -s ../one/layer.tar two/layer.tar
        sed -i \"s/\\\"$tar\\\",\\\"$tar\\\"/\\\"one\\/layer.tar\\\",\\\"two\\/layer.tar\\\"/\" manifest.json
        grep -q two/layer.tar manifest.json
        tar -cf ../old.tar *";
    scene.sh(script).ok();
    scene.layerfs(["load", "old.tar"]).ok();
    assert_eq!(diff_ids(&scene, "old:1").len(), 2);
    scene.layerfs(["rmi", "old:1"]).ok();
    scene.layerfs(["load"]).stdin(std::fs::read(scene.path("old.tar")).unwrap()).ok();
    assert_eq!(diff_ids(&scene, "old:1").len(), 2);
}

#[test]
fn regression_archives_in_xz_and_bzip2_are_taken() {
    let needs = ["tar", "xz", "bzip2"].map(Need::Program);
    let Some(scene) = Scene::begin(&needs) else { return };
    Image::new().layer("file name =hello").write_docker_archive(&scene.path("good.tar"), "good:1");
    scene.sh("mkdir fs; echo hi > fs/motd; tar -C fs -cf fs.tar .; xz -k *.tar; bzip2 -k *.tar").ok();
    scene.layerfs(["import", "fs.tar", "fs:tar"]).ok();
    for kind in ["xz", "bz2"] {
        let (archive, tree) = (format!("good.tar.{kind}"), format!("fs.tar.{kind}"));
        scene.layerfs(["load", "-i", &archive]).ok();
        assert_eq!(scene.layerfs(["cat", "good:1:/name"]).ok().text(), "hello");
        scene.layerfs(["rmi", "good:1"]).ok();
        scene.layerfs(["load"]).stdin(std::fs::read(scene.path(&archive)).unwrap()).ok();
        scene.layerfs(["import", &tree, "fs:packed"]).ok();
        assert_eq!(diff_ids(&scene, "fs:packed"), diff_ids(&scene, "fs:tar"));
        let cut = std::fs::read(scene.path(&tree)).unwrap();
        scene.layerfs(["import", "-", "fs:cut"]).stdin(&cut[..cut.len() - 4]).output().fails(1, &["stream"]);
    }
    std::fs::write(scene.path("fs.tar.lz4"), b"\x04\x22\x4d\x18rest").unwrap();
    let refused = scene.layerfs(["import", "fs.tar.lz4", "fs:lz4"]).output();
    let told = refused.fails(1, &["lz4 compression is not supported", "hint: uncompress it first"]).error_text();
    assert!(!told.contains("damaged"), "{told}");
    assert_clean(&scene);
}

#[test]
fn a_root_file_system_is_imported() {
    let Some(scene) = Scene::begin(&[Need::Program("tar"), Need::Program("gzip")]) else { return };
    scene.sh("mkdir fs; echo hi > fs/motd; tar -C fs -cf fs.tar .; gzip -k fs.tar").ok();
    let id = scene.layerfs(["import", "fs.tar", "fs:1", "-c", "CMD [\"/x\"]", "-m", "by hand"]).ok().text();
    let described = scene.layerfs(["inspect", "fs:1"]).ok().json();
    assert_eq!(described[0]["Id"], id.trim());
    assert_eq!(described[0]["Config"]["Cmd"], serde_json::json!(["/x"]));
    assert_eq!(described[0]["Comment"], "by hand");
    scene.layerfs(["import", "-", "fs:2"]).stdin(std::fs::read(scene.path("fs.tar.gz")).unwrap()).ok();
    assert_eq!(diff_ids(&scene, "fs:1"), diff_ids(&scene, "fs:2"));
    scene.layerfs(["import", "fs.tar", "Bad"]).output().fails(2, &["must be lowercase"]);
    scene.layerfs(["import", "fs.tar", "-c", "RUN x"]).output().fails(1, &["RUN"]);
    assert_clean(&scene);
}
