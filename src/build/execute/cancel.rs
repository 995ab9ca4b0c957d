//! Ending a build early.

use crate::sandbox::Handle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Tells every step to end. Commands that run are killed.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Handle>>,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

impl Cancel {
    /// Ends the build: nothing new begins, commands are killed.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        for handle in self.0.running.lock().values() {
            handle.kill();
        }
    }

    /// Whether the build is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Lets a running command be killed until the result is dropped.
    pub(super) fn watch(&self, handle: &Handle) -> Watched<'_> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.running.lock().insert(id, handle.clone());
        if self.is_cancelled() {
            handle.kill();
        }
        Watched { cancel: self, id }
    }
}

/// A command that would be killed.
pub(super) struct Watched<'a> {
    cancel: &'a Cancel,
    id: u64,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.cancel.0.running.lock().remove(&self.id);
    }
}
