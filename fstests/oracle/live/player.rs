//! Does the steps of a plan in one tree, and tells what came of them.
//!
//! The working directory, the umask and the thread's user are changed: for a process that does nothing else.

use super::plan::{Links, OnName, OnNames, OnSlot, Operation, SLOTS, Step};
use crate::oracle::operations::{Outcome, checksum, describe};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, SeekFrom, StatxFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A tree, and what is held open of it.
#[derive(Debug)]
pub(super) struct Player {
    root: PathBuf,
    slots: [Option<OwnedFd>; SLOTS],
}

impl Player {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), slots: [const { None }; SLOTS] }
    }

    /// Closes what is held open, and leaves the tree.
    pub(super) fn leave(&mut self) {
        self.slots = [const { None }; SLOTS];
        rustix::process::chdir("/").expect("the root directory");
    }

    /// Whether a slot holds anything.
    pub(super) fn holds(&self, slot: usize) -> bool {
        self.slots[slot].is_some()
    }

    pub(super) fn empty(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    /// Whether a slot holds a descriptor that is only for reading.
    pub(super) fn only_reads(&self, slot: usize) -> bool {
        let flags = self.slots[slot].as_ref().and_then(|fd| rustix::fs::fcntl_getfl(fd).ok());
        flags.is_some_and(|flags| flags & OFlags::RWMODE == OFlags::RDONLY)
    }

    /// Does it, as who shall do it.
    pub(super) fn play(&mut self, step: &Step) -> Outcome {
        rustix::process::chdir(&self.root).expect("the root of the tree");
        let before = rustix::process::umask(Mode::from_raw_mode(step.umask));
        become_user(step.who);
        let outcome = match &step.operation {
            Operation::Name(path, what) => self.on_name(path, what),
            Operation::Names(one, two, what) => on_names(one, two, what),
            Operation::Slot(slot, what) => self.on_slot(*slot, what),
        };
        become_user(0);
        rustix::process::umask(before);
        outcome
    }

    fn slot(&self, slot: usize) -> Result<&OwnedFd, Errno> {
        self.slots[slot].as_ref().ok_or(Errno::BADF)
    }

    /// Puts what was opened into a slot; of devices and FIFOs only what stat says is compared.
    fn keep(&mut self, slot: usize, fd: OwnedFd) -> Outcome {
        let text = describe(&rustix::fs::fstat(&fd)?);
        let bare = rustix::fs::fcntl_getfl(&fd)?.contains(OFlags::PATH);
        if bare || !is_special(&fd)? {
            self.slots[slot] = Some(fd);
        }
        Ok(text)
    }

    fn on_name(&mut self, path: &str, what: &OnName) -> Outcome {
        use OnName as O;
        let mode = |mode: &u32| Mode::from_raw_mode(*mode);
        let open =
            |flags| rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::from_raw_mode(0o644));
        match what {
            O::Open(flags, bits, slot) => return self.keep(*slot, rustix::fs::open(path, *flags, mode(bits))?),
            O::Temporary => drop(open(OFlags::TMPFILE | OFlags::RDWR)?),
            O::Create(bits) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, mode(bits))?;
            }
            O::MakeDirectory(bits) => rustix::fs::mkdir(path, mode(bits))?,
            O::SymlinkTo(target) => rustix::fs::symlink(target, path)?,
            O::Node(kind, bits, device) => rustix::fs::mknodat(CWD, path, *kind, mode(bits), *device)?,
            O::Unlink => rustix::fs::unlink(path)?,
            O::RemoveDirectory => rustix::fs::rmdir(path)?,
            O::Resize(size) => rustix::fs::ftruncate(open(OFlags::WRONLY)?, *size)?,
            O::Chmod(bits) => rustix::fs::chmod(path, mode(bits))?,
            O::Chown(uid, gid, flags) => rustix::fs::chownat(CWD, path, user(*uid), group(*gid), *flags)?,
            O::Times(access, modification, flags) => {
                let last_access = Timespec { tv_sec: 1_000_000_000, tv_nsec: *access };
                let last_modification = Timespec { tv_sec: 2_000_000_000, tv_nsec: *modification };
                rustix::fs::utimensat(CWD, path, &Timestamps { last_access, last_modification }, *flags)?;
            }
            O::SetXattr(name, value, flags, links) => set_xattr(path, name, value, *flags, *links)?,
            O::RemoveXattr(name) => rustix::fs::removexattr(path, *name)?,
            O::GetXattr(name) => {
                let mut value = vec![0; 70_000];
                return attribute(rustix::fs::getxattr(path, *name, &mut value[..]), &value);
            }
            O::ListXattrs => {
                let mut names = vec![0; 70_000];
                return sorted(rustix::fs::listxattr(path, &mut names[..]), &names);
            }
            O::Access(access) => rustix::fs::accessat(CWD, path, *access, AtFlags::EACCESS)?,
            O::Stat(flags) => return Ok(describe(&rustix::fs::statat(CWD, path, *flags)?)),
            O::Statx(flags) => return statx(path, *flags),
            O::ReadLink => return Ok(rustix::fs::readlink(path, Vec::new())?.to_string_lossy().into_owned()),
            O::List => return list(&open(OFlags::RDONLY | OFlags::DIRECTORY)?),
            O::Read => return content(&open(OFlags::RDONLY)?),
            O::StatFs => {
                let found = rustix::fs::fstatvfs(open(OFlags::PATH)?)?;
                return Ok(format!("{} {} {}", found.f_bsize, found.f_frsize, found.f_namemax));
            }
        }
        Ok(String::new())
    }

    fn on_slot(&mut self, slot: usize, what: &OnSlot) -> Outcome {
        use OnSlot as O;
        if let O::Close = what {
            self.slots[slot] = None;
            return Ok(String::new());
        }
        let fd = self.slot(slot)?;
        let by_name = || format!("/proc/self/fd/{}", fd.as_raw_fd());
        match what {
            O::Chmod(bits) => rustix::fs::fchmod(fd, Mode::from_raw_mode(*bits))?,
            O::ChmodByName(bits) => rustix::fs::chmod(by_name(), Mode::from_raw_mode(*bits))?,
            O::Chown(uid, gid) => rustix::fs::fchown(fd, user(*uid), group(*gid))?,
            O::Stat => return Ok(describe(&rustix::fs::fstat(fd)?)),
            O::List => return list(fd),
            O::OpenAt(name, flags, bits, other) => {
                let opened = rustix::fs::openat(fd, *name, *flags, Mode::from_raw_mode(*bits))?;
                return self.keep(*other, opened);
            }
            O::MakeDirectoryAt(name) => rustix::fs::mkdirat(fd, *name, Mode::from_raw_mode(0o755))?,
            O::UnlinkAt(name, flags) => rustix::fs::unlinkat(fd, *name, *flags)?,
            O::RenameAt(name, other, new) => rustix::fs::renameat(fd, *name, self.slot(*other)?, *new)?,
            O::LinkEmpty(path) => rustix::fs::linkat(fd, "", CWD, path, AtFlags::EMPTY_PATH)?,
            O::LinkByName(path) => rustix::fs::linkat(CWD, by_name(), CWD, path, AtFlags::SYMLINK_FOLLOW)?,
            O::Reopen(flags, other) => {
                let opened = rustix::fs::open(by_name(), *flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
                return self.keep(*other, opened);
            }
            O::SetXattr(name, byte) => rustix::fs::fsetxattr(fd, *name, &[*byte; 3], XattrFlags::empty())?,
            O::GetXattr(name) => {
                let mut value = vec![0; 70_000];
                return attribute(rustix::fs::fgetxattr(fd, *name, &mut value[..]), &value);
            }
            O::ListXattrs => {
                let mut names = vec![0; 70_000];
                return sorted(rustix::fs::flistxattr(fd, &mut names[..]), &names);
            }
            O::Lock(operation) => rustix::fs::flock(fd, *operation)?,
            O::Times => {
                let last_access = Timespec { tv_sec: -5, tv_nsec: 10 };
                let last_modification = Timespec { tv_sec: 3_000_000_000, tv_nsec: 11 };
                rustix::fs::futimens(fd, &Timestamps { last_access, last_modification })?;
            }
            O::Attributes => return Ok(format!("{:x}", rustix::fs::ioctl_getflags(fd)?.bits() & COMPARED)),
            O::SetAttributes(flags) => {
                let kept = rustix::fs::ioctl_getflags(fd)?.bits() & !CHANGED;
                rustix::fs::ioctl_setflags(fd, rustix::fs::IFlags::from_bits_retain(kept | flags.bits()))?;
            }
            data => return self.on_data(fd, data),
        }
        Ok(String::new())
    }

    fn on_data(&self, fd: &OwnedFd, what: &OnSlot) -> Outcome {
        use OnSlot as O;
        let count = match what {
            O::Write(offset, length, byte) => rustix::io::pwrite(fd, &vec![*byte; *length], *offset)?,
            // Where the end of a directory is, is everyone's own affair.
            O::Append(..) if is_directory(fd)? => return Err(Errno::ISDIR),
            O::Append(length, byte) => {
                rustix::fs::seek(fd, SeekFrom::End(0))?;
                rustix::io::write(fd, &vec![*byte; *length])?
            }
            O::Read => return content(fd),
            O::Truncate(size) => {
                rustix::fs::ftruncate(fd, *size)?;
                0
            }
            O::Allocate(flags, offset, length) => {
                rustix::fs::fallocate(fd, *flags, *offset, *length)?;
                0
            }
            O::CopyTo(other, from, to, length) => {
                let (mut from, mut to) = (*from, *to);
                rustix::fs::copy_file_range(fd, Some(&mut from), self.slot(*other)?, Some(&mut to), *length)?
            }
            O::SendTo(other, length) => rustix::fs::sendfile(self.slot(*other)?, fd, Some(&mut 0), *length)?,
            O::Sync => {
                rustix::fs::fsync(fd)?;
                0
            }
            O::SeekToEnd if is_directory(fd)? => 0,
            O::SeekToEnd => rustix::fs::seek(fd, SeekFrom::End(0))? as usize,
            other => unreachable!("{other:?} is done elsewhere"),
        };
        Ok(count.to_string())
    }
}

/// Attributes of chattr(1) that are compared, and those that are changed: no times of access, not dumped, synchronous.
const COMPARED: u32 = 0x60ff;
const CHANGED: u32 = 0xc8;

fn on_names(one: &str, two: &str, what: &OnNames) -> Outcome {
    match what {
        OnNames::Link(flags) => rustix::fs::linkat(CWD, one, CWD, two, *flags)?,
        OnNames::Rename(flags) => rustix::fs::renameat_with(CWD, one, CWD, two, *flags)?,
    }
    Ok(String::new())
}

/// Gives this thread alone a user and a group of that number; the last of them is in a further group. 0 can come back.
fn become_user(number: u32) {
    let groups: &[Gid] = if number == 2000 { &[Gid::from_raw(3000)] } else { &[] };
    let as_root = || set_thread_res_uid(None, Uid::ROOT, None);
    let changed = as_root()
        .and_then(|()| set_thread_groups(groups))
        .and_then(|()| set_thread_res_gid(None, Gid::from_raw(number), None))
        .and_then(|()| set_thread_res_uid(None, Uid::from_raw(number), None));
    changed.expect("root becomes who it likes");
}

fn user(number: Option<u32>) -> Option<Uid> {
    number.map(Uid::from_raw)
}

fn group(number: Option<u32>) -> Option<Gid> {
    number.map(Gid::from_raw)
}

fn set_xattr(path: &str, name: &str, value: &[u8], flags: XattrFlags, links: Links) -> Result<(), Errno> {
    match links {
        Links::Followed => rustix::fs::setxattr(path, name, value, flags),
        Links::Not => rustix::fs::lsetxattr(path, name, value, flags),
    }
}

fn attribute(read: Result<usize, Errno>, value: &[u8]) -> Outcome {
    read.map(|length| format!("{length} {:x}", checksum(&value[..length])))
}

fn sorted(listed: Result<usize, Errno>, names: &[u8]) -> Outcome {
    let mut names: Vec<_> = names[..listed?].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    names.sort();
    Ok(names.join(" "))
}

fn kind(fd: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(kind(fd)? == FileType::Directory)
}

fn is_special(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(!matches!(kind(fd)?, FileType::RegularFile | FileType::Directory))
}

fn statx(path: &str, flags: AtFlags) -> Outcome {
    let found = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS)?;
    let size = if FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory { 0 } else { found.stx_size };
    let mask = found.stx_mask & StatxFlags::BASIC_STATS.bits();
    Ok(format!("{mask:x} {:o} {}:{} size {size}", found.stx_mode, found.stx_uid, found.stx_gid))
}

fn content(fd: &OwnedFd) -> Outcome {
    if is_special(fd)? {
        return Ok("special".to_owned());
    }
    let mut content = vec![0; 300_000];
    let length = rustix::io::pread(fd, &mut content[..], 0)?;
    Ok(format!("{length} {:x}", checksum(&content[..length])))
}

/// The names that a descriptor lists from its beginning, with their kinds, each as often as it comes.
fn list(fd: &OwnedFd) -> Outcome {
    rustix::fs::seek(fd, SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        names.push(format!("{} {:?}", entry.file_name().to_string_lossy(), entry.file_type()));
    }
    names.sort();
    Ok(names.join(", "))
}
