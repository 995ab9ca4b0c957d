//! Commits that cannot be: the disk is full in the middle, a file changes while it is read. A clear line, nothing half-made in the store.

use super::based_on;
use crate::support::{Need, Scene, tree::noise};
use std::sync::atomic::{AtomicBool, Ordering};

/// The images and the blobs of the store, by their names.
fn held(scene: &Scene) -> String {
    scene.sh("layerfs images -q; cd \"$LAYERFS_ROOT\" && find . -path ./containers -prune -o -type f -size +1000c -print | sort").env("PATH", path(scene)).ok().text()
}

fn path(scene: &Scene) -> String {
    let program = scene.program();
    format!("{}:{}", program.parent().expect("a directory").display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn a_full_disk_ends_a_commit_and_leaves_nothing() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let store = scene.dir("me/store");
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=24m", "store"]).arg(&store).ok();
    based_on(&scene, "file etc/name =x");
    let mount = scene.mount(["mount", "--rw", "--name", "work", "base:1"], "mnt");
    std::fs::write(mount.join("large"), noise(b"large", 14 << 20)).expect("write");
    let before = held(&scene);
    let told = scene.layerfs(["commit", "work", "next:1"]).output().fails(1, &["No space left", "hint: "]).error_text();
    assert!(told.lines().count() == 2, "{told}");
    assert_eq!(held(&scene), before, "nothing half-made");
    assert_eq!(std::fs::metadata(mount.join("large")).expect("the mount lives").len(), 14 << 20);
    scene.layerfs(["fsck"]).ok();
    std::fs::write(mount.join("large"), noise(b"small", 1 << 20)).expect("write less");
    scene.layerfs(["commit", "work", "next:1"]).ok();
    scene.layerfs(["cat", "next:1:/etc/name"]).ok();
    mount.unmount();
    scene.run("umount").arg(&store).ok();
}

#[test]
fn a_file_that_changes_all_the_time_is_told_and_nothing_is_made() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    based_on(&scene, "file etc/name =x");
    let mount = scene.mount(["mount", "--rw", "--name", "work", "base:1"], "mnt");
    let restless = mount.join("restless");
    std::fs::write(&restless, noise(b"restless", 48 << 20)).expect("write");
    // A live mount holds what changes sizes; somebody else who writes to its directories is held by nobody.
    let restless = scene.path("me/store/containers/work/upper/restless");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::options().write(true).open(&restless).expect("open");
            while !stop.load(Ordering::Relaxed) {
                // Shorter and shorter, many times over while it is read once.
                for length in (24..48).rev() {
                    file.set_len(length << 20).expect("truncate");
                }
            }
        });
        // A commit may find it at rest for once, and is then right to succeed.
        let told = (0..50).find_map(|_| {
            let before = held(&scene);
            let done = scene.layerfs(["commit", "work", "next:1"]).output();
            (!done.status.success()).then(|| (done, before == held(&scene)))
        });
        stop.store(true, Ordering::Relaxed);
        let (done, nothing_made) = told.expect("a commit that met the file changing");
        done.fails(1, &["/restless", "changed while it was read", "hint: "]);
        assert!(nothing_made, "nothing half-made");
    });
    scene.layerfs(["commit", "work", "next:1"]).ok();
    mount.unmount();
}
