//! The root of a command: a file system of its own, served by this process.

use super::error::{BuildResult, trying};
use crate::fs::LayerFs;
use crate::fuse::{Server, ServerOptions, SessionError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a device that is not mounted yet is looked at. The kernel tells nobody of a mount; it comes within milliseconds.
const GLANCE: Duration = Duration::from_micros(200);

/// A file system being served.
#[derive(Debug)]
pub(super) struct Serving {
    thread: Option<JoinHandle<Result<(), SessionError>>>,
    given_up: Arc<AtomicBool>,
}

/// Serves `fs` as soon as the device that is returned has been mounted.
pub(super) fn serve(fs: Arc<LayerFs>) -> BuildResult<(Serving, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, Mode::empty()).map_err(trying("open /dev/fuse"))?;
    let ours = rustix::io::fcntl_dupfd_cloexec(&device, 3).map_err(trying("open /dev/fuse"))?;
    let given_up = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&given_up);
    let work = move || {
        if !wait_for_mount(&ours, &watched) {
            return Ok(());
        }
        // One command at a time uses it: two threads keep one from waiting for the other's disk.
        let options = ServerOptions { threads: 2, ..ServerOptions::default() };
        Server::new(fs, ours, options)?.run()
    };
    let thread = thread::Builder::new().name("root".to_owned()).spawn(work).map_err(trying("start a thread"))?;
    Ok((Serving { thread: Some(thread), given_up }, device))
}

/// Waits until `device` is mounted; false when nobody will mount it any more.
fn wait_for_mount(device: &OwnedFd, given_up: &AtomicBool) -> bool {
    loop {
        let mut descriptors = [PollFd::new(device, PollFlags::IN)];
        let polled = poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let [descriptor] = &descriptors;
        // Without a mount the device is in error (fs/fuse/dev.c, fuse_dev_poll).
        if polled.is_ok() && !descriptor.revents().contains(PollFlags::ERR) {
            return true;
        }
        if given_up.load(Ordering::SeqCst) {
            return false;
        }
        thread::sleep(GLANCE);
    }
}

impl Serving {
    /// Waits until the last user of the mount is gone: everything written has arrived then.
    pub(super) fn finish(mut self) -> BuildResult<()> {
        self.given_up.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let served = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served.map_err(|error| trying("serve the root of a command")(std::io::Error::other(error)))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::SeqCst);
    }
}
