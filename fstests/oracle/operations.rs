//! Random operations on a tree, and what came of them.

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Reproducible random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Few names, so that operations meet.
pub(crate) const NAMES: &[&str] = &["a", "b", "c", "d", "e", "f"];

/// A path of one to three names, the first of them one of `first`.
fn random_path(random: &mut Random, first: &[&str]) -> String {
    let mut path = (*random.pick(first)).to_owned();
    for _ in 0..random.below(3) {
        path = format!("{path}/{}", random.pick(NAMES));
    }
    path
}

/// Descriptors that are held open for a while.
const SLOTS: usize = 3;

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Create(String, u32),
    MakeDirectory(String, u32),
    Symlink(String, String),
    Fifo(String),
    Device(String),
    Link(String, String),
    Unlink(String),
    RemoveDirectory(String),
    Rename(String, String, RenameFlags),
    Write(String, u64, u8, usize),
    Append(String, u8, usize),
    OpenTruncating(String),
    Truncate(String, u64),
    Chmod(String, u32),
    Chown(String, u32, u32),
    Times(String, i64, u32),
    SetXattr(String, &'static str, u8, XattrFlags),
    RemoveXattr(String, &'static str),
    Read(String),
    Stat(String),
    List(String),
    Punch(String, u64, u64),
    Hold(usize, String),
    WriteHeld(usize, u64, u8),
    StatHeld(usize),
    TruncateHeld(usize, u64),
    Drop(usize),
}

/// A random operation on paths that begin with one of `first`.
pub(crate) fn random_operation(random: &mut Random, first: &[&str]) -> Operation {
    use Operation as O;
    let random_path = |random: &mut Random| random_path(random, first);
    let path = random_path(random);
    let byte = b'A' + random.below(26) as u8;
    let slot = random.below(SLOTS as u64) as usize;
    let xattr = *random.pick(&["user.one", "user.two", "trusted.three"]);
    match random.below(100) {
        0..10 => O::Create(path, *random.pick(&[0o644, 0o600, 0o755, 0o4755])),
        10..19 => O::MakeDirectory(path, *random.pick(&[0o755, 0o700, 0o2775, 0o1777])),
        19..22 => O::Symlink(random_path(random), path),
        22 => O::Fifo(path),
        23 => O::Device(path),
        24..28 => O::Link(path, random_path(random)),
        28..37 => O::Unlink(path),
        37..42 => O::RemoveDirectory(path),
        42..54 => O::Rename(path, random_path(random), RenameFlags::empty()),
        54..56 => O::Rename(path, random_path(random), RenameFlags::NOREPLACE),
        56..60 => O::Rename(path, random_path(random), RenameFlags::EXCHANGE),
        60..66 => O::Write(path, random.below(9000), byte, 1 + random.below(5000) as usize),
        66..69 => O::Append(path, byte, 1 + random.below(300) as usize),
        69..71 => O::OpenTruncating(path),
        71..73 => O::Truncate(path, random.below(20_000)),
        73..77 => O::Chmod(path, *random.pick(&[0o644, 0o600, 0o755, 0o4711, 0o2755])),
        77..80 => O::Chown(path, random.below(5) as u32 * 1000, random.below(5) as u32 * 1000),
        80..82 => {
            O::Times(path, random.below(4_000_000_000) as i64 - 1_000_000_000, random.below(1_000_000_000) as u32)
        }
        82..85 => O::SetXattr(
            path,
            xattr,
            byte,
            *random.pick(&[XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE]),
        ),
        85 => O::RemoveXattr(path, xattr),
        86..89 => O::Read(path),
        89..92 => O::Stat(path),
        92..94 => O::List(path),
        94 => O::Punch(path, random.below(6000), 1 + random.below(6000)),
        95 => O::Hold(slot, path),
        96 => O::WriteHeld(slot, random.below(9000), byte),
        97 => O::StatHeld(slot),
        98 => O::TruncateHeld(slot, random.below(9000)),
        _ => O::Drop(slot),
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Operation {
    /// Whether it has done all that it does when it returns: nothing waits in the page cache.
    pub(crate) fn is_complete(&self) -> bool {
        !matches!(self, Self::Hold(..) | Self::WriteHeld(..) | Self::TruncateHeld(..))
    }

    /// Whether it moves or links objects, or copies one up in place: what takes several steps on disk.
    pub(crate) fn takes_steps(&self) -> bool {
        use Operation as O;
        matches!(
            self,
            O::Rename(..) | O::Link(..) | O::Chmod(..) | O::Append(..) | O::MakeDirectory(..) | O::Create(..)
        )
    }

    /// The parts that a server which is killed does one after the other: a write goes page by page.
    pub(crate) fn steps(&self, root: &Path) -> Vec<Self> {
        match self {
            Self::Write(path, offset, byte, length) => pages(*offset, *length)
                .map(|(offset, length)| Self::Write(path.clone(), offset, *byte, length))
                .collect(),
            Self::Append(path, byte, length) => {
                let end = std::fs::metadata(root.join(path)).map_or(0, |found| found.len());
                pages(end, *length).map(|(_, length)| Self::Append(path.clone(), *byte, length)).collect()
            }
            whole => vec![whole.clone()],
        }
    }
}

/// The range `offset..offset + length` cut at the ends of pages.
fn pages(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    const PAGE: u64 = 4096;
    let end = offset + length as u64;
    let mut from = offset;
    std::iter::from_fn(move || {
        let to = end.min((from / PAGE + 1) * PAGE);
        let piece = (from < end).then(|| (from, usize::try_from(to - from).expect("less than a page")));
        from = to;
        piece
    })
}

/// A tree that operations are applied to.
#[derive(Debug)]
pub(crate) struct Subject {
    root: PathBuf,
    held: [Option<OwnedFd>; SLOTS],
}

/// What an operation told, or its error.
pub(crate) type Outcome = Result<String, Errno>;

impl Subject {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), held: [const { None }; SLOTS] }
    }

    /// Closes what is held open.
    pub(crate) fn close(&mut self) {
        self.held = [const { None }; SLOTS];
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::open(self.root.join(path), flags, Mode::empty())?;
        // What a device answers is none of ours.
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { Ok(fd) } else { Err(Errno::NXIO) }
    }

    /// Does it.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Outcome {
        use Operation as O;
        let at = |path: &str| self.root.join(path);
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        match operation {
            O::Create(path, mode) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(at(path), flags, Mode::from_raw_mode(*mode))?;
            }
            O::MakeDirectory(path, mode) => rustix::fs::mkdir(at(path), Mode::from_raw_mode(*mode))?,
            O::Symlink(target, path) => rustix::fs::symlink(target, at(path))?,
            O::Fifo(path) => rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::from_raw_mode(0o640), 0)?,
            O::Device(path) => {
                let device = rustix::fs::makedev(1, 3);
                rustix::fs::mknodat(CWD, at(path), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)?;
            }
            O::Link(path, new) => rustix::fs::linkat(CWD, at(path), CWD, at(new), AtFlags::empty())?,
            O::Unlink(path) => rustix::fs::unlink(at(path))?,
            O::RemoveDirectory(path) => rustix::fs::rmdir(at(path))?,
            O::Rename(path, new, flags) => rustix::fs::renameat_with(CWD, at(path), CWD, at(new), *flags)?,
            O::Write(path, offset, byte, length) => {
                let fd = self.open(path, OFlags::RDWR)?;
                rustix::io::pwrite(&fd, &vec![*byte; *length], *offset)?;
            }
            O::Append(path, byte, length) => {
                let fd = self.open(path, OFlags::WRONLY | OFlags::APPEND)?;
                rustix::io::write(&fd, &vec![*byte; *length])?;
            }
            O::OpenTruncating(path) => {
                self.open(path, OFlags::WRONLY)?;
                self.open(path, OFlags::WRONLY | OFlags::TRUNC)?;
            }
            O::Truncate(path, size) => {
                let fd = self.open(path, OFlags::RDWR)?;
                rustix::fs::ftruncate(&fd, *size)?;
            }
            O::Chmod(path, mode) => {
                // chmod follows symlinks: out of the way of loops and of what they lead to.
                self.not_a_symlink(path)?;
                rustix::fs::chmod(at(path), Mode::from_raw_mode(*mode))?;
            }
            O::Chown(path, uid, gid) => {
                let (uid, gid) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
                rustix::fs::chownat(CWD, at(path), uid, gid, no_follow)?;
            }
            O::Times(path, seconds, nanoseconds) => {
                let time = Timespec { tv_sec: *seconds, tv_nsec: i64::from(*nanoseconds) };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, at(path), &times, no_follow)?;
            }
            O::SetXattr(path, name, byte, flags) => rustix::fs::lsetxattr(at(path), *name, &[*byte; 5], *flags)?,
            O::RemoveXattr(path, name) => rustix::fs::lremovexattr(at(path), *name)?,
            O::Read(path) => return self.read(path),
            O::Stat(path) => return Ok(describe(&rustix::fs::statat(CWD, at(path), no_follow)?)),
            O::List(path) => return self.list(path),
            O::Punch(path, offset, length) => {
                let fd = self.open(path, OFlags::RDWR)?;
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&fd, mode, *offset, *length)?;
            }
            O::Hold(slot, path) => self.held[*slot] = Some(self.open(path, OFlags::RDWR)?),
            O::WriteHeld(slot, offset, byte) => {
                if let Some(fd) = &self.held[*slot] {
                    rustix::io::pwrite(fd, &[*byte; 700], *offset)?;
                }
            }
            O::StatHeld(slot) => {
                if let Some(fd) = &self.held[*slot] {
                    let mut content = vec![0; 32 * 1024];
                    let length = rustix::io::pread(fd, &mut content[..], 0)?;
                    content.truncate(length);
                    return Ok(format!("{} {:x}", describe(&rustix::fs::fstat(fd)?), checksum(&content)));
                }
            }
            O::TruncateHeld(slot, size) => {
                if let Some(fd) = &self.held[*slot] {
                    rustix::fs::ftruncate(fd, *size)?;
                }
            }
            O::Drop(slot) => self.held[*slot] = None,
        }
        Ok(String::new())
    }

    fn not_a_symlink(&self, path: &str) -> Result<(), Errno> {
        let stat = rustix::fs::lstat(self.root.join(path))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink { Err(Errno::LOOP) } else { Ok(()) }
    }

    fn read(&self, path: &str) -> Outcome {
        let fd = self.open(path, OFlags::RDONLY)?;
        let mut content = vec![0; 64 * 1024];
        let length = rustix::io::read(&fd, &mut content[..])?;
        content.truncate(length);
        Ok(format!("{length} {:x}", checksum(&content)))
    }

    fn list(&self, path: &str) -> Outcome {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(self.root.join(path), flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            names.push(format!("{} {:?}", entry.file_name().to_string_lossy(), entry.file_type()));
        }
        names.sort();
        Ok(names.join(", "))
    }
}

/// What stat says, but for times and what means nothing of a directory.
pub(super) fn describe(stat: &rustix::fs::Stat) -> String {
    let owner = format!("{:o} {}:{} {:x}", stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return owner;
    }
    format!("{owner} size {} links {}", stat.st_size, stat.st_nlink)
}

pub(super) fn checksum(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
