//! Names and removal as Docker has them.

use super::{contents, store_of, two_layers};
use crate::support::{Image, Need, Scene};

fn loaded() -> Option<Scene> {
    let scene = Scene::begin(&[])?;
    two_layers().write_oci(&scene.path("layout"), "app:1");
    scene.layerfs(["load", "layout"]).ok();
    Some(scene)
}

#[test]
fn images_are_found_by_name_id_and_beginning() {
    let Some(scene) = loaded() else { return };
    let id = scene.layerfs(["images", "-q", "--no-trunc"]).ok().text();
    let id = id.trim();
    let hex = &id["sha256:".len()..];
    for name in ["app:1", "docker.io/library/app:1", "library/app:1", id, hex, &hex[..12], &hex[..3]] {
        assert_eq!(scene.layerfs(["inspect", name]).ok().json()[0]["Id"], id, "{name}");
    }
    scene.layerfs(["inspect", "nothing"]).output().fails(1, &["no such image: nothing:latest", "hint: "]);
    scene.layerfs(["inspect", "App:1"]).output().fails(1, &["repository name (library/App) must be lowercase"]);
    scene
        .layerfs(["tag", "app:1", "B@d"])
        .output()
        .fails(1, &["is not a valid repository/tag", "invalid reference format"]);
    let listed = scene.layerfs(["images", "--format", "json"]).ok().json();
    assert_eq!(
        (&listed[0]["Repository"], &listed[0]["Tag"], &listed[0]["ID"]),
        (&"app".into(), &"1".into(), &id.into())
    );
}

#[test]
fn an_ambiguous_id_is_an_error() {
    let Some(scene) = Scene::begin(&[]) else { return };
    for number in 0..20 {
        Image::new()
            .layer(&format!("file a ={number}"))
            .write_oci(&scene.path(format!("{number}")), &format!("n:{number}"));
        scene.layerfs(["load", &number.to_string()]).ok();
    }
    let ids = scene.layerfs(["images", "-q"]).ok().text();
    let mut firsts: Vec<char> = ids.lines().filter_map(|id| id.chars().next()).collect();
    firsts.sort_unstable();
    let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).expect("20 images and 16 digits")[0];
    scene.layerfs(["rmi", &twice.to_string()]).output().fails(1, &["ambiguous", "hint: "]);
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let Some(scene) = loaded() else { return };
    let id = scene.layerfs(["images", "-q"]).ok().text();
    scene.layerfs(["tag", "app:1", "other:2"]).ok();
    scene.layerfs(["rmi", id.trim()]).output().fails(1, &["image is referenced in multiple repositories", "hint: "]);
    assert_eq!(scene.layerfs(["rmi", "app:1"]).ok().text(), "Untagged: app:1\n");
    let text = scene.layerfs(["rmi", "other:2"]).ok().text();
    assert!(text.starts_with("Untagged: other:2\nDeleted: sha256:"), "{text}");
    assert_eq!(text.lines().count(), 4, "the image and two layers: {text}");
    assert_eq!(contents(&store_of(&scene)), Vec::<std::path::PathBuf>::new());
}

#[test]
fn shared_layers_stay_and_prune_tells_what_it_frees() {
    let Some(scene) = Scene::begin(&[]) else { return };
    for name in ["one", "two"] {
        let image = Image::new().layer("file shared #100000").layer(&format!("file own ={name}"));
        image.write_oci(&scene.path(name), &format!("{name}:1"));
        scene.layerfs(["load", name]).ok();
    }
    scene.layerfs(["rmi", "one:1"]).ok();
    scene.layerfs(["fsck"]).ok();
    scene.layerfs(["load", "-t", "two:1", "one"]).ok();
    let told = scene.layerfs(["prune", "--dry-run"]).ok().text();
    let before = contents(&store_of(&scene));
    assert!(told.contains("Deleted image: sha256:") && told.contains("would be reclaimed"), "{told}");
    assert_eq!(contents(&store_of(&scene)), before);
    scene.layerfs(["prune"]).ok();
    assert!(contents(&store_of(&scene)).len() < before.len());
    assert_eq!(scene.layerfs(["images", "-q"]).ok().text().lines().count(), 1);
    scene.layerfs(["fsck"]).ok();
    for answer in ["", "n\n", "\n"] {
        let asked = scene.layerfs(["prune", "--all"]).stdin(answer).output();
        asked.fails(1, &["Continue? [y/N]", "layerfs: nothing was removed", "hint: --force"]);
    }
    assert_eq!(scene.layerfs(["images", "-q"]).ok().text().lines().count(), 1);
    scene.layerfs(["prune", "--all"]).stdin("y\n").ok();
    assert_eq!(contents(&store_of(&scene)), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_mounted_image_is_removed_by_force_only_and_stays_readable() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    two_layers().write_oci(&scene.path("layout"), "app:1");
    scene.layerfs(["load", "layout"]).ok();
    let mount = scene.mount(["mount", "app:1"], "mnt");
    scene.layerfs(["rmi", "app:1"]).output().fails(1, &["conflict: unable to remove", "is mounted on", "--force"]);
    assert_eq!(scene.layerfs(["rmi", "--force", "app:1"]).ok().text(), "Untagged: app:1\n");
    scene.layerfs(["prune", "--all", "--force"]).ok();
    assert_eq!(std::fs::read(mount.path().join("etc/name")).unwrap(), b"two");
    assert_eq!(std::fs::read(mount.path().join("big")).unwrap().len(), 3_000_000);
    mount.unmount();
    scene.layerfs(["prune"]).ok();
    assert_eq!(contents(&store_of(&scene)), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_named_mount_is_exported_with_its_changes() {
    let Some(scene) = Scene::begin(&[Need::Fuse, Need::Program("tar")]) else { return };
    two_layers().write_oci(&scene.path("layout"), "app:1");
    scene.layerfs(["load", "layout"]).ok();
    let mount = scene.mount(["mount", "--rw", "--name", "box", "app:1"], "mnt");
    std::fs::write(mount.path().join("new"), "new").unwrap();
    std::fs::remove_file(mount.path().join("big")).unwrap();
    let point = mount.path().to_owned();
    scene.layerfs(["export", "box", "-o", "by-name.tar"]).ok();
    scene.layerfs(["export", "-o", "by-place.tar"]).arg(&point).ok();
    mount.unmount();
    let names = scene.sh("cmp by-name.tar by-place.tar; tar -tf by-name.tar").ok().text();
    assert!(names.lines().any(|name| name == "new") && names.lines().any(|name| name == "etc/name"), "{names}");
    assert!(!names.contains("big") && !names.contains(".wh."), "{names}");
    scene.layerfs(["rm", "box"]).ok();
}

#[test]
fn conflicts_and_names_are_told_as_docker_tells_them() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    two_layers().write_oci(&scene.path("layout"), "app:1");
    scene.layerfs(["load", "layout"]).ok();
    let id = scene.layerfs(["images", "-q"]).ok().text().trim().to_owned();
    let refused = |arguments: &[&str], told: &str| {
        scene.layerfs(arguments).output().fails(1, &[&format!("layerfs: {told}"), "hint: "]);
    };
    refused(
        &["tag", "app:1", "sha256:abc"],
        "\"sha256:abc\": refusing to create an ambiguous tag using digest algorithm as name",
    );
    refused(
        &["tag", "app:1", "a@sha256:abc"],
        "error parsing reference: \"a@sha256:abc\" is not a valid repository/tag",
    );
    let mount = scene.mount(["mount", "--rw", "--name", "work", "app:1"], "mnt");
    let in_use = "container work is in use: it is mounted";
    refused(&["rm", "work"], in_use);
    refused(&["rename", "work", "other"], in_use);
    mount.unmount();
    let by_name = "conflict: unable to remove repository reference \"app:1\" (must force) - container work is using its referenced image ";
    refused(&["rmi", "app:1"], &(by_name.to_owned() + &id));
    let by_id = "(must be forced) - image is being used by stopped container work";
    refused(&["rmi", &id], &format!("conflict: unable to delete {id} {by_id}"));
    refused(&["rename", "work", "work"], "renaming a container with the same name as its current name");
    refused(&["rename", "work", "w"], "invalid container name (w), only [a-zA-Z0-9][a-zA-Z0-9_.-]+ are allowed");
    refused(&["rename", "nothing", "other"], "no such container: nothing");
    scene.layerfs(["rename", "work", "other"]).ok();
}

#[test]
fn regression_a_named_mount_needs_no_name_of_its_image() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    two_layers().write_oci(&scene.path("layout"), "app:latest");
    Image::new().layer("file other =x").write_oci(&scene.path("other-layout"), "app:latest");
    scene.layerfs(["load", "layout"]).ok();
    let changed = |asked: &str, number: usize| {
        let mount = scene.mount(["mount", "--rw", "--name", "work", asked], "mnt");
        assert_eq!(std::fs::read(mount.join("etc/name")).unwrap(), b"two");
        std::fs::write(mount.join(number.to_string()), "x").unwrap();
        assert!((0..number).all(|earlier| mount.join(earlier.to_string()).exists()));
        mount.unmount();
    };
    changed("app", 0);
    // The name moves to another image, and then is gone.
    scene.layerfs(["load", "other-layout"]).ok();
    changed("app:latest", 1);
    scene.layerfs(["rmi", "app"]).ok();
    scene.layerfs(["prune", "--all", "--force"]).ok();
    changed("docker.io/library/app", 2);
}
