//! Registries: transport, authentication, pull, push.
//!
//! Must not know the union.
//!
//! | part | owns |
//! |---|---|
//! | [`http`] | one exchange with a server: TLS, proxies, redirects, retries, time limits |
//! | [`auth`] | challenges, tokens |
//! | [`config`] | docker's and podman's files: credentials, certificates, `registries.conf` |
//! | [`client`] | the distribution protocol: manifests, blobs, uploads |
//! | [`pull`] | from a reference to an image in the store |
//! | [`push`] | from an image in the store to a registry |
//! | [`remote`] | an image at its registry, layer by layer |
//! | [`login`] | proving credentials and keeping them |

pub mod auth;
pub mod client;
pub mod config;
pub mod http;
pub mod pull;
pub mod push;
pub mod remote;
pub mod secret;

pub mod login;

mod error;

pub use error::Error;
