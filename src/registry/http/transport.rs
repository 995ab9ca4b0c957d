//! Requests and their answers.

use super::body::Body;
use super::failure::{Failure, FailureKind};
use super::proxy::proxy_for;
use super::retry::{Cancel, Retry, is_transient, retry_after};
use super::tls::{CertificateFiles, TlsError, tls_config};
use super::url::{Scheme, Url, is_loopback};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use ureq::http::{HeaderMap, HeaderValue, Method, header};
use ureq::{Agent, SendBody};

/// Redirects followed for one request; storage services need one or two.
const REDIRECTS: u32 = 5;
/// Name lookup plus connecting plus TLS handshake.
const CONNECT: Duration = Duration::from_secs(20);

/// Time limits and retries.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest a transfer may stand still.
    pub stall: Duration,
    /// The longest a server may take to answer after it has got the whole request (it may be hashing gigabytes).
    pub answer: Duration,
    /// How often and when a failed request is tried again.
    pub retry: Retry,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stall: Duration::from_secs(30), answer: Duration::from_secs(300), retry: Retry::default() }
    }
}

/// What a request carries.
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(&'a [u8]),
    /// `length` bytes of a stream that can be opened again for a further try.
    Stream {
        /// Bytes to send.
        length: u64,
        /// Opens the stream at its beginning.
        open: &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    },
}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length})"),
        }
    }
}

/// A request to one address.
#[derive(Debug)]
pub struct Request<'a> {
    /// GET, HEAD, POST, PATCH, PUT or DELETE.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers besides `Authorization`.
    pub headers: HeaderMap,
    /// The `Authorization` header: sent to this origin only, also after redirects.
    pub authorization: Option<HeaderValue>,
    /// What is sent along.
    pub payload: Payload<'a>,
}

impl Request<'_> {
    /// A request without payload.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), authorization: None, payload: Payload::Empty }
    }
}

/// An answer whose body has not been read yet.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it came from in the end.
    pub url: Url,
    /// The body.
    pub body: Body,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Response {
    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after").and_then(|value| retry_after(value, SystemTime::now()))
    }

    /// The announced length of the body in bytes.
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|value| value.parse().ok())
    }

    /// Reads the body, at most `limit` bytes of it; more is `Ok(None)`.
    pub fn read_up_to(self, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        if self.content_length().is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.body.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Failure::from_io(&error))?;
        Ok(if bytes.len() as u64 > limit { None } else { Some(bytes) })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The last try failed below HTTP.
    #[error("{request}: {failure}{}", tries(*attempts))]
    Failed {
        /// Method and address, without query.
        request: String,
        /// How the last try failed.
        failure: Failure,
        /// Tries made.
        attempts: u32,
    },
    /// Certificates for the host cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Plain HTTP to another machine, without consent.
    #[error("{0} is plain HTTP")]
    PlainHttp(Url),
    /// Redirects without end, or to nowhere.
    #[error("{request}: {reason}")]
    Redirect {
        /// Method and address, without query.
        request: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another part of the transfer failed.
    #[error("cancelled")]
    Cancelled,
}

fn tries(attempts: u32) -> String {
    if attempts > 1 { format!(" ({attempts} tries)") } else { String::new() }
}

/// Finds a host's certificate files and tells whether the user called it insecure.
pub trait Hosts: Send + Sync {
    /// Certificate files for `authority` (`host[:port]`).
    fn certificates(&self, authority: &str) -> Result<CertificateFiles, TlsError>;
    /// Whether plain HTTP to it and TLS without verification are allowed.
    fn is_insecure(&self, authority: &str) -> bool;
}

/// Exchanges requests for answers. Shared by all threads of a transfer.
pub struct Transport {
    hosts: Box<dyn Hosts>,
    limits: Limits,
    cancel: Cancel,
    agents: Mutex<HashMap<(Scheme, String), Agent>>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Transport {
    /// A transport without connections.
    pub fn new(hosts: Box<dyn Hosts>, limits: Limits, cancel: Cancel) -> Self {
        Self { hosts, limits, cancel, agents: Mutex::default() }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The flag that ends everything under way.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Whether plain HTTP to this address is allowed: loopback, or the user's word for the host.
    pub fn allows_http(&self, authority: &str) -> bool {
        is_loopback(super::url::host_of(authority)) || self.hosts.is_insecure(authority)
    }

    /// Sends `request`, again where that may help, and returns the first answer that is not a passing failure. When tries run
    /// out, the last answer is returned as it is.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, TransportError> {
        self.send_with(request, &self.limits.retry)
    }

    /// As [`Self::send`], with other rules for retries.
    pub fn send_with(&self, request: &Request<'_>, retry: &Retry) -> Result<Response, TransportError> {
        let name = format!("{} {}", request.method, request.url);
        let mut attempt = 0;
        loop {
            if self.cancel.is_cancelled() {
                return Err(TransportError::Cancelled);
            }
            let outcome = self.follow(request, &name);
            let asked = match &outcome {
                Ok(response) if is_transient(response.status) => response.retry_after(),
                Err(TransportError::Failed { failure, .. }) if failure.is_transient() => None,
                _ => return outcome,
            };
            let Some(wait) = retry.wait(attempt, asked) else {
                return outcome.map_err(|error| with_attempts(error, attempt + 1));
            };
            match &outcome {
                Ok(response) => log::debug!("{name}: status {}, again in {wait:?}", response.status),
                Err(error) => log::debug!("{error}, again in {wait:?}"),
            }
            drop(outcome);
            if !self.cancel.sleep(wait) {
                return Err(TransportError::Cancelled);
            }
            attempt += 1;
        }
    }

    /// One try: the request and the redirects it meets.
    fn follow(&self, request: &Request<'_>, name: &str) -> Result<Response, TransportError> {
        let mut url = request.url.clone();
        let safe = request.method == Method::GET || request.method == Method::HEAD;
        for _ in 0..=REDIRECTS {
            let response = self.exchange(request, &url, name)?;
            if !safe || !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let refused = |reason| TransportError::Redirect { request: name.to_owned(), reason };
            let location = response.header("location").ok_or_else(|| refused("redirected to nowhere"))?;
            let next = url.join(location).ok_or_else(|| refused("redirected to a malformed address"))?;
            log::debug!("{name}: redirected to {next}");
            url = next;
        }
        Err(TransportError::Redirect { request: name.to_owned(), reason: "redirected too often" })
    }

    /// One request to one address and its answer.
    fn exchange(&self, request: &Request<'_>, url: &Url, name: &str) -> Result<Response, TransportError> {
        if url.scheme() == Scheme::Http && !self.allows_http(url.authority()) {
            return Err(TransportError::PlainHttp(url.clone()));
        }
        let agent = self.agent(url)?;
        let mut builder = ureq::http::Request::builder().method(&request.method).uri(url.to_wire());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(value) = request.authorization.as_ref().filter(|_| url.same_origin(&request.url)) {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        let started = std::time::Instant::now();
        let answer = match self.run(&agent, builder, &request.payload, &request.method) {
            Ok(answer) => answer,
            Err(failure) => return Err(TransportError::Failed { request: name.to_owned(), failure, attempts: 1 }),
        };
        let (parts, body) = answer.into_parts();
        log::debug!("{} {url}: {} after {:?}", request.method, parts.status.as_u16(), started.elapsed());
        let body = Body::new(body.into_with_config().limit(u64::MAX).reader(), self.limits.stall);
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, url: url.clone(), body })
    }

    fn run(
        &self,
        agent: &Agent,
        builder: ureq::http::request::Builder,
        payload: &Payload<'_>,
        method: &Method,
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let malformed = |_| Failure::new(FailureKind::Protocol, "malformed address or header");
        let has_body = *method != Method::GET && *method != Method::HEAD;
        let (bytes, mut stream): (&[u8], _) = match payload {
            Payload::Bytes(bytes) => (bytes, None),
            Payload::Empty => (&[], None),
            Payload::Stream { length, open } => {
                let inner = open().map_err(|error| Failure::new(FailureKind::Protocol, error.to_string()))?;
                (&[], Some(Exactly { inner, left: *length, cancel: self.cancel.clone() }))
            }
        };
        let answer = if let Some(stream) = &mut stream {
            let builder = builder.header(header::CONTENT_LENGTH, stream.left);
            let request = builder.body(SendBody::from_reader(stream)).map_err(malformed)?;
            let request = agent.configure_request(request).timeout_per_read(Some(self.limits.answer)).build();
            agent.run(request)
        } else if has_body {
            agent.run(builder.body(bytes).map_err(malformed)?)
        } else {
            agent.run(builder.body(()).map_err(malformed)?)
        };
        answer.map_err(Failure::from_ureq)
    }

    /// The agent for an address: each host has its own certificates, and its own idle connections.
    fn agent(&self, url: &Url) -> Result<Agent, TransportError> {
        let key = (url.scheme(), url.authority().to_owned());
        let mut agents = self.agents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let mut builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("layerfs/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(self.limits.stall))
            .timeout_per_write(Some(self.limits.stall))
            .timeout_recv_response(Some(self.limits.answer))
            .max_idle_connections_per_host(16)
            .proxy(proxy(url)?);
        if url.scheme() == Scheme::Https {
            let verify = !self.hosts.is_insecure(url.authority());
            builder = builder.tls_config(tls_config(&self.hosts.certificates(url.authority())?, verify)?);
        }
        let agent = builder.build().new_agent();
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

fn with_attempts(error: TransportError, attempts: u32) -> TransportError {
    match error {
        TransportError::Failed { request, failure, .. } => TransportError::Failed { request, failure, attempts },
        other => other,
    }
}

/// The proxy the environment names for `url`. Its address may hold a password, so it is in no message.
fn proxy(url: &Url) -> Result<Option<ureq::Proxy>, TransportError> {
    let Some(address) = proxy_for(url, |name| std::env::var(name).ok()) else { return Ok(None) };
    let proxy = ureq::Proxy::new(&address).map_err(|error| TransportError::Failed {
        request: format!("proxy for {}", url.authority()),
        failure: Failure::from_ureq(error),
        attempts: 1,
    })?;
    Ok(Some(proxy))
}

/// A request body of a known length. A stream that ends early is an error: ureq would wait for the rest for ever.
struct Exactly {
    inner: Box<dyn Read + Send>,
    left: u64,
    cancel: Cancel,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..room) else { return Ok(0) };
        let read = self.inner.read(buffer)?;
        if read == 0 && self.left > 0 && room > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the data to send is shorter than announced"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
