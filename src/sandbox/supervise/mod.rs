//! Answers for the calls that the kernel refuses a container with a single number.
//!
//! Owns the listener of the seccomp filter, what each notified call does, the pretended users of processes ([`credentials`]), and how a path
//! of another process is found without being led out of its root ([`target`]). Must not know who keeps the records ([`OwnershipSink`]).
//!
//! The problems, and what solves them:
//! 1. Nobody but the container's root exists: chown, setuid and their families are carried out on the books only, and what asks for users and
//!    owners (getuid, stat) is answered from them. Objects made by a pretended user are made by the supervisor, so that they are his from the start.
//! 2. Memory of the caller can change under us: every argument is read once, acted upon once, and never left to the kernel afterwards, except where
//!    the kernel's own answer is right or does no harm.
//! 3. A caller may die and its number be used again: after every read the notification is asked for once more.
//! 4. The pretended user protects nothing: all processes of such a container are the same user to the kernel, as is said in the manual.

mod calls;
mod creation;
mod credentials;
mod remote;
mod sink;
mod target;

pub use remote::{RemoteSink, SharedSink};
pub use sink::{MapSink, NodeKind, Ownership, OwnershipSink};

use super::seccomp::name_of_call;
use super::spec::User;
use crate::sys::seccomp::{self, Answer, Notification};
use calls::Call;
use credentials::{Book, Credentials};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Stat;
use rustix::io::{Errno, Result};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use target::Target;

/// The calls that wait for an answer.
pub(super) const CALLS: &[&str] = calls::NAMES;
/// Those that do so only when they can make a file, with the number of the argument that says so.
pub(super) const CREATING: &[(&str, u8)] = &[("open", 1), ("openat", 2)];

/// Answers until the last process of the container is gone.
#[derive(Debug)]
pub(super) struct Supervisor {
    thread: Option<JoinHandle<()>>,
    /// Closed to make the thread end.
    stop: Option<OwnedFd>,
}

impl Supervisor {
    pub(super) fn start(listener: OwnedFd, sink: Arc<dyn OwnershipSink>, user: &User) -> std::io::Result<Self> {
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut desk = Desk {
            listener,
            records: Records { sink, others: MapSink::default() },
            book: Book::new(Credentials::of(user)),
        };
        let work = move || desk.serve(stopped.as_fd());
        let thread = std::thread::Builder::new().name("supervisor".into()).spawn(work)?;
        Ok(Self { thread: Some(thread), stop: Some(stop) })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the supervisor of a container panicked");
        }
    }
}

/// Where notifications are answered.
struct Desk {
    listener: OwnedFd,
    records: Records,
    book: Book,
}

/// The sink, and behind it a map for objects that are not the sink's.
struct Records {
    sink: Arc<dyn OwnershipSink>,
    others: MapSink,
}

impl Records {
    fn set_owner(&self, node: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        match self.sink.set_owner(node, uid, gid) {
            Err(Errno::NOTSUP) => self.others.set_owner(node, uid, gid),
            other => other,
        }
    }

    fn make_device(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: NodeKind,
        device: u64,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<()> {
        match self.sink.make_device(parent, name, kind, device, mode, owner) {
            Err(Errno::NOTSUP) => self.others.make_device(parent, name, kind, device, mode, owner),
            other => other,
        }
    }

    fn ownership(&self, node: BorrowedFd<'_>, seen: &Stat) -> Result<Option<Ownership>> {
        match self.sink.ownership(node, seen) {
            Ok(None) | Err(Errno::NOTSUP) => self.others.ownership(node, seen),
            other => other,
        }
    }
}

impl Desk {
    fn serve(&mut self, stopped: BorrowedFd<'_>) {
        loop {
            let mut descriptors =
                [PollFd::new(&self.listener, PollFlags::IN), PollFd::from_borrowed_fd(stopped, PollFlags::empty())];
            match poll(&mut descriptors, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return log::error!("the supervisor of a container cannot wait: {error}"),
                Ok(_) => {}
            }
            let (waiting, stop) = (descriptors[0].revents(), descriptors[1].revents());
            if !stop.is_empty()
                || !waiting.contains(PollFlags::IN) && waiting.intersects(PollFlags::HUP | PollFlags::ERR)
            {
                return;
            }
            if let Err(error) = self.answer_one() {
                log::debug!("a notification was not answered: {error}");
            }
        }
    }

    fn answer_one(&mut self) -> Result<()> {
        let Some(notification) = seccomp::receive(self.listener.as_fd())? else { return Ok(()) };
        let answer = match self.decide(&notification) {
            Ok(Some(answer)) => answer,
            // The answer has gone out with a descriptor.
            Ok(None) => return Ok(()),
            Err(error) => Answer::Error(error),
        };
        log::trace!("call {} of {}: {answer:?}", notification.call, notification.thread);
        match seccomp::answer(self.listener.as_fd(), notification.id, answer) {
            // The caller is gone.
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    fn decide(&mut self, notification: &Notification) -> Result<Option<Answer>> {
        let name = name_of_call(notification.architecture, notification.call);
        let Some((call, wide)) = name.and_then(|name| Call::by_name(name, notification.architecture)) else {
            return Ok(Some(Answer::Continue));
        };
        let target = Target::new(self.listener.as_fd(), notification);
        calls::carry_out(call, wide, &target, &self.records, &mut self.book)
    }
}
