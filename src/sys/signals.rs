//! Signals taken one by one by a thread, instead of by handlers.

use std::io;

/// A set of signals that the whole process takes by [`SignalSet::wait`].
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalSet")
    }
}

impl SignalSet {
    /// The set of `signals`, kept from the calling thread and from every thread that it starts from now on.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let mut set = Self::empty();
        for &signal in signals {
            set.add(signal)?;
        }
        set.block_in_this_thread()?;
        Ok(set)
    }

    #[expect(unsafe_code, reason = "rustix has no signal sets")]
    fn empty() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that it is given, and cannot fail with a valid pointer.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    #[expect(unsafe_code, reason = "rustix has no signal sets")]
    fn add(&mut self, signal: i32) -> io::Result<()> {
        // SAFETY: the set is initialised; a number that is no signal is refused.
        if unsafe { libc::sigaddset(&raw mut self.0, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "rustix has no signal masks")]
    fn block_in_this_thread(&self) -> io::Result<()> {
        // SAFETY: the set is initialised; the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const self.0, std::ptr::null_mut()) } {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }

    /// Waits for the next signal of the set and returns its number.
    #[expect(unsafe_code, reason = "rustix has no sigwait")]
    pub fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(signal),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }
}

/// Whether this process ignores `signal`, by the wish of whoever started it.
#[expect(unsafe_code, reason = "rustix has no signal actions")]
pub fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: no action is set; the old one is written to where there is room for one.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: a successful call has written it.
    known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
