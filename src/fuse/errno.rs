//! Which error number an error is: the one place.

use crate::fs::FsError;
use crate::union::LayerError;
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
        FsError::NoSuchIoctl => Errno::ENOTTY,
        FsError::NotSupported => Errno::EOPNOTSUPP,
        FsError::System(source) => source.raw_os_error().map_or(Errno::EIO, Errno::from_i32),
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
        LayerError::Io { source, .. } => source.raw_os_error().map_or(Errno::EIO, Errno::from_i32),
    }
}
