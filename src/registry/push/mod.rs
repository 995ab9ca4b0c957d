//! Push: from an image in the store to a registry.
//!
//! Owns which bytes of each layer are sent. Must not know how they were made.
//!
//! 1. *The registry has it already*: each blob is asked for first, then taken over from another repository of the same registry
//!    where one is known to have it, and sent only when both fail.
//! 2. *Digests stay*: a layer that came compressed goes as it came while its bytes are here, or at the registry. Then the manifest
//!    is the one that was pulled, byte for byte.
//! 3. *A layer without compressed form* is compressed once; the store remembers it, and the image's names point to the manifest
//!    that lists it from then on.

mod blobs;
mod compress;
mod plan;
mod sources;

use super::Error;
use super::client::{Repository, Session};
use super::pull::Observer;
use crate::image::LayerForm;
use crate::oci::{Descriptor, Digest, MediaType, Platform, Reference};
use crate::store::{ImageRecord, Store};
use blobs::Sending;
use plan::PlannedImage;

/// What is pushed, and how.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The platform to push; this machine's when none is given.
    pub platform: Option<Platform>,
    /// Every platform, with the list of them.
    pub all_platforms: bool,
    /// How layers are compressed; as they are when none is given, and plain ones by gzip.
    pub compression: Option<LayerForm>,
    /// Layers sent at the same time.
    pub parallel: usize,
}

impl Default for PushOptions {
    /// Five layers at a time, as docker does.
    fn default() -> Self {
        Self { platform: None, all_platforms: false, compression: None, parallel: 5 }
    }
}

/// What was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The manifest or index as the registry has it now.
    pub target: Descriptor,
    /// The name it has there.
    pub reference: Reference,
}

/// Pushes the image that `text` names in the store to `destination`.
pub fn push(
    store: &Store,
    session: &Session,
    text: &str,
    destination: &Reference,
    options: &PushOptions,
    observer: &dyn Observer,
) -> Result<Pushed, Error> {
    let destination = destination.clone().or_latest();
    let location = session.push_location(&destination)?;
    let known = sources::known_sources(store, &destination)?;
    let image = store.resolve_for(text, options.platform.as_ref())?;
    let images = if options.all_platforms { plan::all_images(store, &image)? } else { vec![image.clone()] };
    let wanted = sources::repositories(&known, &images);
    let place = session.repository_to_push(&location, &wanted)?;
    let writer = store.session()?;
    observer.found(&destination, images.iter().map(|image| image.layers.len()).sum());
    let sending = Sending { place: &place, session, writer: &writer, known: &known, observer, options };
    let planned = send_images(&sending, &images)?;
    let (target, bytes) = send_manifests(&place, store, &image, &planned, &destination, options)?;
    if target.digest != image.target.digest {
        // A list that was sent otherwise than it is here: names are about to point to it.
        writer.put_verified(&target, &bytes)?;
    }
    remember(&writer, &images, &planned, &image, &target, &destination)?;
    Ok(Pushed { target, reference: destination })
}

/// Sends layers and configurations of all images.
fn send_images(sending: &Sending<'_>, images: &[ImageRecord]) -> Result<Vec<PlannedImage>, Error> {
    let forms = sending.layers(images)?;
    let mut planned = Vec::new();
    for image in images {
        planned.push(PlannedImage::new(sending.writer.store(), image, &forms)?);
    }
    sending.configurations(&planned)?;
    Ok(planned)
}

/// Puts the manifests, the one with the name last. Returns what the name points to, and its bytes.
fn send_manifests(
    place: &Repository,
    store: &Store,
    image: &ImageRecord,
    planned: &[PlannedImage],
    destination: &Reference,
    options: &PushOptions,
) -> Result<(Descriptor, Vec<u8>), Error> {
    let name = destination.tag().map_or_else(|| "latest".to_owned(), str::to_owned);
    let index = options.all_platforms && image.target.digest != image.manifest.digest;
    let last = if index {
        for one in planned {
            place.put_manifest(&one.descriptor.digest.to_string(), one.kind, &one.bytes)?;
        }
        plan::index(store, image, planned)?
    } else {
        let Some(one) = planned.first() else {
            return Ok((image.target.clone(), Vec::new()));
        };
        (one.descriptor.clone(), one.bytes.clone())
    };
    let (descriptor, bytes) = last;
    let kind = MediaType::parse(&descriptor.media_type).unwrap_or(MediaType::OciManifest);
    place.put_manifest(&name, kind, &bytes)?;
    Ok((descriptor, bytes))
}

/// Lets the image's names point to what the registry has now, and notes under which digest that is.
fn remember(
    writer: &crate::store::Session,
    images: &[ImageRecord],
    planned: &[PlannedImage],
    image: &ImageRecord,
    target: &Descriptor,
    destination: &Reference,
) -> Result<(), Error> {
    let changed = images.iter().zip(planned).any(|(image, one)| image.manifest.digest != one.descriptor.digest);
    for one in planned.iter().filter(|_| changed) {
        writer.put_verified(&one.descriptor, &one.bytes)?;
    }
    let by_digest = destination.with_digest(target.digest);
    let one_of_several =
        image.target.digest != image.manifest.digest && planned.len() == 1 && target.digest != image.target.digest;
    // One platform of several was pushed: the name keeps pointing to all of them.
    let target = if one_of_several { &image.target } else { target };
    Ok(writer.retarget(&image.target.digest, target, &by_digest)?)
}

/// The form in which a layer is at the registry.
#[derive(Debug, Clone)]
struct Sent {
    /// The digest of the plain tar.
    diff_id: Digest,
    /// The blob to list in the manifest.
    blob: Descriptor,
}
