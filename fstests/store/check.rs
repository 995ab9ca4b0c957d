//! What `fsck` finds, mends and names as lost.

use super::{assert_clean, diff_ids, store_of, two_layers};
use crate::support::image::{Packing, digest};
use crate::support::{Done, Scene};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A scene with the image `sound:1`, in the form `packing`, and the files of its first layer: tar, table, blob.
fn loaded(packing: Packing) -> Option<(Scene, PathBuf, PathBuf, PathBuf)> {
    let scene = Scene::begin(&[])?;
    two_layers().packing(packing).write_oci(&scene.path("layout"), "sound:1");
    scene.layerfs(["load", "layout"]).ok();
    let described = scene.layerfs(["inspect", "sound:1"]).ok().json();
    let layer = &described[0]["Layers"][0];
    let path = |name: &str| PathBuf::from(layer[name].as_str().expect("a path"));
    let blob = store_of(&scene).join("blobs/sha256").join(&layer["Digest"].as_str().unwrap()["sha256:".len()..]);
    let (tar, toc) = (path("Tar"), path("Toc"));
    Some((scene, tar, toc, blob))
}

fn damage(path: &PathBuf) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

/// The outcomes of a check, by what they are.
fn outcomes(done: &Done) -> Vec<String> {
    let report = done.json();
    let findings = report["Findings"].as_array().expect("findings").clone();
    findings.iter().map(|finding| finding["Outcome"].as_str().unwrap().to_owned()).collect()
}

fn fsck(scene: &Scene, arguments: &[&str]) -> Done {
    scene.layerfs(["fsck", "--format", "json"]).args(arguments).output()
}

#[test]
fn tables_of_contents_are_made_anew() {
    let Some((scene, _, toc, _)) = loaded(Packing::Plain) else { return };
    let sound = std::fs::read(&toc).unwrap();
    for spoil in
        [&|| damage(&toc) as (), &|| std::fs::remove_file(&toc).unwrap(), &|| std::fs::write(&toc, "").unwrap()]
            as [&dyn Fn(); 3]
    {
        spoil();
        assert_eq!(outcomes(&fsck(&scene, &["--dry-run"])), ["found"]);
        assert_eq!(outcomes(&fsck(&scene, &[]).ok()), ["mended"]);
        assert_eq!(std::fs::read(&toc).unwrap(), sound);
    }
    assert_clean(&scene);
}

/// It ended the check: nobody was told of it, nor of anything else.
#[test]
fn regression_a_damaged_list_in_a_list_is_a_finding() {
    let Some((scene, _, toc, _)) = loaded(Packing::Plain) else { return };
    let layout = scene.path("layout");
    let index_path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&index_path).unwrap()).unwrap();
    for _ in 0..2 {
        let mut entry = index["manifests"][0].clone();
        entry.as_object_mut().unwrap().remove("annotations");
        let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
        let digest = digest(list.as_bytes());
        std::fs::write(layout.join("blobs/sha256").join(&digest["sha256:".len()..]), &list).unwrap();
        index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": OCI_INDEX, "digest": digest, "size": list.len(),
            "annotations": {"org.opencontainers.image.ref.name": "nested:1"},
        }], "inner": index["manifests"][0]["digest"]});
    }
    std::fs::write(&index_path, index.to_string()).unwrap();
    scene.layerfs(["load", "--all-platforms", "layout"]).ok();
    let inner = index["inner"].as_str().unwrap();
    let inner = store_of(&scene).join("blobs/sha256").join(&inner["sha256:".len()..]);
    assert!(inner.exists(), "the list is kept");
    std::fs::write(inner, "spoilt").unwrap();
    std::fs::remove_file(&toc).unwrap();
    let found = outcomes(&fsck(&scene, &[]));
    assert!(
        found.iter().any(|outcome| outcome == "lost") && found.iter().any(|outcome| outcome == "mended"),
        "{found:?}"
    );
    // The image goes, and then what nobody needs any more.
    fsck(&scene, &["--repair"]).ok();
    fsck(&scene, &[]).ok();
    assert_eq!(outcomes(&fsck(&scene, &[]).ok()), [""; 0]);
}

/// The kind of a list of images.
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn a_tar_comes_back_from_its_compressed_form() {
    let Some((scene, tar, _, _)) = loaded(Packing::Gzip) else { return };
    let sound = std::fs::read(&tar).unwrap();
    damage(&tar);
    assert_eq!(outcomes(&fsck(&scene, &[]).ok()), ["mended"]);
    assert_eq!(std::fs::read(&tar).unwrap(), sound);
    std::fs::remove_file(&tar).unwrap();
    assert_eq!(outcomes(&fsck(&scene, &[]).ok()), ["mended"]);
    assert_clean(&scene);
}

#[test]
fn what_is_lost_is_named_and_loading_brings_it_back() {
    let Some((scene, tar, _, _)) = loaded(Packing::Plain) else { return };
    damage(&tar);
    let done = scene.layerfs(["fsck"]).output().fails(1, &[]);
    let text = done.text();
    assert!(
        text.contains("lost: ") && text.contains("sound:1") && text.contains(&diff_ids(&scene, "sound:1")[0]),
        "{text}"
    );
    assert!(tar.exists(), "nothing is removed without being asked");
    fsck(&scene, &["--repair"]).fails(1, &[]);
    assert!(!tar.exists());
    scene.layerfs(["load", "layout"]).ok();
    assert_clean(&scene);
}

#[test]
fn an_image_survives_the_loss_of_its_compressed_layer() {
    let Some((scene, _, _, blob)) = loaded(Packing::Gzip) else { return };
    let id = scene.layerfs(["images", "-q", "--no-trunc"]).ok().text();
    damage(&blob);
    fsck(&scene, &[]).fails(1, &[]);
    fsck(&scene, &["--repair"]).ok();
    assert_clean(&scene);
    assert_eq!(scene.layerfs(["images", "-q", "--no-trunc"]).ok().text(), id);
    scene.layerfs(["save", "sound:1", "-o", "saved.tar"]).ok();
}

#[test]
fn an_image_without_its_configuration_goes_on_request() {
    let Some((scene, _, _, _)) = loaded(Packing::Gzip) else { return };
    let id = scene.layerfs(["images", "-q", "--no-trunc"]).ok().text();
    damage(&store_of(&scene).join("blobs/sha256").join(&id.trim()["sha256:".len()..]));
    fsck(&scene, &[]).fails(1, &[]);
    fsck(&scene, &["--repair"]).ok();
    assert_eq!(scene.layerfs(["images", "-q"]).ok().text(), "");
    scene.layerfs(["prune"]).ok();
    assert_clean(&scene);
    scene.layerfs(["load", "layout"]).ok();
    assert_clean(&scene);
}

/// A PAX header of more than a mebibyte, which only who asks for it lets in.
#[test]
fn regression_what_was_let_in_by_a_limit_is_sound() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let value = "x".repeat(2 << 20);
    let length = (0..20)
        .map(|digits| value.len() + " comment=\n".len() + digits)
        .find(|length| length.to_string().len() + value.len() + " comment=\n".len() == *length);
    let record = format!("{} comment={value}\n", length.expect("a length"));
    let mut tar = header("pax", record.len(), b'x');
    tar.extend(record.as_bytes());
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend(header("file", 0, b'0'));
    tar.extend([0; 1024]);
    let file = scene.path("large.tar");
    std::fs::write(&file, tar).unwrap();
    scene.layerfs(["import"]).arg(&file).arg("large:1").output().fails(1, &["--limit"]);
    scene.layerfs(["import", "--limit", "pax-header=4000000"]).arg(&file).arg("large:1").ok();
    assert_clean(&scene);
    let described = scene.layerfs(["inspect", "large:1"]).ok().json();
    std::fs::remove_file(described[0]["Layers"][0]["Toc"].as_str().expect("a path")).unwrap();
    scene.layerfs(["ls", "large:1"]).ok();
}

/// Every command said that `fsck --repair` mends it, and that one failed with the same line.
#[test]
fn regression_a_lost_index_is_made_again() {
    let Some((scene, ..)) = loaded(Packing::Gzip) else { return };
    let id = scene.layerfs(["images", "-q", "--no-trunc"]).ok().stdout;
    let index = store_of(&scene).join("index.json");
    let spoils: [&dyn Fn(); 2] = [&|| std::fs::write(&index, "{").unwrap(), &|| std::fs::remove_file(&index).unwrap()];
    for spoil in spoils {
        spoil();
        scene.layerfs(["images"]).output().fails(1, &["fsck --repair"]);
        let found = fsck(&scene, &[]);
        assert_eq!(outcomes(&found), ["found"]);
        found.fails(1, &[]);
        assert_eq!(outcomes(&fsck(&scene, &["--repair"]).ok()), ["removed"]);
        assert_eq!(scene.layerfs(["images", "-q", "--no-trunc"]).ok().stdout, id);
        assert_clean(&scene);
    }
    assert_eq!(std::fs::read(index.with_extension("json.damaged")).unwrap(), b"{");
    assert!(!index.with_extension("json.damaged-2").exists(), "a missing file is not set aside");
}

/// Backups that leave empty directories out, and whoever clears a cache, leave a store like this.
#[test]
fn regression_a_store_without_its_directories_is_used_and_checked() {
    let Some((scene, ..)) = loaded(Packing::Gzip) else { return };
    let names = ["toc", "leases", "stage", "containers", "cache", "compressed"];
    let remove = || names.iter().for_each(|name| std::fs::remove_dir_all(store_of(&scene).join(name)).unwrap());
    remove();
    assert!(outcomes(&fsck(&scene, &[]).ok()).iter().all(|outcome| outcome == "mended"));
    assert_clean(&scene);
    remove();
    scene.layerfs(["ls", "sound:1"]).ok();
    remove();
    scene.layerfs(["load", "layout"]).ok();
}

/// A header of ustar.
fn header(name: &str, size: usize, kind: u8) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
