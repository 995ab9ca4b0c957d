//! `config.json` of docker and `auth.json` of podman: one format, several places.

use super::helper::Helper;
use super::{ConfigError, Paths, auth_keys};
use crate::registry::secret::{Credentials, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The files that may hold credentials.
#[derive(Debug)]
pub struct AuthFiles {
    paths: Paths,
}

/// Where a login was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// In this file, readable by its owner only but not encrypted.
    File(PathBuf),
    /// With this credential helper.
    Helper(String),
}

impl AuthFiles {
    /// The files these paths name.
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }

    /// The credentials for `registry` (`host[:port]`), most specific first: podman files them per repository as well.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Credentials, ConfigError> {
        for path in self.paths.auth_files() {
            let Some(document) = read(&path)? else { continue };
            for name in specific_names(registry, repository) {
                if let Some(found) = find_in(&document, &path, &name)? {
                    log::debug!("credentials for {registry} from {}", path.display());
                    return Ok(found);
                }
            }
        }
        Ok(Credentials::Anonymous)
    }

    /// Keeps `credentials` of `username` for `registry`.
    pub fn store(&self, registry: &str, username: &str, credentials: &Credentials) -> Result<Stored, ConfigError> {
        let path = self.login_file()?;
        let mut document = read(&path)?.unwrap_or_default();
        let key = auth_keys(registry).swap_remove(0);
        if let Some(name) = helper_for(&document, registry) {
            Helper::new(&name)?.store(&key, credentials)?;
            object(&mut document, "auths", &path)?.insert(key, Value::Object(Map::new()));
            write(&path, &document)?;
            return Ok(Stored::Helper(name));
        }
        let mut entry = Map::new();
        match credentials {
            Credentials::Basic { username, password } => {
                let text = STANDARD.encode(format!("{username}:{}", password.expose()));
                entry.insert("auth".into(), text.into());
            }
            Credentials::IdentityToken(token) => {
                // With the user and no password, as docker has it: podman passes over what has no `auth`.
                entry.insert("auth".into(), STANDARD.encode(format!("{username}:")).into());
                entry.insert("identitytoken".into(), token.expose().into());
            }
            Credentials::RegistryToken(token) => {
                entry.insert("registrytoken".into(), token.expose().into());
            }
            Credentials::Anonymous => {}
        }
        object(&mut document, "auths", &path)?.insert(key, Value::Object(entry));
        write(&path, &document)?;
        Ok(Stored::File(path))
    }

    /// Forgets the credentials of `registry` in every file; whether there were any.
    pub fn remove(&self, registry: &str) -> Result<bool, ConfigError> {
        let mut removed = false;
        for path in self.paths.auth_files() {
            let Some(mut document) = read(&path)? else { continue };
            let helper = helper_for(&document, registry);
            let mut changed = false;
            for key in auth_keys(registry) {
                if let Some(name) = &helper {
                    removed |= Helper::new(name)?.get(&key)?.is_some() && Helper::new(name)?.erase(&key)?;
                }
                let auths = object(&mut document, "auths", &path)?;
                let before = auths.len();
                auths.retain(|filed, _| bare(filed) != bare(&key));
                changed |= auths.len() != before;
            }
            if changed {
                write(&path, &document)?;
                removed = true;
            }
        }
        Ok(removed)
    }

    fn login_file(&self) -> Result<PathBuf, ConfigError> {
        self.paths.login_file().ok_or_else(|| ConfigError::Malformed {
            path: "config.json".into(),
            reason: "no place to write it: neither HOME, DOCKER_CONFIG nor REGISTRY_AUTH_FILE is set".into(),
        })
    }
}

/// `registry/a/b`, `registry/a`, `registry`.
fn specific_names(registry: &str, repository: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        names.push(format!("{registry}/{path}"));
        path = path.rsplit_once('/').map_or("", |(head, _)| head);
    }
    names.push(registry.to_owned());
    names
}

fn find_in(document: &Map<String, Value>, path: &Path, name: &str) -> Result<Option<Credentials>, ConfigError> {
    let keys = if name.contains('/') { vec![name.to_owned()] } else { auth_keys(name) };
    if let Some(helper) = helper_for(document, name) {
        let helper = Helper::new(&helper)?;
        for key in &keys {
            if let Some(found) = helper.get(key)? {
                return Ok(Some(found));
            }
        }
    }
    let Some(auths) = document.get("auths").and_then(Value::as_object) else { return Ok(None) };
    for key in &keys {
        let entry = auths.get(key).or_else(|| {
            // Old files have `https://host/v1/` for `host`.
            let filed = auths.iter().find(|(filed, _)| !name.contains('/') && bare(filed) == bare(key));
            filed.map(|(_, entry)| entry)
        });
        if let Some(found) = entry.map(|entry| credentials(entry, path)).transpose()?.flatten() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The host of a key in `auths`: without protocol and API version.
fn bare(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

/// The helper that is responsible for `name`; for a repository only when it is named itself.
fn helper_for(document: &Map<String, Value>, name: &str) -> Option<String> {
    let own = document.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
        let keys = if name.contains('/') { vec![name.to_owned()] } else { auth_keys(name) };
        keys.iter().find_map(|key| helpers.get(key.as_str()).or_else(|| helpers.get(bare(key))))
    });
    let general = document.get("credsStore").filter(|_| !name.contains('/'));
    own.or(general).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn credentials(entry: &Value, path: &Path) -> Result<Option<Credentials>, ConfigError> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::RegistryToken(Secret::new(token))));
    }
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credentials::Basic { username: username.into(), password: Secret::new(password) }));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let malformed =
        || ConfigError::Malformed { path: path.into(), reason: "an `auth` is not base64 of user:password".into() };
    let decoded = STANDARD.decode(auth.trim_end_matches('\0')).map_err(|_| malformed())?;
    let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
    let (username, password) = decoded.split_once(':').ok_or_else(malformed)?;
    let password = Secret::new(password.trim_end_matches('\0'));
    Ok(Some(Credentials::Basic { username: username.into(), password }))
}

/// The document in `path`; `None` when there is no such file or it is empty.
fn read(path: &Path) -> Result<Option<Map<String, Value>>, ConfigError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(ConfigError::Io { path: path.into(), source }),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // serde_json's own message may quote a value, so it is not passed on.
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| ConfigError::Malformed {
        path: path.into(),
        reason: format!("not JSON (line {}, column {})", error.line(), error.column()),
    })?;
    match value {
        Value::Object(map) => Ok(Some(map)),
        _ => Err(ConfigError::Malformed { path: path.into(), reason: "not a JSON object".into() }),
    }
}

fn object<'a>(
    document: &'a mut Map<String, Value>,
    name: &str,
    path: &Path,
) -> Result<&'a mut Map<String, Value>, ConfigError> {
    let value = document.entry(name).or_insert_with(|| Value::Object(Map::new()));
    let reason = format!("`{name}` is not a JSON object");
    value.as_object_mut().ok_or_else(|| ConfigError::Malformed { path: path.into(), reason })
}

/// Replaces `path` in one step, readable by its owner only. A symbolic link is written through, not replaced.
fn write(path: &Path, document: &Map<String, Value>) -> Result<(), ConfigError> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let failed = |source| ConfigError::Io { path: path.into(), source };
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.exists() {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(dir).map_err(failed)?;
    }
    let mut text = serde_json::to_vec_pretty(document).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    // tempfile creates with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
#[path = "auth_file_tests.rs"]
mod tests;
