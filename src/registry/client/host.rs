//! One registry: how it is reached, and authorized requests to it.

use super::answer::refusal;
use crate::registry::Error;
use crate::registry::auth::{AuthError, Authenticator, Challenge};
use crate::registry::http::{Failure, FailureKind, Request, Response, Retry, Scheme, Transport, TransportError, Url};
use crate::registry::secret::Credentials;
use std::sync::Arc;
use ureq::http::{HeaderValue, Method};

/// A registry that has answered.
#[derive(Debug)]
pub struct Host {
    /// Its name as users write it, `host[:port]`.
    name: String,
    base: Url,
    transport: Arc<Transport>,
    authenticator: Authenticator,
}

impl Host {
    /// Finds out how `name` is reached: TLS first; plain HTTP only where it is allowed.
    pub fn connect(transport: Arc<Transport>, name: &str, credentials: Credentials) -> Result<Self, Error> {
        let authority = api_authority(name);
        let authenticator = Authenticator::new(credentials);
        let (base, answer) = ping(&transport, authority)?;
        let host = Self { name: name.to_owned(), base, transport, authenticator };
        host.note_challenge(&answer);
        Ok(host)
    }

    /// Its name as users write it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How requests get there.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Its credentials at work.
    pub fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// The address of a path below `/v2/`.
    pub fn url(&self, path: &str) -> Url {
        self.base.with_path(&format!("/v2/{path}"))
    }

    /// Sends `request` with authorization for `scopes`, once more with a new token when the registry wants one.
    pub fn send(&self, mut request: Request<'_>, scopes: &[String]) -> Result<Response, Error> {
        let mut renewed = false;
        loop {
            request.authorization = self.authorization(&request, scopes)?;
            let response = self.transport.send(&request)?;
            if response.status != 401 || renewed {
                return Ok(response);
            }
            if !self.note_challenge(&response) {
                return Ok(response);
            }
            self.authenticator.refused(scopes, request.authorization.as_ref());
            renewed = true;
        }
    }

    /// As [`Self::send`], but a request that fails is not repeated: the caller knows how to go on.
    pub fn send_once(&self, mut request: Request<'_>, scopes: &[String]) -> Result<Response, Error> {
        let once = Retry { retries: 0, ..self.transport.limits().retry.clone() };
        request.authorization = self.authorization(&request, scopes)?;
        let response = self.transport.send_with(&request, &once)?;
        if self.note_challenge(&response) {
            self.authenticator.refused(scopes, request.authorization.as_ref());
        }
        Ok(response)
    }

    /// As [`Self::send`], and reads the body, at most `limit` bytes of it (`None` when it is longer). A body that breaks off is
    /// fetched again.
    pub fn send_for_bytes(
        &self,
        make: impl Fn() -> Request<'static>,
        scopes: &[String],
        limit: u64,
    ) -> Result<(Parts, Option<Vec<u8>>), Error> {
        let mut attempt = 0;
        loop {
            let response = self.send(make(), scopes)?;
            if response.status >= 400 {
                return Ok((
                    Parts::of(&response),
                    Some(response.read_up_to(64 << 10).ok().flatten().unwrap_or_default()),
                ));
            }
            let parts = Parts::of(&response);
            let failure = match response.read_up_to(limit) {
                Ok(bytes) => return Ok((parts, bytes)),
                Err(failure) => failure,
            };
            let wait = self.transport.limits().retry.wait(attempt, None).filter(|_| failure.is_transient());
            let request = make();
            let Some(wait) = wait else {
                return Err(Error::Interrupted { what: format!("{} {}", request.method, request.url), failure });
            };
            if !self.transport.cancel().sleep(wait) {
                return Err(TransportError::Cancelled.into());
            }
            attempt += 1;
        }
    }

    fn authorization(&self, request: &Request<'_>, scopes: &[String]) -> Result<Option<HeaderValue>, Error> {
        // Credentials go to the registry only; an upload's address may lie elsewhere.
        if !request.url.same_origin(&self.base) {
            return Ok(None);
        }
        self.authenticator.authorization(&self.transport, scopes).map_err(|source| match source {
            AuthError::Refused { .. } if self.authenticator.is_anonymous() => {
                Error::Unauthorized { registry: self.name.clone(), what: what(scopes, &self.name) }
            }
            AuthError::Transport(error @ TransportError::Cancelled) => error.into(),
            source => Error::Auth { registry: self.name.clone(), source },
        })
    }

    /// Remembers what a 401 of the registry asks for; false when it asks for nothing that is understood. What a storage service says to
    /// which it has redirected does not count: the authorization server that it names would be sent the registry's credentials.
    fn note_challenge(&self, response: &Response) -> bool {
        if response.status != 401 || !response.url.same_origin(&self.base) {
            return false;
        }
        let headers = response.headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = Challenge::choose(headers) else { return false };
        self.authenticator.challenged(challenge);
        true
    }

    /// The error that a refusing `response` means for `what`.
    pub fn refused(&self, response: Response, what: &str, push: bool) -> Error {
        let status = response.status;
        // A token was given and does not reach this far: the user is known, and may not.
        let scope = response.header("www-authenticate").is_some_and(|value| value.contains("insufficient_scope"));
        let retry_after = response.retry_after();
        let refusal = refusal(response);
        let (registry, what, detail) = (self.name.clone(), what.to_owned(), refusal.detail);
        let anonymous = self.authenticator.is_anonymous();
        match status {
            401 if anonymous => Error::Unauthorized { registry, what },
            401 if scope || refusal.code == "DENIED" => Error::Denied { registry, what, detail, anonymous, push },
            401 => Error::BadCredentials { registry, what },
            403 => Error::Denied { registry, what, detail, anonymous, push },
            404 => Error::NotFound { registry, what, detail },
            _ => Error::Status { registry, what, status, detail, retry_after },
        }
    }
}

/// Status and headers of an answer whose body has been read.
#[derive(Debug)]
pub struct Parts {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Docker-Content-Digest`.
    pub digest: Option<String>,
}

impl Parts {
    fn of(response: &Response) -> Self {
        let text = |name| response.header(name).map(str::to_owned);
        Self { status: response.status, content_type: text("content-type"), digest: text("docker-content-digest") }
    }
}

/// What scopes are about, for messages: the repository, or nothing.
fn what(scopes: &[String], registry: &str) -> String {
    let repository = scopes.first().and_then(|scope| scope.split(':').nth(1));
    repository.map_or_else(String::new, |repository| format!("{registry}/{repository}"))
}

/// Docker's default registry has its API at another name.
fn api_authority(name: &str) -> &str {
    if matches!(name, "docker.io" | "index.docker.io") { "registry-1.docker.io" } else { name }
}

/// Asks for `/v2/` until something answers as a registry does. Where plain HTTP is allowed, each round tries TLS and then HTTP.
fn ping(transport: &Transport, authority: &str) -> Result<(Url, Response), Error> {
    let once = Retry { retries: 0, ..transport.limits().retry.clone() };
    let mut attempt = 0;
    loop {
        let mut last = None;
        for scheme in [Scheme::Https, Scheme::Http] {
            if scheme == Scheme::Http && !transport.allows_http(authority) {
                break;
            }
            let base = Url::root(scheme, authority);
            let request = Request::new(Method::GET, base.with_path("/v2/"));
            match transport.send_with(&request, &once) {
                Ok(answer) if speaks(scheme, answer.status) => return Ok((base, answer)),
                Ok(answer) => {
                    let wrong = scheme == Scheme::Http && answer.status == 400 && last.is_some();
                    if !wrong {
                        last = Some(not_a_registry(authority, answer));
                    }
                }
                Err(error) if is_final(&error) => return Err(error.into()),
                // What TLS failed with says more than HTTP's failure to the same port, unless it was only not TLS.
                Err(error) if scheme == Scheme::Http && is_refusal(last.as_ref()) => log::debug!("{error}"),
                Err(error) => last = Some(error.into()),
            }
        }
        let Some(error) = last else { return Err(TransportError::Cancelled.into()) };
        let wait = transport.limits().retry.wait(attempt, error.retry_after()).filter(|_| may_pass(&error));
        let Some(wait) = wait else { return Err(error) };
        log::debug!("{error}, again in {wait:?}");
        if !transport.cancel().sleep(wait) {
            return Err(TransportError::Cancelled.into());
        }
        attempt += 1;
    }
}

/// Whether the status is one a registry gives for `/v2/`. A TLS server tells a plain request off with 400.
fn speaks(scheme: Scheme, status: u16) -> bool {
    matches!(status, 200..=299 | 401 | 403 | 404) || (scheme == Scheme::Https && status == 400)
}

fn not_a_registry(authority: &str, answer: Response) -> Error {
    let status = answer.status;
    let retry_after = answer.retry_after();
    let detail = refusal(answer).detail;
    Error::Status { registry: authority.to_owned(), what: "GET /v2/".to_owned(), status, detail, retry_after }
}

/// No other protocol and no further try will help.
fn is_final(error: &TransportError) -> bool {
    match error {
        TransportError::Failed { failure, .. } => failure.kind == FailureKind::Certificate,
        TransportError::Tls(_) | TransportError::Cancelled | TransportError::Redirect { .. } => true,
        TransportError::PlainHttp(_) => false,
    }
}

fn is_refusal(error: Option<&Error>) -> bool {
    let failure = |error: &Error| match error {
        Error::Transport(TransportError::Failed { failure, .. }) => Some(failure.clone()),
        _ => None,
    };
    error.and_then(failure).is_some_and(|failure: Failure| failure.kind != FailureKind::NotTls)
}

fn may_pass(error: &Error) -> bool {
    match error {
        Error::Transport(TransportError::Failed { failure, .. }) => failure.is_transient(),
        Error::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
        _ => false,
    }
}
