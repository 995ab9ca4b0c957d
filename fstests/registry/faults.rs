//! Faults of networks and registries: each ends in success after retries, or in one clear line and a clean store.

use super::proxy::{Fault, Proxy, Seen};
use super::raw::{self, OCI_CONFIG, OCI_GZIP, OCI_MANIFEST};
use super::server::Registry;
use super::{SERVER, assert_store_clean, layerfs, names, seed, small_image};
use crate::support::Scene;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write;
use std::time::{Duration, Instant};

/// A scene with a registry that has the small image, and its digest.
fn stage() -> Option<(Scene, Registry, String)> {
    let scene = Scene::begin(SERVER)?;
    let registry = Registry::start(&scene);
    let digest = seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    Some((scene, registry, digest))
}

/// Pulls through a proxy with `rule` and expects success.
fn survives(rule: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) -> Option<Proxy> {
    let (scene, registry, digest) = stage()?;
    let proxy = Proxy::start(&registry.address(), rule);
    let name = format!("{}/image:1", proxy.name());
    let text = layerfs(&scene, &["pull", "--stall-timeout", "1", &name]).ok().text();
    assert!(text.contains(&digest), "{text}");
    assert_eq!(names(&scene), [name]);
    assert_store_clean(&scene);
    Some(proxy)
}

/// Pulls through a proxy with `rule` and expects one line with `parts`.
fn fails(parts: &[&str], rule: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) {
    let Some((scene, registry, _)) = stage() else { return };
    let proxy = Proxy::start(&registry.address(), rule);
    let name = format!("{}/image:1", proxy.name());
    let done = layerfs(&scene, &["pull", "--stall-timeout", "1", "--retry", "1", &name]).output().fails(1, parts);
    let error = done.error_text();
    assert_eq!(error.lines().filter(|line| line.starts_with("layerfs: ")).count(), 1, "{error}");
    assert!(error.lines().all(|line| line.starts_with("layerfs: ") || line.starts_with("hint: ")), "{error}");
    assert!(names(&scene).is_empty());
    assert_store_clean(&scene);
    // The same image is pulled without trouble afterwards.
    layerfs(&scene, &["pull", &format!("{}/image:1", registry.name())]).ok();
}

#[test]
fn resets_at_any_byte_are_survived() {
    // Where the answer breaks depends on the path, so that each layer breaks elsewhere; twice each.
    survives(|seen| {
        let at = seen.path.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        (seen.gets("/blobs/") && seen.earlier < 2).then_some(Fault::Reset(at % 200_000))
    });
}

#[test]
fn a_connection_that_is_lost_at_every_fifty_thousandth_byte_is_survived() {
    survives(|seen| seen.gets("/blobs/").then_some(Fault::Truncate(70_000)));
}

#[test]
fn a_manifest_that_breaks_off_is_fetched_again() {
    survives(|seen| (seen.gets("/manifests/") && seen.earlier == 0).then_some(Fault::Reset(100)));
    survives(|seen| (seen.gets("/manifests/") && seen.earlier == 0).then_some(Fault::Truncate(100)));
}

#[test]
fn stalls_are_noticed_and_survived() {
    survives(|seen| (seen.gets("/blobs/") && seen.header("range").is_none()).then_some(Fault::Stall(20_000)));
}

#[test]
fn a_stall_without_end_is_an_error() {
    let begun = Instant::now();
    fails(&["no data for too long"], |seen| seen.gets("/blobs/").then_some(Fault::Stall(20_000)));
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn drips_are_noticed_and_survived() {
    survives(|seen| (seen.gets("/blobs/") && seen.header("range").is_none()).then_some(Fault::Drip(20_000)));
}

#[test]
fn a_drip_without_end_is_an_error() {
    let begun = Instant::now();
    fails(&["data come too slowly"], |seen| seen.gets("/blobs/").then_some(Fault::Drip(20_000)));
    fails(&["data come too slowly"], |seen| seen.gets("/manifests/").then_some(Fault::Drip(10)));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn overload_is_waited_out() {
    let begun = Instant::now();
    let proxy = survives(|seen| {
        let first = seen.earlier == 0 && seen.path != "/v2/";
        let status = if seen.gets("/blobs/") { 503 } else { 429 };
        first.then(|| Fault::status_with(status, "retry-after", "1"))
    });
    if proxy.is_some() {
        assert!(begun.elapsed() >= Duration::from_secs(2), "the registry asked for two pauses");
    }
}

#[test]
fn overload_without_end_is_an_error() {
    fails(&["answers 503", "image:1"], |seen| seen.gets("/manifests/").then(|| Fault::status(503)));
    // Nobody waits for hours.
    let begun = Instant::now();
    fails(&["answers 429"], |seen| seen.gets("/blobs/").then(|| Fault::status_with(429, "retry-after", "86400")));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn regression_a_refused_range_does_not_keep_the_rest_from_coming() {
    survives(|seen| match seen.gets("/blobs/") {
        true if seen.header("range").is_some() => Some(Fault::status(416)),
        true if seen.earlier == 0 => Some(Fault::Reset(100_000)),
        _ => None,
    });
}

#[test]
fn bytes_damaged_on_the_way_are_fetched_again() {
    survives(|seen| (seen.gets("/blobs/") && seen.earlier == 0).then_some(Fault::Corrupt(5_000)));
}

#[test]
fn a_registry_with_wrong_bytes_is_told_of() {
    fails(&["digest"], |seen| seen.gets("/blobs/").then_some(Fault::Corrupt(5_000)));
    fails(&["digest"], |seen| seen.gets("/manifests/").then_some(Fault::Corrupt(5)));
}

#[test]
fn a_wrong_length_is_told_of() {
    fails(&["the manifest says"], |seen| seen.gets("/blobs/").then_some(Fault::Longer(10)));
}

#[test]
fn a_huge_manifest_is_not_read() {
    fails(&["larger than 4194304 bytes"], |seen| seen.gets("/manifests/").then_some(Fault::Zeros(10 << 20)));
}

#[test]
fn a_manifest_that_is_none_is_told_of() {
    fails(&["image:1"], |seen| {
        let answer =
            || Fault::Answer { status: 200, headers: Vec::new(), body: b"<html>captive portal</html>".to_vec() };
        seen.gets("/manifests/").then(answer)
    });
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let Some((scene, registry, digest)) = stage() else { return };
    let storage = Proxy::start(&registry.address(), |_| None);
    let elsewhere = storage.name().replace("localhost", "127.0.0.1");
    let proxy = Proxy::start(&registry.address(), move |seen| {
        let asked = seen.header("authorization").is_some();
        match () {
            () if seen.path == "/v2/" && !asked => Some(Fault::status_with(401, "www-authenticate", "Basic realm=x")),
            () if seen.gets("/blobs/") => Some(Fault::status_with(
                307,
                "location",
                format!("http://{elsewhere}{}?Signature=signed-secret", seen.path),
            )),
            () => None,
        }
    });
    let name = format!("{}/image:1", proxy.name());
    let done = layerfs(&scene, &["-vvv", "pull", "--creds", "joe:hunter2", &name]).ok();
    assert!(done.text().contains(&digest), "{}", done.text());
    assert!(!done.error_text().contains("signed-secret"), "{}", done.error_text());
    assert!(proxy.seen().iter().any(|seen| seen.header("authorization").is_some()));
    let stored = storage.seen();
    assert_eq!(stored.len(), 4, "three layers and the configuration");
    assert!(stored.iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn redirects_without_end_are_an_error() {
    fails(&["redirected too often"], |seen| {
        seen.gets("/blobs/").then(|| Fault::status_with(302, "location", seen.path.clone()))
    });
    fails(&["redirected to"], |seen| seen.gets("/blobs/").then(|| Fault::status_with(302, "location", "ftp://x/")));
    fails(&["redirected to nowhere"], |seen| seen.gets("/blobs/").then(|| Fault::status(302)));
}

#[test]
fn a_layer_bomb_is_defused() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    // Six gigabytes of zero bytes, behind the header of a file of that size: about six megabytes.
    let mut header = tar::Header::new_gnu();
    header.set_size(6 << 30);
    header.set_mode(0o644);
    header.set_path("zeros").expect("a path");
    header.set_cksum();
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(header.as_bytes()).expect("gzip");
    let zeros = vec![0; 32 << 20];
    // One member of compressed zeros, repeated: the encoder need not run two hundred times.
    let mut member = GzEncoder::new(Vec::new(), flate2::Compression::best());
    member.write_all(&zeros).expect("gzip");
    let member = member.finish().expect("gzip");
    let mut bomb = encoder.finish().expect("gzip");
    for _ in 0..192 {
        bomb.extend_from_slice(&member);
    }
    let layer = raw::put_blob(&address, "bomb", OCI_GZIP, &bomb);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]}});
    let config = raw::put_blob(&address, "bomb", OCI_CONFIG, config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
    raw::put_manifest(&address, "bomb", "1", &manifest);
    let name = format!("{}/bomb:1", registry.name());
    layerfs(&scene, &["pull", &name]).output().fails(1, &["expands more than 1000:1"]);
    assert_store_clean(&scene);
    let staged = std::fs::read_dir(scene.path("me/store/stage")).expect("stage").count();
    assert_eq!(staged, 0, "nothing of it is kept");
}

#[test]
fn a_manifest_that_lies_about_its_configuration_is_told_of() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let tar = crate::support::tree::to_tar(&crate::support::tree::parse("file a =a"));
    let layer = raw::put_blob(&address, "lie", raw::OCI_PLAIN, &tar);
    let wrong = format!("sha256:{}", "0".repeat(64));
    for (tag, diff_ids, part) in [("diff", json!([wrong]), "expected"), ("count", json!([]), "1 layer")] {
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = raw::put_blob(&address, "lie", OCI_CONFIG, config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
        raw::put_manifest(&address, "lie", tag, &manifest);
        let name = format!("{}/lie:{tag}", registry.name());
        layerfs(&scene, &["pull", &name]).output().fails(1, &[part]);
        assert!(names(&scene).is_empty(), "{tag}");
        assert_store_clean(&scene);
    }
}

#[test]
fn nobody_there_is_told_in_one_line() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    layerfs(&scene, &["pull", "--retry", "1", "localhost:9/image"])
        .output()
        .fails(1, &["localhost:9", "connection refused"]);
    layerfs(&scene, &["pull", "--retry", "0", "no-such-host.invalid/image"])
        .output()
        .fails(1, &["no-such-host.invalid"]);
}
