//! Changes written into the store as a layer: the tar, its digest and its table of contents in one pass.

use super::{Error, Result};
use crate::diff::{self, ChangeSet, LayerOptions, Skipped, write_layer};
use crate::image::{Expected, Limits, NoProgress, ingest_layer, pipe};
use crate::oci::Digest;
use crate::store::Session;
use crate::union::Stack;
use std::thread;

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The digest of the tar, under which it lies in the store.
    pub diff_id: Digest,
    /// The size of the tar in bytes.
    pub size: u64,
    /// What no layer can hold and was left out.
    pub skipped: Vec<Skipped>,
}

/// How often a capture is begun when files change while they are read.
pub(super) const ATTEMPTS: u32 = 3;

/// Writes `changes`, whose new side is `stack`, as a layer into the store. The layer is safe from collection while
/// `session` lives.
///
/// One thread reads files and writes the tar; hashing, storing and indexing are those of [`ingest_layer`].
///
/// # Errors
/// [`diff::Error::Changing`] when files were changed while they were read, in each of three attempts. A failure leaves nothing.
pub fn capture(session: &Session, changes: &ChangeSet, stack: &Stack, options: LayerOptions) -> Result<Captured> {
    for _ in 1..ATTEMPTS {
        match capture_once(session, changes, stack, options) {
            Err(Error::Diff(diff::Error::Changing { path })) => {
                log::info!(target: "layerfs::commit", "{path} changed while it was read; beginning again");
            }
            done => return done,
        }
    }
    capture_once(session, changes, stack, options)
}

fn capture_once(session: &Session, changes: &ChangeSet, stack: &Stack, options: LayerOptions) -> Result<Captured> {
    let (sender, mut receiver) = pipe();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let (sender, skipped) = write_layer(changes, stack, options, sender)?;
            // Nobody reads any more only when the other side has failed, and says why itself.
            let _ = sender.finish();
            Ok(skipped)
        });
        let expected = Expected { label: Some("the new layer".to_owned()), ..Expected::default() };
        let stored = ingest_layer(session, &mut receiver, &expected, &Limits::default(), &NoProgress);
        drop(receiver);
        let written: diff::Result<Vec<Skipped>> = writer.join().map_err(|_| Error::Thread)?;
        match (written, stored) {
            (Ok(skipped), Ok(layer)) => Ok(Captured { diff_id: layer.diff_id, size: layer.tar_size, skipped }),
            // A writer that only found nobody reading is a consequence of the other failure.
            (Err(diff::Error::Archive(crate::archive::tar::Error::Write { .. })) | Ok(_), Err(cause)) => {
                Err(cause.into())
            }
            (Err(cause), _) => Err(cause.into()),
        }
    })
}
