//! The images that a Dockerfile names: those of the store, pulled when they are missing.

use super::WithHint;
use super::registry_options::{RegistryOptions, hint_of};
use super::transfer::{Direction, Display};
use crate::build::dockerfile::{Diagnostic, nearest};
use crate::build::plan::Images;
use crate::oci::{ImageConfig, Reference};
use crate::registry::Error;
use crate::registry::pull::{Observer, PullOptions, PullPolicy, Silent, ensure_image};
use crate::store::{ImageRecord, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How images are fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulls<'a> {
    pub(super) registry: &'a RegistryOptions,
    /// Also those that are here.
    pub(super) always: bool,
    pub(super) quiet: bool,
}

/// An image that is not to be had.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    pub(super) message: String,
    hints: Vec<String>,
}

impl Pulls<'_> {
    /// The image `reference`, fetched where `policy` says so.
    pub(super) fn resolve(&self, store: &Store, reference: &str, policy: PullPolicy) -> Result<ImageRecord, Missing> {
        // The result may go to standard output.
        let display = Display::new(Direction::Pull, self.quiet).on_stderr();
        let observer: &dyn Observer = if self.quiet { &Silent } else { &display };
        let mut unusable = None;
        let session = || {
            self.registry.session(None).map_err(|error| {
                unusable = Some(format!("{error:#}"));
                Error::Blocked(reference.to_owned())
            })
        };
        let found = ensure_image(store, reference, policy, &PullOptions::default(), session, observer);
        found.map_err(|error| missing(store, reference, policy, &error, unusable))
    }
}

/// What to say of an image that could not be had for `error`, or because the registry's settings are `unusable`.
fn missing(store: &Store, reference: &str, policy: PullPolicy, error: &Error, unusable: Option<String>) -> Missing {
    let told_by = hint_of(error).filter(|_| unusable.is_none());
    let reason = unusable.unwrap_or_else(|| error.to_string());
    if let Error::Store(_) | Error::Reference { .. } = error {
        return Missing { message: reason, hints: vec![told_by.unwrap_or_else(|| LISTED.to_owned())] };
    }
    let message = match policy {
        PullPolicy::Always => format!("{reference} cannot be pulled: {reason}"),
        _ => format!("{reference} is neither a stage nor in the store, and its registry was asked: {reason}"),
    };
    let mut hints: Vec<String> = similar(store, reference).into_iter().chain(told_by).collect();
    if hints.is_empty() {
        hints.push(LISTED.to_owned());
    }
    Missing { message, hints }
}

/// What to do about an image of which nothing else is known.
const LISTED: &str =
    "check the name; `layerfs images` lists what is in the store, `layerfs load` brings images from files";

/// The image of the store whose name differs by a slip of the fingers.
fn similar(store: &Store, reference: &str) -> Option<String> {
    let images = store.images().ok()?;
    let names: Vec<String> = images.iter().flat_map(|image| image.references.iter().map(Reference::familiar)).collect();
    let wanted = reference.parse::<Reference>().ok()?.or_latest().familiar();
    let name = nearest(&wanted, names.iter().map(String::as_str))?;
    Some(format!("did you mean {name}, which is in the store?"))
}

/// The images that a plan asked for, by the names it has for them.
#[derive(Debug)]
pub(super) struct BaseImages<'a> {
    pulls: Pulls<'a>,
    store: &'a Store,
    found: RefCell<BTreeMap<String, ImageRecord>>,
    /// Why the last one that is missing is.
    missing: RefCell<Option<Missing>>,
}

impl<'a> BaseImages<'a> {
    /// Images of `store`, pulled where they are missing; those of `found` are known already.
    pub(super) fn new(pulls: Pulls<'a>, store: &'a Store, found: BTreeMap<String, ImageRecord>) -> Self {
        Self { pulls, store, found: RefCell::new(found), missing: RefCell::default() }
    }

    /// A plan's result, with the advice that goes with the image that was missing.
    pub(super) fn told<T>(&self, planned: Result<T, Diagnostic>) -> anyhow::Result<T> {
        let hints = self.missing.take().map_or_else(Vec::new, |missing| missing.hints);
        hints.into_iter().rev().fold(planned.map_err(Into::into), WithHint::hint)
    }

    /// All that were found.
    pub(super) fn found(self) -> BTreeMap<String, ImageRecord> {
        self.found.into_inner()
    }
}

impl Images for BaseImages<'_> {
    fn config(&self, reference: &str) -> Result<ImageConfig, String> {
        if let Some(known) = self.found.borrow().get(reference) {
            return Ok(known.config.clone());
        }
        let policy = if self.pulls.always { PullPolicy::Always } else { PullPolicy::Missing };
        let image = self.pulls.resolve(self.store, reference, policy).map_err(|missing| {
            let message = missing.message.clone();
            self.missing.replace(Some(missing));
            message
        })?;
        let config = image.config.clone();
        self.found.borrow_mut().insert(reference.to_owned(), image);
        Ok(config)
    }
}
