//! Reading a store that cannot be written to.

use super::{store_of, two_layers};
use crate::support::{Need, Scene, Who};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn loaded(scene: &Scene) {
    two_layers().write_oci(&scene.path("layout"), "sound:1");
    scene.layerfs(["load", "layout"]).ok();
}

/// Runs everything that reads the store `root`.
fn read_everything(scene: &Scene, who: Who, root: &Path) {
    let out = scene.plain_dir("out").join(format!("{who:?}"));
    let (copy, archive) = (out.with_extension("copy"), out.with_extension("tar"));
    let (copy, archive) = (copy.to_str().expect("text"), archive.to_str().expect("text"));
    let commands: &[&[&str]] = &[
        &["images"],
        &["ls", "sound:1"],
        &["cat", "sound:1:/etc/name"],
        &["whence", "sound:1", "/etc/name"],
        &["analyze", "sound:1"],
        &["diff", "sound:1", "sound:1"],
        &["cp", "sound:1:/etc/name", copy],
        &["df"],
        &["save", "-o", archive, "sound:1"],
        &["prune", "-n"],
        &["ps", "-a"],
        &["fsck", "-n"],
    ];
    for command in commands {
        let done = scene.layerfs(["--root"]).arg(root).args(*command).who(who).output();
        // What is missing is found, and not mended.
        if command[0] != "fsck" {
            done.ok();
        }
    }
    let root = root.to_str().expect("text");
    let mount = scene.mount_as(who, ["--root", root, "mount", "sound:1"], &format!("mnt-{who:?}"));
    if who == Who::Me {
        assert_eq!(std::fs::read(mount.join("etc/name")).expect("the mount answers"), b"two");
    }
    mount.unmount();
}

#[test]
fn regression_a_store_that_is_mounted_read_only_is_read() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    loaded(&scene);
    let store = store_of(&scene);
    std::fs::remove_file(store.join("lock")).unwrap();
    std::fs::remove_dir_all(store.join("toc")).unwrap();
    scene.run("mount").arg("--bind").arg(&store).arg(&store).ok();
    scene.run("mount").args(["-o", "remount,bind,ro"]).arg(&store).ok();
    read_everything(&scene, Who::Me, &store);
    scene.layerfs(["tag", "sound:1", "other:1"]).output().fails(1, &["Read-only file system", "hint: "]);
    scene.run("umount").arg(&store).ok();
}

#[test]
fn regression_the_store_of_somebody_else_is_read_and_he_knows_of_mounts() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::PlainUser]) else { return };
    loaded(&scene);
    let store = store_of(&scene);
    for dir in [store.as_path(), store.parent().expect("a parent")] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    read_everything(&scene, Who::Plain, &store);
    let root = store.to_str().expect("text");
    let mount = scene.mount_as(Who::Plain, ["--root", root, "mount", "sound:1"], "held");
    scene.layerfs(["rmi", "sound:1"]).output().fails(1, &["conflict", "is mounted"]);
    mount.unmount();
    scene.layerfs(["rmi", "sound:1"]).ok();
}

#[test]
fn regression_a_full_disk_keeps_nobody_from_mounting() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let store = scene.dir("me/store");
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=16m", "store"]).arg(&store).ok();
    loaded(&scene);
    let mut filler = std::fs::File::create(store.join("cache/filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let mount = scene.mount(["mount", "sound:1"], "mnt");
    assert_eq!(std::fs::read(mount.join("etc/name")).expect("the mount answers"), b"two");
    std::fs::remove_file(store.join("cache/filler")).unwrap();
    scene.layerfs(["rmi", "sound:1"]).output().fails(1, &["conflict", "is mounted"]);
    mount.unmount();
    scene.layerfs(["rmi", "sound:1"]).ok();
    drop(filler);
    scene.run("umount").arg(&store).ok();
}
