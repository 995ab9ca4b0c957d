//! Pulling: what is fetched, what is not, what is said.

use super::proxy::{Fault, Proxy};
use super::raw::{self, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OCI_PLAIN};
use super::server::Registry;
use super::{SERVER, assert_store_clean, layerfs, names, seed, small_image};
use crate::support::image::digest;
use crate::support::{Image, Scene, tree};
use base64::Engine;
use serde_json::{Value, json};
use sha2::Digest as _;

#[test]
fn an_image_is_pulled_in_dockers_words() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let name = format!("{}/some/image:1", registry.name());
    let digest = seed(&scene, &small_image(), &name);
    let first = layerfs(&scene, &["pull", &name]).ok().text();
    assert!(first.starts_with(&format!("1: Pulling from {}/some/image\n", registry.name())), "{first}");
    assert_eq!(first.matches(": Downloading\n").count(), 3, "{first}");
    assert_eq!(first.matches(": Pull complete\n").count(), 3, "{first}");
    assert!(
        first.contains(&format!("Digest: {digest}\nStatus: Downloaded newer image for {name}\n{name}\n")),
        "{first}"
    );
    let second = layerfs(&scene, &["pull", &name]).ok().text();
    assert_eq!(second.matches(": Already exists\n").count(), 3, "{second}");
    assert!(second.contains(&format!("Status: Image is up to date for {name}\n")), "{second}");
    let quiet = layerfs(&scene, &["pull", "--quiet", &name]).ok();
    assert_eq!(quiet.text(), format!("{name}\n"));
    let json = layerfs(&scene, &["pull", "--format", "json", &name]).ok().json();
    assert_eq!((json["digest"].as_str(), json["changed"].as_bool()), (Some(digest.as_str()), Some(false)));
    assert_store_clean(&scene);
}

#[test]
fn the_store_has_every_byte_under_its_name() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let name = format!("{}/image:latest", registry.name());
    let image = small_image();
    let digest = seed(&scene, &image, &name);
    layerfs(&scene, &["pull", &name]).ok();
    assert_eq!(names(&scene), std::slice::from_ref(&name));
    assert_store_clean(&scene);
    let blobs = scene.path("me/store/blobs/sha256");
    for tar in image.layers() {
        let hex = crate::support::image::digest(tar);
        assert_eq!(&std::fs::read(blobs.join(&hex[7..])).expect("the plain tar"), tar);
    }
    // By digest, with and without a tag in front, it is the same image, and nothing is fetched.
    for reference in [format!("{}/image@{digest}", registry.name()), format!("{name}@{digest}")] {
        let text = layerfs(&scene, &["pull", &reference]).ok().text();
        assert_eq!(text.matches(": Already exists\n").count(), 3, "{text}");
        assert!(text.contains(&format!("Digest: {digest}\n")), "{text}");
    }
}

#[test]
fn a_wrong_digest_or_name_is_refused() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &small_image(), &format!("{}/image:latest", registry.name()));
    let unknown = format!("{}/image@sha256:{}", registry.name(), "0".repeat(64));
    layerfs(&scene, &["pull", &unknown]).output().fails(1, &["layerfs: ", "not found"]);
    let unknown = format!("{}/image:other", registry.name());
    layerfs(&scene, &["pull", &unknown]).output().fails(1, &["image:other", "not found"]);
    layerfs(&scene, &["pull", "Upper/Case"]).output().fails(1, &["must be lowercase"]);
    assert!(names(&scene).is_empty());
    assert_store_clean(&scene);
}

/// Puts an image with one plain layer for `architecture` and returns its descriptor in an index.
fn put_platform(address: &str, architecture: &str, variant: Option<&str>) -> Value {
    let tar = tree::to_tar(&tree::parse(&format!("file {architecture} =for-{architecture}")));
    let layer = raw::put_blob(address, "multi", OCI_PLAIN, &tar);
    let config = json!({"architecture": architecture, "os": "linux", "variant": variant,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}, "config": {}});
    let config = raw::put_blob(address, "multi", OCI_CONFIG, config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
    let mut descriptor = raw::put_manifest(address, "multi", &format!("only-{architecture}"), &manifest);
    descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
    if let Some(variant) = variant {
        descriptor["platform"]["variant"] = variant.into();
    }
    descriptor
}

#[test]
fn regression_an_entry_that_is_not_there_keeps_nobody_from_another() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let mut gone = put_platform(&address, "s390x", None);
    let mut silent = put_platform(&address, "arm64", None);
    for entry in [&mut gone, &mut silent] {
        entry.as_object_mut().expect("a descriptor").remove("platform");
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [gone, put_platform(&address, "amd64", None), silent]});
    raw::put_manifest(&address, "multi", "latest", &index);
    let path = format!("/v2/multi/manifests/{}", gone["digest"].as_str().expect("a digest"));
    assert_eq!(raw::request(&address, "DELETE", &path, &[], b"").status, 202);
    let name = format!("{}/multi", registry.name());
    for platform in ["linux/amd64", "linux/arm64"] {
        layerfs(&scene, &["pull", "--platform", platform, &name]).ok();
    }
    layerfs(&scene, &["pull", "--platform", "linux/s390x", &name])
        .output()
        .fails(1, &["no image for platform linux/s390x"]);
}

#[test]
fn indexes_in_indexes_are_descended_into() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let index = |entries: &[Value]| json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let put = |tag: &str, entries: &[Value]| raw::put_manifest(&address, "multi", tag, &index(entries));
    let mut arm = put("arm", &[put_platform(&address, "arm64", None)]);
    arm["platform"] = json!({"architecture": "arm64", "os": "linux"});
    let deep = put("deep", &[put_platform(&address, "s390x", None)]);
    let others = put("others", &[put_platform(&address, "amd64", None), deep]);
    put("latest", &[arm, others]);
    let name = format!("{}/multi", registry.name());
    let blobs = || std::fs::read_dir(scene.path("me/store/blobs/sha256")).map_or(0, Iterator::count);
    let architecture = |name: &str, platform: &str| {
        let described = layerfs(&scene, &["inspect", "--platform", platform, name]).ok().json();
        described[0]["Architecture"].as_str().expect("an architecture").to_owned()
    };
    layerfs(&scene, &["pull", "--platform", "linux/arm64", &name]).ok();
    // Both lists that may have it, and an image of three.
    assert_eq!(architecture(&name, "linux/arm64"), "arm64");
    layerfs(&scene, &["pull", "--platform", "linux/s390x", &name]).ok();
    assert_eq!(architecture(&name, "linux/s390x"), "s390x");
    layerfs(&scene, &["pull", "--platform", "linux/ppc64le", &name])
        .output()
        .fails(1, &["no image for platform linux/ppc64le"]);
    layerfs(&scene, &["pull", "--all-platforms", &name]).ok();
    let all = blobs();
    layerfs(&scene, &["prune"]).ok();
    assert_eq!(blobs(), all, "what is in lists in lists is needed");
    let copy = format!("{}/copy", registry.name());
    layerfs(&scene, &["tag", &name, &copy]).ok();
    layerfs(&scene, &["push", "--all-platforms", &copy]).ok();
    for platform in ["amd64", "arm64", "s390x"] {
        assert_eq!(architecture(&name, &format!("linux/{platform}")), platform);
        let seen =
            layerfs(&scene, &["inspect", "--remote", "--platform", &format!("linux/{platform}"), &copy]).ok().json();
        assert_eq!(seen[0]["Architecture"], platform);
    }
    assert_store_clean(&scene);
}

/// Attestations are not in the store, and so the list that is pushed is another one.
#[test]
fn regression_a_list_that_was_pushed_without_attestations_is_in_the_store() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let mut attestation = put_platform(&address, "riscv64", None);
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    let entries = [put_platform(&address, "amd64", None), put_platform(&address, "arm64", None), attestation];
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    raw::put_manifest(&address, "multi", "latest", &index);
    let (name, copy) = (format!("{}/multi", registry.name()), format!("{}/copy", registry.name()));
    layerfs(&scene, &["pull", "--all-platforms", &name]).ok();
    layerfs(&scene, &["tag", &name, &copy]).ok();
    layerfs(&scene, &["push", "--all-platforms", &copy]).ok();
    layerfs(&scene, &["prune"]).ok();
    for platform in ["linux/amd64", "linux/arm64"] {
        layerfs(&scene, &["inspect", "--platform", platform, &copy]).ok();
    }
    layerfs(&scene, &["fsck"]).ok();
}

/// image-spec, descriptor.md: `data` is the content itself.
#[test]
fn regression_content_in_a_descriptor_need_not_be_anywhere_else() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let image = Image::new().layer("file a =1");
    let embedded = |mut descriptor: Value, bytes: &[u8]| {
        descriptor["data"] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
        descriptor
    };
    let config = raw::put_blob(&address, "image", OCI_CONFIG, &image.configuration());
    let hidden = config["digest"].as_str().expect("a digest").to_owned();
    let layer = raw::put_blob(&address, "image", OCI_PLAIN, &image.layers()[0]);
    let config = embedded(config, &image.configuration());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
    raw::put_manifest(&address, "image", "1", &manifest);
    let proxy = Proxy::start(&address, move |seen| seen.path.contains(&hidden).then(|| Fault::status(404)));
    layerfs(&scene, &["pull", &format!("{}/image:1", proxy.name())]).ok();
    // The same in a layout, whose list has the manifest in it too.
    let layout = image.write_oci(&scene.path("layout"), "embedded:1");
    for entry in std::fs::read_dir(layout.join("blobs/sha256")).expect("blobs").flatten() {
        if std::fs::read(entry.path()).expect("a blob") != image.layers()[0] {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    let bytes = serde_json::to_vec(&manifest).expect("JSON");
    let entry = json!({
        "mediaType": OCI_MANIFEST, "digest": digest(&bytes), "size": bytes.len(),
        "annotations": {"org.opencontainers.image.ref.name": "embedded:1"},
    });
    let index = json!({"schemaVersion": 2, "manifests": [embedded(entry, &bytes)]});
    std::fs::write(layout.join("index.json"), index.to_string()).expect("written");
    layerfs(&scene, &["load", "-i"]).arg(&layout).ok();
    assert_eq!(layerfs(&scene, &["cat", "embedded:1:/a"]).ok().text(), "1");
    assert_store_clean(&scene);
}

#[test]
fn an_index_gives_the_platform_that_is_wanted() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let entries = [
        put_platform(&address, "amd64", None),
        put_platform(&address, "arm64", Some("v8")),
        put_platform(&address, "arm", Some("v6")),
    ];
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let digest = raw::put_manifest(&address, "multi", "latest", &index)["digest"].as_str().expect("digest").to_owned();
    let name = format!("{}/multi", registry.name());
    let blobs = || std::fs::read_dir(scene.path("me/store/blobs/sha256")).map_or(0, Iterator::count);
    let text = layerfs(&scene, &["pull", "--platform", "linux/arm/v7", &name]).ok().text();
    assert!(text.starts_with("Using default tag: latest\n"), "{text}");
    assert!(text.contains(&format!("Digest: {digest}\n")), "{text}");
    // The index, and the manifest, configuration and layer of one platform.
    assert_eq!(blobs(), 4);
    layerfs(&scene, &["pull", "--platform", "linux/s390x", &name]).output().fails(
        1,
        &["no image for platform linux/s390x", "linux/amd64, linux/arm64", "hint: choose one with --platform"],
    );
    assert_eq!(blobs(), 4);
    layerfs(&scene, &["pull", "--all-platforms", &name]).ok();
    assert_eq!(blobs(), 10);
    // All of them go elsewhere together.
    let other = Registry::start(&scene);
    let copy = format!("{}/copy:1", other.name());
    // Plain layers are compressed on the way, so manifests and index are new ones.
    let json = layerfs(&scene, &["push", "--all-platforms", "--format", "json", &name, &copy]).ok().json();
    let sent = json["digest"].as_str().expect("a digest").to_owned();
    assert_ne!(sent, digest);
    assert_eq!(
        raw::request(&other.address(), "GET", &format!("/v2/copy/manifests/{sent}"), &[("accept", OCI_INDEX)], b"")
            .status,
        200
    );
    let only = format!("{}/multi:only-arm64", registry.name());
    layerfs(&scene, &["pull", "--platform", "linux/amd64", &only])
        .output()
        .fails(1, &["no image for platform linux/amd64"]);
    layerfs(&scene, &["pull", &only]).ok();
    assert_store_clean(&scene);
}

#[test]
fn regression_one_blob_is_not_taken_for_two_layers() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let image = small_image();
    let plain = &image.layers()[0];
    let layer = raw::put_blob(&address, "twice", raw::OCI_PLAIN, plain);
    let diff_ids = [layer["digest"].clone(), json!(crate::support::image::digest(b"another layer"))];
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = raw::put_blob(&address, "twice", OCI_CONFIG, config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer.clone(), layer]});
    raw::put_manifest(&address, "twice", "1", &manifest);
    let name = format!("{}/twice:1", registry.name());
    layerfs(&scene, &["pull", &name]).output().fails(1, &["digest mismatch"]);
    assert!(names(&scene).is_empty());
    assert_store_clean(&scene);
}

#[test]
fn regression_limits_are_adjustable() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let name = format!("{}/image:1", registry.name());
    seed(&scene, &small_image(), &name);
    layerfs(&scene, &["pull", "--limit", "entries=1", &name]).output().fails(1, &["entries", "hint: ", "--limit"]);
    assert_store_clean(&scene);
    layerfs(&scene, &["pull", "--limit", "entries=1000", &name]).ok();
}

/// An image of one layer of about two megabytes that do not compress.
fn one_layer() -> Image {
    let noise: Vec<String> = (0..8).map(|number| format!("file noise-{number} #250000")).collect();
    Image::new().layer(&noise.join("\n"))
}

#[test]
fn a_layer_is_taken_up_where_an_earlier_pull_ended() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &one_layer(), &format!("{}/image:latest", registry.name()));
    let broken = std::sync::atomic::AtomicBool::new(true);
    let proxy = Proxy::start(&registry.address(), move |seen| {
        let layer = seen.gets("/blobs/") && seen.earlier == 0 && seen.header("range").is_none();
        // The configuration is smaller than that.
        (layer && broken.load(std::sync::atomic::Ordering::Relaxed)).then_some(Fault::Reset(100_000))
    });
    let name = format!("{}/image:latest", proxy.name());
    layerfs(&scene, &["pull", "--retry", "0", &name]).output().fails(1, &["connection", "blob"]);
    assert!(names(&scene).is_empty());
    assert_store_clean(&scene);
    let text = layerfs(&scene, &["pull", &name]).ok().text();
    assert!(text.contains("Resuming after"), "{text}");
    let ranges: Vec<String> = proxy.seen().iter().filter_map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(ranges[0].starts_with("bytes=") && ranges[0] != "bytes=0-", "{ranges:?}");
    assert_store_clean(&scene);
}

#[test]
fn a_killed_pull_is_taken_up() {
    end_in_the_middle(false);
}

#[test]
fn an_interrupted_pull_clears_its_stage_and_is_taken_up() {
    end_in_the_middle(true);
}

fn end_in_the_middle(gently: bool) {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &one_layer(), &format!("{}/image:latest", registry.name()));
    let proxy = Proxy::start(&registry.address(), |seen| {
        (seen.gets("/blobs/") && seen.header("range").is_none()).then_some(Fault::Stall(500_000))
    });
    let name = format!("{}/image:latest", proxy.name());
    let mut child = layerfs(&scene, &["pull", "--stall-timeout", "2", "--retry", "0", &name]).spawn();
    let stage = scene.path("me/store/stage");
    let partial = || -> Option<u64> {
        let find = |entry: std::fs::DirEntry| std::fs::metadata(entry.path().join("data")).ok().map(|data| data.len());
        std::fs::read_dir(&stage).ok()?.flatten().find_map(find)
    };
    while partial().unwrap_or(0) < 200_000 {
        assert!(child.try_wait().expect("wait").is_none(), "the pull has ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    if gently {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    } else {
        child.kill().expect("kill");
    }
    let status = child.wait().expect("wait");
    if gently {
        assert_eq!(status.code(), Some(130));
        assert_store_clean(&scene);
    }
    let text = layerfs(&scene, &["pull", &name]).ok().text();
    assert!(text.contains("Resuming after"), "{text}");
    // What had arrived is not fetched again.
    let ranges: Vec<String> = proxy.seen().iter().filter_map(|seen| seen.header("range").map(str::to_owned)).collect();
    let from = ranges.first().and_then(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().ok());
    assert!(from.is_some_and(|from: u64| (200_000..=500_000).contains(&from)), "{ranges:?}");
    layerfs(&scene, &["pull", &name]).ok();
    assert_eq!(names(&scene), [name]);
}

/// Memory does not grow with a layer: the most that a pull of 400 MB, compressed to as much, ever has.
#[test]
fn memory_does_not_grow_with_the_layer() {
    const MEMBERS: usize = 400;
    const LIMIT: u64 = 64 << 10;
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let mut header = tar::Header::new_gnu();
    header.set_size((MEMBERS << 20) as u64);
    header.set_mode(0o644);
    header.set_path("noise").expect("a path");
    header.set_cksum();
    // Gzip members, of the header, of the same megabyte of noise again and again, of the end: nothing is held in memory twice.
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).expect("gzip");
        encoder.finish().expect("gzip")
    };
    let noise = tree::noise(b"noise", 1 << 20);
    let (begin, middle, end) = (gzip(header.as_bytes()), gzip(&noise), gzip(&[0; 1024]));
    let mut layer = begin;
    let mut plain = sha2::Sha256::new();
    plain.update(header.as_bytes());
    for _ in 0..MEMBERS {
        layer.extend_from_slice(&middle);
        plain.update(&noise);
    }
    layer.extend_from_slice(&end);
    plain.update([0; 1024]);
    let diff_id = plain.finalize().iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"));
    let layer = raw::put_blob(&address, "big", raw::OCI_GZIP, &layer);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = raw::put_blob(&address, "big", OCI_CONFIG, config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
    raw::put_manifest(&address, "big", "1", &manifest);
    let mut child = layerfs(&scene, &["pull", "--quiet", &format!("{}/big:1", registry.name())]).spawn();
    let mut peak = 0;
    let status = loop {
        // The kernel keeps the highest value, so that looking now and then misses none but the last moment's.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let seen = line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
        peak = peak.max(seen.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(status.success(), "{status}");
    eprintln!("peak: {peak} KiB");
    assert!(peak > 0 && peak < LIMIT, "{peak} KiB");
}
