//! The process that waits for an answer: its memory, its paths, its descriptors.
//!
//! Paths are resolved as the process would, but by us, from outside: with openat2(2) below its root or the directory named, never through
//! magic links, so that no link of the image leads to anything of the host.

use super::credentials::{About, Processes};
use crate::sys::seccomp::{self, Notification};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Longest path in bytes, the end included, as linux/limits.h has it.
const PATH_MAX: usize = 4096;
/// Reads do not cross a page: the next one may not be there.
const PAGE: u64 = 4096;

/// Ticks a second in /proc (`USER_HZ`), the same on every architecture we run on.
const TICKS: u64 = 100;

/// A notified call with its caller.
#[derive(Debug)]
pub(super) struct Target<'a> {
    listener: BorrowedFd<'a>,
    notification: &'a Notification,
}

/// Where a path begins and how its last component is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    /// A descriptor of the caller, or `AT_FDCWD`.
    pub(super) dir: i32,
    pub(super) follow: bool,
    /// Whether an empty path means `dir` itself.
    pub(super) empty: bool,
}

impl<'a> Target<'a> {
    pub(super) fn new(listener: BorrowedFd<'a>, notification: &'a Notification) -> Self {
        Self { listener, notification }
    }

    pub(super) fn thread(&self) -> i32 {
        self.notification.thread
    }

    pub(super) fn id(&self) -> u64 {
        self.notification.id
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener
    }

    pub(super) fn argument(&self, number: usize) -> u64 {
        self.notification.arguments.get(number).copied().unwrap_or(0)
    }

    /// An argument that is an int.
    pub(super) fn int(&self, number: usize) -> i32 {
        self.argument(number) as i32
    }

    /// Fails when the caller is gone, and what was read may be somebody else's.
    pub(super) fn check(&self) -> Result<()> {
        if seccomp::still_waits(self.listener, self.notification.id) { Ok(()) } else { Err(Errno::SRCH) }
    }

    /// The path at an address of the caller.
    pub(super) fn path(&self, address: u64) -> Result<OsString> {
        let mut path = Vec::new();
        while path.len() < PATH_MAX {
            let from = address + path.len() as u64;
            let mut chunk = [0; 256];
            let length = (PAGE - from % PAGE).min(chunk.len() as u64) as usize;
            let chunk = chunk.get_mut(..length).ok_or(Errno::FAULT)?;
            let read = seccomp::read_memory(self.thread(), from, chunk)?;
            let chunk = chunk.get(..read).ok_or(Errno::FAULT)?;
            if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
                path.extend(chunk.iter().take(end));
                self.check()?;
                return Ok(OsString::from_vec(path));
            }
            if read == 0 {
                return Err(Errno::FAULT);
            }
            path.extend_from_slice(chunk);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// `count` 32-bit numbers at an address of the caller.
    pub(super) fn numbers(&self, address: u64, count: usize) -> Result<Vec<u32>> {
        let mut bytes = vec![0; count * 4];
        if seccomp::read_memory(self.thread(), address, &mut bytes)? != bytes.len() {
            return Err(Errno::FAULT);
        }
        self.check()?;
        Ok(bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect())
    }

    /// Writes into the caller's memory.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.check()?;
        seccomp::write_memory(self.thread(), address, bytes)
    }

    /// A file of the caller's directory in /proc, opened as a reference only.
    fn proc(&self, file: &str) -> Result<OwnedFd> {
        let path = format!("/proc/{}/{file}", self.thread());
        let opened = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        self.check()?;
        Ok(opened)
    }

    /// What a descriptor of the caller refers to.
    ///
    /// # Errors
    /// `EBADF` when there is no such descriptor.
    pub(super) fn descriptor(&self, number: i32) -> Result<OwnedFd> {
        if number < 0 {
            return Err(Errno::BADF);
        }
        self.proc(&format!("fd/{number}")).map_err(|error| if error == Errno::NOENT { Errno::BADF } else { error })
    }

    /// The object a path of the caller names.
    pub(super) fn resolve(&self, at: At, path: &OsStr) -> Result<OwnedFd> {
        if path.is_empty() {
            return match (at.empty, at.dir) {
                (false, _) => Err(Errno::NOENT),
                (true, libc::AT_FDCWD) => self.proc("cwd"),
                (true, dir) => self.descriptor(dir),
            };
        }
        if at.follow
            && let Some(number) = own_descriptor(path)
        {
            return self.descriptor(number);
        }
        let flags = if at.follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW } | OFlags::CLOEXEC;
        if path.as_bytes().starts_with(b"/") {
            return self.below_root(path, flags);
        }
        let link = if at.dir == libc::AT_FDCWD { "cwd".to_owned() } else { format!("fd/{}", at.dir) };
        let base = if at.dir == libc::AT_FDCWD { self.proc("cwd")? } else { self.descriptor(at.dir)? };
        match open(&base, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            // Up beyond the directory, or through an absolute link: from the root, then.
            Err(Errno::XDEV) => {
                let mut whole = self.link(&link)?;
                let root = self.link("root")?;
                if root.as_bytes() != b"/" {
                    let below = whole.as_bytes().strip_prefix(root.as_bytes()).ok_or(Errno::NOENT)?;
                    whole = OsString::from_vec(below.to_vec());
                }
                whole.push("/");
                whole.push(path);
                self.below_root(&whole, flags)
            }
            other => other,
        }
    }

    /// The directory that holds what a path names, and the name in it.
    pub(super) fn parent(&self, dir: i32, path: &OsStr) -> Result<(OwnedFd, OsString)> {
        let bytes = path.as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').ok_or(if bytes.is_empty() {
            Errno::NOENT
        } else {
            Errno::EXIST
        })?;
        let bytes = bytes.get(..=end).unwrap_or_default();
        let split = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (above, name) = bytes.split_at(split);
        if name == b"." || name == b".." {
            return Err(Errno::EXIST);
        }
        let above = if above.is_empty() { b"." } else { above };
        let directory = self.resolve(At { dir, follow: true, empty: false }, OsStr::from_bytes(above))?;
        Ok((directory, OsStr::from_bytes(name).to_owned()))
    }

    fn below_root(&self, path: &OsStr, flags: OFlags) -> Result<OwnedFd> {
        open(&self.proc("root")?, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn link(&self, name: &str) -> Result<OsString> {
        let target = rustix::fs::readlink(format!("/proc/{}/{name}", self.thread()), Vec::new())?;
        self.check()?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// The caller's umask.
    pub(super) fn umask(&self) -> Result<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.thread())).map_err(|_| Errno::SRCH)?;
        self.check()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).ok_or(Errno::SRCH)?;
        u32::from_str_radix(mask.trim(), 8).map_err(|_| Errno::SRCH)
    }
}

fn open(base: &OwnedFd, path: &OsStr, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    for _ in 0..32 {
        match rustix::fs::openat2(base, path, flags, Mode::empty(), resolve) {
            // A race with a rename that the kernel could not rule out.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The descriptor of the caller that a path through /proc names: a magic link, which only the caller itself could follow.
fn own_descriptor(path: &OsStr) -> Option<i32> {
    let bytes = path.as_bytes();
    match bytes {
        b"/dev/stdin" => return Some(0),
        b"/dev/stdout" => return Some(1),
        b"/dev/stderr" => return Some(2),
        _ => {}
    }
    let prefixes: [&[u8]; 3] = [b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/"];
    let number = prefixes.iter().find_map(|prefix| bytes.strip_prefix(*prefix))?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The processes of this machine, by /proc.
#[derive(Debug)]
pub(super) struct Machine;

impl Processes for Machine {
    fn about(&self, thread: i32) -> Option<About> {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
        let (process, parent) = (field("Tgid:")?, field("PPid:")?);
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the start is the 20th field after it (proc_pid_stat(5)).
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(About { process, parent, started })
    }

    fn now(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec as u64 * TICKS + time.tv_nsec as u64 * TICKS / 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_named_by_paths() {
        let cases = [
            ("/dev/stdout", Some(1)),
            ("/proc/self/fd/7", Some(7)),
            ("/dev/fd/3", Some(3)),
            ("/proc/self/fd/x", None),
            ("/etc", None),
        ];
        for (path, expected) in cases {
            assert_eq!(own_descriptor(OsStr::new(path)), expected, "{path}");
        }
    }
}
