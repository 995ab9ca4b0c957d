//! IMAGE and IMAGE:PATH arguments.

use super::WithHint;
use super::progress::Bars;
use super::registry_options::RegistryOptions;
use super::remote::{self, RemoteLayers};
use crate::image::{open_layers, resolve_or_load};
use crate::mount::image::{View, stack};
use crate::store::{Container, ImageRecord, Store, StoreError, UseLease};
use crate::union::{Layer, Stack};
use anyhow::anyhow;
use std::sync::Arc;

/// What an image that is not in the store begins with.
const PREFIXES: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", remote::PREFIX];

/// An image that is in the store, and stays there as long as this lives.
#[derive(Debug)]
pub(super) struct OpenImage {
    pub(super) record: ImageRecord,
    pub(super) layers: Vec<Arc<dyn Layer>>,
    _lease: UseLease,
}

/// Opens the image that `text` names and holds on to it for `user`, which is what others are told.
pub(super) fn open_image(store: &Store, text: &str, user: &str) -> anyhow::Result<OpenImage> {
    let text = text.strip_prefix(remote::PREFIX).unwrap_or(text);
    let record = resolve_or_load(store, text, None, &Bars::new(false))?;
    hold(store, record, user)
}

/// Opens the image in `IMAGE:PATH`; returns it with its name and the path.
pub(super) fn open_image_path<'a>(
    store: &Store,
    text: &'a str,
    user: &str,
) -> anyhow::Result<(OpenImage, &'a str, &'a str)> {
    let mut failure = None;
    for (name, path) in splits(text) {
        match open_image(store, name, user) {
            Ok(image) => return Ok((image, name, path)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| anyhow!("`{text}` names no image")))
}

fn hold(store: &Store, record: ImageRecord, user: &str) -> anyhow::Result<OpenImage> {
    let lease = store.use_lease(&record, user)?;
    let layers = open_layers(store, &record)?;
    Ok(OpenImage { record, layers, _lease: lease })
}

/// What keeps the layers of a stack where they are.
#[derive(Debug)]
#[expect(dead_code, reason = "only held")]
pub(super) enum Held {
    /// An image of the store.
    Image(Box<OpenImage>),
    /// Layers of an image at a registry.
    Remote(RemoteLayers),
    /// A named writable mount.
    Container(Box<super::changes::Kept>),
}

/// As [`open_path`], of a named writable mount: `NAME:PATH`; none where there is none of that name. While the result lives, no name in it
/// changes.
pub(super) fn open_container_path(store: &Store, text: &str) -> anyhow::Result<Option<(Held, Stack, Vec<u8>)>> {
    let Some((container, path)) = container_path(store, text)? else { return Ok(None) };
    let (stack, kept) = super::changes::open(store, container, true)?.into_shown();
    Ok(Some((Held::Container(Box::new(kept)), stack, path.as_bytes().to_vec())))
}

/// The writable mount that `NAME:PATH` names, and the path.
pub(super) fn container_path<'a>(store: &Store, text: &'a str) -> anyhow::Result<Option<(Container, &'a str)>> {
    for (name, path) in splits(text) {
        match store.container(name) {
            Err(StoreError::NoSuchContainer(_) | StoreError::ContainerName(_)) => {}
            found => return Ok(Some((found?, path))),
        }
    }
    Ok(None)
}

/// The stack of the image in `IMAGE:PATH`, and the path. Without a path it is the root. Of an image at a registry, the layers that
/// are needed for the path are fetched.
pub(super) fn open_path(
    store: &Store,
    text: &str,
    registry: &RegistryOptions,
) -> anyhow::Result<(Held, Stack, Vec<u8>)> {
    let mut failure = None;
    for (name, path) in splits(text) {
        let opened = match name.strip_prefix(remote::PREFIX) {
            Some(name) => remote::open(store, name, path.as_bytes(), registry)
                .map(|remote| (remote.layers.clone(), Held::Remote(remote))),
            None => open_image(store, name, "a look into it")
                .map(|image| (image.layers.clone(), Held::Image(Box::new(image)))),
        };
        match opened {
            Ok((layers, held)) => return Ok((held, stack(layers, View::Merged)?, path.as_bytes().to_vec())),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(found) = open_container_path(store, text)? {
        return Ok(found);
    }
    let failure = Err(failure.unwrap_or_else(|| anyhow!("`{text}` names no image")));
    match text.split_once('/').filter(|(name, _)| !text.contains(':') && open_image(store, name, "a look").is_ok()) {
        Some((name, path)) => failure.hint(format!("did you mean {name}:/{path}?")),
        None => failure,
    }
}

/// The ways to take `IMAGE:PATH` apart, the likeliest first: at `:/`, as an image alone, at the last colon. The colon behind a prefix
/// such as `oci:` is none of these.
fn splits(text: &str) -> Vec<(&str, &str)> {
    let prefix = PREFIXES.iter().find(|prefix| text.starts_with(*prefix)).map_or(0, |prefix| prefix.len());
    let colons = text.match_indices(":/").map(|(at, _)| at).filter(|&at| at >= prefix);
    let mut ways: Vec<_> = colons.filter_map(|at| split_at(text, at)).collect();
    if ways.is_empty() {
        ways.push((text, "/"));
        ways.extend(text.rfind(':').filter(|&at| at >= prefix).and_then(|at| split_at(text, at)));
    }
    ways.retain(|(image, _)| !image.is_empty());
    ways
}

fn split_at(text: &str, colon: usize) -> Option<(&str, &str)> {
    let path = text.get(colon + 1..)?;
    Some((text.get(..colon)?, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_taken_apart_where_a_path_begins() {
        assert_eq!(splits("debian:/etc"), [("debian", "/etc")]);
        assert_eq!(splits("debian:13:/etc/a:/b"), [("debian:13", "/etc/a:/b"), ("debian:13:/etc/a", "/b")]);
        assert_eq!(splits("host:5000/debian:13:/"), [("host:5000/debian:13", "/")]);
        assert_eq!(splits("debian:etc"), [("debian:etc", "/"), ("debian", "etc")]);
        assert_eq!(splits("oci:/dir:/etc"), [("oci:/dir", "/etc")]);
        assert_eq!(splits("docker-archive:a.tar"), [("docker-archive:a.tar", "/")]);
        assert_eq!(splits("docker://host:5000/a:1:/etc"), [("docker://host:5000/a:1", "/etc")]);
        assert_eq!(splits("docker://debian"), [("docker://debian", "/")]);
        assert_eq!(splits("debian"), [("debian", "/")]);
        assert_eq!(splits("debian:"), [("debian:", "/"), ("debian", "/")]);
    }
}
