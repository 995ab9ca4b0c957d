//! No password, token or signature shows in any output, whatever fails and however much is logged.

use super::proxy::{Fault, Proxy};
use super::server::Registry;
use super::token::{self, IDENTITY, PASSWORD, TokenRules, USER};
use super::{SERVER, layerfs, seed, small_image};
use crate::support::{Done, Scene};
use base64::Engine;

fn assert_silent(done: &Done) {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let all = done.text() + &done.error_text();
    for secret in [PASSWORD, IDENTITY, "token-is-secret", basic.as_str(), "proxy-is-secret"] {
        let shown = all.lines().find(|line| line.contains(secret));
        assert!(shown.is_none(), "{}: {shown:?}", done.command.replace(PASSWORD, "…"));
    }
}

#[test]
fn nothing_secret_is_logged() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    for rules in [
        TokenRules { identity: true, ..TokenRules::default() },
        TokenRules { post_only: true, uses: 2, ..TokenRules::default() },
    ] {
        let proxy = token::start(&registry.address(), rules);
        let name = format!("{}/image:1", proxy.name());
        let run = |arguments: &[&str], stdin: &str| {
            assert_silent(&layerfs(&scene, arguments).stdin(stdin).env("RUST_LOG", "trace").output());
        };
        run(&["login", "-u", USER, "--password-stdin", &proxy.name()], PASSWORD);
        run(&["login", "-u", "someone", "--password-stdin", &proxy.name()], PASSWORD);
        run(&["pull", &name], "");
        run(&["push", &name, &format!("{}/copy:1", proxy.name())], "");
        run(&["logout", &proxy.name()], "");
    }
}

/// A registry sends layers from elsewhere; who serves them must not name the place where the registry's password goes.
#[test]
fn regression_who_stores_the_blobs_cannot_ask_for_the_registrys_password() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    let storage = Proxy::start(&registry.address(), |seen| {
        if seen.path.starts_with("/token") {
            return Some(Fault::Answer { status: 200, headers: Vec::new(), body: br#"{"token":"t"}"#.to_vec() });
        }
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", seen.header("host").expect("a host"));
        Some(Fault::status_with(401, "www-authenticate", challenge))
    });
    let elsewhere = storage.name();
    let front = Proxy::start(&registry.address(), move |seen| {
        let target = format!("http://{elsewhere}{}", seen.path);
        seen.gets("/blobs/").then(|| Fault::status_with(307, "location", target))
    });
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let known = serde_json::json!({"auths": {front.name(): {"auth": auth}}});
    std::fs::create_dir_all(scene.path("docker")).expect("a directory");
    std::fs::write(scene.path("docker/config.json"), known.to_string()).expect("written");
    layerfs(&scene, &["pull", "--retry", "0", &format!("{}/image:1", front.name())]).output().fails(1, &[]);
    assert!(storage.count("GET", "/blobs/") > 0, "it was asked");
    for seen in storage.seen() {
        assert!(!seen.path.starts_with("/token") && seen.header("authorization").is_none(), "{seen:?}");
    }
}

#[test]
fn a_proxys_password_is_not_shown() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    for proxy in ["http://user:proxy-is-secret@127.0.0.1:9", "socks9://user:proxy-is-secret@127.0.0.1:9"] {
        let run = layerfs(&scene, &["pull", "--retry", "0", "registry.invalid/image:1"]);
        let done = run.env("HTTPS_PROXY", proxy).env("RUST_LOG", "trace").output();
        assert!(!done.status.success());
        assert_silent(&done);
    }
}
