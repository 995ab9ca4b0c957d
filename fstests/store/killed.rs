//! Loads that are killed: the store is sound afterwards, and the next load completes.

use super::{assert_clean, contents, diff_ids, store_of};
use crate::support::image::Packing;
use crate::support::{Image, Scene};
use std::time::Duration;

#[test]
fn a_load_killed_at_any_time_leaves_a_sound_store() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let image = Image::new().layer("file one #9000000").layer("file two #9000000").packing(Packing::Gzip);
    image.write_oci(&scene.path("layout"), "killed:1");
    for step in 0..25_u64 {
        let mut child = scene.layerfs(["load", "layout"]).spawn();
        std::thread::sleep(Duration::from_millis(step * step));
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().expect("the end of a load");
        assert_clean(&scene);
        if step % 5 == 4 {
            scene.layerfs(["load", "layout"]).ok();
            assert_eq!(diff_ids(&scene, "killed:1").len(), 2);
            scene.layerfs(["rmi", "killed:1"]).ok();
        }
        if step % 3 == 0 {
            scene.layerfs(["prune", "--all", "--force"]).ok();
            assert_eq!(contents(&store_of(&scene)), Vec::<std::path::PathBuf>::new(), "after {step}");
        }
    }
    scene.layerfs(["load", "layout"]).ok();
    assert_clean(&scene);
}

#[test]
fn loads_and_prunes_beside_each_other_lose_nothing() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let names: Vec<String> = (0..4).map(|number| format!("beside{number}")).collect();
    for name in &names {
        let image = Image::new().layer("file shared #2000000").layer(&format!("file own ={name}"));
        image.write_oci(&scene.path(name), &format!("{name}:1"));
    }
    std::thread::scope(|scope| {
        for name in &names {
            let scene = &scene;
            scope.spawn(move || {
                for _ in 0..6 {
                    scene.layerfs(["load", name]).ok();
                    scene.layerfs(["rmi", &format!("{name}:1")]).ok();
                }
                scene.layerfs(["load", name]).ok();
            });
        }
        let scene = &scene;
        scope.spawn(move || {
            for _ in 0..20 {
                scene.layerfs(["prune"]).ok();
            }
        });
    });
    assert_clean(&scene);
    for name in &names {
        assert_eq!(diff_ids(&scene, &format!("{name}:1")).len(), 2);
    }
}
