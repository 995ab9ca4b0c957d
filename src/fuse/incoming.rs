//! What the protocol asks for, in the filesystem's terms.

use crate::fs::RenameMode;
use crate::layer::upper::{Changes, NewKind, NewObject, SetTime, XattrMode};
use crate::model::{DeviceNumber, FileKind, Timestamp};
use crate::sys::{Caller, Creator};
use fuser::{Request, TimeOrNow};
use std::time::{SystemTime, UNIX_EPOCH};

/// A time as the protocol library hands it in. Of times before 1970 it counts seconds and nanoseconds both down from the epoch,
/// where the kernel meant nanoseconds after negative seconds.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

/// A time as it is handed in, of before 1970 as well.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp { seconds: after.as_secs() as i64, nanoseconds: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            Timestamp { seconds, nanoseconds: before.subsec_nanos() }
        }
    }
}

/// A device number as the protocol carries it (`new_decode_dev`, include/linux/kdev_t.h).
pub(super) fn decode_device(device: u32) -> DeviceNumber {
    DeviceNumber { major: (device & 0xf_ff00) >> 8, minor: (device & 0xff) | ((device >> 12) & 0xf_ff00) }
}

/// Who makes something.
pub(super) fn creator(request: &Request, umask: u32) -> Creator {
    Creator { uid: request.uid(), gid: request.gid(), umask: umask & 0o777 }
}

/// Who asks.
pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), tid: request.pid() }
}

/// Who asks, where it is done without the rights of root, of whom the protocol tells only the number.
pub(super) fn unprivileged(request: &Request) -> Option<Caller> {
    Some(caller(request)).filter(|caller| caller.uid != 0)
}

/// The new object that a request wants; none for a type that does not exist.
pub(super) fn new_node<'a>(request: &Request, mode: u32, umask: u32, device: u32) -> Option<NewObject<'a>> {
    let kind = match FileKind::from_mode(mode) {
        Some(FileKind::File) => NewKind::File,
        None if mode & libc::S_IFMT == 0 => NewKind::File,
        Some(kind @ (FileKind::CharDevice | FileKind::BlockDevice)) => NewKind::Special(kind, decode_device(device)),
        Some(kind @ (FileKind::Fifo | FileKind::Socket)) => NewKind::Special(kind, DeviceNumber::default()),
        _ => return None,
    };
    Some(NewObject { kind, permissions: mode & 0o7777, creator: creator(request, umask) })
}

/// What is to be changed.
pub(super) fn changes(
    mode: Option<u32>,
    (uid, gid): (Option<u32>, Option<u32>),
    size: Option<u64>,
    (atime, mtime): (Option<TimeOrNow>, Option<TimeOrNow>),
) -> Changes {
    Changes {
        permissions: mode.map(|mode| mode & 0o7777),
        uid,
        gid,
        size,
        atime: atime.map(set_time),
        mtime: mtime.map(set_time),
    }
}

/// How an extended attribute is set.
pub(super) fn xattr_mode(flags: i32) -> XattrMode {
    match flags {
        libc::XATTR_CREATE => XattrMode::Create,
        libc::XATTR_REPLACE => XattrMode::Replace,
        _ => XattrMode::Set,
    }
}

/// How a rename is meant; none for what overlayfs does not do either.
pub(super) fn rename_mode(flags: fuser::RenameFlags) -> Option<RenameMode> {
    match flags.bits() {
        0 => Some(RenameMode::Replace),
        libc::RENAME_NOREPLACE => Some(RenameMode::NoReplace),
        libc::RENAME_EXCHANGE => Some(RenameMode::Exchange),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_before_the_epoch_are_turned_back() {
        // The kernel's -2 s + 800 ms as the library hands it in.
        let handed = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(timestamp(handed), Timestamp { seconds: -2, nanoseconds: 800_000_000 });
        assert_eq!(timestamp(UNIX_EPOCH + Duration::new(5, 6)), Timestamp { seconds: 5, nanoseconds: 6 });
    }

    #[test]
    fn device_numbers_are_decoded_as_the_kernel_does() {
        assert_eq!(decode_device(0x103), DeviceNumber { major: 1, minor: 3 });
        assert_eq!(decode_device(0x1230_0845), DeviceNumber { major: 8, minor: 0x12345 });
    }
}
