//! Large writes past the page cache of the file system below.
//!
//! 1. *Data that the mount hands over lie in its own page cache already.* A second copy in the pages of the file below costs more
//!    than the disk does: each page is allocated, copied into and written back. So what belongs to a large file goes to the disk from
//!    here (`O_DIRECT`).
//! 2. *Direct writes want aligned memory, offsets and lengths*: data are copied into an aligned buffer of the thread; the end of a
//!    file that is no multiple goes through the page cache.
//! 3. *The beginning of a file stays cached*, up to [`DIRECT_FROM`]: most files end before it, and are read again soon, by a commit for one.
//! 4. *Not every file system can*: the first refusal is the last attempt. tmpfs takes direct writes and copies into pages all the
//!    same, so it is not asked: it names no alignment.
//! 5. *A slow disk is not to be waited for*: when a direct write took long, the next [`RESPITE`] bytes go through the page cache, which
//!    takes them as fast as memory does and has them written later.
//!
//! Must not know inodes: who calls has the descriptor.

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Direct-I/O alignment (include/uapi/linux/stat.h).
const STATX_DIOALIGN: StatxFlags = StatxFlags::from_bits_retain(0x2000);
/// Bytes at the beginning of a file that go through the page cache.
pub(super) const DIRECT_FROM: u64 = 64 << 20;
/// Smaller writes are not worth a transfer of their own, in bytes.
const SMALLEST: usize = 256 << 10;
/// What memory, offset and length of a direct write are multiples of: the largest block of common disks, and a page.
const ALIGN: usize = 4096;
/// A disk is slow when a mebibyte takes longer than this: 125 MiB/s.
const SLOW: Duration = Duration::from_millis(8);
/// Bytes that go through the page cache after a slow write, before the disk is tried again.
const RESPITE: u64 = 256 << 20;

thread_local! {
    /// The memory of a direct write: kept, since it is as large as the largest request and each of its pages would be cleared anew.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Which writes to one file system go past the page cache.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// The file system cannot.
    refused: AtomicBool,
    /// It was found to be able to.
    suits: AtomicBool,
    /// How many are being written.
    under_way: AtomicU32,
    /// Bytes still to go through the page cache, because the disk is slow.
    respite: AtomicU64,
}

impl Direct {
    /// Whether files like `file` can be written so; found out once.
    pub(super) fn suits(&self, file: &OwnedFd) -> bool {
        if !self.suits.load(Ordering::Relaxed) {
            self.suits.store(is_possible(file), Ordering::Relaxed);
        }
        self.suits.load(Ordering::Relaxed)
    }

    /// How many of `length` bytes at `offset` are to be written by [`Self::write`]; the others go through the page cache.
    pub(super) fn share(&self, offset: u64, length: usize) -> usize {
        if offset < DIRECT_FROM
            || length < SMALLEST
            || !offset.is_multiple_of(ALIGN as u64)
            || self.refused.load(Ordering::Relaxed)
        {
            return 0;
        }
        let left = self.respite.load(Ordering::Relaxed);
        if left > 0 {
            // Of two writes at once one may be forgotten: it is a hint.
            self.respite.store(left.saturating_sub(length as u64), Ordering::Relaxed);
            return 0;
        }
        length - length % ALIGN
    }

    /// Writes `data` to `file`, which was opened with `O_DIRECT`; returns how many bytes it took: the rest is
    /// for the page cache.
    pub(super) fn write(&self, file: &OwnedFd, offset: u64, data: &[u8]) -> io::Result<usize> {
        let (written, elapsed) = BUFFER.with_borrow_mut(|buffer| {
            let aligned = copy_aligned(buffer, data);
            let begin = Instant::now();
            self.under_way.fetch_add(1, Ordering::Relaxed);
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, aligned, offset));
            // Each waited for the others: they lock the file.
            let writers = self.under_way.fetch_sub(1, Ordering::Relaxed);
            (written, begin.elapsed() / writers.max(1))
        });
        let written = match written {
            Err(Errno::INVAL) => {
                self.refuse();
                return Ok(0);
            }
            result => result?,
        };
        let pace = SLOW.mul_f64(written as f64 / f64::from(1 << 20));
        if elapsed > pace {
            self.respite.store(RESPITE, Ordering::Relaxed);
        }
        Ok(written)
    }

    /// The file system cannot: it is not asked again.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }
}

/// Copies `data` into `buffer`, to where it is aligned.
fn copy_aligned<'a>(buffer: &'a mut Vec<u8>, data: &[u8]) -> &'a [u8] {
    buffer.clear();
    buffer.reserve_exact(data.len() + ALIGN);
    let margin = buffer.as_ptr().align_offset(ALIGN).min(ALIGN);
    buffer.resize(margin, 0);
    buffer.extend_from_slice(data);
    buffer.get(margin..).unwrap_or_default()
}

/// Whether `file` says what a direct write to it has to be aligned to, and [`ALIGN`] is a multiple (`STATX_DIOALIGN`, Linux 6.1).
fn is_possible(file: &OwnedFd) -> bool {
    let Ok(stat) = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, STATX_DIOALIGN) else { return false };
    let alignments = [stat.stx_dio_mem_align, stat.stx_dio_offset_align];
    let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(STATX_DIOALIGN);
    known && alignments.iter().all(|&alignment| alignment > 0 && (ALIGN as u32).is_multiple_of(alignment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_large_aligned_and_late_goes_past_the_cache() {
        let direct = Direct::default();
        assert_eq!(direct.share(DIRECT_FROM, SMALLEST), SMALLEST);
        assert_eq!(direct.share(DIRECT_FROM, SMALLEST + 5), SMALLEST);
        assert_eq!(direct.share(DIRECT_FROM - 4096, SMALLEST), 0);
        assert_eq!(direct.share(DIRECT_FROM + 1, SMALLEST), 0);
        assert_eq!(direct.share(DIRECT_FROM, SMALLEST - 1), 0);
        direct.respite.store(SMALLEST as u64, Ordering::Relaxed);
        assert_eq!(direct.share(DIRECT_FROM, SMALLEST), 0, "the disk was slow");
        assert_eq!(direct.share(DIRECT_FROM, SMALLEST), SMALLEST, "it is tried again");
        direct.refuse();
        assert_eq!(direct.share(DIRECT_FROM, SMALLEST), 0);
    }

    #[test]
    fn memory_is_aligned_whatever_came_before() {
        let mut buffer = Vec::new();
        for length in [ALIGN, SMALLEST, 3, 1 << 20] {
            let data: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let aligned = copy_aligned(&mut buffer, &data);
            assert_eq!(aligned, data);
            assert_eq!(aligned.as_ptr().align_offset(ALIGN), 0);
        }
    }
}
