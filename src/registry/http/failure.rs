//! Why an exchange with a server failed below HTTP.

use std::io;

/// The kinds of failure that are treated differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The server's certificate is not trusted, or ours is not taken. Trying again does not help.
    Certificate,
    /// What answered does not speak TLS.
    NotTls,
    /// The name is unknown. Whoever mistypes it must not wait for retries.
    NoSuchHost,
    /// Nobody listens.
    Unreachable,
    /// Nothing moved for too long.
    Stalled,
    /// The connection ended in the middle.
    Interrupted,
    /// What arrived is not HTTP, or an address is malformed.
    Protocol,
}

/// A failure and what to say of it. Never holds a secret: addresses and headers are left out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    message: String,
}

impl Failure {
    /// A failure of `kind` with the text to show.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, FailureKind::Unreachable | FailureKind::Stalled | FailureKind::Interrupted)
    }

    /// What ureq's error means.
    pub fn from_ureq(error: ureq::Error) -> Self {
        use FailureKind as Kind;
        match error {
            ureq::Error::Io(error) => Self::from_io(&error),
            ureq::Error::Rustls(error) => Self::from_rustls(&error),
            ureq::Error::Timeout(phase) => Self::from_timeout(phase),
            ureq::Error::HostNotFound => Self::new(Kind::NoSuchHost, "no such host"),
            ureq::Error::ConnectionFailed => Self::new(Kind::Unreachable, "connection failed"),
            ureq::Error::ConnectProxyFailed(_) => Self::new(Kind::Unreachable, "the proxy refuses to connect"),
            ureq::Error::InvalidProxyUrl => Self::new(Kind::Protocol, "the proxy's address is malformed"),
            ureq::Error::LargeResponseHeader(..) => Self::new(Kind::Protocol, "the answer's headers are too large"),
            ureq::Error::Tls(reason) => Self::new(Kind::Protocol, reason),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Self::new(Kind::Protocol, "malformed address or header"),
            ureq::Error::Protocol(error) => Self::new(Kind::Protocol, format!("not HTTP: {error}")),
            ureq::Error::BodyStalled => Self::new(Kind::Interrupted, "the connection ended early"),
            _ => Self::new(Kind::Protocol, "the exchange failed"),
        }
    }

    /// What an error while reading or writing means; looks for a failure, ureq's and rustls's errors inside.
    pub fn from_io(error: &io::Error) -> Self {
        use FailureKind as Kind;
        if let Some(inner) = error.get_ref() {
            if let Some(failure) = inner.downcast_ref::<Self>() {
                return failure.clone();
            }
            if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                return Self::from_rustls(tls);
            }
            if let Some(ureq::Error::Timeout(phase)) = inner.downcast_ref::<ureq::Error>() {
                return Self::from_timeout(*phase);
            }
        }
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::new(Kind::Stalled, "no data for too long"),
            io::ErrorKind::UnexpectedEof => Self::new(Kind::Interrupted, "the connection ended early"),
            io::ErrorKind::ConnectionRefused => Self::new(Kind::Unreachable, "connection refused"),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::new(Kind::Interrupted, "connection reset")
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                Self::new(Kind::Unreachable, error.kind().to_string())
            }
            _ if error.to_string().contains("lookup address") => Self::new(Kind::NoSuchHost, "no such host"),
            _ if error.raw_os_error().is_some() => Self::new(Kind::Interrupted, error.to_string()),
            _ => Self::new(Kind::Protocol, error.to_string()),
        }
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        use FailureKind as Kind;
        let kind = match error {
            rustls::Error::InvalidMessage(_) => Kind::NotTls,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Kind::Certificate,
            rustls::Error::AlertReceived(alert) if !is_close(*alert) => Kind::Certificate,
            rustls::Error::AlertReceived(_) => Kind::Interrupted,
            _ => Kind::Protocol,
        };
        let text = match kind {
            Kind::NotTls => "the server does not speak TLS".to_owned(),
            _ => error.to_string(),
        };
        Self::new(kind, text)
    }

    fn from_timeout(phase: ureq::Timeout) -> Self {
        match phase {
            ureq::Timeout::Connect | ureq::Timeout::Resolve => {
                Self::new(FailureKind::Unreachable, "no answer to the attempt to connect")
            }
            _ => Self::new(FailureKind::Stalled, "no data for too long"),
        }
    }
}

fn is_close(alert: rustls::AlertDescription) -> bool {
    matches!(alert, rustls::AlertDescription::CloseNotify | rustls::AlertDescription::InternalError)
}
