//! The store: an OCI image layout with tables of contents and named writable mounts.
//!
//! Owns its layout, blobs, references, containers, lock and garbage collection. Must not know FUSE.
//!
//! ```text
//! ROOT/
//!   oci-layout  index.json      a valid OCI image layout
//!   version                     the version of what stands beside it
//!   lock                        the one lock; see below
//!   blobs/sha256/<hex>          manifests, configurations, layers as they came, and each layer's plain tar
//!   toc/sha256/<hex>            the table of contents of the layer with that diffID
//!   compressed/sha256/<hex>     which compressed blobs are known to inflate to the layer with that diffID; those made
//!                               here are kept as blobs until `prune --all`
//!   containers/<name>/          a named writable mount: config.json, upper/, work/
//!   cache/<key>                 records of the build cache
//!   stage/<session>/            files being written, and `lease`: what the session needs
//!   stage/partial-<hex>/        the beginning of a blob that is being fetched, or whose fetching broke off
//!   leases/<id>                 what a running mount needs
//! ```
//!
//! Problems, and what solves them:
//!
//! 1. A crash in the middle of anything: every file is written under `stage/`, synced, and renamed into place; the
//!    entry of `index.json` is written last, after the directories were synced ([`Session::set_reference`]).
//! 2. A blob that nobody refers to yet, or that a running load found present, must not be collected: a session writes
//!    the digest into its lease before it looks or renames ([`Session::has_blob`]), under the shared lock; collection
//!    reads all leases and deletes under the exclusive one.
//! 3. Processes die: leases are held by flock(2), which the kernel drops with the last descriptor. What lies under
//!    `stage/` or `leases/` without a held lock is garbage.
//! 4. Readers never wait: they take no lock; `index.json` is replaced by rename, blobs never change.
//!
//! Lock order: `lock` first, then a container's own lock, then leases. Nobody waits for a lease.

mod blob_file;
mod cache;
mod compressed;
mod containers;
mod error;
mod files;
mod gc;
mod images;
mod layout;
mod leases;
mod partial;
mod recovery;
mod references;
mod removal;
mod session;
#[cfg(test)]
mod tests;

pub use compressed::Compressed;
pub use containers::{Container, ContainerLock, ContainerRecord};
pub use error::{StoreError, StoreResult};
pub use gc::{Freed, Garbage, PruneOptions, Usage};
pub use images::{ImageRecord, LayerRecord};
pub use layout::Store;
pub use leases::UseLease;
pub use partial::PartialBlob;
pub use recovery::RebuiltIndex;
pub use references::{IndexEntry, LAYOUT_NAME_ANNOTATION, REPO_DIGESTS_ANNOTATION};
pub use removal::Removed;
pub use session::{BlobWriter, Session};
