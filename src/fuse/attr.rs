//! Attributes in the protocol's terms.

use crate::fs::Attr;
use crate::model::{DeviceNumber, FileKind, Timestamp};
use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, ReplyEntry};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may keep an entry or attributes: 136 years. What changes is told to it.
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A number is never used for two objects, so one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

/// What stat(2) gives as the preferred size of reads and writes.
const BLOCK_SIZE: u32 = 4096;

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    let meta = &attr.meta;
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: meta.size,
        blocks: meta.blocks,
        atime: system_time(meta.atime),
        mtime: system_time(meta.mtime),
        ctime: system_time(meta.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(meta.kind),
        perm: meta.permissions,
        nlink: meta.nlink,
        uid: meta.uid,
        gid: meta.gid,
        rdev: encode_device(meta.device),
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// An entry that says that there is none.
pub(super) fn negative() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// A time beyond what the system can hold becomes the epoch.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let seconds = if time.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    seconds.and_then(|seconds| seconds.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

/// A device number as the protocol carries it (`new_encode_dev`, include/linux/kdev_t.h).
fn encode_device(device: DeviceNumber) -> u32 {
    (device.minor & 0xff) | (device.major << 8) | ((device.minor & !0xff) << 12)
}

/// How the kernel is to see what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Everything is shown as root's.
    pub(super) squash: bool,
    /// Every directory is shown with a link count of 1.
    pub(super) static_nlink: bool,
    /// How long the kernel may keep what it is told.
    pub(super) timeout: Duration,
}

impl View {
    /// Attributes as the kernel is to see them.
    pub(super) fn of(&self, attr: &Attr) -> FileAttr {
        let mut shown = file_attr(attr);
        if self.squash {
            (shown.uid, shown.gid) = (0, 0);
        }
        if self.static_nlink && attr.meta.kind.is_directory() {
            shown.nlink = 1;
        }
        shown
    }

    /// Answers with the entry that was made.
    pub(super) fn reply_entry(&self, made: Result<Attr, Errno>, reply: ReplyEntry) {
        match made {
            Ok(attr) => reply.entry(&self.timeout, &self.of(&attr), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_nanoseconds() {
        let time = system_time(Timestamp { seconds: -2, nanoseconds: 800_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(time).unwrap(), Duration::from_millis(1200));
        assert_eq!(system_time(Timestamp::from_seconds(5)), UNIX_EPOCH + Duration::from_secs(5));
        let _never_panics = system_time(Timestamp { seconds: i64::MIN, nanoseconds: 999_999_999 });
        let _never_panics = system_time(Timestamp { seconds: i64::MAX, nanoseconds: 999_999_999 });
    }

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(encode_device(DeviceNumber { major: 1, minor: 3 }), 0x103);
        assert_eq!(encode_device(DeviceNumber { major: 8, minor: 0x12345 }), 0x1230_0845);
    }
}
