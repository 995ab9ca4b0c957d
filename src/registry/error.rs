//! What can go wrong between here and a registry, and what to do about it.

use super::auth::AuthError;
use super::config::ConfigError;
use super::http::{Failure, FailureKind, TransportError};
use crate::image::ImageError;
use crate::oci::{Digest, InvalidConfig, InvalidDocument, InvalidReference};
use crate::store::StoreError;
use std::time::Duration;

/// Why something with a registry failed. No variant holds a secret: addresses stand without query, answers are cut.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exchange failed below HTTP.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No token to be had.
    #[error("cannot log in to {registry}: {source}")]
    Auth {
        /// The registry.
        registry: String,
        /// The cause.
        source: AuthError,
    },
    /// The registry wants to know who asks.
    #[error("unauthorized: {registry} requires authentication{}", for_what(what))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The repository; nothing for the registry itself.
        what: String,
    },
    /// The registry does not take the credentials.
    #[error("unauthorized: {registry} does not accept the credentials{}", for_what(what))]
    BadCredentials {
        /// The registry.
        registry: String,
        /// The repository; nothing for the registry itself.
        what: String,
    },
    /// The user may not do this.
    #[error("denied: requested access to {what} is denied{detail}")]
    Denied {
        /// The registry.
        registry: String,
        /// The repository.
        what: String,
        /// What the registry says, or nothing.
        detail: String,
        /// Whether nobody was logged in.
        anonymous: bool,
        /// Whether it was a push.
        push: bool,
    },
    /// The registry has no such thing.
    #[error("{what} not found at {registry}{detail}")]
    NotFound {
        /// The registry.
        registry: String,
        /// The reference or blob.
        what: String,
        /// What the registry says, or nothing.
        detail: String,
    },
    /// An answer that was not expected.
    #[error("{what}: {registry} answers {status}{detail}")]
    Status {
        /// The registry.
        registry: String,
        /// What was tried.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says, or nothing.
        detail: String,
        /// How long the registry wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// A transfer that was interrupted too often.
    #[error("{what}: {failure}")]
    Interrupted {
        /// What was transferred.
        what: String,
        /// How it ended the last time.
        failure: Failure,
    },
    /// Something is larger than it may be.
    #[error("{what} at {registry} is larger than {limit} bytes")]
    TooLarge {
        /// The registry.
        registry: String,
        /// The document.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content is not what its name says.
    #[error("{what} from {registry} has the digest {actual}, expected {expected}")]
    DigestMismatch {
        /// The registry.
        registry: String,
        /// The document.
        what: String,
        /// What the name or the registry says.
        expected: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// The answer does not follow the protocol.
    #[error("{what}: {registry} does not follow the registry protocol: {reason}")]
    Protocol {
        /// The registry.
        registry: String,
        /// What was tried.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A manifest or index that cannot be used.
    #[error("{what}: {source}")]
    Document {
        /// Which one.
        what: String,
        /// The cause.
        source: InvalidDocument,
    },
    /// An index without the wanted platform.
    #[error("no image for platform {wanted} in {what} (there are: {offered})")]
    NoPlatform {
        /// The reference.
        what: String,
        /// The platform.
        wanted: String,
        /// What the index offers.
        offered: String,
    },
    /// A list of images by platform that is not complete here.
    #[error("{what} cannot be pushed for all platforms: the image for {platform} is not in the store")]
    PlatformMissing {
        /// The image.
        what: String,
        /// The platform.
        platform: String,
    },
    /// A configuration that cannot be used.
    #[error("{what}: {source}")]
    Configuration {
        /// The reference.
        what: String,
        /// The cause.
        source: InvalidConfig,
    },
    /// A layer whose bytes were damaged, each time it was fetched.
    #[error("{what} from {registry} is not what its digest says: {source}")]
    Damaged {
        /// The registry.
        registry: String,
        /// The layer.
        what: String,
        /// What was noticed first.
        source: Box<ImageError>,
    },
    /// A name that is no reference.
    #[error("{text:?}: {source}")]
    Reference {
        /// The name.
        text: String,
        /// The cause.
        source: InvalidReference,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer cannot be kept or read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// registries.conf forbids it.
    #[error("{0} is blocked by registries.conf")]
    Blocked(String),
}

impl Error {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { registry, .. } | Self::Denied { registry, anonymous: true, .. } => {
                Some(format!("log in first: layerfs login {registry}"))
            }
            Self::BadCredentials { registry, .. } => Some(format!("log in again: layerfs login {registry}")),
            Self::Auth { registry, source } => match source {
                AuthError::Refused { .. } => Some(format!("log in again: layerfs login {registry}")),
                AuthError::Transport(error) => transport_hint(error),
                AuthError::Server { .. } | AuthError::Realm(_) => None,
            },
            Self::Denied { registry, push: true, .. } => Some(format!(
                "give the image a name you may push to: layerfs tag IMAGE {registry}/YOUR-NAME/REPOSITORY"
            )),
            Self::Denied { registry, .. } => Some(format!("log in as someone who may: layerfs login {registry}")),
            Self::PlatformMissing { what, .. } => {
                Some(format!("fetch them all first: layerfs pull --all-platforms {what}"))
            }
            Self::Document { source: InvalidDocument::NotAnImage { .. }, .. } => {
                Some("charts, signatures and other artifacts are for the tools that made them".into())
            }
            Self::NoPlatform { .. } => Some("choose one with --platform".into()),
            Self::TooLarge { .. } => {
                Some("an honest manifest that large is taken with: layerfs pull --limit manifest=BYTES".into())
            }
            Self::NotFound { registry, .. } => {
                Some(format!("check the name and the tag; what is private needs: layerfs login {registry}"))
            }
            Self::Transport(error) => transport_hint(error),
            _ => None,
        }
    }

    /// How long the registry wants to be left alone before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether another mirror may do better. A refused configuration is the same everywhere.
    pub fn is_worth_another_place(&self) -> bool {
        !matches!(
            self,
            Self::Config(_) | Self::NoPlatform { .. } | Self::Store(_) | Self::Transport(TransportError::Cancelled)
        )
    }
}

/// ` for NAME`, or nothing.
fn for_what(what: &str) -> String {
    if what.is_empty() { String::new() } else { format!(" for {what}") }
}

fn transport_hint(error: &TransportError) -> Option<String> {
    match error {
        TransportError::PlainHttp(_) => Some(
            "if you trust the network, allow it with --tls-verify=false or `insecure = true` in registries.conf".into(),
        ),
        TransportError::Failed { failure, .. } if failure.kind == FailureKind::Certificate => Some(
            "put the authority's certificate into /etc/containers/certs.d/HOST:PORT/ca.crt, or skip the check with \
             --tls-verify=false"
                .into(),
        ),
        TransportError::Failed { failure, .. } if failure.kind == FailureKind::NotTls => {
            Some("if the registry is plain HTTP and you trust the network, allow it with --tls-verify=false".into())
        }
        TransportError::Failed { .. } => Some(
            "check the name, of which the registry is the first part (docker.io where there is none), and the network"
                .into(),
        ),
        _ => None,
    }
}
