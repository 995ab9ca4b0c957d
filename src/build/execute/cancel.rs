//! Ending a build early.

use crate::archive::tar::Xattr;
use crate::build::copy::{Stat, Tree};
use crate::model::{Name, RelPath};
use crate::sandbox::Handle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
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

impl Cancel {
    /// `tree`, which cannot be read any more once the build is to end: a copy of many files, or of a large one, ends as well.
    pub(super) fn guard(&self, tree: Arc<dyn Tree>) -> Arc<dyn Tree> {
        Arc::new(Guarded { tree, cancel: self.clone() })
    }

    /// `input`, which cannot be read any more once the build is to end.
    pub(super) fn guard_input<R: Read>(&self, input: R) -> GuardedInput<R> {
        GuardedInput { input, cancel: self.clone() }
    }

    fn check(&self) -> io::Result<()> {
        // `Interrupted` would be tried again by whoever reads.
        if self.is_cancelled() { Err(io::Error::other("the build was interrupted")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Guarded {
    tree: Arc<dyn Tree>,
    cancel: Cancel,
}

impl Tree for Guarded {
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        self.tree.stat(path)
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Name, Stat)>> {
        self.cancel.check()?;
        self.tree.list(path)
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        self.tree.read_link(path)
    }

    fn xattrs(&self, path: &RelPath) -> io::Result<Vec<Xattr>> {
        self.tree.xattrs(path)
    }

    fn open<'a>(&'a self, path: &RelPath) -> io::Result<Box<dyn Read + 'a>> {
        self.cancel.check()?;
        Ok(Box::new(self.cancel.guard_input(self.tree.open(path)?)))
    }
}

/// Input that ends with the build.
pub(super) struct GuardedInput<R> {
    input: R,
    cancel: Cancel,
}

impl<R: Read> Read for GuardedInput<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.input.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::copy::Empty;

    #[test]
    fn nothing_is_read_once_the_build_is_to_end() {
        let cancel = Cancel::default();
        let tree = cancel.guard(Arc::new(Empty));
        let mut input = cancel.guard_input(io::repeat(1).take(4));
        assert_eq!(input.read(&mut [0; 2]).expect("data"), 2);
        assert!(tree.list(&RelPath::root()).expect("a list").is_empty());
        cancel.cancel();
        assert!(input.read(&mut [0; 2]).is_err());
        assert!(tree.list(&RelPath::root()).is_err());
    }
}
