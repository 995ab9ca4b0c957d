//! Early write-back of files that will be synced.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Asks the kernel to begin writing `length` bytes from `offset` on to disk, without waiting for it
/// (sync_file_range(2)). A hint: a failure shows up in the sync that follows, and changes nothing else.
pub fn start_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    #[expect(unsafe_code, reason = "rustix has no sync_file_range")]
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the call takes no pointers.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}
