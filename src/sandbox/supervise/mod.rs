//! Answers for calls the kernel refuses a container with a single number.

mod sink;

pub use sink::{MapSink, NodeKind, Ownership, OwnershipSink};

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The calls that wait for an answer.
pub(super) const CALLS: &[&str] = &[];

/// Answers until the last process of the container is gone.
#[derive(Debug)]
pub(super) struct Supervisor;

impl Supervisor {
    pub(super) fn start(
        listener: OwnedFd,
        _sink: Arc<dyn OwnershipSink>,
        _user: &super::spec::User,
    ) -> std::io::Result<Self> {
        drop(listener);
        Ok(Self)
    }
}
