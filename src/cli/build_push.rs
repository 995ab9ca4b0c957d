//! `build --push`: the image goes to the registries of its names.

use super::WithHint;
use super::build_output::Destination;
use super::registry_options::{RegistryOptions, told};
use super::transfer::{Direction, Display};
use crate::oci::{Descriptor, Reference};
use crate::registry::client::Session;
use crate::registry::push::{PushOptions, push};
use crate::store::Store;
use anyhow::anyhow;

/// A session with the registries, where something is to be pushed; what can be said against it is said before the build.
pub(super) fn prepare(
    asked: bool,
    output: Option<&Destination>,
    tags: &[Reference],
    registry: &RegistryOptions,
) -> anyhow::Result<Option<Session>> {
    let pushes = match output {
        Some(Destination::Store { push, .. }) => asked || *push,
        None => asked,
        Some(_) if asked => return Err(anyhow!("--push does not go with this --output")).hint("leave one of them out"),
        Some(_) => false,
    };
    if !pushes {
        return Ok(None);
    }
    if tags.is_empty() {
        return Err(anyhow!("a name is needed to push")).hint("say what it is to be called: -t REGISTRY/NAME:TAG");
    }
    registry.session(None).map(Some)
}

/// Pushes an image of the store by all its names; what the registries have then.
pub(super) fn push_all(
    store: &Store,
    session: &Session,
    tags: &[Reference],
    quiet: bool,
) -> anyhow::Result<Option<Descriptor>> {
    let mut target = None;
    for tag in tags {
        let tag = tag.clone().or_latest();
        let display = Display::new(Direction::Push, quiet).on_stderr();
        display.line(&format!("The push refers to repository [{}]", tag.name()));
        let pushed = push(store, session, &tag.canonical(), &tag, &PushOptions::default(), &display);
        display.finish();
        target = Some(told(pushed)?.target);
    }
    Ok(target)
}
