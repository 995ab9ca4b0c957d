//! Requests that have to wait for the data of a file, done apart from the threads that listen.
//!
//! A copy-up copies a whole file, and a sync writes one to the disk: the few threads that listen would all wait in no time, and with
//! them every other request. So such a request is put into a queue here, with its reply, and the listener goes on.
//!
//! 1. However many requests wait for one file, they take one thread: those of an inode are done one after the other, in the order in
//!    which they came.
//! 2. The threads are bounded, as are descriptors. Nobody waits here for something that is in the queue behind it: who holds a lock is
//!    running.
//! 3. A thread stays for a moment when it has nothing to do: syncs come in quick succession.

use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// So many files are waited for at the same time.
const MOST_THREADS: usize = 8;

/// How long a thread without work stays.
const PATIENCE: Duration = Duration::from_secs(1);

/// A request with everything that it needs, its reply among it.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The queue and its threads.
#[derive(Debug, Default)]
pub(super) struct Apart(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Job)>,
    /// Inodes of which a job is being done.
    busy: HashSet<u64>,
    threads: usize,
    /// Threads that wait for work, and have not been called.
    idle: usize,
    /// Threads that have been called and have not woken up yet.
    calls: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("waiting", &self.waiting.len())
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl State {
    /// The first job whose inode nobody is busy with.
    fn take(&mut self) -> Option<(u64, Job)> {
        let free = self.waiting.iter().position(|(ino, _)| !self.busy.contains(ino))?;
        let (ino, job) = self.waiting.remove(free)?;
        self.busy.insert(ino);
        Some((ino, job))
    }
}

impl Apart {
    /// Has `job`, which is about `ino`, done by another thread, after those of the same inode that came before.
    pub(super) fn submit(&self, ino: u64, job: Job) {
        let mut state = self.0.state.lock();
        let known = state.busy.contains(&ino) || state.waiting.iter().any(|(other, _)| *other == ino);
        state.waiting.push_back((ino, job));
        if known {
            // Whoever does the one before takes this one up afterwards.
            return;
        }
        if state.idle > 0 {
            state.idle -= 1;
            state.calls += 1;
            self.0.came.notify_one();
        } else if state.threads < MOST_THREADS {
            state.threads += 1;
            drop(state);
            self.start();
        }
    }

    fn start(&self) {
        let shared = Arc::clone(&self.0);
        if let Err(error) = std::thread::Builder::new().name("apart".to_owned()).spawn(move || shared.work(PATIENCE)) {
            log::warn!("no thread for what takes long, so it is waited for: {error}");
            self.0.work(Duration::ZERO);
        }
    }
}

impl Shared {
    /// Does what there is to do, and ends when nothing has come for `patience`.
    fn work(&self, patience: Duration) {
        let mut state = self.state.lock();
        loop {
            if let Some((ino, job)) = state.take() {
                drop(state);
                // A job that panics must not keep its inode, nor this thread.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                    log::error!("{ino:#x}: a defect of layerfs");
                }
                state = self.state.lock();
                state.busy.remove(&ino);
                continue;
            }
            state.idle += 1;
            while state.calls == 0 {
                if self.came.wait_for(&mut state, patience).timed_out() && state.calls == 0 {
                    state.idle -= 1;
                    state.threads -= 1;
                    return;
                }
            }
            state.calls -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn blocked_by(until: Receiver<()>) -> Job {
        Box::new(move || until.recv().unwrap_or(()))
    }

    #[test]
    fn any_number_of_jobs_of_one_inode_take_one_thread_and_keep_their_order() {
        let apart = Apart::default();
        let (release, until) = channel();
        let (tell, told) = channel();
        apart.submit(1, blocked_by(until));
        for at in 0..100 {
            let tell = tell.clone();
            apart.submit(1, Box::new(move || tell.send(at).unwrap()));
        }
        assert_eq!(apart.0.state.lock().threads, 1);
        let (other, done) = channel();
        apart.submit(2, Box::new(move || other.send(()).unwrap()));
        done.recv().unwrap();
        assert!(told.try_recv().is_err(), "the first one is not done");
        release.send(()).unwrap();
        assert_eq!(told.iter().take(100).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn threads_are_bounded_and_everything_is_done() {
        let apart = Apart::default();
        let (tell, told) = channel();
        let releases: Vec<_> = (0..3 * MOST_THREADS as u64)
            .map(|ino| {
                let (release, until) = channel::<()>();
                let tell = tell.clone();
                let job = move || {
                    until.recv().unwrap_or(());
                    tell.send(ino).unwrap();
                };
                apart.submit(ino, Box::new(job));
                release
            })
            .collect();
        assert_eq!(apart.0.state.lock().threads, MOST_THREADS);
        drop(releases);
        let mut done: Vec<u64> = told.iter().take(3 * MOST_THREADS).collect();
        done.sort_unstable();
        assert_eq!(done, (0..3 * MOST_THREADS as u64).collect::<Vec<_>>());
    }
}
