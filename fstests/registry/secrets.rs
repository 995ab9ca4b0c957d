//! No password, token or signature shows in any output, whatever fails and however much is logged.

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
