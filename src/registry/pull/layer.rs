//! One layer: from the registry through the store's single pass, with what an earlier attempt has left.

use super::WantedLayer;
use super::observer::{LayerEvent, Observer};
use crate::archive::compression;
use crate::image::{Expected, ImageError, LayerProgress, Limits, has_layer, ingest_layer, take_up_layer};
use crate::oci::{Digest, Hasher};
use crate::registry::Error;
use crate::registry::client::{self, BlobReader, BlobSource, Repository, from_io};
use crate::registry::config::Location;
use crate::store::{PartialBlob, Session};
use std::fs::File;
use std::io::{self, Read};

/// Where layers may come from.
#[derive(Debug)]
pub(in crate::registry) struct Places<'a> {
    /// Connections.
    pub session: &'a client::Session,
    /// In the order they are asked. A place is connected to when it is needed.
    pub locations: &'a [Location],
}

/// Makes sure that `layer` is in the store; whether it was fetched. Each place is tried until one has it as it should be.
pub(in crate::registry) fn fetch(
    layer: &WantedLayer,
    places: &Places<'_>,
    session: &Session,
    limits: &Limits,
    observer: &dyn Observer,
) -> Result<bool, Error> {
    let digest = layer.descriptor.digest;
    if has_layer(session, &layer.diff_id, &digest, Some(layer.descriptor.size))? {
        observer.layer(&digest, LayerEvent::AlreadyExists);
        return Ok(false);
    }
    observer.layer(&digest, LayerEvent::Begins(layer.descriptor.size));
    let mut failure = None;
    for location in places.locations {
        let run = |place: Repository| Fetching { layer, place: &place, session, limits, observer }.run();
        match places.session.repository_to_pull(location).and_then(run) {
            Ok(()) => {
                observer.layer(&digest, LayerEvent::Complete);
                return Ok(true);
            }
            Err(error) if !error.is_worth_another_place() => return Err(error),
            Err(error) => {
                log::debug!("{}/{}: {error}", location.registry, location.repository);
                // What the registry itself says counts more than what its mirrors say.
                failure = Some(error);
            }
        }
    }
    let missing = || Error::NotFound { registry: String::new(), what: digest.to_string(), detail: String::new() };
    Err(failure.unwrap_or_else(missing))
}

/// A layer on its way from one place.
struct Fetching<'a> {
    layer: &'a WantedLayer,
    place: &'a Repository,
    session: &'a Session,
    limits: &'a Limits,
    observer: &'a dyn Observer,
}

impl Fetching<'_> {
    fn run(&self) -> Result<(), Error> {
        let digest = self.layer.descriptor.digest;
        match self.attempt()? {
            Outcome::Whole => return Ok(()),
            Outcome::Damaged(error) => log::info!("layer {}: {error}; fetched again", digest.short()),
        }
        // Bytes that were damaged on the way, or left by an attempt that was: once more from the beginning.
        self.observer.layer(&digest, LayerEvent::Restarts);
        match self.attempt()? {
            Outcome::Whole => Ok(()),
            Outcome::Damaged(error) => Err(error),
        }
    }

    /// One pass over the layer, beginning with what is there.
    fn attempt(&self) -> Result<Outcome, Error> {
        let descriptor = &self.layer.descriptor;
        let mut partial = self.session.resume_blob(&descriptor.digest)?;
        let mut input = Input::new(self, partial.as_mut())?;
        let expected = Expected {
            label: Some(format!("layer {}", descriptor.digest.short())),
            blob: Some((descriptor.digest, descriptor.size)),
            diff_id: Some(self.layer.diff_id),
            media_type: Some(descriptor.media_type.clone()),
            ..Expected::default()
        };
        let ingested = match &mut partial {
            Some(partial) => take_up_layer(self.session, &mut input, partial, &expected, self.limits, &Silence),
            None => ingest_layer(self.session, &mut input, &expected, self.limits, &Silence),
        };
        match ingested {
            Ok(_) => {
                partial.map_or(Ok(()), |partial| partial.publish(&descriptor.digest))?;
                Ok(Outcome::Whole)
            }
            Err(error) => self.failed(error, partial),
        }
    }

    /// Sorts out a failed pass: what broke the connection leaves the beginning for the next attempt, what is wrong with the bytes
    /// does not.
    fn failed(&self, error: ImageError, partial: Option<PartialBlob<'_>>) -> Result<Outcome, Error> {
        let error = match error {
            ImageError::Read { what, source } => return Err(from_io(source, &what)),
            error => error,
        };
        let Some(mut partial) = partial else {
            return if error.is_damaged_input() { Ok(Outcome::Damaged(error.into())) } else { Err(error.into()) };
        };
        if is_bomb(&error) || !error.is_damaged_input() {
            partial.discard()?;
            return Err(error.into());
        }
        let mismatch = match &error {
            // Where the blob is right and its content is not what the configuration says, the image is wrong.
            ImageError::Mismatch { source, .. } => source.expected() == &self.layer.descriptor.digest,
            // The inflater or the tar reader stumbled before the end: only the digest tells whether the registry has it like
            // that or something happened on the way.
            _ => !self.is_genuine(&mut partial)?,
        };
        partial.discard()?;
        if mismatch { Ok(Outcome::Damaged(self.mismatch(error))) } else { Err(error.into()) }
    }

    /// Fetches the rest of the blob and compares the digest of the whole.
    fn is_genuine(&self, partial: &mut PartialBlob<'_>) -> Result<bool, Error> {
        let descriptor = &self.layer.descriptor;
        let mut hasher = Hasher::new();
        hash_all(&mut partial.reader()?, &mut hasher).map_err(|error| from_io(error, "a partial layer"))?;
        hash_all(&mut self.source().open(hasher.size()), &mut hasher).map_err(|error| from_io(error, "layer"))?;
        Ok(hasher.finish().0 == descriptor.digest)
    }

    fn mismatch(&self, error: ImageError) -> Error {
        if matches!(error, ImageError::Mismatch { .. }) {
            return error.into();
        }
        let (registry, what) = (self.place.host().name().to_owned(), self.layer.descriptor.digest.short());
        Error::Damaged { registry, what: format!("layer {what}"), source: Box::new(error) }
    }

    fn source(&self) -> BlobSource {
        let descriptor = &self.layer.descriptor;
        BlobSource { repository: self.place.clone(), digest: descriptor.digest, size: descriptor.size }
    }
}

/// How a pass ended that the network let through.
enum Outcome {
    /// Everything is in the store.
    Whole,
    /// The bytes are not those of the digest.
    Damaged(Error),
}

/// The bytes as they come: those that are there, then those of the network.
struct Input<'a> {
    kept: Option<File>,
    network: BlobReader,
    digest: Digest,
    observer: &'a dyn Observer,
}

impl<'a> Input<'a> {
    fn new(fetching: &Fetching<'a>, partial: Option<&mut PartialBlob<'_>>) -> Result<Self, Error> {
        let descriptor = &fetching.layer.descriptor;
        let mut there = 0;
        let mut kept = None;
        if let Some(partial) = partial {
            if partial.size() > descriptor.size {
                partial.restart()?;
            }
            there = partial.size();
            kept = Some(partial).filter(|_| there > 0).map(PartialBlob::reader).transpose()?;
        }
        if there > 0 {
            fetching.observer.layer(&descriptor.digest, LayerEvent::Resumes(there));
        }
        let network = fetching.source().open(there);
        Ok(Self { kept, network, digest: descriptor.digest, observer: fetching.observer })
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.kept {
            let read = file.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.kept = None;
        }
        let read = self.network.read(buffer)?;
        self.observer.layer(&self.digest, LayerEvent::Advanced(read as u64));
        Ok(read)
    }
}

fn hash_all(input: &mut dyn Read, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the layer expands beyond all measure: reading more of it is what it wants.
fn is_bomb(error: &ImageError) -> bool {
    let ImageError::Compression { source, .. } = error else { return false };
    let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<compression::Error>());
    matches!(inner, Some(compression::Error::Expansion { .. }))
}

/// The observer hears of bytes where they arrive, not where they are read.
struct Silence;

impl LayerProgress for Silence {
    fn advance(&self, _bytes: u64) {}
}
