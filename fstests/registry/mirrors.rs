//! registries.conf: mirrors, search lists, blocked and insecure registries.

use super::proxy::{Fault, Proxy};
use super::server::Registry;
use super::{SERVER, layerfs, names, seed, small_image};
use crate::support::Scene;

fn write_conf(scene: &Scene, text: &str) {
    std::fs::write(scene.path("registries.conf"), text).expect("registries.conf");
}

#[test]
fn a_mirror_stands_in_for_the_registry() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let mirror = Registry::start(&scene);
    let digest = seed(&scene, &small_image(), &format!("{}/hub/library/image:1", mirror.name()));
    write_conf(
        &scene,
        &format!(
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"127.0.0.1:9\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\n",
            mirror.name()
        ),
    );
    let text = layerfs(&scene, &["pull", "image:1"]).ok().text();
    assert!(text.starts_with("1: Pulling from library/image\n"), "{text}");
    assert!(text.ends_with(&format!(
        "Digest: {digest}\nStatus: Downloaded newer image for image:1\ndocker.io/library/image:1\n"
    )));
    assert_eq!(names(&scene), ["image:1"]);
}

#[test]
fn where_a_mirror_fails_the_next_place_is_asked() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let origin = Registry::start(&scene);
    let digest = seed(&scene, &small_image(), &format!("{}/image:1", origin.name()));
    // The first mirror has nothing, the second loses every layer in the middle.
    let empty = Registry::start(&scene);
    let broken = Proxy::start(&origin.address(), |seen| seen.gets("/blobs/").then_some(Fault::Truncate(1000)));
    write_conf(
        &scene,
        &format!(
            "[[registry]]\nprefix = \"reg.example\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n\
             [[registry.mirror]]\nlocation = \"{}\"\n",
            origin.name(),
            empty.name(),
            broken.name()
        ),
    );
    let text = layerfs(&scene, &["pull", "--retry", "1", "reg.example/image:1"]).ok().text();
    assert!(text.contains(&digest), "{text}");
    assert!(broken.count("GET", "/blobs/") > 0);
    // A push goes to the registry itself.
    let before = broken.seen().len();
    layerfs(&scene, &["push", "reg.example/image:1"]).ok();
    assert_eq!(broken.seen().len(), before);
}

#[test]
fn short_names_follow_the_search_list_and_aliases() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let host = registry.name();
    seed(&scene, &small_image(), &format!("{host}/team/tool:1"));
    let empty = Registry::start(&scene);
    write_conf(
        &scene,
        &format!(
            "unqualified-search-registries = [\"{}\", \"{host}\"]\n[aliases]\n\"tool\" = \"{host}/team/tool\"\n",
            empty.name()
        ),
    );
    layerfs(&scene, &["pull", "team/tool:1"]).ok();
    layerfs(&scene, &["pull", "tool:1"]).ok();
    assert_eq!(names(&scene), [format!("{host}/team/tool:1")]);
    layerfs(&scene, &["pull", "team/other:1"]).output().fails(1, &["not found"]);
}

#[test]
fn blocked_registries_are_not_asked() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let proxy = Proxy::start("127.0.0.1:9", |_| Some(Fault::status(500)));
    write_conf(&scene, &format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", proxy.name()));
    let name = format!("{}/image:1", proxy.name());
    layerfs(&scene, &["pull", &name]).output().fails(1, &["is blocked by registries.conf"]);
    assert!(proxy.seen().is_empty());
    write_conf(&scene, "[registries.search]\nregistries = ['x']\n");
    layerfs(&scene, &["pull", &name]).output().fails(1, &["registries.conf", "version 1"]);
}
