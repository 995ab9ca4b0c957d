//! Images that are looked at where they are, and images that a verb fetches first.

use super::proxy::Proxy;
use super::server::Registry;
use super::{SERVER, layerfs, names, seed};
use crate::support::{Image, Need, Scene};

/// Layers with explicit directories, so that the top ones can answer alone.
fn layered() -> Image {
    Image::new()
        .layer("dir etc\nfile etc/base =base\nfile etc/gone =gone\ndir lib\nfile lib/big #500000")
        .layer("dir etc\nfile etc/middle =middle\nwhiteout etc/gone\nlink etc/alias ->base")
        .layer("dir etc\nfile etc/top =top\nlink etc/short ->top\ndir fresh\nopaque fresh\nfile fresh/one =1")
}

#[test]
fn only_the_layers_that_answer_are_fetched() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &layered(), &format!("{}/image:1", registry.name()));
    for (path, content, layers) in [
        ("/etc/top", Some("top"), 1),
        ("/etc/short", Some("top"), 1),
        ("/etc/middle", Some("middle"), 2),
        ("/etc/gone", None, 2),
        ("/etc/alias", Some("base"), 3),
        ("/etc/base", Some("base"), 3),
        ("/fresh/two", None, 1),
    ] {
        let proxy = Proxy::start(&registry.address(), |_| None);
        let store = scene.path(format!("store{}", path.replace('/', "-")));
        let name = format!("docker://{}/image:1:{path}", proxy.name());
        let done = layerfs(&scene, &["cat", &name]).env("LAYERFS_ROOT", &store).output();
        match content {
            Some(content) => assert_eq!(done.ok().text(), content, "{path}"),
            None => drop(done.fails(1, &["no such file or directory"])),
        }
        // The configuration is a blob as well.
        assert_eq!(proxy.count("GET", "/blobs/"), layers + 1, "{path}");
    }
}

#[test]
fn a_directory_is_listed_with_its_layers_numbers() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let name = format!("{}/image:1", registry.name());
    seed(&scene, &layered(), &name);
    let list = |path: &str| layerfs(&scene, &["ls", &format!("docker://{name}:{path}")]).ok().text();
    assert_eq!(list("/fresh"), "one\n");
    assert_eq!(list("/etc"), "alias\nbase\nmiddle\nshort\ntop\n");
    let json = layerfs(&scene, &["ls", "--format", "json", &format!("docker://{name}:/etc/top")]).ok().json();
    assert_eq!(json[0]["Layer"], 2);
    assert!(names(&scene).is_empty(), "a look is no pull");
}

#[test]
fn inspect_asks_the_registry_and_fetches_no_layer() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let digest = seed(&scene, &layered(), &format!("{}/image:1", registry.name()));
    let proxy = Proxy::start(&registry.address(), |_| None);
    let name = format!("{}/image:1", proxy.name());
    let json = layerfs(&scene, &["inspect", "--remote", &name]).ok().json();
    assert_eq!(json[0]["Target"]["Digest"], digest.as_str());
    assert_eq!(json[0]["Layers"].as_array().map(Vec::len), Some(3));
    assert_eq!(proxy.count("GET", "/blobs/"), 1, "the configuration");
    let same = layerfs(&scene, &["inspect", &format!("docker://{name}")]).ok().json();
    assert_eq!(same, json);
    layerfs(&scene, &["inspect", &name]).output().fails(1, &["no such image"]);
}

#[test]
fn a_mount_fetches_its_image_first() {
    let needs = [SERVER, &[Need::Fuse]].concat();
    let Some(scene) = Scene::begin(&needs) else { return };
    let registry = Registry::start(&scene);
    let name = format!("{}/image:1", registry.name());
    seed(&scene, &layered(), &name);
    std::fs::write(scene.path("registries.conf"), "").expect("registries.conf");
    let point = scene.dir("mnt");
    let point = point.to_str().expect("UTF-8");
    layerfs(&scene, &["mount", "--pull", "never", &name, point]).output().fails(1, &["no such image"]);
    let mount = scene.mount(["mount", &name], "mnt");
    assert_eq!(std::fs::read(mount.path().join("etc/alias")).expect("a file"), b"base");
    mount.unmount();
    assert_eq!(names(&scene), std::slice::from_ref(&name));
    // Another image under the same name is noticed when that is wanted.
    seed(&scene, &Image::new().layer("file new =new"), &name);
    let mount = scene.mount(["mount", &name], "mnt");
    assert!(!mount.path().join("new").exists());
    mount.unmount();
    let mount = scene.mount(["mount", "--pull", "always", &name], "mnt");
    assert_eq!(std::fs::read(mount.path().join("new")).expect("a file"), b"new");
    mount.unmount();
}
