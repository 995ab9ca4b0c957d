//! Requests that change something: answered at once, or apart where they have to wait for the data of a file.

use super::adapter::Adapter;
use super::attr::View;
use super::counters::Operation;
use super::errno::errno;
use crate::fs::{Attr, FsError, FsResult, LayerFs, without_waiting};
use fuser::{Errno, ReplyAttr, ReplyEmpty, ReplyXattr};
use log::{debug, error};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl Adapter {
    /// Has `work`, which changes `ino`, done, and `reply` called with what came of it: here, or apart.
    pub(super) fn change<T>(
        &self,
        operation: Operation,
        ino: u64,
        work: impl Fn(&LayerFs) -> FsResult<T> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        match self.attempt(operation, ino, || work(&self.fs)) {
            Some(done) => reply(done),
            None => self.set_apart(operation, ino, work, reply),
        }
        self.spinner.wait();
    }

    /// What came of `work`; none when it has to be [set apart](Self::set_apart).
    pub(super) fn attempt<T>(
        &self,
        operation: Operation,
        ino: u64,
        work: impl FnOnce() -> FsResult<T>,
    ) -> Option<Result<T, Errno>> {
        let mut waits = false;
        let done = self.call(operation, ino, || {
            without_waiting(work).inspect_err(|error| waits = matches!(error, FsError::WouldWait))
        });
        (!waits).then_some(done)
    }

    /// Leaves `work` on `ino` and `reply` to another thread.
    pub(super) fn set_apart<T>(
        &self,
        operation: Operation,
        ino: u64,
        work: impl FnOnce(&LayerFs) -> FsResult<T> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let fs = Arc::clone(&self.fs);
        self.apart.submit(ino, Box::new(move || reply(outcome(operation, ino, || work(&fs)))));
    }
}

/// What came of a call, logged.
pub(super) fn outcome<T>(operation: Operation, ino: u64, answer: impl FnOnce() -> FsResult<T>) -> Result<T, Errno> {
    match catch_unwind(AssertUnwindSafe(answer)) {
        Ok(Ok(value)) => {
            debug!("{operation:?} {ino:#x}: ok");
            Ok(value)
        }
        Ok(Err(failure)) => {
            debug!("{operation:?} {ino:#x}: {failure}");
            Err(errno(&failure))
        }
        Err(_) => {
            error!("{operation:?} {ino:#x}: a defect of layerfs, answered with EIO");
            Err(Errno::EIO)
        }
    }
}

/// Answers with nothing.
pub(super) fn empty(reply: ReplyEmpty) -> impl FnOnce(Result<(), Errno>) + Send + 'static {
    move |done| match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with attributes.
pub(super) fn attributes(view: View, reply: ReplyAttr) -> impl FnOnce(Result<Attr, Errno>) + Send + 'static {
    move |done| match done {
        Ok(attr) => reply.attr(&view.timeout, &view.of(&attr)),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with the size when nothing else is asked for, with the value when it fits.
pub(super) fn reply_xattr(reply: ReplyXattr, value: &[u8], size: u32) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
