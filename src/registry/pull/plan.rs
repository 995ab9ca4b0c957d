//! What a reference consists of: documents and layers, and where they are.

use super::{PullOptions, WantedLayer};
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Manifest, ManifestKind, MediaType, Platform, Reference};
use crate::registry::Error;
use crate::registry::client::{BlobSource, RawManifest, Repository, Session};
use crate::registry::config::Location;
use std::collections::HashSet;

/// Everything that makes an image, known before any layer is fetched.
#[derive(Debug)]
pub(in crate::registry) struct Plan {
    /// Where it was found, and then the places that may have its blobs as well.
    pub places: Vec<Location>,
    /// What the reference points to.
    pub target: Descriptor,
    /// Index, manifests and configurations.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// The layers, each once, the lowest first.
    pub layers: Vec<WantedLayer>,
    /// The platforms on offer, where there are several.
    pub(in crate::registry) platforms: Vec<Platform>,
    /// The images, by platform where there are several.
    pub images: Vec<(Descriptor, Manifest, ImageConfig)>,
}

impl Plan {
    /// Asks each place that `reference` may come from until one answers.
    pub(in crate::registry) fn make(
        session: &Session,
        reference: &Reference,
        options: &PullOptions,
    ) -> Result<Self, Error> {
        let locations = session.pull_locations(reference)?;
        let mut failure = None;
        for (at, location) in locations.iter().enumerate() {
            let made = session.repository_to_pull(location).and_then(|place| Self::make_at(&place, reference, options));
            match made {
                Ok(mut plan) => {
                    plan.places = locations.into_iter().skip(at).collect();
                    return Ok(plan);
                }
                Err(error) if !error.is_worth_another_place() => return Err(error),
                Err(error) => {
                    log::debug!("{}/{}: {error}", location.registry, location.repository);
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::Blocked(reference.familiar())))
    }

    fn make_at(place: &Repository, reference: &Reference, options: &PullOptions) -> Result<Self, Error> {
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let raw = place.manifest(&name, options.limits.manifest)?;
        let what = reference.familiar();
        let mut making = Making { place, what: &what, options, documents: Vec::new(), images: Vec::new() };
        let mut platforms = Vec::new();
        let target = match raw.parse(&what)? {
            ManifestKind::Image(manifest) => {
                let target = describe(manifest.kind(), &raw);
                making.image(manifest, &raw, options.platform.as_ref())?;
                target
            }
            ManifestKind::Index(index) => {
                let kind = index.media_type.as_deref().and_then(|text| MediaType::parse(text).ok());
                let target = describe(kind.unwrap_or(MediaType::OciIndex), &raw);
                making.documents.push((target.clone(), raw.bytes));
                platforms = making.index(&index)?;
                target
            }
        };
        let Making { documents, images, .. } = making;
        Ok(Self { places: Vec::new(), target, layers: wanted(&images), documents, platforms, images })
    }
}

/// Documents that have been gathered so far.
struct Making<'a> {
    place: &'a Repository,
    what: &'a str,
    options: &'a PullOptions,
    documents: Vec<(Descriptor, Vec<u8>)>,
    images: Vec<(Descriptor, Manifest, ImageConfig)>,
}

impl Making<'_> {
    /// Takes the images of an index that are wanted; returns the platforms that it is known to have.
    fn index(&mut self, index: &Index) -> Result<Vec<Platform>, Error> {
        let host = Platform::host();
        let wanted = self.options.platform.as_ref().unwrap_or(&host);
        let mut filled = index.clone();
        let chosen: Vec<&Descriptor> = if self.options.all_platforms {
            filled = self.flattened(index, None)?;
            filled.manifests.iter().filter(|entry| entry.is_image()).collect()
        } else {
            // What cannot be read is no reason not to take what is there by its own word.
            if filled.select(wanted).is_none() {
                filled = self.flattened(index, Some(wanted))?;
            }
            if filled.select(wanted).is_none() {
                filled.fill_in_platforms(|entry| self.configured_platform(entry))?;
            }
            filled.select(wanted).into_iter().collect()
        };
        if chosen.is_empty() {
            let offered: Vec<String> = filled.platforms().iter().map(Platform::to_string).collect();
            let (what, wanted) = (self.what.to_owned(), wanted.to_string());
            return Err(Error::NoPlatform { what, wanted, offered: offered.join(", ") });
        }
        for entry in chosen {
            let raw = self.manifest(entry)?;
            let ManifestKind::Image(manifest) = raw.parse(self.what)? else {
                let registry = self.place.host().name().to_owned();
                let reason = format!("{} is listed as an image and is an index", entry.digest);
                return Err(Error::Protocol { registry, what: self.what.to_owned(), reason });
            };
            self.image(manifest, &raw, None)?;
        }
        Ok(filled.platforms())
    }

    /// The index with what is in the indexes in it. Those that were read are kept: the store finds the images through them.
    fn flattened(&mut self, index: &Index, wanted: Option<&Platform>) -> Result<Index, Error> {
        index.flattened(wanted, |entry, nesting| {
            nesting.check().map_err(|source| Error::Document { what: self.what.to_owned(), source })?;
            let raw = match self.manifest(entry) {
                // As with images: what is not there is no reason not to take another that is.
                Err(Error::NotFound { .. }) if wanted.is_some() => return Ok(None),
                other => other?,
            };
            let ManifestKind::Index(inner) = raw.parse(self.what)? else { return Ok(None) };
            let kind = entry.kind().unwrap_or(MediaType::OciIndex);
            self.documents.push((describe(kind, &raw), raw.bytes));
            Ok(Some(inner))
        })
    }

    fn manifest(&self, entry: &Descriptor) -> Result<RawManifest, Error> {
        if let Some(bytes) = entry.embedded() {
            return Ok(RawManifest { media_type: Some(entry.media_type.clone()), digest: entry.digest, bytes });
        }
        self.place.manifest(&entry.digest.to_string(), self.options.limits.manifest)
    }

    /// The platform that the configuration of the image `entry` names; none for an artifact, and for what is not there.
    fn configured_platform(&self, entry: &Descriptor) -> Result<Option<Platform>, Error> {
        match self.read_platform(entry) {
            Err(Error::NotFound { .. }) => Ok(None),
            other => other,
        }
    }

    fn read_platform(&self, entry: &Descriptor) -> Result<Option<Platform>, Error> {
        let raw = self.manifest(entry)?;
        let Ok(ManifestKind::Image(manifest)) = raw.parse(self.what) else { return Ok(None) };
        let bytes = self.configuration(&manifest.config)?;
        Ok(ImageConfig::parse(&bytes).ok().map(|config| config.platform()))
    }

    /// The bytes of a configuration.
    fn configuration(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        if let Some(bytes) = descriptor.embedded() {
            return Ok(bytes);
        }
        let Descriptor { digest, size, .. } = *descriptor;
        BlobSource { repository: self.place.clone(), digest, size }.fetch(self.options.limits.manifest)
    }

    /// Takes one image: its manifest and configuration. `platform` is what it must run on.
    fn image(&mut self, manifest: Manifest, raw: &RawManifest, platform: Option<&Platform>) -> Result<(), Error> {
        let descriptor = manifest.config.clone();
        let bytes = self.configuration(&descriptor)?;
        let config = ImageConfig::parse(&bytes)
            .and_then(|config| config.check_layers(manifest.layers.len()).map(|()| config))
            .map_err(|source| Error::Configuration { what: self.what.to_owned(), source })?;
        let offered = config.platform();
        if let Some(wanted) = platform.filter(|wanted| wanted.distance_to(&offered).is_none()) {
            let (what, wanted) = (self.what.to_owned(), wanted.to_string());
            return Err(Error::NoPlatform { what, wanted, offered: offered.to_string() });
        }
        let own = describe(manifest.kind(), raw);
        self.documents.push((own.clone(), raw.bytes.clone()));
        self.documents.push((descriptor, bytes));
        self.images.push((own, manifest, config));
        Ok(())
    }
}

fn describe(kind: MediaType, raw: &RawManifest) -> Descriptor {
    Descriptor::new(kind, raw.digest, raw.bytes.len() as u64)
}

/// The layers of all images, each once. A blob that is called two layers is looked at twice: one of the names is wrong.
fn wanted(images: &[(Descriptor, Manifest, ImageConfig)]) -> Vec<WantedLayer> {
    let mut seen: HashSet<(Digest, Digest)> = HashSet::new();
    let pairs = images.iter().flat_map(|(_, manifest, config)| manifest.layers.iter().zip(&config.rootfs.diff_ids));
    let layers = pairs.map(|(descriptor, diff_id)| WantedLayer { descriptor: descriptor.clone(), diff_id: *diff_id });
    layers.filter(|layer| seen.insert((layer.descriptor.digest, layer.diff_id))).collect()
}
