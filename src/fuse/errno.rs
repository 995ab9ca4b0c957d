//! Which error number an error is: the one place.

use crate::fs::FsError;
use crate::union::{LayerError, Refusal};
use fuser::Errno;

/// The number of `error` as it goes to whoever made the system call.
pub(super) fn errno(error: &FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::Stale(_) => Errno::ESTALE,
        FsError::NotDirectory => Errno::ENOTDIR,
        FsError::IsDirectory => Errno::EISDIR,
        FsError::WrongKind | FsError::WhiteoutName => Errno::EINVAL,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::NoXattr => Errno::ENODATA,
        FsError::BeyondEnd => Errno::ENXIO,
        FsError::Exists => Errno::EEXIST,
        FsError::NotEmpty => Errno::ENOTEMPTY,
        FsError::CrossDevice => Errno::EXDEV,
        FsError::NotPermitted => Errno::EPERM,
        FsError::ReadOnly => Errno::EROFS,
        // Only where nobody takes it up again.
        FsError::WouldWait => Errno::EAGAIN,
        FsError::NoSuchIoctl => Errno::ENOTTY,
        FsError::NotSupported => Errno::EOPNOTSUPP,
        FsError::System(source) => system_errno(source),
        FsError::Layer(error) => layer_errno(error),
    }
}

/// The number of `error`, for those who answer system calls by other ways.
pub fn error_number(error: &FsError) -> i32 {
    errno(error).code()
}

fn layer_errno(error: &LayerError) -> Errno {
    match error {
        LayerError::NoSuchInode { .. } => Errno::ESTALE,
        LayerError::Damaged { .. } => Errno::EIO,
        LayerError::Refused { refusal, .. } => match refusal {
            Refusal::Forbidden => Errno::EPERM,
            Refusal::Malformed => Errno::EINVAL,
            Refusal::Dots => Errno::EACCES,
        },
        LayerError::Io { source, .. } => system_errno(source),
    }
}

/// The largest number that the kernel takes as an error of a reply (`fuse_dev_do_write` in fs/fuse/dev.c): what comes with a larger
/// one is no reply, and whoever waits for it waits for ever.
const MAX_ERRNO: i32 = 511;

/// What the kernel uses within itself for EOPNOTSUPP, and some file systems let out (include/linux/errno.h).
const ENOTSUPP: i32 = 524;

fn system_errno(source: &std::io::Error) -> Errno {
    match source.raw_os_error() {
        // In a reply ENOSYS turns the request off for as long as the mount lives.
        Some(ENOTSUPP | libc::ENOSYS) => Errno::EOPNOTSUPP,
        Some(number @ 1..=MAX_ERRNO) => Errno::from_i32(number),
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_that_the_kernel_takes() {
        let number = |raw| error_number(&FsError::System(std::io::Error::from_raw_os_error(raw)));
        assert_eq!(number(libc::ENOSPC), libc::ENOSPC);
        assert_eq!(number(ENOTSUPP), libc::EOPNOTSUPP);
        assert_eq!(number(libc::ENOSYS), libc::EOPNOTSUPP);
        assert_eq!(number(512), libc::EIO);
        assert_eq!(number(0), libc::EIO);
    }
}
