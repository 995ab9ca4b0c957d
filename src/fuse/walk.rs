//! The thread that walks ahead of whoever walks the mount.

use super::adapter::Adapter;
use crate::fs::Walker;
use crate::union::Ino;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Listings that may wait. Who lists faster than they are followed is not helped by it.
const WAITING: usize = 64;

/// The way to the thread that walks ahead: directories that have been listed.
pub(super) type Listings = SyncSender<Ino>;

/// Starts the thread.
pub(super) fn start(mut walker: Walker) -> io::Result<Listings> {
    let (listings, listed) = sync_channel(WAITING);
    std::thread::Builder::new().name("walk".to_owned()).spawn(move || {
        while let Some(next) = next(&listed, walker.is_due()) {
            match next {
                Next::Listed(ino) => walker.listed(ino),
                Next::Step => walker.step(),
            }
        }
    })?;
    Ok(listings)
}

enum Next {
    Listed(Ino),
    Step,
}

/// What to do next: listings first; none when the mount has gone.
fn next(listed: &Receiver<Ino>, is_due: bool) -> Option<Next> {
    if !is_due {
        return listed.recv().ok().map(Next::Listed);
    }
    match listed.try_recv() {
        Ok(ino) => Some(Next::Listed(ino)),
        Err(TryRecvError::Empty) => Some(Next::Step),
        Err(TryRecvError::Disconnected) => None,
    }
}

impl Adapter {
    /// Has read what a walk will come to after the directory `ino`, a listing of which from `offset` on has been answered.
    pub(super) fn walk_after(&self, ino: Ino, offset: u64) {
        if let (Some(listings), 0) = (&self.listings, offset) {
            // Behind already: then the next listing will do.
            let _ = listings.try_send(ino);
        }
    }
}
