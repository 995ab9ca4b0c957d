//! The options that all verbs which talk to registries share.

use super::WithHint;
use crate::registry::Error;
use crate::registry::client::{Session, Settings};
use crate::registry::config::Paths;
use crate::registry::http::{Limits, Retry};
use crate::registry::secret::{Credentials, Secret};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RegistryOptions {
    /// Check the registry's certificate; `false` also allows plain HTTP [default: as registries.conf says, else true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) tls_verify: Option<bool>,
    /// Certificates for the registry: *.crt authorities, *.cert and *.key of a client [default: certs.d/HOST:PORT]
    #[arg(long, value_name = "DIR")]
    pub(super) cert_dir: Option<PathBuf>,
    /// Where credentials are kept [default: as docker and podman have them]
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    pub(super) authfile: Option<PathBuf>,
    /// How often a failed request is tried again
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) retry: u32,
    /// The longest a transfer may stand still, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) stall_timeout: u64,
}

impl RegistryOptions {
    /// A session with these options; `credentials` are `USER:PASSWORD` from the command line.
    pub(super) fn session(&self, credentials: Option<&str>) -> anyhow::Result<Session> {
        let mut paths = Paths::from_environment();
        paths.auth_file = self.authfile.clone().or(paths.auth_file);
        paths.cert_dir.clone_from(&self.cert_dir);
        let limits = Limits {
            stall: Duration::from_secs(self.stall_timeout),
            retry: Retry { retries: self.retry, ..Retry::default() },
            ..Limits::default()
        };
        let credentials = credentials.map(parse_credentials);
        told(Session::new(Settings { paths, tls_verify: self.tls_verify, credentials, limits }))
    }
}

fn parse_credentials(text: &str) -> Credentials {
    let (username, password) = text.split_once(':').unwrap_or((text, ""));
    Credentials::Basic { username: username.to_owned(), password: Secret::new(password) }
}

/// A result of the registry's with its hint, ready to be reported.
pub(super) fn told<T>(result: Result<T, Error>) -> anyhow::Result<T> {
    match result {
        Ok(value) => Ok(value),
        // What the store and images say has its advice elsewhere.
        Err(Error::Store(error)) => Err(error.into()),
        Err(Error::Image(error)) => Err(error.into()),
        Err(error) => match error.hint() {
            Some(hint) => Err(error).hint(hint),
            None => Err(error.into()),
        },
    }
}

/// What can be done about `error`, where that is known.
pub(super) fn hint_of(error: &Error) -> Option<String> {
    match error {
        Error::Store(error) => super::advice::for_store(error),
        Error::Image(error) => super::advice::for_image(error),
        Error::Reference { .. } => Some(super::advice::REFERENCE.to_owned()),
        error => error.hint(),
    }
}
