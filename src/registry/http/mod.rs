//! HTTP as registries need it: one exchange at a time, with retries, redirects and bounded waits.
//!
//! Owns addresses, TLS, proxies, time limits and retries. Must not know registries: what a status means is decided above.
//!
//! 1. *A redirect leads to another host* (blobs are served by storage services): the credentials stay behind. [`Transport`]
//!    follows redirects itself and drops `Authorization` when the origin changes.
//! 2. *A server stalls, or drips*: every read and write has a time limit, as have name lookup and connecting, and a body must
//!    come at some pace ([`Body`]); nothing waits for ever.
//! 3. *A server is overloaded*: 429, 503 and their like are tried again after the time it asks for, within bounds.
//! 4. *Plain HTTP*: only to loopback or a host the user has called insecure, for redirects and token servers as well.

mod body;
mod failure;
mod proxy;
mod retry;
mod tls;
mod transport;
mod url;

pub use body::Body;
pub use failure::{Failure, FailureKind};
pub use retry::{Cancel, Retry};
pub use tls::{CertificateFiles, TlsError};
pub use transport::{Hosts, Limits, Payload, Request, Response, Transport, TransportError};
pub use url::{Scheme, Url, encode, host_of, is_loopback};
