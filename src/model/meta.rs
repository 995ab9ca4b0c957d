//! What stat tells of an object.

use std::time::Duration;

/// The type of a filesystem object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileKind {
    /// The `S_IFMT` bits of this kind (inode(7)).
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
        }
    }

    /// The kind in the `S_IFMT` bits of `mode`; none when they name no kind.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// Whether this is a directory.
    pub fn is_directory(self) -> bool {
        self == Self::Directory
    }
}

/// A point in time: seconds since the epoch, which may be negative, and 0 to 999,999,999 nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds, rounded towards the past.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// `seconds` after the epoch.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Whether it is no later than `earlier` and as long as `within`.
    pub fn is_soon_after(self, earlier: Self, within: Duration) -> bool {
        let nanoseconds = |time: Self| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        nanoseconds(self) <= nanoseconds(earlier) + i128::try_from(within.as_nanos()).unwrap_or(i128::MAX / 2)
    }
}

/// A device number, major and minor apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceNumber {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl DeviceNumber {
    /// The number as `st_rdev` carries it.
    pub fn to_rdev(self) -> u64 {
        libc::makedev(self.major, self.minor)
    }

    /// Major and minor of an `st_rdev`.
    pub fn from_rdev(rdev: u64) -> Self {
        Self { major: libc::major(rdev), minor: libc::minor(rdev) }
    }
}

/// Metadata of one object as its layer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The type.
    pub kind: FileKind,
    /// Permission, setuid, setgid and sticky bits: `mode & 0o7777`.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names, at least 1.
    pub nlink: u32,
    /// Device number of a character or block device, 0/0 otherwise.
    pub device: DeviceNumber,
    /// Size in bytes: of the data of a file, of the target of a symlink.
    pub size: u64,
    /// Space in use, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of metadata.
    pub ctime: Timestamp,
}

impl Meta {
    /// Type and permission bits as `st_mode` carries them.
    pub fn mode(&self) -> u32 {
        self.kind.mode_bits() | u32::from(self.permissions)
    }
}
