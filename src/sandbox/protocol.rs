//! The control socket between the starter and the processes it started: one message a packet, descriptors beside it.
//!
//! Owns the messages and the numbers under which descriptors are handed over. The socket is also the lifeline: when the starter's end
//! is closed, by its death too, everything inside is killed.

use super::spec::User;
use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// The control socket in the processes of the sandbox.
pub(super) const CONTROL: RawFd = 3;
/// The specification, as JSON in a memory file.
pub(super) const SPECIFICATION: RawFd = 4;

/// What is written to the pipe of [`Order::Sync`] when the sync has succeeded.
pub(super) const SYNCED: u8 = 1;

/// The longest message in bytes: an error with a path in it.
const LONGEST: usize = 64 << 10;

/// From the sandbox to its starter.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The user namespace is made and waits for its maps.
    NeedMaps,
    /// The first process inside is running; its number in the starter's pid namespace.
    Init(i32),
    /// The root is mounted; the open /dev/fuse comes along.
    Mounted,
    /// What was made in the root to mount something on, below the root.
    MountPoints(Vec<OsString>),
    /// Who the command runs as, where that was looked up inside.
    User(User),
    /// The master side of the command's terminal comes along.
    Terminal,
    /// The listener of the seccomp filter comes along. The root's device number is said from inside: where the command cannot be started all
    /// may have ended when the starter reads this, and /proc tells nothing of who is gone but "permission denied".
    Listener {
        root_device: u64,
    },
    /// The command has begun.
    Running,
    Failed(Failure),
    Exited(i32),
    Signaled(i32),
    TimedOut,
}

/// From the starter to the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    MapsWritten,
    /// Init is where it belongs (its control group) and may start the command.
    Go,
    Signal(i32),
    /// What the container has written is to be with its file system. The end of a pipe comes along, which is closed when it is.
    Sync,
}

/// What went wrong while the sandbox was made or the command was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried, with the object's name.
    pub what: String,
    /// The error number; 0 when there is none.
    pub errno: i32,
    /// Whether it was the command itself that could not be started.
    pub at_exec: bool,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, error: Errno) -> Self {
        Self { what: what.into(), errno: error.raw_os_error(), at_exec: false }
    }
}

/// Adds to an error number what was tried.
pub(super) trait Trying<T> {
    fn trying(self, what: impl FnOnce() -> String) -> std::result::Result<T, Failure>;
}

impl<T> Trying<T> for Result<T> {
    fn trying(self, what: impl FnOnce() -> String) -> std::result::Result<T, Failure> {
        self.map_err(|error| Failure::new(what(), error))
    }
}

impl<T> Trying<T> for std::io::Result<T> {
    fn trying(self, what: impl FnOnce() -> String) -> std::result::Result<T, Failure> {
        self.map_err(|error| Failure::new(what(), Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }
}

/// Sends one message, with a descriptor when there is one.
pub(super) fn send<M: Serialize>(socket: impl AsFd, message: &M, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::MSGSIZE);
    }
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL))
        .map(|_| ())
}

/// Receives one message. `None` when the other side is closed.
pub(super) fn receive<M: for<'a> Deserialize<'a>>(
    socket: impl AsFd,
    flags: RecvFlags,
) -> Result<Option<(M, Option<OwnedFd>)>> {
    let mut buffer = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        match recvmsg(&socket, &mut slices, &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC) {
            // A peer that ended with messages unread resets the connection. That is told once, before what it had sent itself, which is read all the same.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last();
        }
    }
    let bytes = buffer.get(..received.bytes).ok_or(Errno::MSGSIZE)?;
    let message = serde_json::from_slice(bytes).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, descriptor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn regression_the_last_words_of_who_has_not_read_ours_are_heard() {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.expect("a pair");
        send(&ours, &Order::Go, None).expect("sent");
        send(&theirs, &Report::Failed(Failure::new("die", Errno::IO)), None).expect("sent");
        drop(theirs);
        let heard = receive::<Report>(&ours, RecvFlags::empty()).expect("received");
        assert!(matches!(heard, Some((Report::Failed(_), None))), "{heard:?}");
        assert!(receive::<Report>(&ours, RecvFlags::empty()).expect("received").is_none());
    }
}
