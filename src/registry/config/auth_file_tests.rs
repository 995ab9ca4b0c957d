//! Tests of credential files, on files in a temporary directory.

use super::*;
use std::os::unix::fs::PermissionsExt;

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("config.json"), config).expect("config.json");
        Self { dir }
    }

    fn files(&self) -> AuthFiles {
        AuthFiles::new(Paths { auth_file: Some(self.path()), ..Paths::default() })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("config.json")
    }
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.into(), password: Secret::new(password) }
}

#[test]
fn credentials_are_found_under_all_their_names() {
    // am9lOnB3 is joe:pw.
    let home = Home::new(
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "am9lOnB3"},
            "reg:5000": {"username": "u", "password": "p:q"},
            "https://old.example/v1/": {"auth": "am9lOnB3"},
            "quay.example/org": {"auth": "am9lOnB3"},
            "token.example": {"identitytoken": "T"},
            "bearer.example": {"registrytoken": "R"},
            "empty.example": {}
        }}"#,
    );
    let files = home.files();
    for (registry, repository, expected) in [
        ("docker.io", "library/alpine", basic("joe", "pw")),
        ("reg:5000", "a", basic("u", "p:q")),
        ("old.example", "a", basic("joe", "pw")),
        ("quay.example", "org/image", basic("joe", "pw")),
        ("quay.example", "other/image", Credentials::Anonymous),
        ("token.example", "a", Credentials::IdentityToken(Secret::new("T"))),
        ("bearer.example", "a", Credentials::RegistryToken(Secret::new("R"))),
        ("empty.example", "a", Credentials::Anonymous),
        ("reg", "a", Credentials::Anonymous),
    ] {
        assert_eq!(files.find(registry, repository).expect(registry), expected, "{registry}/{repository}");
    }
}

#[test]
fn a_login_keeps_what_it_does_not_know_and_is_private() {
    let home = Home::new(r#"{"detachKeys": "ctrl-x", "auths": {"other": {"auth": "am9lOnB3"}}}"#);
    let stored = home.files().store("reg:5000", "joe", &basic("joe", "se:cret")).expect("stored");
    assert_eq!(stored, Stored::File(home.path()));
    assert_eq!(home.files().find("reg:5000", "x").expect("found"), basic("joe", "se:cret"));
    assert_eq!(home.files().find("other", "x").expect("found"), basic("joe", "pw"));
    let text = std::fs::read_to_string(home.path()).expect("text");
    assert!(text.contains("ctrl-x"), "{text}");
    let mode = std::fs::metadata(home.path()).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(home.files().remove("reg:5000").expect("removed"));
    assert!(!home.files().remove("reg:5000").expect("nothing left"));
    assert_eq!(home.files().find("reg:5000", "x").expect("anonymous"), Credentials::Anonymous);
}

#[test]
fn regression_an_identity_token_is_filed_where_podman_looks() {
    let home = Home::new("");
    home.files().store("reg", "joe", &Credentials::IdentityToken(Secret::new("T"))).expect("stored");
    let text = std::fs::read_to_string(home.path()).expect("text");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["auths"]["reg"], serde_json::json!({"auth": "am9lOg==", "identitytoken": "T"}));
    assert_eq!(home.files().find("reg", "x").expect("found"), Credentials::IdentityToken(Secret::new("T")));
}

#[test]
fn docker_hub_is_filed_as_docker_does() {
    let home = Home::new("");
    home.files().store("docker.io", "joe", &basic("joe", "pw")).expect("stored");
    let text = std::fs::read_to_string(home.path()).expect("text");
    assert!(text.contains("\"https://index.docker.io/v1/\""), "{text}");
    assert!(home.files().remove("docker.io").expect("removed"));
}

#[test]
fn malformed_files_are_named_and_never_quoted() {
    for text in
        ["{\"auths\": {\"r\": {\"auth\": hunter2}}}", "[\"hunter2\"]", "{\"auths\": {\"r\": {\"auth\": \"hunter2\"}}}"]
    {
        let home = Home::new(text);
        let error = home.files().find("r", "x").expect_err(text).to_string();
        assert!(error.contains("config.json"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn helper_names_cannot_run_something_else() {
    let home = Home::new(r#"{"credsStore": "../../bin/sh"}"#);
    let error = home.files().find("r", "x").expect_err("refused").to_string();
    assert!(error.contains("not a helper's name"), "{error}");
}
