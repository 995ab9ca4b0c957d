//! Pull: from a reference to an image in the store.
//!
//! Owns the order of things: manifest, configurations, layers, and the reference last. Must not know how layers are read.
//!
//! 1. *The content is not what its name says*: every manifest, configuration and layer is hashed; a layer twice, as it came and as
//!    a plain tar. What does not match leaves nothing behind.
//! 2. *A pull is cut short*: the compressed bytes that have arrived stay ([`crate::store::PartialBlob`]), the rest is asked for by
//!    range, and the whole is hashed from its beginning.
//! 3. *Several sources*: each layer is tried at every mirror before the pull fails.

mod layer;
mod names;
mod observer;
mod plan;
mod policy;

pub(super) use layer::{Places, fetch};
pub use names::candidates;
pub use observer::{LayerEvent, Observer, Silent};
pub use policy::{PullPolicy, ensure_image, pull_first};

use super::Error;
use super::client::Session;
use super::http::TransportError;
use crate::image::Limits;
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::store::Store;
pub(super) use plan::Plan;
use std::sync::Mutex;

/// What is pulled, and how.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The platform wanted; this machine's when none is given.
    pub platform: Option<Platform>,
    /// Every platform of the image.
    pub all_platforms: bool,
    /// Layers fetched at the same time.
    pub parallel: usize,
    /// How large layers may be.
    pub limits: Limits,
}

impl Default for PullOptions {
    /// Three layers at a time, as docker does.
    fn default() -> Self {
        Self { platform: None, all_platforms: false, parallel: 3, limits: Limits::default() }
    }
}

/// What was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The name it has in the store.
    pub reference: Reference,
    /// What the name points to: a manifest, or a list of them by platform.
    pub target: Descriptor,
    /// Whether the name pointed elsewhere, or to nothing, before.
    pub changed: bool,
    /// Layers that were fetched.
    pub fetched: usize,
}

/// Pulls `reference` into the store.
pub fn pull(
    store: &Store,
    session: &Session,
    reference: &Reference,
    options: &PullOptions,
    observer: &dyn Observer,
) -> Result<Pulled, Error> {
    let reference = reference.clone().or_latest();
    let plan = Plan::make(session, &reference, options)?;
    let writer = store.session()?;
    observer.found(&reference, plan.layers.len());
    let fetched = fetch_layers(&plan, &writer, session, options, observer)?;
    for (descriptor, bytes) in &plan.documents {
        writer.put_verified(descriptor, bytes)?;
    }
    let name = stored_name(&reference);
    let changed = store.entry(&name)?.is_none_or(|entry| entry.target.digest != plan.target.digest);
    let by_digest = reference.with_digest(plan.target.digest);
    writer.set_reference_with(Some(&name), &plan.target, &[by_digest])?;
    Ok(Pulled { reference: name, target: plan.target, changed, fetched })
}

/// The name under which `reference` is kept. With a digest the tag does not count, as in docker: nobody has said that the tag
/// still means that digest.
fn stored_name(reference: &Reference) -> Reference {
    reference.digest().map_or_else(|| reference.clone(), |digest| reference.with_digest(*digest))
}

/// Fetches what is missing, several layers at a time, the lowest first; how many were.
fn fetch_layers(
    plan: &Plan,
    writer: &crate::store::Session,
    session: &Session,
    options: &PullOptions,
    observer: &dyn Observer,
) -> Result<usize, Error> {
    let places = Places { session, locations: &plan.places };
    let queue = Mutex::new(plan.layers.iter());
    let outcome = Mutex::new((0, None));
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            let Some(layer) = next else { return };
            if session.cancel().is_cancelled() {
                return;
            }
            let fetched = fetch(layer, &places, writer, &options.limits, observer);
            let mut outcome = outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match fetched {
                Ok(fetched) => outcome.0 += usize::from(fetched),
                Err(error) => {
                    // The first failure is the one to tell; the others only follow from it.
                    outcome.1.get_or_insert(error);
                    session.cancel().cancel();
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.parallel.clamp(1, plan.layers.len().max(1)) {
            scope.spawn(work);
        }
    });
    let (fetched, error) = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match error {
        Some(error) => Err(error),
        // Ended from outside: not every layer is there.
        None if session.cancel().is_cancelled() => Err(TransportError::Cancelled.into()),
        None => Ok(fetched),
    }
}

/// One layer to be there in the end.
#[derive(Debug, Clone)]
pub struct WantedLayer {
    /// The layer as the manifest lists it.
    pub descriptor: Descriptor,
    /// The digest of its plain tar, as the configuration says.
    pub diff_id: Digest,
}
