//! Login and logout: credentials are proved at the registry before they are kept.

use super::Error;
use super::client::{Host, Session};
use super::config::{AuthFiles, Stored};
use super::http::Request;
use super::secret::{Credentials, Secret};
use ureq::http::Method;

/// Docker's default registry.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The registry's name in what a user may write: a name, `https://name/v1/`, nothing.
pub fn registry_name(text: &str) -> String {
    let name = text.trim().trim_start_matches("https://").trim_start_matches("http://");
    let name = name.split('/').next().unwrap_or("").to_ascii_lowercase();
    match name.as_str() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        _ => name,
    }
}

/// Proves `username` and `password` at `registry` and keeps them, or the identity token the registry gives in exchange.
pub fn log_in(session: &Session, registry: &str, username: &str, password: Secret) -> Result<Stored, Error> {
    let basic = Credentials::Basic { username: username.to_owned(), password };
    let host = session.connect(registry, basic.clone())?;
    let token = host.authenticator().log_in(host.transport());
    let token = token.map_err(|source| Error::Auth { registry: registry.to_owned(), source })?;
    prove(&host)?;
    let keep = token.map_or(basic, Credentials::IdentityToken);
    Ok(AuthFiles::new(session.settings().paths.clone()).store(registry, username, &keep)?)
}

/// Forgets the credentials of `registry`; false when there were none.
pub fn log_out(session: &Session, registry: &str) -> Result<bool, Error> {
    Ok(AuthFiles::new(session.settings().paths.clone()).remove(registry)?)
}

/// The user who is logged in at `registry`, where that is known by name.
pub fn logged_in(session: &Session, registry: &str) -> Result<Option<String>, Error> {
    match AuthFiles::new(session.settings().paths.clone()).find(registry, "")? {
        Credentials::Basic { username, .. } => Ok(Some(username)),
        Credentials::IdentityToken(_) | Credentials::RegistryToken(_) => Ok(Some("<token>".to_owned())),
        Credentials::Anonymous => Ok(None),
    }
}

/// Asks for `/v2/`, which needs an account and nothing else.
fn prove(host: &Host) -> Result<(), Error> {
    let response = host.send(Request::new(Method::GET, host.url("")), &[])?;
    match response.status {
        // Mirrors and static servers have nothing at `/v2/`, and did not ask who we are either.
        200..=299 | 404 => Ok(()),
        _ => Err(host.refused(response, "", false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_in_many_ways() {
        for (text, name) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("Reg.Example:5000", "reg.example:5000"),
            ("http://localhost:5000/v2/", "localhost:5000"),
        ] {
            assert_eq!(registry_name(text), name, "{text}");
        }
    }
}
