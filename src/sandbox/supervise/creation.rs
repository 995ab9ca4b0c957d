//! Objects that a process makes: devices, which the kernel would refuse, and everything a pretended user makes, which is to be his.
//!
//! What a process makes as the container's root is left to the kernel.

use super::Records;
use super::credentials::Credentials;
use super::sink::NodeKind;
use super::target::{At, Target};
use crate::sys::seccomp::{Answer, answer_with_descriptor};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

/// The directory a call names: `AT_FDCWD`, or for an *at call the descriptor before the path.
fn directory(target: &Target<'_>, path: usize) -> i32 {
    if path == 0 { libc::AT_FDCWD } else { target.int(path - 1) }
}

/// Whether what a process makes is to belong to somebody else than the kernel would say.
fn pretends(who: &Credentials) -> bool {
    who.file_owner() != (0, 0)
}

/// Gives a new object to whoever made it; takes it away again when that fails.
fn give(parent: &OwnedFd, name: &OsString, directory: bool, who: &Credentials, records: &Records) -> Result<()> {
    let node = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let (uid, gid) = who.file_owner();
    records.set_owner(node.as_fd(), Some(uid), Some(gid)).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = rustix::fs::unlinkat(parent, name, if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() });
    })
}

/// mknod(2) and mknodat(2) with the path in argument `path`.
pub(super) fn make_node(target: &Target<'_>, path: usize, who: &Credentials, records: &Records) -> Result<Answer> {
    let mode = target.argument(path + 1) as u32;
    let device = target.argument(path + 2) & 0xffff_ffff;
    let kind = match mode & libc::S_IFMT {
        libc::S_IFCHR => Some(NodeKind::Character),
        libc::S_IFBLK => Some(NodeKind::Block),
        _ => None,
    };
    if kind.is_none() && !pretends(who) {
        return Ok(Answer::Continue);
    }
    let name = target.path(target.argument(path))?;
    let (parent, name) = target.parent(directory(target, path), &name)?;
    let permissions = mode & 0o7777 & !target.umask()?;
    if let Some(kind) = kind {
        // A character device 0/0 would be a whiteout.
        if !who.privileged() || (kind == NodeKind::Character && device == 0) {
            return Err(Errno::PERM);
        }
        records.make_device(parent.as_fd(), &name, kind, device, permissions, who.file_owner())?;
        return Ok(Answer::Value(0));
    }
    let file_type = rustix::fs::FileType::from_raw_mode(if mode & libc::S_IFMT == 0 { libc::S_IFREG } else { mode });
    rustix::fs::mknodat(&parent, &name, file_type, Mode::from_raw_mode(0o600), 0)?;
    set_mode(&parent, &name, permissions)?;
    give(&parent, &name, false, who, records)?;
    Ok(Answer::Value(0))
}

/// The supervisor's own umask must not count, and cannot be changed for one thread.
fn set_mode(parent: &OwnedFd, name: &OsString, mode: u32) -> Result<()> {
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// mkdir(2) and mkdirat(2) with the path in argument `path`.
pub(super) fn make_directory(target: &Target<'_>, path: usize, who: &Credentials, records: &Records) -> Result<Answer> {
    if !pretends(who) {
        return Ok(Answer::Continue);
    }
    let name = target.path(target.argument(path))?;
    let (parent, name) = target.parent(directory(target, path), &name)?;
    let mode = target.argument(path + 1) as u32 & 0o1777 & !target.umask()?;
    rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o700))?;
    set_mode(&parent, &name, mode)?;
    give(&parent, &name, true, who, records)?;
    Ok(Answer::Value(0))
}

/// symlink(2), and with `at` symlinkat(2).
pub(super) fn make_link(target: &Target<'_>, at: bool, who: &Credentials, records: &Records) -> Result<Answer> {
    if !pretends(who) {
        return Ok(Answer::Continue);
    }
    let (dir, path) = if at { (target.int(1), 2) } else { (libc::AT_FDCWD, 1) };
    let content = target.path(target.argument(0))?;
    let name = target.path(target.argument(path))?;
    let (parent, name) = target.parent(dir, &name)?;
    rustix::fs::symlinkat(&content, &parent, &name)?;
    give(&parent, &name, false, who, records)?;
    Ok(Answer::Value(0))
}

/// open(2), openat(2) and creat(2) that may make a file; `flags` is `None` for the last.
///
/// The file is made here, and then opened by the kernel as one that is there; only an exclusive open is carried out whole, and the descriptor given to
/// the caller, since the kernel would find the file and refuse.
pub(super) fn open(
    target: &Target<'_>,
    path: usize,
    flags: Option<i32>,
    who: &Credentials,
    records: &Records,
) -> Result<Option<Answer>> {
    if !pretends(who) {
        return Ok(Some(Answer::Continue));
    }
    let name = target.path(target.argument(path))?;
    let dir = directory(target, path);
    let exclusive = flags.is_some_and(|flags| flags & libc::O_EXCL != 0);
    // With O_NOFOLLOW or O_EXCL a link is not followed; otherwise one into nothing is made good by the kernel, for root then.
    if !exclusive && target.resolve(At { dir, follow: false, empty: false }, &name).is_ok() {
        return Ok(Some(Answer::Continue));
    }
    let mode = target.argument(if flags.is_some() { path + 2 } else { path + 1 }) as u32 & 0o7777 & !target.umask()?;
    let (parent, name) = target.parent(dir, &name)?;
    let asked = OFlags::from_bits_retain(flags.unwrap_or(libc::O_WRONLY) as u32);
    let making = (asked & !OFlags::TRUNC)
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(&parent, &name, making, Mode::from_raw_mode(0o600)) {
        Err(Errno::EXIST) if !exclusive => return Ok(Some(Answer::Continue)),
        other => other?,
    };
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    give(&parent, &name, false, who, records)?;
    if !exclusive {
        return Ok(Some(Answer::Continue));
    }
    let close_on_exec = asked.contains(OFlags::CLOEXEC);
    rustix::fs::fcntl_setfl(&file, asked & !OFlags::NONBLOCK | asked & OFlags::NONBLOCK)?;
    answer_with_descriptor(target.listener(), target.id(), file.as_fd(), close_on_exec)?;
    Ok(None)
}
