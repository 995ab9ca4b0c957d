//! Access tokens: asking an authorization server for them.

use super::AuthError;
use super::challenge::Bearer;
use crate::registry::http::{Payload, Request, Response, Transport, Url, encode};
use crate::registry::secret::{Credentials, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::time::{Duration, Instant};
use ureq::http::{HeaderValue, Method, header};

/// No token answer is longer.
const ANSWER: u64 = 1 << 20;
/// What a server that names no lifetime means, by the specification.
const LIFETIME: u64 = 60;
/// Tokens are renewed this long before they end, so that none ends on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// How this program introduces itself to OAuth 2 servers.
const CLIENT_ID: &str = "layerfs";

/// An access token and when to ask for another.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// The token.
    pub secret: Secret,
    /// A token for getting further ones, where the server gave one.
    pub refresh: Option<Secret>,
    renew_at: Instant,
}

impl Token {
    /// Whether it may still be used.
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: u64,
    #[serde(default)]
    refresh_token: String,
}

/// Asks the server of `challenge` for a token that covers `scopes`. `offline` asks for a refresh token too.
pub(super) fn fetch(
    transport: &Transport,
    challenge: &Bearer,
    credentials: &Credentials,
    scopes: &[String],
    offline: bool,
) -> Result<Token, AuthError> {
    let realm = Url::parse(&challenge.realm).ok_or_else(|| AuthError::Realm(challenge.realm.clone()))?;
    let answer = match credentials {
        Credentials::IdentityToken(token) => {
            let fields = [("grant_type", "refresh_token"), ("refresh_token", token.expose())];
            post(transport, &realm, challenge, scopes, &fields)?
        }
        _ => get(transport, &realm, challenge, credentials, scopes, offline)?,
    };
    let answer = match (answer.status, credentials) {
        // Some servers know the OAuth 2 way only.
        (404 | 405, Credentials::Basic { username, password }) => {
            let access = if offline { "offline" } else { "online" };
            let fields = [
                ("grant_type", "password"),
                ("access_type", access),
                ("username", username),
                ("password", password.expose()),
            ];
            post(transport, &realm, challenge, scopes, &fields)?
        }
        _ => answer,
    };
    read(&realm, answer)
}

/// The specification's way: parameters in the query, the password as basic authentication.
fn get(
    transport: &Transport,
    realm: &Url,
    challenge: &Bearer,
    credentials: &Credentials,
    scopes: &[String],
    offline: bool,
) -> Result<Response, AuthError> {
    let mut url = realm.clone();
    if let Some(service) = &challenge.service {
        url = url.with_parameter("service", service);
    }
    for scope in scopes {
        url = url.with_parameter("scope", scope);
    }
    if let Credentials::Basic { username, .. } = credentials {
        url = url.with_parameter("account", username);
    }
    if offline {
        url = url.with_parameter("offline_token", "true").with_parameter("client_id", CLIENT_ID);
    }
    let mut request = Request::new(Method::GET, url);
    request.authorization = basic(credentials);
    Ok(transport.send(&request)?)
}

/// The OAuth 2 way: a form.
fn post(
    transport: &Transport,
    realm: &Url,
    challenge: &Bearer,
    scopes: &[String],
    fields: &[(&str, &str)],
) -> Result<Response, AuthError> {
    let scope = scopes.join(" ");
    let own =
        [("client_id", CLIENT_ID), ("service", challenge.service.as_deref().unwrap_or("")), ("scope", scope.as_str())];
    let pairs = own.iter().chain(fields).filter(|(_, value)| !value.is_empty());
    let form: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let form = form.join("&");
    let mut request = Request::new(Method::POST, realm.clone());
    request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request.payload = Payload::Bytes(form.as_bytes());
    Ok(transport.send(&request)?)
}

fn read(realm: &Url, answer: Response) -> Result<Token, AuthError> {
    match answer.status {
        200..=299 => {}
        400 | 401 | 403 => return Err(AuthError::Refused { server: realm.to_string() }),
        status => return Err(AuthError::Server { server: realm.to_string(), reason: format!("answers {status}") }),
    }
    let broken = |reason: &str| AuthError::Server { server: realm.to_string(), reason: reason.into() };
    let bytes = answer.read_up_to(ANSWER).map_err(|failure| broken(&failure.to_string()))?;
    let bytes = bytes.ok_or_else(|| broken("answers more than 1 MiB"))?;
    // serde_json's message could quote a token.
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| broken("answers something else than a token"))?;
    let text = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if text.is_empty() {
        return Err(broken("answers without a token"));
    }
    let lifetime = if answer.expires_in == 0 { LIFETIME } else { answer.expires_in.min(86_400) };
    let lifetime = Duration::from_secs(lifetime);
    let refresh = Some(answer.refresh_token).filter(|text| !text.is_empty()).map(Secret::new);
    let renew_at = Instant::now() + lifetime.saturating_sub(MARGIN.min(lifetime / 2));
    Ok(Token { secret: Secret::new(text), refresh, renew_at })
}

/// The header of basic authentication, marked so that no log shows it.
pub(super) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password } = credentials else { return None };
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose()))))
}

/// The header of a bearer token.
pub(super) fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose()))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
