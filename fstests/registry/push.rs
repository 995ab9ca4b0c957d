//! Pushing: what is sent, what is not, and that it comes back the same.

use super::proxy::{Fault, Proxy};
use super::server::Registry;
use super::{SERVER, assert_store_clean, layerfs, remote_digest, seed, skopeo, small_image};
use crate::support::{Image, Need, Scene};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pulls a small image and gives it the digest it had.
fn pulled(scene: &Scene, registry: &Registry, name: &str) -> (String, String) {
    let full = format!("{}/{name}", registry.name());
    let digest = seed(scene, &small_image(), &full);
    layerfs(scene, &["pull", &full]).ok();
    (full, digest)
}

#[test]
fn what_was_pulled_goes_back_byte_for_byte() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let (source, digest) = pulled(&scene, &registry, "source:1");
    let there = layerfs(&scene, &["push", &source]).ok().text();
    assert!(there.starts_with(&format!("The push refers to repository [{}/source]\n", registry.name())), "{there}");
    assert_eq!(there.matches(": Layer already exists\n").count(), 3, "{there}");
    assert!(there.contains(&format!("1: digest: {digest} size: ")), "{there}");
    // To another registry the bytes are sent; digests stay.
    let other = Registry::start(&scene);
    let copy = format!("{}/copy:2", other.name());
    let file = scene.path("digest");
    let sent = layerfs(&scene, &["push", "--digestfile", file.to_str().expect("UTF-8"), &source, &copy]).ok().text();
    assert_eq!(sent.matches(": Pushed\n").count(), 3, "{sent}");
    assert_eq!(std::fs::read_to_string(&file).expect("digest file"), digest);
    assert_eq!(remote_digest(&scene, &copy), digest);
    let json = layerfs(&scene, &["push", "--format", "json", &source, &copy]).ok().json();
    assert_eq!(json["digest"].as_str(), Some(digest.as_str()));
    let quiet = layerfs(&scene, &["push", "--quiet", &source, &copy]).ok().text();
    assert_eq!(quiet, format!("{copy}\n"));
    assert_store_clean(&scene);
}

#[test]
fn a_layer_is_taken_over_from_another_repository() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let (source, digest) = pulled(&scene, &registry, "team/source:1");
    let copy = format!("{}/other/copy:1", registry.name());
    let text = layerfs(&scene, &["push", &source, &copy]).ok().text();
    assert_eq!(text.matches(": Mounted from team/source\n").count(), 3, "{text}");
    assert_eq!(remote_digest(&scene, &copy), digest);
}

#[test]
fn where_the_registry_does_not_mount_the_layer_is_sent() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let proxy = Proxy::start(&registry.address(), |seen| {
        let (path, wish) = seen.path.split_once("?mount=")?;
        // As a registry that begins an upload instead: it is asked for one without the wish, and its answer passed on.
        let _ = wish;
        Some(Fault::Rewrite(path.to_owned()))
    });
    let name = format!("{}/team/source:1", proxy.name());
    seed(&scene, &small_image(), &format!("{}/team/source:1", registry.name()));
    layerfs(&scene, &["pull", &name]).ok();
    let copy = format!("{}/other/copy:1", proxy.name());
    let text = layerfs(&scene, &["push", &name, &copy]).ok().text();
    assert_eq!(text.matches(": Pushed\n").count(), 3, "{text}");
    assert_eq!(proxy.count("POST", "?mount="), 3);
    // The upload that the wish began is used: no other one was begun for a layer.
    assert_eq!(proxy.count("POST", "/blobs/uploads/"), 4, "three layers and the configuration");
}

#[test]
fn a_plain_layer_is_compressed_once() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let address = registry.address();
    let tar = crate::support::tree::to_tar(&crate::support::tree::parse("file text =hello\nfile big #400000"));
    let layer = super::raw::put_blob(&address, "plain", super::raw::OCI_PLAIN, &tar);
    let config = serde_json::json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}, "config": {}});
    let config = super::raw::put_blob(&address, "plain", super::raw::OCI_CONFIG, config.to_string().as_bytes());
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": super::raw::OCI_MANIFEST, "config": config, "layers": [layer]});
    super::raw::put_manifest(&address, "plain", "latest", &manifest);
    let name = format!("{}/plain:latest", registry.name());
    layerfs(&scene, &["pull", &name]).ok();
    let copy = format!("{}/gzip:1", registry.name());
    let first = layerfs(&scene, &["push", &name, &copy]).ok().text();
    assert_eq!(first.matches(": Compressing\n").count(), 1, "{first}");
    let digest = remote_digest(&scene, &copy);
    assert!(first.contains(&digest), "{first}");
    let again = format!("{}/gzip:2", registry.name());
    let second = layerfs(&scene, &["push", &name, &again]).ok().text();
    assert_eq!(second.matches(": Compressing\n").count(), 0, "{second}");
    assert_eq!(remote_digest(&scene, &again), digest);
    // zstd is another form, made once as well; skopeo reads it.
    let zstd = format!("{}/zstd:1", registry.name());
    let text = layerfs(&scene, &["push", "--compression-format", "zstd", &name, &zstd]).ok().text();
    assert_eq!(text.matches(": Compressing\n").count(), 1, "{text}");
    let text = layerfs(&scene, &["push", "--compression-format", "zstd", &name, &zstd]).ok().text();
    assert_eq!(text.matches(": Compressing\n").count(), 0, "{text}");
    let target = format!("oci:{}:zstd", scene.path("zstd").display());
    skopeo(&scene, &["copy", "--src-tls-verify=false", &format!("docker://{zstd}"), &target]).ok();
    assert_store_clean(&scene);
}

/// An image with one layer that is sent in chunks.
fn large_image() -> Image {
    let noise: Vec<String> = (0..6).map(|number| format!("file noise-{number} #1000000")).collect();
    Image::new().layer(&noise.join("\n"))
}

#[test]
fn an_upload_that_breaks_off_is_taken_up() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let source = format!("{}/source:1", registry.name());
    let digest = seed(&scene, &large_image(), &source);
    layerfs(&scene, &["pull", &source]).ok();
    for (case, at) in [("start", 0), ("middle", 3_000_000), ("end", 5_999_000)] {
        let target = Registry::start(&scene);
        let broken = AtomicUsize::new(0);
        let proxy = Proxy::start(&target.address(), move |seen| {
            let first = seen.method == "PATCH" && broken.fetch_add(1, Ordering::Relaxed) == 0;
            first.then_some(Fault::ResetUpload(at))
        });
        let copy = format!("{}/copy:1", proxy.name());
        layerfs(&scene, &["push", &source, &copy]).ok();
        assert!(proxy.count("PATCH", "/uploads/") >= 2, "{case}");
        assert_eq!(remote_digest(&scene, &format!("{}/copy:1", target.name())), digest, "{case}");
    }
}

#[test]
fn overloaded_registries_are_pushed_to_in_the_end() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let (source, digest) = pulled(&scene, &registry, "source:1");
    let target = Registry::start(&scene);
    let proxy = Proxy::start(&target.address(), |seen| {
        // The first request to each address fails.
        let code = if seen.method == "PUT" { 503 } else { 429 };
        (seen.earlier == 0).then(|| Fault::status_with(code, "retry-after", "0"))
    });
    let copy = format!("{}/copy:1", proxy.name());
    layerfs(&scene, &["push", &source, &copy]).ok();
    assert_eq!(remote_digest(&scene, &format!("{}/copy:1", target.name())), digest);
}

#[test]
fn regression_uploads_wait_as_long_as_the_registry_asks() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let (source, _) = pulled(&scene, &registry, "source:1");
    let target = Registry::start(&scene);
    let proxy = Proxy::start(&target.address(), |seen| {
        (seen.method == "PUT" && seen.path.contains("/uploads/"))
            .then(|| Fault::status_with(503, "retry-after", "86400"))
    });
    let begun = std::time::Instant::now();
    layerfs(&scene, &["push", &source, &format!("{}/copy:1", proxy.name())]).output().fails(1, &["answers 503"]);
    assert_eq!(
        proxy.seen().iter().filter(|seen| seen.method == "PUT").map(|seen| seen.earlier).max(),
        Some(0),
        "no upload is tried again before its time"
    );
    assert!(begun.elapsed() < std::time::Duration::from_secs(60));
}

#[test]
fn what_cannot_be_pushed_says_why() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let (source, digest) = pulled(&scene, &registry, "source:1");
    let to = |name: &str| format!("{}/{name}", registry.name());
    layerfs(&scene, &["push", &to("nothing:1")]).output().fails(1, &["no such image"]);
    let by_digest = format!("{}@{digest}", to("copy"));
    layerfs(&scene, &["push", &source, &by_digest]).output().fails(1, &["cannot push a digest reference", "hint: "]);
    layerfs(&scene, &["push", "--compression-format", "gzip", "--compression-level", "12", &source])
        .output()
        .fails(1, &["compression level 12"]);
    let proxy = Proxy::start(&registry.address(), |seen| {
        let body = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#.to_vec();
        (seen.method == "POST").then(|| Fault::Answer { status: 403, headers: Vec::new(), body })
    });
    let copy = format!("{}/copy:1", proxy.name());
    layerfs(&scene, &["push", &source, &copy])
        .output()
        .fails(1, &["denied: requested access to", "copy is denied", "hint: log in first: layerfs login localhost:"]);
}

#[test]
fn all_tags_of_a_name_are_pushed() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let (first, _) = pulled(&scene, &registry, "source:1");
    let (_, digest) = pulled(&scene, &registry, "source:2");
    let text = layerfs(&scene, &["push", "--all-tags", first.trim_end_matches(":1")]).ok().text();
    assert!(text.contains("1: digest: ") && text.contains(&format!("2: digest: {digest}")), "{text}");
}

#[test]
fn what_is_built_is_pushed() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let context = scene.dir("context");
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").expect("written");
    let build = |arguments: &[&str]| layerfs(&scene, &["build"]).args(arguments).arg(&context);
    let name = |tag: &str| format!("{}/built:{tag}", registry.name());
    let facts = scene.path("facts");
    let file = format!("--metadata-file={}", facts.display());
    build(&["-q", "--push", "-t", &name("1"), "-t", &name("2"), &file]).ok();
    let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(&facts).expect("facts")).expect("JSON");
    for tag in ["1", "2"] {
        assert_eq!(facts["containerimage.digest"], remote_digest(&scene, &name(tag)), "{tag}");
    }
    build(&["-o", &format!("type=registry,name={}", name("3"))]).ok();
    build(&["-o", "type=image,push=true", "-t", &name("4")]).ok();
    assert_eq!(remote_digest(&scene, &name("3")), remote_digest(&scene, &name("4")));
    build(&["--push"]).output().fails(1, &["a name is needed to push", "hint: "]);
    build(&["--push", "-t", "x", "-o", "out"]).output().fails(1, &["--push does not go with"]);
    // As a base in the place of a name, from a registry and from a layout.
    let other = scene.dir("other");
    std::fs::write(other.join("Dockerfile"), "FROM base\nCOPY --from=tools:latest Dockerfile /second\n")
        .expect("written");
    let layout = scene.path("oci");
    skopeo(&scene, &["copy", "--src-tls-verify=false", &format!("docker://{}", name("1"))])
        .arg(format!("oci:{}:tools", layout.display()))
        .ok();
    let base = format!("--build-context=base=docker-image://{}", name("3"));
    let tools = format!("--build-context=tools=oci-layout://{}:tools", layout.display());
    layerfs(&scene, &["build", "-t", "second", &base, &tools]).arg(&other).ok();
    assert_eq!(layerfs(&scene, &["ls", "second"]).ok().text(), "Dockerfile\nsecond\n");
    for (value, message) in [("x", "NAME=VALUE"), ("x=https://a/b.git", "neither a directory"), ("x=none", "no such")] {
        layerfs(&scene, &["build", "--build-context", value]).arg(&other).output().fails(1, &[message, "hint: "]);
    }
}

#[test]
fn podman_and_layerfs_exchange_images() {
    let needs = [SERVER, &[Need::Program("podman"), Need::Root]].concat();
    let Some(scene) = Scene::begin(&needs) else { return };
    let registry = Registry::start(&scene);
    let podman = |arguments: &[&str]| {
        let root = ["--root", "podman/root", "--runroot", "podman/run", "--storage-driver", "vfs"];
        let run = scene
            .run("podman")
            .args(root.map(|part| if part.starts_with("podman") { scene.path(part) } else { part.into() }));
        run.args(arguments)
    };
    // Ours to podman's.
    let (source, digest) = pulled(&scene, &registry, "ours:1");
    let ours = format!("{}/ours:2", registry.name());
    layerfs(&scene, &["push", &source, &ours]).ok();
    podman(&["pull", "--tls-verify=false", "--quiet", &ours]).ok();
    let seen = podman(&["image", "inspect", "--format", "{{.Digest}}", &ours]).ok().text();
    assert_eq!(seen.trim(), digest);
    // Podman's to ours.
    let theirs = format!("{}/theirs:1", registry.name());
    podman(&["push", "--tls-verify=false", "--quiet", &ours, &theirs]).ok();
    let expected = remote_digest(&scene, &theirs);
    let text = layerfs(&scene, &["pull", &theirs]).ok().text();
    assert!(text.contains(&format!("Digest: {expected}\n")), "{text}");
    assert_store_clean(&scene);
}
