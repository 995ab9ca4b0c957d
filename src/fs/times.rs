//! When files were last changed, where the kernel gathers writes and keeps these times itself.
//!
//! Data that the kernel writes back are older than the change that brought them: writing them must not show in the file's time. But every
//! write to the file below sets it, so it is set back. Of writes to one file that are under way at once only the last to end does so:
//! setting a time waits for all others, since the file below is locked by each of them.
//!
//! Must not know where files are: who calls reads and sets times.

use super::FsResult;
use crate::layer::upper::SetTime;
use crate::model::Timestamp;
use crate::union::Ino;
use parking_lot::Mutex;
use std::collections::HashMap;

/// What is known of these times.
#[derive(Debug, Default)]
pub(super) struct Times(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The time of the last change that the kernel knows of a file it wrote back.
    known: HashMap<Ino, Timestamp>,
    /// How many writes to a file are under way.
    writing: HashMap<Ino, u32>,
}

impl Times {
    /// The kernel has told that `ino` was last changed at `time`. To be called before the file below is changed: a write that is under
    /// way either finds it here or is done before.
    pub(super) fn tell(&self, ino: Ino, time: Timestamp) {
        self.0.lock().known.insert(ino, time);
    }

    /// `ino` is changed now, or is no longer known: what was known of its time counts no more.
    pub(super) fn forget(&self, ino: Ino) {
        self.0.lock().known.remove(&ino);
    }

    /// Gives memory back.
    pub(super) fn shrink(&self) {
        self.0.lock().known.shrink_to_fit();
    }

    /// Has the file `ino` written by `write`, which leaves the time of its last change as it is. `read` reads that time, `set` sets it.
    pub(super) fn keep<T>(
        &self,
        ino: Ino,
        read: impl FnOnce() -> FsResult<Timestamp>,
        write: impl FnOnce() -> FsResult<T>,
        set: impl Fn(SetTime) -> FsResult<()>,
    ) -> FsResult<T> {
        let known = {
            let mut state = self.0.lock();
            *state.writing.entry(ino).or_default() += 1;
            state.known.contains_key(&ino)
        };
        // Of several at once the first to get here has it from before all of them.
        let noted = if known { Ok(()) } else { read().map(|time| self.note(ino, time)) };
        let written = noted.and_then(|()| write());
        // Also where this write failed: others may have left it to this one.
        let restored = if self.ends_last(ino) { self.restore(ino, set) } else { Ok(()) };
        written.and_then(|written| restored.map(|()| written))
    }

    fn note(&self, ino: Ino, time: Timestamp) {
        self.0.lock().known.entry(ino).or_insert(time);
    }

    /// A write to `ino` has ended; returns whether no other is under way.
    fn ends_last(&self, ino: Ino) -> bool {
        let mut state = self.0.lock();
        let Some(writing) = state.writing.get_mut(&ino) else { return true };
        *writing -= 1;
        let last = *writing == 0;
        if last {
            state.writing.remove(&ino);
        }
        last
    }

    /// Sets the time that the kernel knows. Who tells another one meanwhile writes it down before setting it: so it is looked at again
    /// afterwards.
    fn restore(&self, ino: Ino, set: impl Fn(SetTime) -> FsResult<()>) -> FsResult<()> {
        let known = || self.0.lock().known.get(&ino).copied();
        let Some(mut time) = known() else { return Ok(()) };
        loop {
            set(SetTime::At(time))?;
            match known() {
                Some(now) if now == time => return Ok(()),
                Some(now) => time = now,
                // It was set to the present, or somebody wrote past the page cache.
                None => return set(SetTime::Now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FsError;
    use std::cell::RefCell;

    const OLD: Timestamp = Timestamp { seconds: 5, nanoseconds: 0 };
    const TOLD: Timestamp = Timestamp { seconds: 9, nanoseconds: 0 };

    fn nothing() -> FsResult<Timestamp> {
        panic!("the time is known")
    }

    #[test]
    fn only_the_last_of_several_writes_sets_the_time_back() {
        let (times, set) = (Times::default(), RefCell::new(Vec::new()));
        let record = |time| {
            set.borrow_mut().push(time);
            Ok(())
        };
        let inner = || times.keep(Ino(7), nothing, || Ok(1), record);
        let both = times.keep(Ino(7), || Ok(OLD), || Ok((inner()?, set.borrow().len())), record).unwrap();
        assert_eq!(both, (1, 0), "the inner one has set it");
        assert_eq!(*set.borrow(), [SetTime::At(OLD)]);
    }

    #[test]
    fn a_write_that_fails_still_sets_the_time_back_for_those_that_left_it_to_it() {
        let (times, set) = (Times::default(), RefCell::new(Vec::new()));
        let record = |time| {
            set.borrow_mut().push(time);
            Ok(())
        };
        let outer = || {
            times.keep(Ino(7), nothing, || Ok(()), record)?;
            Err::<(), _>(FsError::WrongKind)
        };
        assert!(times.keep(Ino(7), || Ok(OLD), outer, record).is_err());
        assert_eq!(*set.borrow(), [SetTime::At(OLD)]);
        times.keep(Ino(7), nothing, || Ok(()), record).unwrap();
        assert_eq!(set.borrow().len(), 2, "nobody is under way any more");
    }

    #[test]
    fn what_is_told_meanwhile_wins() {
        let (times, set) = (Times::default(), RefCell::new(Vec::new()));
        let record = |time| {
            set.borrow_mut().push(time);
            Ok(())
        };
        let told = || {
            times.tell(Ino(7), TOLD);
            Ok(())
        };
        times.keep(Ino(7), || Ok(OLD), told, record).unwrap();
        times
            .keep(
                Ino(7),
                nothing,
                || Ok(()),
                |time| {
                    times.forget(Ino(7));
                    record(time)
                },
            )
            .unwrap();
        assert_eq!(*set.borrow(), [SetTime::At(TOLD), SetTime::At(TOLD), SetTime::Now]);
    }
}
