//! TLS of one host: roots of the system, further authorities and a client certificate.
//!
//! ureq takes a client certificate but panics on one that does not fit its key, and takes either the system's roots or given
//! ones, never both; both gaps are filled here: keys are checked beforehand and the system's roots are loaded and extended.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// What was found in a host's `certs.d` directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Authorities trusted for this host besides the system's.
    pub authorities: Vec<PathBuf>,
    /// A certificate to show to the host, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The TLS settings for a host with these certificate files; `verify` false accepts any server.
pub(super) fn tls_config(files: &CertificateFiles, verify: bool) -> Result<TlsConfig, TlsError> {
    let mut roots = system_roots().to_vec();
    for path in &files.authorities {
        let found = certificates(path)?;
        if found.is_empty() {
            return Err(TlsError::Malformed { path: path.clone(), reason: "no PEM certificate in it".into() });
        }
        roots.extend(found);
    }
    let roots = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let client = files.client.as_ref().map(|(cert, key)| client_certificate(cert, key)).transpose()?;
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(client)
        .disable_verification(!verify)
        .build())
}

/// The system's trusted authorities, read once; `SSL_CERT_FILE` and `SSL_CERT_DIR` override where they lie.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            log::debug!("system certificates: {error}");
        }
        if found.certs.is_empty() {
            log::warn!("the system has no trusted certificates: install ca-certificates or set SSL_CERT_FILE");
        }
        found.certs
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Malformed { path: path.into(), reason: error.to_string() })
}

/// Loads a client certificate and proves that the key belongs to it.
fn client_certificate(cert: &Path, key: &Path) -> Result<ClientCert, TlsError> {
    let malformed = |path: &Path, reason: String| TlsError::Malformed { path: path.into(), reason };
    let chain = certificates(cert)?;
    let key_bytes = read(key)?;
    let der = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|error| malformed(key, error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain.clone(), der, &provider)
        .map_err(|error| malformed(cert, format!("does not fit the key {}: {error}", key.display())))?;
    let chain: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let key = PrivateKey::from_pem(&key_bytes).map_err(|error| malformed(key, error.to_string()))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
