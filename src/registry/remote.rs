//! Looking at an image at its registry: documents first, single layers when they are asked for.

use super::Error;
use super::client::Session;
use super::pull::{self, Observer, PullOptions, WantedLayer};
use crate::image::Limits;
use crate::oci::{Descriptor, ImageConfig, Manifest, Platform, Reference};
use crate::store;

/// An image at a registry. Nothing of it is in the store yet.
#[derive(Debug)]
pub struct RemoteImage {
    /// Its name.
    pub reference: Reference,
    /// What the name points to: the manifest, or a list of them by platform.
    pub target: Descriptor,
    /// The manifest's media type, digest and size in bytes.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
    /// The platforms on offer, where there are several.
    pub platforms: Vec<Platform>,
    plan: pull::Plan,
}

impl RemoteImage {
    /// Finds the first image that `text` may stand for and that exists; for `platform`, or this machine's.
    pub fn find(session: &Session, text: &str, platform: Option<&Platform>) -> Result<Self, Error> {
        let names =
            pull::candidates(session, text).map_err(|source| Error::Reference { text: text.to_owned(), source })?;
        let mut failure = None;
        for name in names {
            match Self::at(session, &name, platform) {
                Err(error) if error.is_worth_another_place() => {
                    failure.get_or_insert(error);
                }
                outcome => return outcome,
            }
        }
        Err(failure.unwrap_or_else(|| Error::Blocked(text.to_owned())))
    }

    fn at(session: &Session, reference: &Reference, platform: Option<&Platform>) -> Result<Self, Error> {
        let options = PullOptions { platform: platform.cloned(), ..PullOptions::default() };
        let mut plan = pull::Plan::make(session, reference, &options)?;
        let image = plan.images.pop();
        let Some((descriptor, manifest, config)) = image else {
            return Err(Error::Blocked(reference.familiar()));
        };
        let (reference, target) = (reference.clone(), plan.target.clone());
        let platforms = std::mem::take(&mut plan.platforms);
        Ok(Self { reference, target, descriptor, manifest, config, platforms, plan })
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> Vec<WantedLayer> {
        let pairs = self.manifest.layers.iter().zip(&self.config.rootfs.diff_ids);
        pairs.map(|(descriptor, diff_id)| WantedLayer { descriptor: descriptor.clone(), diff_id: *diff_id }).collect()
    }

    /// Brings one layer into the store, where it stays as long as `writer` lives, and longer while nobody prunes.
    pub fn fetch_layer(
        &self,
        session: &Session,
        writer: &store::Session,
        layer: &WantedLayer,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let places = pull::Places { session, locations: &self.plan.places };
        pull::fetch(layer, &places, writer, &Limits::default(), observer).map(drop)
    }
}
