//! Login and logout, with basic authentication and with tokens.

use super::server::{Protection, Registry};
use super::token::{self, IDENTITY, PASSWORD, TokenRules, USER};
use super::{SERVER, layerfs, remote_digest, seed, small_image};
use crate::support::{Need, Scene};
use std::os::unix::fs::PermissionsExt;

const HTPASSWD: &[Need] = &[Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("htpasswd")];

fn protected(scene: &Scene) -> Registry {
    Registry::protected(scene, &Protection { user: Some((USER, PASSWORD)), ..Protection::default() })
}

fn config(scene: &Scene) -> String {
    std::fs::read_to_string(scene.path("docker/config.json")).unwrap_or_default()
}

#[test]
fn basic_credentials_are_proved_and_kept() {
    let Some(scene) = Scene::begin(HTPASSWD) else { return };
    let registry = protected(&scene);
    let name = registry.name();
    let login = |password: &str| {
        layerfs(&scene, &["login", "-u", USER, "--password-stdin", &name]).stdin(format!("{password}\n"))
    };
    login("wrong").output().fails(1, &["unauthorized", "does not accept the credentials", "hint: log in again"]);
    assert_eq!(config(&scene), "");
    assert_eq!(login(PASSWORD).ok().text(), "Login Succeeded\n");
    let mode = std::fs::metadata(scene.path("docker/config.json")).expect("config.json").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(layerfs(&scene, &["login", "--get-login", &name]).ok().text(), format!("{USER}\n"));
    let gone = layerfs(&scene, &["logout", &name]).ok().text();
    assert_eq!(gone, format!("Removed login credentials for {name}\n"));
    assert_eq!(layerfs(&scene, &["logout", &name]).ok().text(), format!("Not logged in to {name}\n"));
    layerfs(&scene, &["login", "--get-login", &name]).output().fails(1, &["not logged in"]);
}

#[test]
fn without_login_the_hint_says_what_to_do() {
    let Some(scene) = Scene::begin(HTPASSWD) else { return };
    let registry = protected(&scene);
    let image = format!("{}/image", registry.name());
    let hint = format!("hint: log in first: layerfs login {}", registry.name());
    layerfs(&scene, &["pull", &image]).output().fails(1, &["unauthorized: ", "requires authentication", &hint]);
    let creds = format!("{USER}:wrong");
    layerfs(&scene, &["pull", "--creds", &creds, &image]).output().fails(1, &["does not accept the credentials"]);
    let creds = format!("{USER}:{PASSWORD}");
    layerfs(&scene, &["pull", "--creds", &creds, &image]).output().fails(1, &["not found"]);
}

#[test]
fn podmans_and_skopeos_logins_are_ours() {
    let Some(scene) = Scene::begin(HTPASSWD) else { return };
    let registry = protected(&scene);
    let file = scene.path("auth.json");
    let path = file.to_str().expect("UTF-8");
    super::skopeo(
        &scene,
        &["login", "--tls-verify=false", "--authfile", path, "-u", USER, "-p", PASSWORD, &registry.name()],
    )
    .ok();
    let image = format!("{}/image", registry.name());
    layerfs(&scene, &["pull", "--authfile", path, &image]).output().fails(1, &["not found"]);
    layerfs(&scene, &["pull", &image]).env("REGISTRY_AUTH_FILE", path).output().fails(1, &["not found"]);
    // And ours are theirs.
    let ours = scene.path("ours.json");
    let ours = ours.to_str().expect("UTF-8");
    layerfs(&scene, &["login", "--authfile", ours, "-u", USER, "-p", PASSWORD, &registry.name()]).ok();
    let who = super::skopeo(&scene, &["login", "--get-login", "--authfile", ours, &registry.name()]).ok().text();
    assert_eq!(who.trim(), USER);
}

#[test]
fn a_credential_helper_keeps_the_password() {
    let Some(scene) = Scene::begin(HTPASSWD) else { return };
    let registry = protected(&scene);
    let helper = scene.path("bin/docker-credential-test");
    let script = format!(
        "#!/bin/sh\nd={}\ncase $1 in\n store) cat > $d/kept;;\n get) cat > /dev/null; cat $d/kept 2>/dev/null || \
         {{ echo 'credentials not found in native keychain'; exit 1; }};;\n erase) cat > /dev/null; rm -f $d/kept;;\nesac\n",
        scene.directory().display()
    );
    std::fs::write(&helper, script).expect("a helper");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::fs::create_dir_all(scene.path("docker")).expect("a directory");
    std::fs::write(scene.path("docker/config.json"), r#"{"credsStore": "test"}"#).expect("config.json");
    let path = format!("{}:{}", scene.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let run = |arguments: &[&str]| layerfs(&scene, arguments).env("PATH", &path);
    run(&["login", "-u", USER, "--password-stdin", &registry.name()]).stdin(PASSWORD).ok();
    assert!(!config(&scene).contains("\"auth\""), "{}", config(&scene));
    let image = format!("{}/image", registry.name());
    run(&["pull", &image]).output().fails(1, &["not found"]);
    run(&["logout", &registry.name()]).ok();
    run(&["pull", &image]).output().fails(1, &["requires authentication"]);
    layerfs(&scene, &["pull", &image]).env("PATH", "/usr/bin:/bin").output().fails(1, &["docker-credential-test"]);
}

#[test]
fn tokens_are_fetched_and_fetched_again_when_they_end() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let digest = seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    // Each token is good for three requests only.
    let proxy = token::start(&registry.address(), TokenRules { uses: 3, ..TokenRules::default() });
    let name = format!("{}/image:1", proxy.name());
    layerfs(&scene, &["pull", &name]).output().fails(1, &["unauthorized", "hint: log in first"]);
    layerfs(&scene, &["login", "-u", USER, "-p", PASSWORD, &proxy.name()]).ok();
    let text = layerfs(&scene, &["pull", &name]).ok().text();
    assert!(text.contains(&digest), "{text}");
    assert!(proxy.count("GET", "/token") >= 3, "tokens end and are asked for again");
    let copy = format!("{}/copy:1", proxy.name());
    layerfs(&scene, &["push", &name, &copy]).ok();
    assert_eq!(remote_digest(&scene, &format!("{}/copy:1", registry.name())), digest);
    layerfs(&scene, &["logout", &proxy.name()]).ok();
    layerfs(&scene, &["pull", &name]).output().fails(1, &["unauthorized"]);
}

#[test]
fn an_identity_token_takes_the_passwords_place() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    let digest = seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    let proxy = token::start(&registry.address(), TokenRules { identity: true, ..TokenRules::default() });
    layerfs(&scene, &["login", "-u", USER, "-p", PASSWORD, &proxy.name()]).ok();
    assert!(config(&scene).contains(IDENTITY), "{}", config(&scene));
    let name = format!("{}/image:1", proxy.name());
    let text = layerfs(&scene, &["pull", &name]).ok().text();
    assert!(text.contains(&digest), "{text}");
    assert!(proxy.count("POST", "/token") >= 1, "an identity token is sent by POST");
}

#[test]
fn servers_of_the_oauth_way_only_are_understood() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    let proxy = token::start(&registry.address(), TokenRules { post_only: true, ..TokenRules::default() });
    layerfs(&scene, &["login", "-u", USER, "-p", PASSWORD, &proxy.name()]).ok();
    layerfs(&scene, &["pull", &format!("{}/image:1", proxy.name())]).ok();
}

#[test]
fn open_images_need_a_token_but_no_password() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    let proxy = token::start(&registry.address(), TokenRules { closed: false, ..TokenRules::default() });
    let name = format!("{}/image:1", proxy.name());
    layerfs(&scene, &["pull", &name]).ok();
    assert!(
        proxy.seen().iter().all(|seen| seen.header("authorization").is_none_or(|value| !value.starts_with("Basic")))
    );
}

#[test]
fn who_may_not_push_is_told_what_to_do() {
    let Some(scene) = Scene::begin(SERVER) else { return };
    let registry = Registry::start(&scene);
    seed(&scene, &small_image(), &format!("{}/image:1", registry.name()));
    let proxy = token::start(&registry.address(), TokenRules { read_only: true, ..TokenRules::default() });
    layerfs(&scene, &["login", "-u", USER, "-p", PASSWORD, &proxy.name()]).ok();
    let name = format!("{}/image:1", proxy.name());
    layerfs(&scene, &["pull", &name]).ok();
    let copy = format!("{}/copy:1", proxy.name());
    layerfs(&scene, &["push", &name, &copy])
        .output()
        .fails(1, &["denied: requested access to", "/copy is denied", "hint: give the image a name you may push to"]);
}
