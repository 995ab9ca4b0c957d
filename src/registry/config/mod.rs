//! What the user has written down about registries: credentials, certificates, mirrors.
//!
//! Owns the file formats of docker and podman: `config.json`, `auth.json`, `certs.d`, `registries.conf`. Must not know HTTP.

mod auth_file;
mod certs;
mod helper;
mod paths;
mod registries;

pub use auth_file::{AuthFiles, Stored};
pub use certs::certificate_files;
pub use paths::Paths;
pub use registries::{Location, Registries};

use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not follow its format. The reason never quotes the file: it may hold passwords.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A credential helper failed.
    #[error("credential helper {program}: {reason}")]
    Helper {
        /// The program's name.
        program: String,
        /// What went wrong; never what the helper wrote to standard output.
        reason: String,
    },
}

/// The names under which credentials of a registry are filed by docker and podman. The first is the one written.
pub fn auth_keys(registry: &str) -> Vec<String> {
    if matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"]
            .map(str::to_owned)
            .into()
    } else {
        vec![registry.to_owned()]
    }
}
