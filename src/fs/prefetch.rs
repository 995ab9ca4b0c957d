//! Which files will be read next.
//!
//! Who copies, archives or searches a tree reads the files of a directory one after the other, in the order in which it
//! lists them. After two such reads the next small ones are worth pushing to the kernel before it asks. Reads of pushed files
//! never come here; the first that does come continues the run. Where files cannot be pushed, because they may change, the disk
//! they lie on is told to bring them.

use super::directory::LiveDirectory;
use super::{FsError, FsResult, LayerFs};
use crate::model::FileKind;
use crate::union::{Ino, Listing};
use parking_lot::Mutex;
use rustix::fs::Advice;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// The largest file that is pushed, in bytes: one request of the kernel's smallest read-ahead reads as much.
const SMALL: u64 = 128 << 10;
/// Directories whose reading is followed at a time: a walk goes down and comes back.
const FOLLOWED: usize = 16;
/// How far behind the last file the next one may stand: others may be of no interest to the reader, or be cached already.
const NEAR: usize = 64;
/// Reads in order before anything is pushed.
const ENOUGH: u32 = 2;
/// The fewest and the most files pushed at once, and the most bytes.
const FEWEST: usize = 8;
const MOST: usize = 128;
const MOST_BYTES: u64 = 2 << 20;

/// The directories that are being read, the latest first.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<VecDeque<Run>>);

/// How far one directory has been read.
#[derive(Debug)]
struct Run {
    /// Not kept alive: it may be forgotten.
    directory: Weak<LiveDirectory>,
    /// Cookie behind the last file read or pushed.
    next: u64,
    in_order: u32,
    /// Files to push next time.
    window: usize,
}

/// A file worth pushing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcoming {
    /// The file.
    pub ino: Ino,
    /// Its size in bytes.
    pub size: u64,
}

impl LayerFs {
    /// Whether every request but a read is answered without waiting for a disk, and nothing changes: then files may be pushed.
    pub fn answers_from_memory(&self) -> bool {
        !self.is_writable() && self.stack.lowers().iter().all(|layer| !layer.keeps_marks())
    }

    /// A directory is being listed: reads of its files may follow.
    pub(super) fn note_listing(&self, directory: &Arc<LiveDirectory>) {
        // Whoever has it may be reading a directory from a disk: then nothing is guessed of this one.
        let Some(mut runs) = self.runs.0.try_lock() else { return };
        if runs.iter().any(|run| std::ptr::eq(run.directory.as_ptr(), Arc::as_ptr(directory))) {
            return;
        }
        runs.truncate(FOLLOWED - 1);
        runs.push_front(Run { directory: Arc::downgrade(directory), next: 0, in_order: 0, window: FEWEST });
    }

    /// The file `ino` is being read from its beginning; returns what will be read next, when that can be told.
    pub fn upcoming(&self, ino: Ino) -> FsResult<Vec<Upcoming>> {
        let mut runs = self.runs.0.lock();
        for run in runs.iter_mut() {
            let Some(directory) = run.directory.upgrade() else { continue };
            let listing = self.listing(&directory)?;
            let found = listing.from_cookie(run.next).take(NEAR).find(|listed| listed.ino == ino);
            let Some(found) = found else { continue };
            run.next = found.cookie + 1;
            run.in_order += 1;
            if run.in_order < ENOUGH {
                break;
            }
            // The listing is not locked while files are looked at.
            let candidates = candidates(&listing, run.next, run.window);
            drop(listing);
            let (files, next) = self.small_files(&candidates, run.next, run.window)?;
            run.next = next;
            run.window = (run.window * 2).min(MOST);
            return Ok(files);
        }
        Ok(Vec::new())
    }

    /// Has the disk bring a file to memory, without waiting for it.
    pub(super) fn will_need(&self, file: Upcoming) -> FsResult<()> {
        let source = self.data_source(file.ino)?;
        let Some((backing, start)) = self.layer(source)?.backing_file(source.ino)? else { return Ok(()) };
        rustix::fs::fadvise(backing, start, std::num::NonZeroU64::new(file.size), Advice::WillNeed)
            .map_err(|error| FsError::System(error.into()))
    }

    /// Up to `count` small files among `candidates`, and the cookie behind them; `next` when there are none.
    fn small_files(&self, candidates: &[(u64, Ino)], mut next: u64, count: usize) -> FsResult<(Vec<Upcoming>, u64)> {
        let (mut files, mut bytes) = (Vec::new(), 0);
        for &(cookie, ino) in candidates {
            if files.len() >= count || bytes >= MOST_BYTES {
                break;
            }
            next = cookie + 1;
            let size = self.getattr(ino)?.meta.size;
            if (1..=SMALL).contains(&size) {
                bytes += size;
                files.push(Upcoming { ino, size });
            }
        }
        Ok((files, next))
    }
}

/// The next files of `listing` from the cookie `next` on, twice as many as are wanted: some are not small.
fn candidates(listing: &Listing, next: u64, wanted: usize) -> Vec<(u64, Ino)> {
    let files = listing.from_cookie(next).filter(|listed| listed.kind == FileKind::File);
    files.map(|listed| (listed.cookie, listed.ino)).take(2 * wanted).collect()
}
