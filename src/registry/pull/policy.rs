//! `--pull=missing|always|never`: an image that a command needs is fetched first.

use super::{Observer, PullOptions, candidates, pull};
use crate::registry::Error;
use crate::registry::client::Session;
use crate::store::{ImageRecord, Store, StoreError};

/// When an image that a command names is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When it is not in the store.
    #[default]
    Missing,
    /// Every time; what is there already is not fetched again.
    Always,
    /// Never.
    Never,
}

/// The image that `text` names, pulled first where `policy` says so. `session` is made only when the network is needed.
pub fn ensure_image(
    store: &Store,
    text: &str,
    policy: PullPolicy,
    options: &PullOptions,
    session: impl FnOnce() -> Result<Session, Error>,
    observer: &dyn Observer,
) -> Result<ImageRecord, Error> {
    let platform = options.platform.as_ref();
    if policy != PullPolicy::Always {
        match store.resolve_for(text, platform) {
            Err(StoreError::NoSuchImage(_) | StoreError::NoPlatform { .. }) if policy == PullPolicy::Missing => {}
            found => return Ok(found?),
        }
    }
    // An ID names what is here, never something at a registry.
    if policy == PullPolicy::Always && text.parse::<crate::oci::Reference>().is_err() {
        return Ok(store.resolve_for(text, platform)?);
    }
    pull_first(store, &session()?, text, options, observer)
}

/// Pulls the first image that `text` may stand for and that exists.
pub fn pull_first(
    store: &Store,
    session: &Session,
    text: &str,
    options: &PullOptions,
    observer: &dyn Observer,
) -> Result<ImageRecord, Error> {
    let names = candidates(session, text).map_err(|source| Error::Reference { text: text.to_owned(), source })?;
    let mut failure = None;
    for name in names {
        match pull(store, session, &name, options, observer) {
            Ok(pulled) => return Ok(store.image(&pulled.target, options.platform.as_ref())?),
            Err(error) if !error.is_worth_another_place() => return Err(error),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.unwrap_or_else(|| Error::Blocked(text.to_owned())))
}
