//! `certs.d`: a directory per host with `*.crt` authorities and `*.cert`/`*.key` pairs (docker-certs.d, containers-certs.d(5)).

use super::{ConfigError, Paths};
use crate::registry::http::CertificateFiles;
use std::path::PathBuf;

/// The certificate files of `authority` (`host[:port]`); none when no directory exists.
pub fn certificate_files(paths: &Paths, authority: &str) -> Result<CertificateFiles, ConfigError> {
    for dir in paths.cert_dirs(authority) {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && paths.cert_dir.is_none() => continue,
            Err(source) => return Err(ConfigError::Io { path: dir, source }),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| ConfigError::Io { path: dir.clone(), source })?;
            files.push(entry.path());
        }
        files.sort();
        return sorted_out(&files);
    }
    Ok(CertificateFiles::default())
}

fn sorted_out(files: &[PathBuf]) -> Result<CertificateFiles, ConfigError> {
    let with = |extension: &'static str| {
        files.iter().filter(move |file| file.extension().is_some_and(|found| found == extension))
    };
    let mut found = CertificateFiles { authorities: with("crt").cloned().collect(), client: None };
    for cert in with("cert") {
        let key = cert.with_extension("key");
        if !files.contains(&key) {
            let reason = format!("its key {} is missing", key.display());
            return Err(ConfigError::Malformed { path: cert.clone(), reason });
        }
        found.client.get_or_insert((cert.clone(), key));
    }
    for key in with("key") {
        if !files.contains(&key.with_extension("cert")) {
            let reason = "there is no .cert file of that name (authorities are .crt)".to_owned();
            return Err(ConfigError::Malformed { path: key.clone(), reason });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_tell_the_roles() {
        let files = ["/c/a.cert", "/c/a.key", "/c/ca.crt", "/c/README"].map(PathBuf::from);
        let found = sorted_out(&files).expect("complete");
        assert_eq!(found.authorities, [PathBuf::from("/c/ca.crt")]);
        assert_eq!(found.client, Some(("/c/a.cert".into(), "/c/a.key".into())));
        for half in [["/c/a.cert"], ["/c/a.key"]] {
            assert!(sorted_out(&half.map(PathBuf::from)).is_err(), "{half:?}");
        }
    }
}
