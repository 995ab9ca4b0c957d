//! Keeping idle processors from halting while requests come one after the other.
//!
//! A request and its answer wake one thread each. In a virtual machine an idle processor halts by way of the hypervisor, and so
//! does the interrupt that wakes it: that costs several times what the request does, on both sides. A processor that idles by
//! polling sees by itself that it has something to do. The kernel lets root ask for that (`/dev/cpu_dma_latency`,
//! Documentation/power/pm_qos_interface.rst), for all processors at once. So it is asked for only
//!
//! 1. where halting is that dear: in a guest, told by the driver of its idle processors;
//! 2. with few processors, for all those that idle are kept from halting;
//! 3. after a number of requests in quick succession, and no longer than they go on.
//!
//! The wish is bound to the descriptor: it ends with the server, however that ends.

use log::debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// The driver of idle processors in guests (drivers/cpuidle/cpuidle-haltpoll.c), which polls only when no latency at all is taken.
const GUEST_DRIVER: &str = "haltpoll";
const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";
const DEVICE: &str = "/dev/cpu_dma_latency";
/// With more processors too many would poll for nothing.
const MOST_PROCESSORS: usize = 4;
/// Requests in quick succession before processors are kept awake: what the wish costs, several times over.
const STREAK: u32 = 16;
/// Without a request for so long processors may halt again; waits for a disk are mostly shorter.
const PATIENCE: Duration = Duration::from_millis(2);
/// Latencies in microseconds: none, and any (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`, include/linux/pm_qos.h).
const NONE: i32 = 0;
const ANY: i32 = 2_000_000_000;

/// Keeps processors awake while there is much to do.
#[derive(Debug, Default)]
pub(super) struct Awake(Option<Keeper>);

#[derive(Debug)]
struct Keeper {
    state: Arc<State>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct State {
    /// Processors are kept awake, or are about to be.
    held: AtomicBool,
    /// Requests while that is so; wraps.
    requests: AtomicU64,
    /// Requests that came in quick succession.
    streak: AtomicU32,
    over: AtomicBool,
}

impl Awake {
    /// Where it is of use and allowed; otherwise one that does nothing.
    pub(super) fn new() -> Self {
        let is_guest = std::fs::read_to_string(DRIVER).is_ok_and(|driver| driver.trim() == GUEST_DRIVER);
        let processors = std::thread::available_parallelism().map_or(usize::MAX, std::num::NonZero::get);
        if !is_guest || processors > MOST_PROCESSORS {
            return Self(None);
        }
        let device = OpenOptions::new().write(true).open(DEVICE);
        match device.and_then(|device| Keeper::start(device, PATIENCE)) {
            Ok(keeper) => Self(Some(keeper)),
            Err(error) => {
                debug!("processors halt between requests: {DEVICE}: {error}");
                Self(None)
            }
        }
    }

    /// A request has been answered; returns whether processors are kept awake, so that it is best to sleep at once.
    pub(super) fn request(&self) -> bool {
        let Some(keeper) = &self.0 else { return false };
        let held = keeper.state.held.load(Ordering::Relaxed);
        if held {
            keeper.state.requests.fetch_add(1, Ordering::Relaxed);
        }
        held
    }

    /// Someone waited for a request for a moment, and one came, or not.
    pub(super) fn waited(&self, came: bool) {
        let Some(keeper) = &self.0 else { return };
        if keeper.state.is_streak(came) && !keeper.state.held.swap(true, Ordering::Relaxed) {
            keeper.thread.unpark();
        }
    }
}

impl Keeper {
    /// Starts the thread that tells `device` what is wished, and withdraws the wish after `patience` without a request.
    fn start(mut device: File, patience: Duration) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        device.write_all(&ANY.to_ne_bytes())?;
        let thread = std::thread::Builder::new().name("awake".to_owned()).spawn(move || {
            while !shared.over.load(Ordering::Relaxed) {
                std::thread::park();
                if shared.held.load(Ordering::Relaxed)
                    && let Err(error) = shared.hold(&mut device, patience)
                {
                    debug!("processors halt between requests: {DEVICE}: {error}");
                    return;
                }
            }
        })?;
        Ok(Self { state, thread: thread.thread().clone() })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl State {
    /// Counts a request that came, or did not; returns whether enough came one after the other.
    fn is_streak(&self, came: bool) -> bool {
        let streak = if came { self.streak.load(Ordering::Relaxed) + 1 } else { 0 };
        let enough = streak >= STREAK;
        self.streak.store(if enough { 0 } else { streak }, Ordering::Relaxed);
        enough
    }

    /// Keeps processors awake until no request has come for `patience`.
    fn hold(&self, device: &mut File, patience: Duration) -> io::Result<()> {
        device.write_all(&NONE.to_ne_bytes())?;
        let mut seen = self.requests.load(Ordering::Relaxed);
        loop {
            std::thread::sleep(patience);
            let now = self.requests.load(Ordering::Relaxed);
            if now == seen || self.over.load(Ordering::Relaxed) {
                break;
            }
            seen = now;
        }
        self.held.store(false, Ordering::Relaxed);
        device.write_all(&ANY.to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn enough_requests_in_succession_are_a_streak() {
        let state = State::default();
        assert!((1..STREAK).all(|_| !state.is_streak(true)));
        assert!(!state.is_streak(false), "a pause begins anew");
        assert!((1..STREAK).all(|_| !state.is_streak(true)));
        assert!(state.is_streak(true));
        assert!(!state.is_streak(true));
    }

    #[test]
    fn the_wish_is_withdrawn() {
        let mut device = tempfile::tempfile().unwrap();
        let state = State { held: AtomicBool::new(true), ..State::default() };
        state.hold(&mut device, Duration::ZERO).unwrap();
        assert!(!state.held.load(Ordering::Relaxed));
        let mut written = Vec::new();
        device.rewind().unwrap();
        device.read_to_end(&mut written).unwrap();
        assert_eq!(written, [NONE.to_ne_bytes(), ANY.to_ne_bytes()].concat());
    }
}
