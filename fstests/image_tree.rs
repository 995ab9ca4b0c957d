//! What is seen through the mount of an image is what `umoci unpack` makes of it.

use crate::support::real;
use crate::support::{Image, Manifest, Need, Rules, Scene, Who};
use std::path::Path;
use std::time::Duration;

/// Where umoci's tree may differ. The root's time is that of the unpacking where no layer has a root entry. The number
/// of names is the file system's below umoci, which does not know names that another layer hides; groups of names are
/// compared. An empty attribute is lost in Go's tar reader.
pub(crate) fn umoci_rules() -> Rules {
    Rules {
        no_mtime_of_path: vec![".".into()],
        without: vec!["nlink"],
        no_xattrs: vec!["user.empty"],
        ..Rules::default()
    }
}

/// Unpacks the image `latest` of the layout `oci` by umoci, and returns what there is to see.
pub(crate) fn unpacked_by_umoci(scene: &Scene, oci: &Path) -> Manifest {
    let bundle = scene.path("umoci");
    scene.run("umoci").args(["unpack", "--image"]).arg(format!("{}:latest", oci.display())).arg(&bundle).ok();
    let manifest = Manifest::of(bundle.join("rootfs"));
    std::fs::remove_dir_all(bundle).expect("remove what umoci unpacked");
    manifest
}

/// Loads `source` and mounts what was loaded; returns what there is to see.
pub(crate) fn seen_through_mount(scene: &Scene, who: Who, source: &str) -> Manifest {
    let reference = scene.load_as(who, source);
    let mount = scene.mount_as(who, ["mount", &reference], "mnt");
    let manifest = Manifest::of_as(scene, who, mount.path());
    mount.unmount();
    manifest
}

mod heavy {
    use super::{Duration, Manifest, Need, Scene, Who, real, seen_through_mount, umoci_rules};

    const NEEDS: [Need; 5] = [Need::Root, Need::Fuse, Need::PlainUser, Need::UserNamespace, Need::Image("large")];

    fn large_image_as(who: fn(&Scene) -> Who) {
        let Some(scene) = Scene::begin_with_limit(&NEEDS, Duration::from_secs(400)) else { return };
        let image = real::image("large");
        let expected = Manifest::of(image.unpacked());
        assert!(expected.0.len() > 70_000, "the large image is large");
        let source = image.docker_archive();
        let seen = seen_through_mount(&scene, who(&scene), &source.to_string_lossy());
        expected.assert_same(&seen, &umoci_rules());
    }

    #[test]
    fn large_image_equals_umoci_for_root() {
        large_image_as(|_| Who::Me);
    }

    #[test]
    fn large_image_equals_umoci_for_a_plain_user() {
        large_image_as(|_| Who::Plain);
    }

    /// In a user namespace owners that are not mapped appear as 65534; everything else is the same.
    #[test]
    fn large_image_equals_umoci_in_a_user_namespace() {
        let Some(scene) = Scene::begin_with_limit(&NEEDS, Duration::from_secs(400)) else { return };
        let image = real::image("large");
        let mut expected = Manifest::of(image.unpacked());
        for record in expected.0.values_mut() {
            record.uid = if record.uid > 65536 { 65534 } else { record.uid };
            record.gid = if record.gid > 65536 { 65534 } else { record.gid };
        }
        let who = scene.namespace();
        let seen = seen_through_mount(&scene, who, &image.docker_archive().to_string_lossy());
        expected.assert_same(&seen, &umoci_rules());
    }
}

/// The small real image in every format that skopeo writes.
#[test]
fn formats_of_skopeo_load_alike() {
    let needs = [Need::Root, Need::Fuse, Need::Image("small"), Need::Program("skopeo")];
    let Some(scene) = Scene::begin(&needs) else { return };
    let image = real::image("small");
    let expected = Manifest::of(image.unpacked());
    let from = format!("oci:{}:latest", image.oci().display());
    let directory = scene.directory().display();
    let rows: [(&str, &[&str], String, String); 5] = [
        (
            "docker-archive",
            &[],
            format!("docker-archive:{directory}/docker.tar:small:latest"),
            format!("{directory}/docker.tar"),
        ),
        ("oci-archive", &[], format!("oci-archive:{directory}/oci.tar:latest"), format!("{directory}/oci.tar")),
        ("OCI layout", &[], format!("oci:{directory}/oci:latest"), format!("oci:{directory}/oci:latest")),
        (
            "zstd",
            &["--dest-compress-format", "zstd"],
            format!("oci:{directory}/zstd:latest"),
            format!("oci:{directory}/zstd:latest"),
        ),
        (
            "schema 2",
            &["--format", "v2s2"],
            format!("docker-archive:{directory}/v2.tar:small:v2"),
            format!("docker-archive:{directory}/v2.tar"),
        ),
    ];
    for (name, options, to, source) in rows {
        eprintln!("-- {name}");
        scene.run("skopeo").arg("copy").args(options).arg(&from).arg(to).ok();
        expected.assert_same(&seen_through_mount(&scene, Who::Me, &source), &umoci_rules());
    }
}

/// skopeo and umoci read our store as the OCI layout that it is.
#[test]
fn the_store_is_read_by_skopeo_and_umoci() {
    let needs = [Need::Root, Need::Fuse, Need::Image("small"), Need::Program("skopeo"), Need::Program("umoci")];
    let Some(scene) = Scene::begin(&needs) else { return };
    let image = real::image("small");
    let expected = Manifest::of(image.unpacked());
    let reference = scene.load(&image.docker_archive().to_string_lossy());
    let store = scene.path("me/store");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(store.join("index.json")).unwrap()).expect("index.json is JSON");
    let name =
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str().expect("a name").to_owned();
    assert!(name.contains(reference.split(':').next().unwrap()), "{name} for {reference}");
    let described = scene.run("skopeo").arg("inspect").arg(format!("oci:{}:{name}", store.display())).ok().json();
    assert_eq!(described["Layers"].as_array().map(Vec::len), Some(4));
    let listed = scene.run("umoci").args(["ls", "--layout"]).arg(&store).ok();
    assert!(listed.text().contains(&name), "{}", listed.text());
    scene
        .run("skopeo")
        .arg("copy")
        .arg(format!("oci:{}:{name}", store.display()))
        .arg(format!("oci:{}/copy:latest", scene.directory().display()))
        .ok();
    expected.assert_same(&unpacked_by_umoci(&scene, &scene.path("copy")), &umoci_rules());
}

/// A gzip of several members, plain layers, and a layer that is loaded again.
#[test]
fn packings_of_layers_load_alike() {
    use crate::support::image::Packing;
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("umoci")]) else { return };
    let image = Image::new().layer("dir etc\nfile etc/a =1\nfile etc/b #100000").layer("whiteout etc/a\nfile etc/c =3");
    let expected = unpacked_by_umoci(&scene, &image.write_oci(&scene.path("expected"), "latest"));
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let oci = image.clone().packing(packing).write_oci(&scene.path(format!("{packing:?}")), "latest");
        let seen = seen_through_mount(&scene, Who::Me, &format!("oci:{}:latest", oci.display()));
        expected.assert_same(&seen, &umoci_rules());
    }
}
