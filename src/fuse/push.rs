//! Pushing files to the kernel's cache before it asks.
//!
//! From a thread of its own: a push waits for a page that the kernel is reading, and that waits for an answer. Only on mounts
//! where nothing changes, since a push overwrites what is in the cache. What is pushed begins at 0 and ends at the end of
//! the file: beyond it the file would grow, before it a page would be half filled.

use super::adapter::Adapter;
use super::counters::{Counters, Operation};
use crate::fs::{LayerFs, Upcoming};
use fuser::{INodeNo, Notifier};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Pushes that may wait. When the reader is faster than this, it is served by its own requests.
const WAITING: usize = 4;

/// The way to the thread that pushes.
pub(super) type Pushes = SyncSender<Vec<Upcoming>>;

pub(super) fn channel() -> (Pushes, Receiver<Vec<Upcoming>>) {
    sync_channel(WAITING)
}

/// Starts the thread that pushes what comes out of `pushes`.
pub(super) fn start(
    notifier: Notifier,
    fs: Arc<LayerFs>,
    counters: Arc<Counters>,
    pushes: Receiver<Vec<Upcoming>>,
) -> io::Result<()> {
    std::thread::Builder::new().name("push".to_owned()).spawn(move || {
        let mut buffer = Vec::new();
        for files in pushes {
            for file in files {
                push(&notifier, &fs, &counters, file, &mut buffer);
            }
        }
    })?;
    Ok(())
}

fn push(notifier: &Notifier, fs: &LayerFs, counters: &Counters, file: Upcoming, buffer: &mut Vec<u8>) {
    let Ok(size) = usize::try_from(file.size) else { return };
    buffer.resize(size, 0);
    // What cannot be read is not pushed; whoever asks for it is told why.
    if fs.read(file.ino, 0, buffer).ok() != Some(size) {
        return;
    }
    match notifier.store(INodeNo(file.ino.0), 0, buffer) {
        Ok(()) => {
            counters.count(Operation::Store);
        }
        Err(error) => log::debug!("push of {:#x}: {error}", file.ino.0),
    }
}

impl Adapter {
    /// Has the files pushed that will be read after `ino`, a read of which from its beginning has been answered.
    pub(super) fn push_after(&self, ino: crate::union::Ino) {
        let Some(pushes) = &self.pushes else { return };
        match self.fs.upcoming(ino) {
            Ok(files) if !files.is_empty() => {
                // Behind already: then pushing more is of no use.
                let _ = pushes.try_send(files);
            }
            _ => {}
        }
    }
}
