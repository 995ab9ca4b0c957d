//! One connection to the kernel: from an open device to the end of the mount.

use super::adapter::Adapter;
use super::apart::Apart;
use super::attr::View;
use super::capabilities::{OpenMode, Wishes};
use super::counters::Counters;
use super::push;
use super::spin::Spinner;
use super::walk;
use crate::fs::{LayerFs, Walker};
use crate::union::Ino;
use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How requests are answered.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// Whether the kernel asks about opens.
    pub open_mode: OpenMode,
    /// Whether the kernel checks ACLs. It then checks permissions too.
    pub acl: bool,
    /// Threads that answer, at least 1.
    pub threads: usize,
    /// Whether threads wait awake for a moment before they sleep, and processors are kept from halting while there is much to do.
    pub spin: bool,
    /// Whether the kernel is shown root as the owner of everything, for a user namespace that has nobody else. The filesystem
    /// keeps the true owners.
    pub squash: bool,
    /// How long the kernel may keep names and attributes without asking again; none is for ever.
    pub timeout: Option<Duration>,
    /// The kernel is shown a link count of 1 for every directory.
    pub static_nlink: bool,
    /// The kernel may gather writes before it passes them on.
    pub writeback: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            open_mode: OpenMode::for_running_kernel(),
            acl: false,
            threads: default_threads(),
            spin: true,
            squash: false,
            timeout: None,
            static_nlink: false,
            writeback: true,
        }
    }
}

/// One thread for each processor, so that a read that waits for the disk holds up nobody; no more than eight.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8))
}

/// Why a session could not begin or ended too soon.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kernel and the server did not agree.
    #[error("the kernel refused the session: {0}")]
    Handshake(#[source] io::Error),
    /// The connection broke.
    #[error("the connection to the kernel broke: {0}")]
    Broken(#[source] io::Error),
}

/// A session whose handshake is done: the mount answers as soon as [`Server::run`] is called.
#[derive(Debug)]
pub struct Server {
    session: Session<Adapter>,
    counters: Arc<Counters>,
}

impl Server {
    /// Takes over `device`, an open `/dev/fuse` that has been mounted, and agrees with the kernel on the protocol.
    ///
    /// Who may use the mount is the kernel's business (`allow_other`, `default_permissions`): the server answers everyone,
    /// since the kernel's own workers come without the owner's identity.
    pub fn new(fs: Arc<LayerFs>, device: OwnedFd, options: ServerOptions) -> Result<Self, SessionError> {
        let counters = Arc::new(Counters::default());
        let writable = fs.is_writable();
        let watched = if options.spin { device.try_clone().ok() } else { None };
        let (failed_writes, to_invalidate) = std::sync::mpsc::channel();
        let from_memory = fs.answers_from_memory();
        let (pushes, to_push) = push::channel();
        let adapter = Adapter {
            pushes: from_memory.then_some(pushes),
            steps: Walker::new(&fs).map(walk::start).transpose().map_err(SessionError::Handshake)?,
            failed_writes,
            lost: Arc::default(),
            fs: Arc::clone(&fs),
            counters: Arc::clone(&counters),
            wishes: Wishes { open_mode: options.open_mode, acl: options.acl, writable, writeback: options.writeback },
            open_mode: options.open_mode,
            view: View {
                squash: options.squash,
                static_nlink: options.static_nlink,
                timeout: options.timeout.unwrap_or(super::attr::FOREVER),
            },
            apart: Apart::default(),
            spinner: Spinner::new(watched, from_memory),
        };
        let mut config = Config::default();
        config.n_threads = Some(options.threads.max(1));
        // Each thread needs the device for itself; where it cannot be opened again they share one.
        config.clone_fd =
            rustix::fs::access("/dev/fuse", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok();
        let session = Session::from_fd(adapter, device, SessionACL::All, config).map_err(SessionError::Handshake)?;
        if writable {
            invalidate_failed_writes(session.notifier(), to_invalidate).map_err(SessionError::Handshake)?;
        }
        if from_memory {
            push::start(session.notifier(), fs, Arc::clone(&counters), to_push).map_err(SessionError::Handshake)?;
        }
        if options.acl {
            reset_root_acl(&session);
        }
        Ok(Self { session, counters })
    }

    /// How often each kind of request has come.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Tells the kernel of names that others than itself have made.
    pub fn names(&self) -> Names {
        Names { notifier: self.session.notifier() }
    }

    /// Answers requests until the filesystem is unmounted.
    pub fn run(self) -> Result<(), SessionError> {
        self.session.run().map_err(SessionError::Broken)
    }
}

/// Tells the kernel of changed names.
#[derive(Debug, Clone)]
pub struct Names {
    notifier: Notifier,
}

impl Names {
    /// The name `name` in the directory `parent` is not what the kernel remembers. Not to be called by a thread that answers requests.
    pub fn changed(&self, parent: Ino, name: &OsStr) -> io::Result<()> {
        match self.notifier.inval_entry(INodeNo(parent.0), name) {
            // The kernel remembers nothing of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Drops what the kernel's cache holds of a file after a write of it failed, or it would go on showing what was never stored.
/// From a thread of its own: the one that answers the write must not wait for the page that is being written.
fn invalidate_failed_writes(notifier: Notifier, failed: Receiver<u64>) -> io::Result<()> {
    std::thread::Builder::new().name("invalidate".to_owned()).spawn(move || {
        for ino in failed {
            if let Err(error) = notifier.inval_inode(INodeNo(ino), 0, 0) {
                log::debug!("invalidate {ino:#x}: {error}");
            }
        }
    })?;
    Ok(())
}

/// Makes the kernel keep the ACL of the root. The root's inode is older than the agreement on ACLs, and was made as one whose
/// ACL must not be kept: every walk of a path would ask for it. Invalidating the attributes makes up for that.
fn reset_root_acl(session: &Session<Adapter>) {
    if let Err(error) = session.notifier().inval_inode(INodeNo::ROOT, -1, 0) {
        log::debug!("the kernel asks for the root's ACL each time: {error}");
    }
}
