//! What the registries of one command have in common: settings, connections, credentials.

use super::host::Host;
use super::manifest::Repository;
use crate::oci::Reference;
use crate::registry::Error;
use crate::registry::config::{AuthFiles, ConfigError, Location, Paths, Registries, certificate_files};
use crate::registry::http::{Cancel, CertificateFiles, Hosts, Limits, TlsError, Transport};
use crate::registry::secret::Credentials;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What the user says about registries on the command line.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where configuration lies.
    pub paths: Paths,
    /// `--tls-verify`: false allows plain HTTP and any certificate, true forbids what registries.conf allows.
    pub tls_verify: Option<bool>,
    /// `--creds`: used instead of what is stored.
    pub credentials: Option<Credentials>,
    /// Time limits and retries.
    pub limits: Limits,
}

/// Connections to registries, each made once. Shared by all threads of a command.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    registries: Arc<Registries>,
    transport: Arc<Transport>,
    /// By registry, and by repository where credentials may be filed per repository.
    hosts: Mutex<HashMap<(String, String), Arc<Host>>>,
}

impl Session {
    /// Reads the configuration; nothing is connected yet.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let registries = Arc::new(Registries::load(&settings.paths)?);
        let policy = Policy {
            paths: settings.paths.clone(),
            tls_verify: settings.tls_verify,
            registries: Arc::clone(&registries),
        };
        let transport = Arc::new(Transport::new(Box::new(policy), settings.limits.clone(), Cancel::default()));
        Ok(Self { settings, registries, transport, hosts: Mutex::default() })
    }

    /// The flag that ends everything under way.
    pub fn cancel(&self) -> &Cancel {
        self.transport.cancel()
    }

    /// What registries.conf says.
    pub fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The user's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The places `reference` may be pulled from, mirrors first.
    pub fn pull_locations(&self, reference: &Reference) -> Result<Vec<Location>, Error> {
        let by_digest = reference.digest().is_some();
        let found = self.registries.pull_locations(reference.domain(), reference.path(), by_digest);
        found.ok_or_else(|| Error::Blocked(reference.familiar()))
    }

    /// The place to push `reference` to.
    pub fn push_location(&self, reference: &Reference) -> Result<Location, Error> {
        let found = self.registries.push_location(reference.domain(), reference.path());
        found.ok_or_else(|| Error::Blocked(reference.familiar()))
    }

    /// The repository at `location`, for pulling.
    pub fn repository_to_pull(&self, location: &Location) -> Result<Repository, Error> {
        Ok(Repository::to_pull(self.host(&location.registry, &location.repository)?, &location.repository))
    }

    /// The repository at `location`, for pushing, with the right to mount from `sources`.
    pub fn repository_to_push(&self, location: &Location, sources: &[String]) -> Result<Repository, Error> {
        Ok(Repository::to_push(self.host(&location.registry, &location.repository)?, &location.repository, sources))
    }

    /// Connects to `registry` with the credentials for `repository` there.
    fn host(&self, registry: &str, repository: &str) -> Result<Arc<Host>, Error> {
        let key = (registry.to_owned(), repository.to_owned());
        // Held while connecting: parallel layers of one image need one connection's knowledge, not several.
        let mut hosts = self.hosts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(host) = hosts.get(&key) {
            return Ok(Arc::clone(host));
        }
        let credentials = match &self.settings.credentials {
            Some(given) => given.clone(),
            None => AuthFiles::new(self.settings.paths.clone()).find(registry, repository)?,
        };
        let host = Arc::new(self.connect(registry, credentials)?);
        hosts.insert(key, Arc::clone(&host));
        Ok(host)
    }

    /// Connects to `registry` as someone.
    pub fn connect(&self, registry: &str, credentials: Credentials) -> Result<Host, Error> {
        Host::connect(Arc::clone(&self.transport), registry, credentials)
    }
}

/// What the configuration says about a host's TLS.
struct Policy {
    paths: Paths,
    tls_verify: Option<bool>,
    registries: Arc<Registries>,
}

impl Hosts for Policy {
    fn certificates(&self, authority: &str) -> Result<CertificateFiles, TlsError> {
        certificate_files(&self.paths, authority).map_err(|error| match error {
            ConfigError::Io { path, source } => TlsError::Read { path, source },
            ConfigError::Malformed { path, reason } => TlsError::Malformed { path, reason },
            ConfigError::Helper { program, reason } => TlsError::Malformed { path: program.into(), reason },
        })
    }

    fn is_insecure(&self, authority: &str) -> bool {
        match self.tls_verify {
            Some(verify) => !verify,
            None => self.registries.is_insecure(authority),
        }
    }
}
