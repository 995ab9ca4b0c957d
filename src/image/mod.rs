//! Streams to store and layers: load, import, save, export, squash, fsck and the rebuilding of TOCs.
//!
//! Must not know FUSE.
//!
//! Everything that comes in as a layer, from an archive, a registry or a directory, goes through [`ingest_layer`]: one
//! pass that verifies, keeps and indexes it. Everything that reads an image's layers goes through [`open_layers`], which
//! makes what is missing of a layer from what is there.

mod archive_files;
mod bundle;
mod compress;
mod error;
mod fsck;
mod import;
mod ingest;
mod layers;
mod load;
mod load_docker;
mod load_oci;
mod pipe;
mod progress;
mod repair;
mod save;
mod source;
mod stages;
mod stream;

pub use compress::{LayerForm, compress_layer, known_form, layer_in_form};
pub use error::{ImageError, ImageResult};
pub use fsck::{Finding, FsckOptions, FsckReport, Outcome, fsck};
pub use import::{ImportOptions, creation_time, import};
pub use ingest::{Expected, Ingested, Limits, has_layer, ingest_layer, take_up_layer};
pub use layers::{ensure_layer, ensure_layers, open_layer, open_layers};
pub use load::{LoadOptions, Loaded, load, resolve_or_load};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use progress::{LayerProgress, NoProgress, Progress};
pub use save::{SaveFormat, SaveOptions, save_archive, save_directory};
pub use source::{ArchiveFormat, Location, Source};
