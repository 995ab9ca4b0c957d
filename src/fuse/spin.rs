//! Waiting awake.
//!
//! Going to sleep and being woken costs a server thread more than most requests. So a thread that has answered one looks
//! for the next for a moment, by poll(2), before it goes back to the blocking read. At most one thread does so at a
//! time, and only as long as the pause is worth it: an idle mount uses no processor.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks for the next request: about what sleeping and waking cost, several times over, because whoever
/// makes the requests works between them.
const PATIENCE: Duration = Duration::from_micros(200);

/// Lets server threads wait awake.
#[derive(Debug)]
pub(super) struct Spinner {
    device: Option<OwnedFd>,
    busy: AtomicBool,
    patience: Duration,
}

impl Spinner {
    /// Watches `device`, a descriptor of the connection; none waits asleep only.
    pub(super) fn new(device: Option<OwnedFd>) -> Self {
        let patience = std::env::var("LAYERFS_SPIN_US").ok().and_then(|text| text.parse().ok());
        Self { device, busy: AtomicBool::new(false), patience: patience.map_or(PATIENCE, Duration::from_micros) }
    }

    /// Waits for the next request, a moment at the most.
    pub(super) fn wait(&self) {
        let Some(device) = &self.device else { return };
        if self.patience.is_zero() || self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        let begin = Instant::now();
        while begin.elapsed() < self.patience {
            let mut descriptors = [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            // Whatever is wrong with the device, the blocking read that follows will tell.
            if !matches!(poll(&mut descriptors, Some(&now)), Ok(0)) {
                break;
            }
            std::hint::spin_loop();
        }
        self.busy.store(false, Ordering::Release);
    }
}
