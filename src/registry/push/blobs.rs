//! Bringing blobs to the registry: asked for, taken over, or sent.

use super::compress::{compress, is_here, known_form, open_at};
use super::plan::PlannedImage;
use super::{PushOptions, Sent};
use crate::image::LayerForm;
use crate::oci::{Descriptor, Digest, LayerCompression};
use crate::registry::Error;
use crate::registry::client::{self, Mount, Repository, Upload};
use crate::registry::http::TransportError;
use crate::registry::pull::{LayerEvent, Observer};
use crate::store::{ImageRecord, LayerRecord, Session};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// What all threads of a push share.
pub(super) struct Sending<'a> {
    pub(super) place: &'a Repository,
    pub(super) session: &'a client::Session,
    pub(super) writer: &'a Session,
    pub(super) known: &'a HashMap<Digest, String>,
    pub(super) observer: &'a dyn Observer,
    pub(super) options: &'a PushOptions,
}

impl Sending<'_> {
    /// Brings every layer of `images` to the registry, several at a time; the form each has there, by diffID.
    pub(super) fn layers(&self, images: &[ImageRecord]) -> Result<HashMap<Digest, Sent>, Error> {
        let mut seen = HashSet::new();
        let all = images.iter().flat_map(|image| &image.layers);
        let layers: Vec<&LayerRecord> = all.filter(|layer| seen.insert(layer.diff_id)).collect();
        let queue = Mutex::new(layers.iter());
        let outcome = Mutex::new((HashMap::new(), None));
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(layer) = next.filter(|_| !self.session.cancel().is_cancelled()) else { return };
                let sent = self.layer(layer);
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                match sent {
                    Ok(form) => {
                        outcome.0.insert(layer.diff_id, form);
                    }
                    Err(error) => {
                        // The first failure is the one to tell; the others only follow from it.
                        outcome.1.get_or_insert(error);
                        self.session.cancel().cancel();
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.options.parallel.clamp(1, layers.len().max(1)) {
                scope.spawn(work);
            }
        });
        let (forms, error) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => Err(error),
            // Ended from outside: not every layer is there.
            None if self.session.cancel().is_cancelled() => Err(TransportError::Cancelled.into()),
            None => Ok(forms),
        }
    }

    /// Brings one layer to the registry.
    fn layer(&self, layer: &LayerRecord) -> Result<Sent, Error> {
        let known = known_form(self.writer, layer, self.options.compression)?;
        if let Some(blob) = known {
            let form = Sent { diff_id: layer.diff_id, blob };
            if self.blob(&form)? {
                return Ok(form);
            }
        }
        let how = self.options.compression.unwrap_or(LayerForm::new(LayerCompression::Gzip));
        self.observer.layer(&layer.diff_id, LayerEvent::Compressing);
        let blob = compress(self.writer, layer, how, self.session.cancel())?;
        let form = Sent { diff_id: layer.diff_id, blob };
        self.blob(&form)?;
        Ok(form)
    }

    /// Brings the blob of a layer to the registry; false when neither the registry nor the store has it.
    fn blob(&self, form: &Sent) -> Result<bool, Error> {
        let (blob, event) = (&form.blob, |event| self.observer.layer(&form.diff_id, event));
        if self.place.has_blob(&blob.digest)?.is_some() {
            event(LayerEvent::AlreadyExists);
            return Ok(true);
        }
        let mut upload: Option<Upload> = None;
        if let Some(source) = self.known.get(&blob.digest) {
            match self.place.mount(&blob.digest, source)? {
                Mount::Mounted => {
                    event(LayerEvent::Mounted(source.clone()));
                    return Ok(true);
                }
                Mount::Upload(begun) => upload = Some(begun),
            }
        }
        if !is_here(self.writer, blob)? {
            return Ok(false);
        }
        event(LayerEvent::Begins(blob.size));
        self.send(blob, upload, &event)?;
        event(LayerEvent::Complete);
        Ok(true)
    }

    fn send(
        &self,
        blob: &Descriptor,
        upload: Option<Upload>,
        event: &(dyn Fn(LayerEvent) + Sync),
    ) -> Result<(), Error> {
        let told = Mutex::new(0);
        let sent = |bytes: u64| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            event(LayerEvent::Advanced(bytes.saturating_sub(*told)));
            *told = (*told).max(bytes);
        };
        let open = |offset| open_at(self.writer, &blob.digest, offset);
        self.place.upload(upload, &blob.digest, blob.size, &open, &sent)
    }

    /// Brings the configurations to the registry.
    pub(super) fn configurations(&self, images: &[PlannedImage]) -> Result<(), Error> {
        for image in images {
            let config = &image.config;
            if self.place.has_blob(&config.digest)?.is_none() {
                let open = |offset| open_at(self.writer, &config.digest, offset);
                self.place.upload(None, &config.digest, config.size, &open, &|_| {})?;
            }
        }
        Ok(())
    }
}
