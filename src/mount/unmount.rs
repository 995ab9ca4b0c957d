//! Ending a mount from outside.

use super::control::{self, Request, Response};
use super::registry::absolute;
use super::{MountError, MountRecord, Registry, attach};
use crate::sys::mount_lines;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
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
}

/// Unmounts what is mounted on the directory `target` or has that name.
pub fn unmount(registry: &Registry, target: &Path, how: Unmount) -> Result<(), MountError> {
    let Some(record) = registry.find(target)? else {
        let place = unrecorded(target).ok_or_else(|| MountError::NotMounted(target.display().to_string()))?;
        return take_away(&place, how);
    };
    let process = pidfd(record.pid);
    let server = wait_for_end(registry, &record, how);
    take_away(&record.mount_point, how)?;
    if how != Unmount::Lazy {
        wait(&record, server, process);
    }
    Ok(())
}

/// Waits until the server has ended, as its connection and its process tell: either may be out of reach.
fn wait(record: &MountRecord, server: Option<UnixStream>, process: Option<OwnedFd>) {
    // The end of the stream is the end of the server; an error says that it takes longer than anyone waits.
    let told = server.map(|mut server| server.read(&mut [0]).is_ok());
    let patience = match told {
        Some(true) => EXIT_PATIENCE,
        Some(false) => Duration::ZERO,
        None => patience(record),
    };
    let ended = process.map(|process| {
        let limit = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
    });
    if !ended.or(told).unwrap_or(true) {
        log::warn!("the server of {} has not ended yet", record.mount_point.display());
    }
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
    if how == Unmount::Force {
        attach::abort(place);
    }
    attach::detach(place, how != Unmount::Plain)
}

/// A connection that ends when the server does; none when that is not waited for.
fn wait_for_end(registry: &Registry, record: &MountRecord, how: Unmount) -> Option<UnixStream> {
    if how == Unmount::Lazy {
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
