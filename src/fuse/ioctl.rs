//! The control requests that reach a server: those of inode attributes, which chattr(1) and lsattr(1) make.

use crate::fs::{FsError, FsResult, LayerFs};
use crate::union::Ino;

/// `_IOR('f', 1, long)` and `_IOW('f', 2, long)` (include/uapi/linux/fs.h): the numbers say long, what is passed is an int.
const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
/// `_IOR('X', 31, struct fsxattr)`. The kernel asks for it before it sets flags, whichever way these came.
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;

/// The bytes of `struct fsxattr`.
const FSXATTR_SIZE: usize = 28;

/// A flag of `FS_IOC_GETFLAGS` (`FS_…_FL`) and the same one of `FS_IOC_FSGETXATTR` (`FS_XFLAG_…`), as `fileattr_fill_flags` of
/// fs/file_attr.c pairs them: sync, immutable, append, nodump, noatime, DAX, project.
const FLAGS: [(u32, u32); 7] =
    [(0x8, 0x20), (0x10, 0x8), (0x20, 0x10), (0x40, 0x80), (0x80, 0x40), (0x0200_0000, 0x8000), (0x2000_0000, 0x200)];

/// What the request `command` is answered with.
pub(super) fn answer(fs: &LayerFs, ino: Ino, command: u32, input: &[u8]) -> FsResult<Vec<u8>> {
    match command {
        FS_IOC_GETFLAGS => fs.inode_flags(ino).map(|flags| flags.to_ne_bytes().to_vec()),
        FS_IOC_FSGETXATTR => fs.inode_flags(ino).map(|flags| fsxattr(flags).to_vec()),
        FS_IOC_SETFLAGS => {
            let flags = input.first_chunk().ok_or(FsError::WrongKind)?;
            fs.set_inode_flags(ino, u32::from_ne_bytes(*flags)).map(|()| Vec::new())
        }
        _ => Err(FsError::NoSuchIoctl),
    }
}

/// `struct fsxattr` with `flags` in it, and no project.
fn fsxattr(flags: u32) -> [u8; FSXATTR_SIZE] {
    let set = FLAGS.iter().filter(|(flag, _)| flags & flag != 0);
    let extended: u32 = set.map(|(_, extended)| extended).sum();
    let mut bytes = [0; FSXATTR_SIZE];
    for (to, from) in bytes.iter_mut().zip(extended.to_ne_bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_in_both_ways() {
        assert_eq!(fsxattr(0), [0; FSXATTR_SIZE]);
        assert_eq!(fsxattr(0x10 | 0x80 | 0x8_0000)[..4], (0x8_u32 | 0x40).to_ne_bytes());
    }
}
