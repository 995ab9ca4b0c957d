//! Ending a mount from outside.

use super::control::{self, Request, Response};
use super::registry::absolute;
use super::{MountError, MountRecord, Registry, attach};
use crate::sys::mount_lines;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take to end after its mount has gone: one with changes to write back, and one without. It does not
/// end while another mount namespace has the mount too.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// How long its process may take after that to close what it has open.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only when nobody uses it; wait until the server has ended.
    Plain,
    /// At once for the eyes of everyone; the server ends when its last user has gone.
    Lazy,
    /// Break the connection first: whatever waits for the mount fails.
    Force,
    /// As [`Unmount::Force`], and a server that has not ended soon after is killed: it may have what others wait for.
    Kill,
}

impl Unmount {
    fn is_forced(self) -> bool {
        matches!(self, Self::Force | Self::Kill)
    }
}

/// Unmounts what is mounted on the directory `target` or has that name.
pub fn unmount(registry: &Registry, target: &Path, how: Unmount) -> Result<(), MountError> {
    let Some(record) = registry.find(target)? else {
        let place = unrecorded(target).ok_or_else(|| MountError::NotMounted(target.display().to_string()))?;
        return take_away(&place, how);
    };
    let process = pidfd(record.pid);
    let killable = how == Unmount::Kill && is_here(registry, &record);
    let server = wait_for_end(registry, &record, how);
    take_away(&record.mount_point, how)?;
    if how == Unmount::Lazy || wait(&record, how, server, process.as_ref()) {
        return Ok(());
    }
    match process.filter(|_| killable) {
        Some(process) => kill(&record, &process)?,
        None => log::warn!("the server of {} has not ended yet", record.mount_point.display()),
    }
    Ok(())
}

fn kill(record: &MountRecord, process: &OwnedFd) -> Result<(), MountError> {
    let context = || format!("cannot end the server of {}", record.mount_point.display());
    match pidfd_send_signal(process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(source) => return Err(MountError::Io { context: context(), source: source.into() }),
    }
    if ends_within(process, EXIT_PATIENCE) {
        return Ok(());
    }
    Err(MountError::Io { context: context(), source: std::io::ErrorKind::TimedOut.into() })
}

/// Whether the number in `record` means the server here too: in another PID namespace it may be that of somebody else.
fn is_here(registry: &Registry, record: &MountRecord) -> bool {
    let server = UnixStream::connect(registry.socket_path(record.pid));
    let owner = server.ok().and_then(|server| rustix::net::sockopt::socket_peercred(&server).ok());
    owner.is_some_and(|owner| u32::try_from(owner.pid.as_raw_nonzero().get()) == Ok(record.pid))
}

/// Waits until the server has ended, as its connection and its process tell: either may be out of reach. Returns whether it has, as far
/// as can be known.
fn wait(record: &MountRecord, how: Unmount, server: Option<UnixStream>, process: Option<&OwnedFd>) -> bool {
    // The end of the stream is the end of the server; an error says that it takes longer than anyone waits.
    let told = server.map(|mut server| server.read(&mut [0]).is_ok());
    let patience = match told {
        Some(true) => EXIT_PATIENCE,
        Some(false) => Duration::ZERO,
        // With a broken connection there is nothing left to write back.
        None if how.is_forced() => EXIT_PATIENCE,
        None => patience(record),
    };
    let ended = process.map(|process| ends_within(process, patience));
    ended.or(told).unwrap_or(true)
}

fn ends_within(process: &OwnedFd, patience: Duration) -> bool {
    let limit = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

fn patience(record: &MountRecord) -> Duration {
    if record.writable { PATIENCE } else { SHORT_PATIENCE }
}

/// What becomes readable when the process `pid` has ended. Its descriptors are closed one after the other before that: the
/// file system of an upper may still be in use when the connection to its server is not.
fn pidfd(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn take_away(place: &Path, how: Unmount) -> Result<(), MountError> {
    // A mount that nobody uses has gone with its connection: what is there now is somebody else's.
    if how.is_forced() && attach::abort(place) {
        return Ok(());
    }
    attach::detach(place, how != Unmount::Plain)
}

/// A connection that ends when the server does; none when that is not waited for, or the server may not be able to answer.
fn wait_for_end(registry: &Registry, record: &MountRecord, how: Unmount) -> Option<UnixStream> {
    if how != Unmount::Plain {
        return None;
    }
    match control::ask(registry, record, &Request::WaitForEnd) {
        Ok((Response::Waiting, stream)) => {
            stream.set_read_timeout(Some(patience(record))).ok()?;
            Some(stream)
        }
        _ => None,
    }
}

/// The mount point `target`, when something of ours is mounted there that no live server has recorded.
fn unrecorded(target: &Path) -> Option<PathBuf> {
    let place = absolute(target);
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    let line = mount_lines(&table).filter(|line| line.mount_point == place).last()?;
    matches!(line.kind.as_str(), "fuse.layerfs" | "fuse.fuse-overlayfs").then_some(place)
}
