//! The root of a container: a filesystem served by this process, which the container's sandbox mounts in its own namespaces.
//!
//! Nobody else ever sees the mount, and it ends with the last process inside, however that ends. Who has a single number of his own sees everything
//! as root's; the owners the container's processes believe in are kept in the filesystem all the same ([`Owners`]).

use super::MountError;
use crate::fs::LayerFs;
use crate::fuse::{Names, Server, ServerOptions, SessionError, error_number};
use crate::layer::upper::{Changes, NewKind, NewObject};
use crate::model::{DeviceNumber, FileKind};
use crate::sandbox::{Identity, NodeKind, Ownership, OwnershipSink, Sandbox};
use crate::sys::Creator;
use crate::union::Ino;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

/// A filesystem that a sandbox mounts, being served.
#[derive(Debug)]
pub struct Inside {
    thread: JoinHandle<Result<(), SessionError>>,
    /// Where the thread waits for the device.
    device: Sender<OwnedFd>,
    owners: Option<Arc<Owners>>,
}

impl Inside {
    /// Serves `fs` with `threads` as soon as a sandbox of this identity has mounted it.
    pub fn serve(fs: Arc<LayerFs>, identity: &Identity, threads: usize) -> Result<Self, MountError> {
        let squash = *identity == Identity::Single;
        let owners = squash.then(|| Arc::new(Owners::new(Arc::clone(&fs))));
        let told = owners.clone();
        let (device, mounted) = mpsc::channel();
        let work = move || {
            // Nobody will mount it any more.
            let Ok(device) = mounted.recv() else { return Ok(()) };
            drop(mounted);
            let server = Server::new(fs, device, ServerOptions { threads, squash, ..ServerOptions::default() })?;
            if let Some(owners) = told {
                // Set by nobody else.
                let _ = owners.names.set(server.names());
            }
            server.run()
        };
        let thread = thread::Builder::new().name("root".to_owned()).spawn(work);
        let thread = thread.map_err(|source| MountError::Io { context: "cannot start a thread".to_owned(), source })?;
        Ok(Self { thread, device, owners })
    }

    /// Gives the filesystem to `sandbox`, whose root is a [`crate::sandbox::Root::Fuse`].
    #[must_use]
    pub fn give_to(&self, sandbox: Sandbox) -> Sandbox {
        let device = self.device.clone();
        let sandbox = sandbox.fuse(move |mounted| {
            // Without the server's thread there is nobody to answer, and whoever waits for an answer is told by the device's end.
            let _ = device.send(mounted);
        });
        match self.ownership() {
            Some(owners) => sandbox.ownership(owners),
            None => sandbox,
        }
    }

    /// Who keeps the owners, for a further command in the same container.
    pub fn ownership(&self) -> Option<Arc<dyn OwnershipSink>> {
        self.owners.clone().map(|owners| owners as Arc<dyn OwnershipSink>)
    }

    /// Waits until the last user of the mount is gone: everything written has arrived then.
    pub fn finish(self) -> Result<(), MountError> {
        drop(self.device);
        let served = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(served?)
    }
}

/// Keeps the owners and devices of a container's processes in the container's own filesystem.
#[derive(Debug)]
struct Owners {
    fs: Arc<LayerFs>,
    names: OnceLock<Names>,
    /// The mount's device number; 0 until it is known.
    device: AtomicU64,
}

impl Owners {
    fn new(fs: Arc<LayerFs>) -> Self {
        Self { fs, names: OnceLock::new(), device: AtomicU64::new(0) }
    }

    /// The inode of an object of this filesystem.
    fn ino(&self, stat: &Stat) -> Result<Ino, Errno> {
        if stat.st_dev == self.device.load(Ordering::SeqCst) { Ok(Ino(stat.st_ino)) } else { Err(Errno::NOTSUP) }
    }
}

fn number(error: &crate::fs::FsError) -> Errno {
    Errno::from_raw_os_error(error_number(error))
}

impl OwnershipSink for Owners {
    fn begin(&self, root_device: u64) {
        self.device.store(root_device, Ordering::SeqCst);
    }

    fn set_owner(&self, node: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let ino = self.ino(&rustix::fs::fstat(node)?)?;
        let changes = Changes { uid, gid, ..Changes::default() };
        self.fs.setattr(ino, &changes, None, None).map(drop).map_err(|error| number(&error))
    }

    fn make_device(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: NodeKind,
        device: u64,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<(), Errno> {
        let parent = self.ino(&rustix::fs::fstat(parent)?)?;
        let kind = match kind {
            NodeKind::Character => FileKind::CharDevice,
            NodeKind::Block => FileKind::BlockDevice,
        };
        let device = DeviceNumber { major: rustix::fs::major(device), minor: rustix::fs::minor(device) };
        let creator = Creator { uid: owner.0, gid: owner.1, umask: 0 };
        let new = NewObject { kind: NewKind::Special(kind, device), permissions: mode, creator };
        let made = self.fs.create(parent, name.as_bytes(), &new).map_err(|error| number(&error))?;
        if let Some(names) = self.names.get()
            && let Err(error) = names.changed(parent, name)
        {
            log::warn!("the kernel was not told of the device {}: {error}", name.display());
        }
        // The kernel has not looked it up: it was not the one who asked.
        self.fs.forget(made.ino, 1);
        Ok(())
    }

    fn ownership(&self, _node: BorrowedFd<'_>, seen: &Stat) -> Result<Option<Ownership>, Errno> {
        let meta = self.fs.getattr(self.ino(seen)?).map_err(|error| number(&error))?.meta;
        Ok(Some(Ownership { uid: meta.uid, gid: meta.gid, device: None }))
    }
}
