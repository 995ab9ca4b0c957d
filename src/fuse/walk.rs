//! The thread that has directories and files read before they are asked for.

use super::adapter::Adapter;
use crate::fs::Walker;
use crate::union::Ino;
use std::io;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};

/// Steps that may wait. Who is faster than they are followed is not helped by it.
const WAITING: usize = 64;

/// What somebody has come to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A listing of this directory.
    Listed(Ino),
    /// The beginning of this file.
    Read(Ino),
}

/// The way to the thread.
pub(super) type Steps = SyncSender<Step>;

/// Starts the thread.
pub(super) fn start(mut walker: Walker) -> io::Result<Steps> {
    let (steps, taken) = sync_channel(WAITING);
    std::thread::Builder::new().name("walk".to_owned()).spawn(move || {
        while let Ok(step) = next(&taken, walker.is_due()) {
            match step {
                Some(Step::Listed(ino)) => walker.listed(ino),
                Some(Step::Read(ino)) => walker.has_read(ino),
                None => walker.step(),
            }
        }
    })?;
    Ok(steps)
}

/// The next step that was taken; none when there is time to go ahead of it. An error when the mount has gone.
fn next(taken: &Receiver<Step>, is_due: bool) -> Result<Option<Step>, RecvError> {
    if !is_due {
        return taken.recv().map(Some);
    }
    match taken.try_recv() {
        Ok(step) => Ok(Some(step)),
        Err(TryRecvError::Empty) => Ok(None),
        Err(TryRecvError::Disconnected) => Err(RecvError),
    }
}

impl Adapter {
    /// A listing or a read from `offset` on has been answered: has read what is likely to follow its beginning.
    pub(super) fn goes_on(&self, step: Step, offset: u64) {
        if let (Some(steps), 0) = (&self.steps, offset) {
            // Behind already: then the next one will do.
            let _ = steps.try_send(step);
        }
    }
}
