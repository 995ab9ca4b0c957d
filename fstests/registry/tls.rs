//! TLS: authorities, client certificates, and the absence of either.

use super::server::{Authority, Protection, Registry};
use super::{SERVER, layerfs, seed, skopeo, small_image};
use crate::support::{Need, Scene};

const OPENSSL: &[Need] = &[Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("openssl")];

#[test]
fn an_authority_of_the_hosts_own_is_trusted() {
    let Some(scene) = Scene::begin(OPENSSL) else { return };
    let authority = Authority::new(&scene, "authority");
    let registry = Registry::protected(&scene, &authority.protection());
    let name = format!("{}/image:1", registry.name());
    let digest = seed(&scene, &small_image(), &name);
    layerfs(&scene, &["pull", "--retry", "1", &name])
        .output()
        .fails(1, &["certificate", "hint: put the authority's certificate"]);
    // By option.
    let dir = scene.dir("certs");
    std::fs::copy(authority.file("ca.crt"), dir.join("ca.crt")).expect("copy");
    let text = layerfs(&scene, &["pull", "--cert-dir", dir.to_str().expect("UTF-8"), &name]).ok().text();
    assert!(text.contains(&digest), "{text}");
    // Where podman looks for it.
    let certs = scene.path("me/config/containers/certs.d").join(registry.name());
    std::fs::create_dir_all(&certs).expect("certs.d");
    std::fs::copy(authority.file("ca.crt"), certs.join("ca.crt")).expect("copy");
    layerfs(&scene, &["pull", &name]).ok();
    let copy = format!("{}/copy:1", registry.name());
    layerfs(&scene, &["push", &name, &copy]).ok();
    // Another authority's word does not count.
    let other = Authority::new(&scene, "other");
    std::fs::copy(other.file("ca.crt"), certs.join("ca.crt")).expect("copy");
    layerfs(&scene, &["pull", &name]).output().fails(1, &["certificate"]);
    // Without checking.
    layerfs(&scene, &["pull", "--tls-verify=false", &name]).ok();
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.name());
    std::fs::write(scene.path("registries.conf"), conf).expect("registries.conf");
    layerfs(&scene, &["pull", &name]).ok();
    layerfs(&scene, &["pull", "--tls-verify", &name]).output().fails(1, &["certificate"]);
}

#[test]
fn the_systems_authorities_are_trusted() {
    let Some(scene) = Scene::begin(OPENSSL) else { return };
    let authority = Authority::new(&scene, "authority");
    let registry = Registry::protected(&scene, &authority.protection());
    let name = format!("{}/image:1", registry.name());
    seed(&scene, &small_image(), &name);
    layerfs(&scene, &["pull", &name]).env("SSL_CERT_FILE", authority.file("ca.crt")).ok();
}

#[test]
fn a_client_certificate_is_shown_where_there_is_one() {
    let Some(scene) = Scene::begin(OPENSSL) else { return };
    let authority = Authority::new(&scene, "authority");
    let protection = Protection { client_authority: Some(authority.file("ca.crt")), ..authority.protection() };
    let registry = Registry::protected(&scene, &protection);
    let name = format!("{}/image:1", registry.name());
    let dir = scene.dir("certs");
    let path = dir.to_str().expect("UTF-8").to_owned();
    std::fs::copy(authority.file("ca.crt"), dir.join("ca.crt")).expect("copy");
    layerfs(&scene, &["pull", "--cert-dir", &path, "--retry", "0", &name]).output().fails(1, &["ertificate"]);
    std::fs::copy(authority.file("client.crt"), dir.join("client.cert")).expect("copy");
    layerfs(&scene, &["pull", "--cert-dir", &path, &name]).output().fails(1, &["client.key is missing"]);
    // A key that belongs to something else is told of, not used.
    std::fs::copy(authority.file("server.key"), dir.join("client.key")).expect("copy");
    layerfs(&scene, &["pull", "--cert-dir", &path, &name]).output().fails(1, &["does not fit the key"]);
    std::fs::copy(authority.file("client.key"), dir.join("client.key")).expect("copy");
    layerfs(&scene, &["pull", "--cert-dir", &path, &name]).output().fails(1, &["not found"]);
    let image = small_image();
    image.write_oci(&scene.path("seed"), "seed");
    let source = format!("oci:{}:seed", scene.path("seed").display());
    skopeo(&scene, &["copy", "--dest-cert-dir", &path, &source, &format!("docker://{name}")]).ok();
    layerfs(&scene, &["pull", "--cert-dir", &path, &name]).ok();
}

#[test]
fn plain_http_goes_to_loopback_only() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    // An address for documentation: nobody is there, and nobody is asked.
    let proxy = super::proxy::Proxy::start("127.0.0.1:9", |seen| {
        let elsewhere = "http://192.0.2.1/v2/image/manifests/1";
        (seen.path != "/v2/")
            .then(|| super::proxy::Fault::status_with(307, "location", elsewhere))
            .or_else(|| Some(super::proxy::Fault::status(200)))
    });
    let name = format!("{}/image:1", proxy.name());
    layerfs(&scene, &["pull", &name])
        .output()
        .fails(1, &["http://192.0.2.1/v2/image/manifests/1 is plain HTTP", "hint: "]);
}
