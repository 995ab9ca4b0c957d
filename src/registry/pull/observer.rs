//! Telling how a transfer goes, in docker's words.

use crate::oci::{Digest, Reference};

/// What happens to a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerEvent {
    /// It is in the store or at the registry already.
    AlreadyExists,
    /// It is to be transferred: so many bytes.
    Begins(u64),
    /// It goes on where an earlier attempt ended: so many bytes are here.
    Resumes(u64),
    /// More bytes were transferred.
    Advanced(u64),
    /// It is being compressed.
    Compressing,
    /// The registry took it over from this repository.
    Mounted(String),
    /// It is there, whole and verified.
    Complete,
    /// What was fetched is of no use; it begins anew.
    Restarts,
}

/// Someone who wants to know how a transfer goes. Called by several threads.
pub trait Observer: Sync {
    /// The image is found: its name and number of layers.
    fn found(&self, reference: &Reference, layers: usize);
    /// Something happens to the layer `digest`.
    fn layer(&self, digest: &Digest, event: LayerEvent);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn found(&self, _reference: &Reference, _layers: usize) {}
    fn layer(&self, _digest: &Digest, _event: LayerEvent) {}
}
