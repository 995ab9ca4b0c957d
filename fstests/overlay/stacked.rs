//! Unions over unions.

use super::ROOT;
use crate::support::tree::{self, Notation};
use crate::support::{Manifest, Rules, Scene};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A mount of `lowers` below `name`, with an upper there.
fn mount_over(scene: &Scene, lowers: &str, name: &str) {
    let at = |part: &str| scene.dir(format!("{name}/{part}")).display().to_string();
    let options = format!("lowerdir={lowers},upperdir={},workdir={},redirect_dir=on", at("upper"), at("work"));
    scene.layerfs(["overlay", "-o", &options]).arg(at("mnt")).ok();
}

/// Lists all of `root`, the last directory first where `backward`, so that objects are met in another order.
fn walk(root: &Path, backward: bool) {
    let mut names: Vec<_> = fs::read_dir(root).expect("list").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    if backward {
        names.reverse();
    }
    for path in names.iter().filter(|path| fs::symlink_metadata(path).expect("stat").is_dir()) {
        walk(path, backward);
    }
}

/// Numbers of a union are too large for a layer: what stands for them there was counted in the order in which objects were met. The
/// upper had it written down, and after a remount it led to other objects, to their data and to what is in their directories.
#[test]
fn regression_a_union_over_a_union_is_the_same_after_a_remount() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let mut lowers = Vec::new();
    for layer in 0..2 {
        let lines = (0..8).map(|n| {
            format!("dir d{n}\nfile d{n}/f{layer} ={layer}-{n}\nhard d{n}/hard{layer} =>d{n}/f{layer}\ndir d{n}/sub{layer}\nfile d{n}/sub{layer}/x =x\n")
        });
        let path = scene.dir(format!("layer{layer}"));
        tree::to_directory(&tree::parse(&lines.collect::<String>()), &path, Notation::Trusted);
        lowers.insert(0, path.display().to_string());
    }
    let below = scene.mount(["overlay", "-o", &format!("lowerdir={}", lowers.join(":"))], "below");
    mount_over(&scene, &below.path().display().to_string(), "above");
    let at = scene.path("above/mnt");
    walk(&at, false);
    for n in 0..8 {
        fs::write(at.join(format!("d{n}/f0")), format!("changed {n}")).expect("write");
        fs::write(at.join(format!("d{n}/sub1/new")), "new").expect("write");
    }
    fs::rename(at.join("d7"), at.join("moved")).expect("rename");
    let (before, number) = (Manifest::of(&at), fs::metadata(at.join("d3/hard0")).expect("stat").ino());
    assert_eq!(before.at("d3/hard0").sha256, before.at("d3/f0").sha256);
    scene.layerfs(["umount"]).arg(&at).ok();
    mount_over(&scene, &below.path().display().to_string(), "above");
    walk(&at, true);
    before.assert_same(&Manifest::of(&at), &Rules::default());
    assert_eq!(fs::metadata(at.join("d3/hard0")).expect("stat").ino(), number);
    scene.layerfs(["umount"]).arg(&at).ok();
    below.unmount();
}
