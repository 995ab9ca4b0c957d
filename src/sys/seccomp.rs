//! seccomp(2): loading a filter and answering the notifications it makes.

#![expect(unsafe_code, reason = "system calls that neither std nor rustix offers")]

use super::namespace::last_error;
use rustix::io::{Errno, Result};
use std::ffi::c_long;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of classic BPF, laid out as struct `sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub value: u32,
}

/// Loads `program` for the calling thread and all it will start. With `listen`, returns the descriptor its notifications arrive at.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN` in the user namespace and without no_new_privs; `EBUSY` when a filter above already has a listener;
/// `EINVAL` for a program the kernel rejects.
pub fn load_filter(program: &[Instruction], listen: bool) -> Result<Option<OwnedFd>> {
    if !listen {
        return load(program, 0).map(|_| None);
    }
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // From Linux 5.19 a notified call is interrupted by nothing but death once it was received, so that it is never answered twice.
    let number = match load(program, listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(Errno::INVAL) => load(program, listener)?,
        other => other?,
    };
    // SAFETY: with NEW_LISTENER seccomp(2) returns a descriptor it has just made.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
}

fn load(program: &[Instruction], flags: u64) -> Result<i32> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let described = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program's instructions have the layout of sock_filter, the length is theirs, and the kernel only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            c_long::from(libc::SECCOMP_SET_MODE_FILTER as i32),
            flags as c_long,
            &raw const described,
        )
    };
    if done < 0 { Err(last_error()) } else { Ok(done as i32) }
}

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    pub id: u64,
    /// The calling thread, as the receiver's pid namespace numbers it; 0 when it is not visible there.
    pub thread: i32,
    pub call: i32,
    /// `AUDIT_ARCH_*` of the call.
    pub architecture: u32,
    pub arguments: [u64; 6],
}

/// What the caller of a notified system call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Value(i64),
    Error(Errno),
    /// The kernel carries out the call as if there were no filter. Never a means of permission: the caller can change what its pointers point to.
    Continue,
}

/// Receives the next notification, waiting for it. `None` when the caller died before it was read.
///
/// # Errors
/// `ENODEV`-like errors of the listener; `EINTR` is retried.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Option<Notification>> {
    loop {
        // SAFETY: seccomp_notif is plain data and must be zeroed when the kernel gets it.
        let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the ioctl writes a struct seccomp_notif, which `notice` is; a newer kernel never writes beyond the size in the ioctl's number.
        let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) };
        if done == 0 {
            return Ok(Some(Notification {
                id: notice.id,
                thread: notice.pid as i32,
                call: notice.data.nr,
                architecture: notice.data.arch,
                arguments: notice.data.args,
            }));
        }
        match last_error() {
            Errno::INTR => {}
            Errno::NOENT => return Ok(None),
            error => return Err(error),
        }
    }
}

/// Whether the caller of notification `id` still waits; after reading its memory this tells that the memory was its own.
pub fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the ioctl reads one u64.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Answers notification `id`.
///
/// # Errors
/// `ENOENT` when the caller is gone.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<()> {
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match answer {
        Answer::Value(value) => response.val = value,
        Answer::Error(error) => response.error = -error.raw_os_error(),
        Answer::Continue => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    }
    // SAFETY: the ioctl reads a struct seccomp_notif_resp, which `response` is.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

/// Copies up to `buffer.len()` bytes at `address` of another process; returns how many could be read.
pub fn read_memory(thread: i32, address: u64, buffer: &mut [u8]) -> Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as usize as *mut _, iov_len: buffer.len() };
    // SAFETY: the local vector covers `buffer`; the remote address is checked by the kernel against the other process.
    let done = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    if done < 0 { Err(last_error()) } else { Ok(done as usize) }
}

/// Writes all of `bytes` at `address` of another process.
///
/// # Errors
/// `EFAULT` when not all of it can be written.
pub fn write_memory(thread: i32, address: u64, bytes: &[u8]) -> Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as usize as *mut _, iov_len: bytes.len() };
    // SAFETY: the kernel only reads the local vector, which covers `bytes`; the remote address is checked by the kernel.
    let done = unsafe { libc::process_vm_writev(thread, &raw const local, 1, &raw const remote, 1, 0) };
    if done < 0 {
        return Err(last_error());
    }
    if done as usize == bytes.len() { Ok(()) } else { Err(Errno::FAULT) }
}

/// Answers notification `id` with a new descriptor of the caller that refers to what `descriptor` does (Linux 5.14).
pub fn answer_with_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Result<()> {
    let mut request = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: descriptor.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the ioctl reads a struct seccomp_notif_addfd, which `request` is.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut request) };
    if done >= 0 { Ok(()) } else { Err(last_error()) }
}

/// Writes what stat(2) would into the memory of another process of our architecture.
pub fn write_stat(thread: i32, address: u64, stat: &rustix::fs::Stat) -> Result<()> {
    write_memory(thread, address, plain_bytes(stat))
}

/// Writes what statx(2) would into the memory of another process.
pub fn write_statx(thread: i32, address: u64, statx: &rustix::fs::Statx) -> Result<()> {
    write_memory(thread, address, plain_bytes(statx))
}

/// The bytes of one of the kernel's structures, all of which the kernel has written.
fn plain_bytes<T>(value: &T) -> &[u8] {
    // SAFETY: the structure was filled by the kernel whole, padding included, and consists of integers.
    unsafe { std::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
}
