//! `load` that is killed at any moment leaves a store that `fsck` finds clean, and the next `load` completes.

use crate::support::{Image, Need, Scene, tree};
use std::time::{Duration, Instant};

/// How often it is killed; `LAYERFS_TEST_KILLS` overrides.
const KILLS: u32 = 40;

#[test]
fn load_killed_at_any_moment() {
    let Some(scene) = Scene::begin_with_limit(&[Need::Root], Duration::from_secs(300)) else { return };
    let mut image = Image::new();
    for layer in 0..8 {
        let small: Vec<String> = (0..200).map(|file| format!("file l{layer}/d{}/f{file} #2000", file % 10)).collect();
        image = image.layer(&format!("{}\nfile big-{layer} #3000000", small.join("\n")));
    }
    let archive = image.write_docker_archive(&scene.path("image.tar"), "crash:latest");
    let load = |root: &str| scene.layerfs(["--root", root, "load", "-q", "-i"]).arg(&archive);
    let begun = Instant::now();
    load(&scene.path("whole").to_string_lossy()).ok();
    let whole = begun.elapsed();
    let kills = std::env::var("LAYERFS_TEST_KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    let seed = std::process::id();
    eprintln!("seed {seed}: {kills} kills within {whole:?}");
    let noise = tree::noise(&seed.to_le_bytes(), kills as usize * 2);
    let root = scene.path("store");
    let root_text = root.to_string_lossy();
    for kill in 0..kills as usize {
        // The moment is all over the run and a little beyond: 0 to 110 % of a whole load.
        let part = u32::from(u16::from_le_bytes([noise[2 * kill], noise[2 * kill + 1]]));
        let mut child = load(&root_text).spawn();
        std::thread::sleep(whole * part / 59_578);
        child.kill().expect("kill");
        child.wait().expect("wait");
        if root.join("oci-layout").exists() {
            let fsck = scene.layerfs(["--root", &root_text, "fsck"]).output();
            assert!(fsck.status.success(), "kill {kill}: {}{}", fsck.text(), fsck.error_text());
        }
        if kill % 8 == 7 {
            load(&root_text).ok();
            let images = scene.layerfs(["--root", &root_text, "images"]).ok();
            assert!(images.text().contains("crash"), "{}", images.text());
            std::fs::remove_dir_all(&root).expect("begin anew");
        }
    }
    load(&root_text).ok();
    scene.layerfs(["--root", &root_text, "prune", "--force"]).output();
    scene.layerfs(["--root", &root_text, "fsck"]).ok();
    let sizes =
        |root: &std::path::Path| crate::support::Manifest::of(root.join("blobs")).0.into_keys().collect::<Vec<_>>();
    assert_eq!(sizes(&root), sizes(&scene.path("whole")), "after prune nothing is left but the image");
}
