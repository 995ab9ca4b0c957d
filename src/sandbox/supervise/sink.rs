//! Who keeps the owners and devices that the kernel would not.

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A device node's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    Character,
    Block,
}

/// What is recorded of an object; numbers are the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    pub uid: u32,
    pub gid: u32,
    /// Kind and number (as makedev(3) composes it) of a device that a plain file stands for.
    pub device: Option<(NodeKind, u64)>,
}

/// Keeps owners and devices of a container that has a single number of its own.
///
/// Called from the supervisor's thread, one call at a time, while the container's process waits. Descriptors are opened with `O_PATH`: what
/// they refer to was resolved once, as the process would have, and cannot be exchanged any more. Permission was decided before.
pub trait OwnershipSink: fmt::Debug + Send + Sync {
    /// Told once before all else: the device number of the container's root, as stat(2) gives it.
    fn begin(&self, _root_device: u64) {}

    /// Records the owner of an object; `None` leaves that half as it is. Clearing setuid and setgid is the supervisor's part.
    ///
    /// # Errors
    /// What the container's chown(2) shall fail with; `ENOTSUP` for an object that is not this sink's, which the kernel then answers for.
    fn set_owner(&self, node: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()>;

    /// Makes a device: `mode` holds the permissions, already cut by the umask; the owner is the caller's.
    ///
    /// # Errors
    /// What mknod(2) shall fail with.
    fn make_device(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: NodeKind,
        device: u64,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<()>;

    /// What is recorded of an object, `seen` being what fstat(2) tells the supervisor of it; `None` when nothing is, so that the object
    /// belongs to the container's root if it belongs to the caller of the sandbox.
    fn ownership(&self, node: BorrowedFd<'_>, seen: &Stat) -> Result<Option<Ownership>>;
}

/// Keeps everything in memory, by device and inode number: for roots whose owners nobody asks for afterwards.
#[derive(Debug, Default)]
pub struct MapSink {
    records: Mutex<BTreeMap<(u64, u64), (PathBuf, Ownership)>>,
}

impl MapSink {
    /// Path inside the container at the time of recording, owner and device of everything recorded, by path.
    pub fn records(&self) -> Vec<(String, u32, u32, Option<u64>)> {
        let records = self.records.lock();
        let line = |(path, record): &(PathBuf, Ownership)| {
            (path.display().to_string(), record.uid, record.gid, record.device.map(|(_, number)| number))
        };
        let mut lines: Vec<_> = records.values().map(line).collect();
        lines.sort();
        lines
    }

    fn update(&self, node: BorrowedFd<'_>, change: impl FnOnce(&mut Ownership)) -> Result<()> {
        let stat = rustix::fs::fstat(node)?;
        let path = rustix::fs::readlink(format!("/proc/self/fd/{}", node.as_raw_fd()), Vec::new())?;
        let path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
        let mut records = self.records.lock();
        let fresh = || (path, Ownership { uid: 0, gid: 0, device: None });
        change(&mut records.entry((stat.st_dev, stat.st_ino)).or_insert_with(fresh).1);
        Ok(())
    }
}

impl OwnershipSink for MapSink {
    fn set_owner(&self, node: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.update(node, |record| {
            record.uid = uid.unwrap_or(record.uid);
            record.gid = gid.unwrap_or(record.gid);
        })
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
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        let recorded = self.update(std::os::fd::AsFd::as_fd(&file), |record| {
            *record = Ownership { uid: owner.0, gid: owner.1, device: Some((kind, device)) };
        });
        if recorded.is_err() {
            // Half a device is none.
            let _ = rustix::fs::unlinkat(parent, name, AtFlags::empty());
        }
        recorded.map_err(|_| Errno::IO)
    }

    fn ownership(&self, _node: BorrowedFd<'_>, seen: &Stat) -> Result<Option<Ownership>> {
        Ok(self.records.lock().get(&(seen.st_dev, seen.st_ino)).map(|(_, record)| *record))
    }
}
