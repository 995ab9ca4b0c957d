//! A disk that is full at some point of whatever writes to it: a clear line, the store as it was, and room can be made.

use super::contents;
use crate::support::{Image, Need, Scene, tree::noise};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes left free before a command begins. What it writes is between 0.6 and 1.3 MB, and a few documents.
const LEFT: [u64; 9] = [0, 4096, 8192, 16384, 24576, 65536, 400_000, 1_000_000, 4_000_000];

/// What is run, and what makes it undone where it fitted. What was compressed once stays, so that nothing makes that undone.
const COMMANDS: [(&str, &str); 11] = [
    ("layerfs load -q -i archive.tar", "layerfs rmi other:1"),
    ("layerfs load -q -i gzip.tar", "layerfs rmi other:1"),
    ("layerfs import root.tar imported:1", "layerfs rmi imported:1"),
    ("layerfs commit work committed:1", "layerfs rmi committed:1"),
    ("layerfs squash --tag squashed:1 two:1", "layerfs rmi squashed:1"),
    ("layerfs tag two:1 tagged:1", "layerfs rmi tagged:1"),
    ("layerfs save -q --compress gzip -o /dev/null two:1", ""),
    ("layerfs save -q -o disk/out two:1", "rm disk/out"),
    ("layerfs save -q -o oci:disk/out two:1", "rm -r disk/out"),
    ("layerfs export -o disk/out two:1", "rm disk/out"),
    ("layerfs mount --rw --name another two:1 another && layerfs umount another", "layerfs rm another"),
];

#[test]
fn regression_whatever_does_not_fit_leaves_the_store_as_it_was() {
    let Some(scene) =
        Scene::begin_with_limit(&[Need::Root, Need::Fuse, Need::Program("tar")], Duration::from_secs(300))
    else {
        return;
    };
    let disk = prepared(&scene);
    for (command, undo) in COMMANDS {
        let before = state(&scene, &disk);
        let mut failures = 0;
        for left in LEFT {
            let filler = Filler::leaving(&disk, left);
            let done = shell(&scene, command).output();
            drop(filler);
            if done.status.success() {
                if undo.is_empty() {
                    break;
                }
                shell(&scene, undo).ok();
            } else {
                failures += 1;
                let told = done.fails(1, &["layerfs: ", "No space left", "hint: "]).error_text();
                assert_eq!(told.lines().count(), 2, "{command}: {told}");
            }
            assert_eq!(state(&scene, &disk), before, "{command} with {left} bytes left");
            scene.layerfs(["fsck", "--root"]).arg(disk.join("store")).ok();
        }
        assert!((1..LEFT.len()).contains(&failures), "{command} failed {failures} times");
    }
    removed_when_full(&scene, &disk);
    shell(&scene, "layerfs umount mnt; umount disk").ok();
}

/// What takes the room can be removed though not a byte is left.
fn removed_when_full(scene: &Scene, disk: &Path) {
    let filler = Filler::leaving(disk, 0);
    let told = shell(scene, "layerfs rmi third:1").ok().text();
    assert!(told.starts_with("Untagged: third:1\nDeleted: sha256:"), "{told}");
    drop(filler);
    shell(scene, "layerfs load -q -i archive.tar").ok();
    let filler = Filler::leaving(disk, 0);
    let told = shell(scene, "layerfs prune --all --force").ok().text();
    assert!(told.contains("Untagged: other:1\n"), "{told}");
    drop(filler);
    assert_eq!(shell(scene, "layerfs images -q").ok().text().lines().count(), 1, "the one that is mounted");
    shell(scene, "layerfs fsck").ok();
}

/// A store on a small disk: images, one of them changed in a mount; and archives beside it.
fn prepared(scene: &Scene) -> PathBuf {
    let disk = scene.dir("disk");
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(&disk).ok();
    for directory in ["another", "mnt", "tree"] {
        scene.dir(directory);
    }
    for (name, size) in [("large", 1_200_000), ("small", 600_000)] {
        std::fs::write(scene.path("tree").join(name), noise(name.as_bytes(), size)).expect("a file");
    }
    scene.sh("tar -cf root.tar -C tree small; tar -cf base.tar -C tree large").ok();
    Image::new().layer("file a #1000000\nfile b =b").write_docker_archive(&scene.path("archive.tar"), "other:1");
    Image::new().layer("file third =3").write_docker_archive(&scene.path("third.tar"), "third:1");
    let archives = "layerfs --root elsewhere import root.tar other:1 && layerfs --root elsewhere save -q --compress gzip --format oci-archive -o gzip.tar other:1";
    shell(scene, archives).ok();
    let images =
        "layerfs import base.tar base:1; layerfs load -q -i third.tar; layerfs mount --rw --name work base:1 mnt
        cp tree/small mnt/small; layerfs commit work two:1; cp tree/small mnt/again";
    shell(scene, images).ok();
    disk
}

fn shell(scene: &Scene, script: &str) -> crate::support::Run {
    let program = scene.program();
    let place = program.parent().expect("a directory").display().to_string();
    let path = format!("{place}:{}", std::env::var("PATH").unwrap_or_default());
    scene.sh(script).env("PATH", path).env("LAYERFS_ROOT", scene.path("disk/store"))
}

/// Everything in the store, what the mount keeps and says of itself left out, the images, and what lies beside the store.
fn state(scene: &Scene, disk: &Path) -> (Vec<PathBuf>, String, String) {
    let images = shell(scene, "layerfs images --no-trunc --format json | grep -v Created").ok().text();
    let beside = "ls -A disk; cd disk/store; find stage containers/* -maxdepth 0; find leases -type f | wc -l";
    (contents(&disk.join("store")), images, shell(scene, beside).ok().text())
}

/// A file that fills a disk but for so many bytes, as long as it lives.
struct Filler(PathBuf);

impl Filler {
    fn leaving(disk: &Path, left: u64) -> Self {
        let path = disk.join("filler");
        let mut file = File::create(&path).expect("a filler");
        let free = || {
            let found = rustix::fs::statvfs(disk).expect("statvfs");
            found.f_bavail * found.f_frsize
        };
        while free() > left {
            let size = (free() - left).min(1 << 16);
            if file.write_all(&vec![b'x'; usize::try_from(size).expect("a piece")]).is_err() {
                break;
            }
        }
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("make room");
    }
}
