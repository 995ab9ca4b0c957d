//! Waiting for the next request: awake, and by one thread only.
//!
//! 1. Going to sleep and being woken costs a server thread more than most requests. So a thread that has answered one looks
//!    for the next for a moment, by poll(2), before it goes back to the blocking read; only as long as the pause is worth it:
//!    an idle mount uses no processor.
//! 2. The kernel wakes a sleeping reader for every request, also for one that a waking reader takes. So where requests are
//!    answered from memory one thread listens, and the others are parked here, outside of the kernel. One of them is called
//!    when the listener finds more than one request, or is about to wait for a disk.
//! 3. Where processors can be kept from halting ([`Awake`]), looking for requests is of use only until that is so.

use super::awake::Awake;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks for the next request: about what sleeping and waking cost, several times over, because whoever
/// makes the requests works between them.
const PATIENCE: Duration = Duration::from_micros(200);

thread_local! {
    /// Whether this thread counts as a listener.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    /// Calls the parked threads when this one ends: then the mount has gone.
    static END: RefCell<Option<End>> = const { RefCell::new(None) };
}

/// Lets server threads wait.
#[derive(Debug)]
pub(super) struct Spinner {
    device: Option<OwnedFd>,
    spinning: AtomicBool,
    /// None where any request may take long: then every thread listens.
    parking: Option<Arc<Parking>>,
    awake: Awake,
}

#[derive(Debug, Default)]
struct Parking {
    state: Mutex<State>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that read requests or are about to.
    listeners: usize,
    parked: usize,
    /// Parked threads that have been called and count as listeners already.
    calls: usize,
    /// The mount has gone: nobody parks any more.
    over: bool,
}

#[derive(Debug)]
struct End(Arc<Parking>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.state.lock().over = true;
        self.0.called.notify_all();
    }
}

impl Parking {
    /// Calls a parked thread when nobody listens.
    fn call_one(&self) {
        let mut state = self.state.lock();
        if state.parked > state.calls && state.listeners == 0 {
            state.calls += 1;
            state.listeners += 1;
            self.called.notify_one();
        }
    }

    /// Makes this thread the listener, or parks it until it is called; false when it has been called.
    fn listen_or_park(&self) -> bool {
        let mut state = self.state.lock();
        if state.listeners == 0 || state.over {
            state.listeners += 1;
            return true;
        }
        state.parked += 1;
        while state.calls == 0 && !state.over {
            self.called.wait(&mut state);
        }
        state.parked -= 1;
        if state.calls > 0 {
            state.calls -= 1;
        } else {
            state.listeners += 1;
        }
        false
    }
}

impl Spinner {
    /// Watches `device`, a descriptor of the connection; none waits asleep only. `from_memory` says that no request but a
    /// read takes long.
    pub(super) fn new(device: Option<OwnedFd>, from_memory: bool) -> Self {
        let parking = (from_memory && device.is_some()).then(Arc::default);
        let awake = if device.is_some() { Awake::new() } else { Awake::default() };
        Self { device, spinning: AtomicBool::new(false), parking, awake }
    }

    /// Whether threads are parked, so that one has to be called before this one waits for a disk.
    pub(super) fn parks(&self) -> bool {
        self.parking.is_some()
    }

    /// A request has come: this thread does not listen until it has answered.
    pub(super) fn begin(&self) {
        let Some(parking) = &self.parking else { return };
        if !LISTENING.replace(false) {
            return;
        }
        let parked = {
            let mut state = parking.state.lock();
            state.listeners = state.listeners.saturating_sub(1);
            state.parked
        };
        if parked > 0 && self.is_pending() {
            parking.call_one();
        }
    }

    /// This thread is about to wait for a disk: another one listens meanwhile.
    pub(super) fn hand_over(&self) {
        if let Some(parking) = &self.parking {
            parking.call_one();
        }
    }

    /// Waits for the next request: a moment, or parked until called.
    pub(super) fn wait(&self) {
        self.begin();
        if let Some(parking) = &self.parking {
            END.with_borrow_mut(|end| {
                end.get_or_insert_with(|| End(Arc::clone(parking)));
            });
            let found_nobody = parking.listen_or_park();
            LISTENING.set(true);
            if !found_nobody {
                return;
            }
        }
        self.spin();
    }

    fn spin(&self) {
        if self.awake.request() {
            // Processors are kept awake: sleeping costs less than looking.
            return;
        }
        if self.device.is_none() || self.spinning.swap(true, Ordering::Acquire) {
            return;
        }
        let begin = Instant::now();
        let came = loop {
            if self.is_pending() {
                break true;
            }
            if begin.elapsed() >= PATIENCE {
                break false;
            }
            std::hint::spin_loop();
        };
        self.spinning.store(false, Ordering::Release);
        self.awake.waited(came);
    }

    /// Whether the device has something to read, be it that the mount has gone.
    fn is_pending(&self) -> bool {
        let Some(device) = &self.device else { return true };
        let mut descriptors = [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Whatever is wrong with the device, the blocking read that follows will tell.
        !matches!(poll(&mut descriptors, Some(&now)), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_listens_and_the_others_are_called_when_needed() {
        let parking = Arc::new(Parking::default());
        assert!(parking.listen_or_park());
        let (tell, told) = channel();
        let other = Arc::clone(&parking);
        let thread = std::thread::spawn(move || {
            let found_nobody = other.listen_or_park();
            tell.send(()).unwrap();
            found_nobody
        });
        while parking.state.lock().parked == 0 {
            std::thread::yield_now();
        }
        parking.call_one();
        assert!(told.try_recv().is_err(), "somebody listens already");
        parking.state.lock().listeners -= 1;
        parking.call_one();
        told.recv().unwrap();
        assert!(!thread.join().unwrap());
        assert_eq!(parking.state.lock().listeners, 1);
    }

    #[test]
    fn nobody_stays_parked_when_a_thread_ends() {
        let parking = Arc::new(Parking::default());
        assert!(parking.listen_or_park());
        let other = Arc::clone(&parking);
        let parked = std::thread::spawn(move || other.listen_or_park());
        while parking.state.lock().parked == 0 {
            std::thread::yield_now();
        }
        drop(End(Arc::clone(&parking)));
        assert!(!parked.join().unwrap());
        assert!(parking.listen_or_park());
    }
}
