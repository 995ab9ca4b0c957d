//! What is done to both file systems: random operations of several users, with whatever a system call lets one say.

use crate::oracle::operations::{NAMES, Random};
use rustix::fs::{
    Access, AtFlags, FallocateFlags, FileType, FlockOperation, IFlags, OFlags, RenameFlags, UTIME_NOW, UTIME_OMIT,
    XattrFlags,
};

/// Descriptors that are held open for a while.
pub(super) const SLOTS: usize = 5;

/// One operation, and who does it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The user, and the group of the same number.
    pub(super) who: u32,
    pub(super) umask: u32,
    pub(super) operation: Operation,
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Name(String, OnName),
    Names(String, String, OnNames),
    Slot(usize, OnSlot),
}

/// What is done to one path.
#[derive(Debug, Clone)]
pub(super) enum OnName {
    /// And kept in a slot.
    Open(OFlags, u32, usize),
    /// `O_TMPFILE`, closed at once.
    Temporary,
    Create(u32),
    MakeDirectory(u32),
    SymlinkTo(String),
    Node(FileType, u32, u64),
    Unlink,
    RemoveDirectory,
    Resize(u64),
    Chmod(u32),
    Chown(Option<u32>, Option<u32>, AtFlags),
    /// Nanoseconds, or `UTIME_NOW`, `UTIME_OMIT`: of access, of modification.
    Times(i64, i64, AtFlags),
    SetXattr(&'static str, Vec<u8>, XattrFlags, Links),
    RemoveXattr(&'static str),
    GetXattr(&'static str),
    ListXattrs,
    Access(Access),
    Stat(AtFlags),
    Statx(AtFlags),
    ReadLink,
    List,
    Read,
    StatFs,
}

/// What is done to a symlink at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Followed,
    Not,
}

/// What is done to two paths.
#[derive(Debug, Clone)]
pub(super) enum OnNames {
    Link(AtFlags),
    Rename(RenameFlags),
}

/// What is done to an open descriptor.
#[derive(Debug, Clone)]
pub(super) enum OnSlot {
    Write(u64, usize, u8),
    Append(usize, u8),
    Read,
    Truncate(u64),
    Chmod(u32),
    /// By its name in `/proc/self/fd`, which does for `O_PATH` too.
    ChmodByName(u32),
    Chown(Option<u32>, Option<u32>),
    Stat,
    List,
    OpenAt(&'static str, OFlags, u32, usize),
    MakeDirectoryAt(&'static str),
    UnlinkAt(&'static str, AtFlags),
    RenameAt(&'static str, usize, &'static str),
    LinkEmpty(String),
    LinkByName(String),
    Reopen(OFlags, usize),
    Allocate(FallocateFlags, u64, u64),
    CopyTo(usize, u64, u64, usize),
    SendTo(usize, usize),
    SetXattr(&'static str, u8),
    GetXattr(&'static str),
    ListXattrs,
    Sync,
    Lock(FlockOperation),
    SeekToEnd,
    Times,
    Attributes,
    SetAttributes(IFlags),
    Close,
}

/// A random step.
pub(super) fn random_step(random: &mut Random) -> Step {
    let who = *random.pick(&[0, 0, 0, 1000, 2000]);
    let umask = *random.pick(&[0o022, 0, 0o077]);
    let path = random_path(random);
    let operation = match random.below(164) {
        0..94 => Operation::Name(path, on_name(random)),
        94..110 => {
            let other = random_path(random);
            Operation::Names(path, other, on_names(random))
        }
        _ => Operation::Slot(slot(random), on_slot(random)),
    };
    Step { who, umask, operation }
}

/// What is done in place of something on a slot that is empty.
pub(super) fn fill(random: &mut Random, slot: usize) -> Operation {
    let flags = *random.pick(&[OFlags::RDONLY, OFlags::RDWR, OFlags::RDWR, OFlags::RDWR | OFlags::CREATE]);
    Operation::Name(random_path(random), OnName::Open(flags | OFlags::NONBLOCK | OFlags::CLOEXEC, mode(random), slot))
}

fn on_name(random: &mut Random) -> OnName {
    use OnName as O;
    let follow = *random.pick(&[AtFlags::empty(), AtFlags::SYMLINK_NOFOLLOW]);
    match random.below(100) {
        0..14 => O::Open(open_flags(random), mode(random), slot(random)),
        14 => O::Temporary,
        15..22 => O::Create(mode(random)),
        22..30 => O::MakeDirectory(*random.pick(&[0o755, 0o777, 0o2775, 0o1777, 0o700])),
        30..33 => O::SymlinkTo(symlink_target(random)),
        33..37 => {
            use FileType as T;
            let kinds =
                [T::Fifo, T::Socket, T::RegularFile, T::CharacterDevice, T::BlockDevice, T::Directory, T::Symlink];
            let device = *random.pick(&[0, rustix::fs::makedev(1, 3), rustix::fs::makedev(7, 5)]);
            O::Node(*random.pick(&kinds), mode(random), device)
        }
        37..44 => O::Unlink,
        44..49 => O::RemoveDirectory,
        49..52 => O::Resize(*random.pick(&[0, 1, 5000, 100_000, u64::MAX])),
        52..58 => O::Chmod(mode(random)),
        58..64 => O::Chown(owner(random), owner(random), follow),
        64..68 => {
            let (now, omit) = (UTIME_NOW, UTIME_OMIT);
            let (access, modification) =
                *random.pick(&[(now, now), (omit, now), (5, omit), (7, 8), (omit, omit), (now, omit), (omit, 9)]);
            O::Times(access, modification, follow)
        }
        68..76 => {
            let (name, flags) = (random.pick::<&str>(XATTRS), xattr_flags(random));
            let links = if random.below(5) == 0 { Links::Not } else { Links::Followed };
            O::SetXattr(name, xattr_value(random, name), flags, links)
        }
        76..79 => O::RemoveXattr(random.pick::<&str>(XATTRS)),
        79..81 => O::GetXattr(random.pick::<&str>(XATTRS)),
        81..83 => O::ListXattrs,
        83..86 => O::Access(Access::from_bits_retain(random.below(8) as u32)),
        86..89 => O::Stat(follow),
        89 => O::Statx(follow),
        90..92 => O::ReadLink,
        92..95 => O::List,
        95..99 => O::Read,
        _ => O::StatFs,
    }
}

fn on_names(random: &mut Random) -> OnNames {
    use RenameFlags as F;
    match random.below(16) {
        0..3 => OnNames::Link(AtFlags::empty()),
        3 => OnNames::Link(AtFlags::SYMLINK_FOLLOW),
        4..10 => OnNames::Rename(F::empty()),
        10 => OnNames::Rename(F::NOREPLACE),
        11..14 => OnNames::Rename(F::EXCHANGE),
        14 => OnNames::Rename(F::WHITEOUT),
        _ => {
            let odd = [F::NOREPLACE | F::EXCHANGE, F::from_bits_retain(8), F::NOREPLACE | F::WHITEOUT];
            OnNames::Rename(*random.pick(&odd))
        }
    }
}

fn on_slot(random: &mut Random) -> OnSlot {
    use OnSlot as O;
    let (name, other) = (*random.pick(NAMES), *random.pick(NAMES));
    let byte = b'A' + random.below(26) as u8;
    match random.below(57) {
        0..4 => O::Write(random.below(9000), 1 + random.below(5000) as usize, byte),
        4..6 => O::Append(1 + random.below(500) as usize, byte),
        6..10 => O::Read,
        10..12 => O::Truncate(*random.pick(&[0, 3, 7000])),
        12..14 => O::Chmod(mode(random)),
        14 => O::ChmodByName(mode(random)),
        15 => O::Chown(owner(random), owner(random)),
        16..20 => O::Stat,
        20..23 => O::List,
        23..26 => O::OpenAt(name, open_flags(random), mode(random), slot(random)),
        26..28 => O::MakeDirectoryAt(name),
        28..30 => O::UnlinkAt(name, *random.pick(&[AtFlags::empty(), AtFlags::REMOVEDIR])),
        30..32 => O::RenameAt(name, slot(random), other),
        32..34 => O::LinkEmpty(random_path(random)),
        34 => O::LinkByName(random_path(random)),
        35..37 => O::Reopen(*random.pick(&[OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR]), slot(random)),
        37..39 => {
            // The other modes FUSE refuses by itself, before it takes set-ids away as overlayfs does also where it fails.
            let (keep, punch, zero) =
                (FallocateFlags::KEEP_SIZE, FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE);
            let modes = [FallocateFlags::empty(), keep, punch, punch | keep, zero, zero | keep];
            O::Allocate(*random.pick(&modes), *random.pick(&[0, 4096, 100]), *random.pick(&[4096, 100, 0, 20_000]))
        }
        39..41 => O::CopyTo(slot(random), random.below(5000), random.below(5000), 1 + random.below(9000) as usize),
        41 => O::SendTo(slot(random), 1 + random.below(9000) as usize),
        42..44 => O::SetXattr(random.pick::<&str>(&XATTRS[..5]), byte),
        44 => O::GetXattr(random.pick::<&str>(XATTRS)),
        45 => O::ListXattrs,
        46 => O::Sync,
        47 => {
            use FlockOperation as F;
            O::Lock(*random.pick(&[F::NonBlockingLockShared, F::NonBlockingLockExclusive, F::Unlock]))
        }
        48 => O::SeekToEnd,
        49 => O::Times,
        50 => O::Attributes,
        51 => O::SetAttributes(*random.pick(&[IFlags::NOATIME, IFlags::NODUMP, IFlags::empty(), IFlags::SYNC])),
        _ => O::Close,
    }
}

/// A path of one to three names, as people and programs write paths.
fn random_path(random: &mut Random) -> String {
    let mut path = (*random.pick(NAMES)).to_owned();
    for _ in 0..random.below(3) {
        path = format!("{path}/{}", random.pick(NAMES));
    }
    match random.below(200) {
        0..12 => path + "/",
        12..15 => path + "/.",
        15..18 => path + "/..",
        18..20 => format!("./{path}"),
        20 => format!("{path}/{}", "n".repeat(255 + random.below(2) as usize)),
        21 => (*random.pick(&["", ".", "..", "./"])).to_owned(),
        22 => path.replace('/', "//"),
        _ => path,
    }
}

fn symlink_target(random: &mut Random) -> String {
    match random.below(9) {
        0 => "x".repeat(4095),
        1 => "x".repeat(4096),
        2 => random_path(random),
        _ => (*random.pick(&["a", "../a", ".", "none/x", "", "b/"])).to_owned(),
    }
}

fn open_flags(random: &mut Random) -> OFlags {
    use OFlags as F;
    const MORE: &[OFlags] = &[
        F::CREATE,
        F::CREATE.union(F::EXCL),
        F::TRUNC,
        F::APPEND,
        F::DIRECTORY,
        F::NOFOLLOW,
        F::PATH,
        F::NOATIME,
        F::SYNC,
        F::CREATE.union(F::DIRECTORY),
    ];
    // The last is the access mode that only ioctl(2) is allowed with.
    let mut flags = *random.pick(&[F::RDONLY, F::WRONLY, F::RDWR, F::RDWR, F::from_bits_retain(3)]);
    for _ in 0..random.below(4) {
        flags |= *random.pick(MORE);
    }
    flags | F::NONBLOCK | F::CLOEXEC
}

fn slot(random: &mut Random) -> usize {
    random.below(SLOTS as u64) as usize
}

fn mode(random: &mut Random) -> u32 {
    *random.pick(&[0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6777, 0o777, 0o1644, 0, 0o2745])
}

fn owner(random: &mut Random) -> Option<u32> {
    *random.pick(&[None, Some(0), Some(1000), Some(2000), Some(3000)])
}

fn xattr_flags(random: &mut Random) -> XattrFlags {
    *random.pick(&[XattrFlags::empty(), XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE])
}

/// `trusted.overlay.` is left out: the kernel keeps such attributes under another name, here they are refused.
const XATTRS: &[&str] = &[
    "user.one",
    "user.two",
    "trusted.three",
    "security.foo",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "user.overlay.x",
    "nonsense",
    "user.",
    "trusted.",
    "system.foo",
    "os2.x",
    concat!(
        "user.",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    ),
];

fn xattr_value(random: &mut Random, name: &str) -> Vec<u8> {
    let capability = *b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    match name {
        "system.posix_acl_access" | "system.posix_acl_default" => acl(random),
        // An empty one can be set, but not read.
        "security.capability" => {
            if random.below(3) > 0 {
                capability.to_vec()
            } else {
                b"none".to_vec()
            }
        }
        _ => match random.below(8) {
            0 => Vec::new(),
            1 => vec![b'x'; 3000],
            2 => vec![b'x'; 5000],
            3 => vec![b'x'; 65_537],
            _ => format!("v{}", random.below(100)).into_bytes(),
        },
    }
}

/// An ACL as the kernel takes it: the three entries of a mode, five with a user and a mask, or one, which is not enough.
fn acl(random: &mut Random) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let user = *random.pick(&[1000, 2000]);
    let entries: &[(u16, u32)] = match random.below(5) {
        0 => &[(1, NOBODY), (4, NOBODY), (0x20, NOBODY)],
        1..4 => &[(1, NOBODY), (2, user), (4, NOBODY), (0x10, NOBODY), (0x20, NOBODY)],
        _ => &[(1, NOBODY)],
    };
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend((random.below(8) as u16).to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
