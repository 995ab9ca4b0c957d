//! Namespaces and mounts: what a sandbox needs of the kernel and `rustix` lacks.

#![expect(unsafe_code, reason = "system calls that neither std nor rustix offers")]

use rustix::io::{Errno, Result};
use rustix::thread::UnshareFlags;
use std::ffi::c_long;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What `fork` returned, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// In the parent: the number of the child, as the parent's pid namespace sees it.
    Parent(i32),
    Child,
}

/// Moves the calling thread into new namespaces.
///
/// Flags that share less than threads expect (`FILES`) are refused.
pub fn unshare(flags: UnshareFlags) -> Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: only an unshared descriptor table could make descriptors of other threads invalid; it is refused above.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Duplicates the calling process, which must have one thread only: a lock held by another thread would stay locked in the child.
///
/// # Errors
/// `EBUSY` when the process has more than one thread; otherwise those of fork(2).
pub fn fork() -> Result<Fork> {
    if !has_one_thread() {
        return Err(Errno::BUSY);
    }
    // SAFETY: the process has one thread, hence no lock is held by a thread that the child would lack.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        -1 => Err(last_error()),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Whether this process has no thread but the calling one. /proc could tell as well, but may be another namespace's.
fn has_one_thread() -> bool {
    // SAFETY: unsharing what only the calling thread shares changes nothing; with other threads it fails (unshare(2), CLONE_THREAD).
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

bitflags::bitflags! {
    /// Attributes of a mount, as mount_setattr(2) numbers them (`MOUNT_ATTR_*` of linux/mount.h).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct MountAttributes: u64 {
        const READ_ONLY = 0x1;
        const NOSUID = 0x2;
        const NODEV = 0x4;
        const NOEXEC = 0x8;
    }
}

/// Adds attributes to the mount that `mount` is the root of, and with `recursive` to all below it.
///
/// # Errors
/// `ENOSYS` before Linux 5.12; `EPERM` without `CAP_SYS_ADMIN` in the namespace of the mount.
pub fn add_mount_attributes(mount: BorrowedFd<'_>, attributes: MountAttributes, recursive: bool) -> Result<()> {
    let mut change = [attributes.bits(), 0, 0, 0];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal and `change` has the layout and the size of struct mount_attr (four u64).
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            c_long::from(mount.as_raw_fd()),
            c"".as_ptr(),
            c_long::from(flags),
            change.as_mut_ptr(),
            size_of_val(&change),
        )
    };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

/// Brings up the loopback interface of the current network namespace.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads a struct ifreq, which `request` is.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

/// Takes the descriptor that the starter of this process left at `number`, now closed on exec.
///
/// # Errors
/// `EBADF` when there is none; `EINVAL` for a standard stream.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    if number <= 2 {
        return Err(Errno::INVAL);
    }
    // SAFETY: fcntl with F_SETFD takes an int and fails with EBADF where the number is no descriptor.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(last_error());
    }
    // SAFETY: the number is open, as fcntl showed, and was handed to this process to own: nothing else here knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

pub(crate) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The runner of tests has a thread of its own.
        assert_eq!(fork(), Err(Errno::BUSY));
    }
}
