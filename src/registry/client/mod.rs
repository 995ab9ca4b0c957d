//! The distribution protocol: one type per thing it speaks of.
//!
//! Owns requests and answers (distribution-spec, docker's HTTP API V2). Must not know the store.

mod answer;
mod blob;
mod host;
mod manifest;
mod session;
mod upload;

pub use blob::{BlobReader, BlobSource, from_io};
pub use host::Host;
pub use manifest::{RawManifest, Repository};
pub use session::{Session, Settings};
pub use upload::{Mount, Upload};
