//! Starting programs: descriptors handed over, signals put back, exec by descriptor.

#![expect(unsafe_code, reason = "system calls that neither std nor rustix offers")]

use super::namespace::last_error;
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where descriptors lie before they move to their final numbers, above every number asked for.
const PARKED: RawFd = 64;

/// Hands descriptors to the program that `command` will start: each appears there under its number (3 to 63).
///
/// They stay closed on exec in this process, so a program started by another thread in the meantime inherits none of them.
pub fn hand_over(command: &mut Command, descriptors: Vec<(OwnedFd, RawFd)>) -> Result<()> {
    let mut parked = Vec::with_capacity(descriptors.len());
    for (descriptor, number) in descriptors {
        if !(3..PARKED).contains(&number) {
            return Err(Errno::INVAL);
        }
        parked.push((rustix::io::fcntl_dupfd_cloexec(&descriptor, PARKED)?, number));
    }
    let move_all = move || {
        for (descriptor, number) in &parked {
            // SAFETY: dup2 takes two numbers; the first is open as long as `parked` lives.
            if unsafe { libc::dup2(descriptor.as_raw_fd(), *number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only calls dup2, which is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(move_all) };
    Ok(())
}

/// Replaces this process by the program that `program` is open on; returns only on failure.
pub fn exec_fd(program: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> Errno {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the path is a literal, both lists are NULL-terminated arrays of NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd() as libc::c_long,
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH as libc::c_long,
        )
    };
    last_error()
}

/// Replaces this process by the program at `path`; returns only on failure. Unlike execvp(3) it never falls back on a shell.
pub fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the path is NUL-terminated, both lists are NULL-terminated arrays of NUL-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    last_error()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Marks every descriptor from `first` on as closed on exec, whoever left it open.
pub fn close_on_exec_from(first: RawFd) -> Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC changes flags only; no descriptor becomes invalid.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_long,
            libc::c_long::from(u32::MAX),
            libc::CLOSE_RANGE_CLOEXEC as libc::c_long,
        )
    };
    if done == 0 {
        return Ok(());
    }
    match last_error() {
        // Before Linux 5.9 (and 5.11 for the flag): one by one.
        Errno::NOSYS | Errno::INVAL => close_on_exec_listed(first),
        error => Err(error),
    }
}

/// What [`close_on_exec_from`] does where the kernel lacks close_range(2).
fn close_on_exec_listed(first: RawFd) -> Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd").map_err(|_| Errno::NOENT)?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if number >= first {
            // SAFETY: F_SETFD takes an int; a number that is no descriptor any more (that of the listing) fails with EBADF.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Makes `descriptor` the standard stream `number` (0, 1 or 2).
pub fn replace_stream(descriptor: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    if !(0..=2).contains(&number) {
        return Err(Errno::INVAL);
    }
    // SAFETY: dup2 takes two numbers; standard streams are owned by nobody in Rust's sense.
    if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 { Err(last_error()) } else { Ok(()) }
}

/// Blocks every signal and returns a descriptor that reads them (signalfd(2)).
pub fn signals_as_descriptor() -> Result<OwnedFd> {
    // SAFETY: a zeroed sigset_t is storage for sigfillset, which initialises it.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both calls get a pointer to a live sigset_t; the old mask is not asked for.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
    // SAFETY: -1 asks for a new descriptor; the mask is initialised.
    let number = unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if number < 0 {
        return Err(last_error());
    }
    // SAFETY: signalfd has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// One signal read from [`signals_as_descriptor`]; `None` when none waits.
pub fn read_signal(signals: impl AsFd) -> Result<Option<i32>> {
    let mut buffer = [0_u8; 128];
    match rustix::io::read(signals.as_fd(), &mut buffer) {
        // struct signalfd_siginfo begins with the number, a u32.
        Ok(size) if size >= 4 => Ok(Some(i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]))),
        Ok(_) | Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives every signal its default action and an empty mask, as a fresh program expects.
pub fn reset_signals() {
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: SIG_DFL is valid for every signal but the two left out; for the ones libc keeps to itself the call fails harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a zeroed sigset_t is storage for sigemptyset.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both calls get a pointer to a live, initialised sigset_t.
    unsafe {
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Sends `signal` to the process `pid`, or for a negative number to the process group.
pub fn send_signal(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes two integers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(last_error()) }
}

/// Sends a signal of any number to the process that `process`, a pidfd, stands for; another one that has its number by now gets none.
///
/// # Errors
/// `ESRCH` when it has ended and was waited for.
pub fn send_signal_to(process: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: pidfd_send_signal takes integers and a null pointer, for which the kernel fills in the sender.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, none, 0) };
    if sent == 0 { Ok(()) } else { Err(last_error()) }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Signaled(i32),
}

/// Reaps one child: `pid`, or any for -1. `None` with `wait` unset when none has ended.
///
/// # Errors
/// `ECHILD` when there is no such child.
pub fn reap(pid: i32, wait: bool) -> Result<Option<(i32, Ended)>> {
    loop {
        let mut status = 0;
        // SAFETY: the status goes to a live integer.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, if wait { 0 } else { libc::WNOHANG }) };
        match reaped {
            0 => return Ok(None),
            -1 => match last_error() {
                Errno::INTR => {}
                error => return Err(error),
            },
            _ if libc::WIFEXITED(status) => return Ok(Some((reaped, Ended::Exited(libc::WEXITSTATUS(status))))),
            _ if libc::WIFSIGNALED(status) => return Ok(Some((reaped, Ended::Signaled(libc::WTERMSIG(status))))),
            _ => {}
        }
    }
}

/// Puts `descriptor` at `number`, open on exec, in a process that is about to exec.
pub fn keep_as(descriptor: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    if !(3..PARKED).contains(&number) {
        return Err(Errno::INVAL);
    }
    if descriptor.as_raw_fd() == number {
        // SAFETY: F_SETFD takes an int.
        return if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == 0 { Ok(()) } else { Err(last_error()) };
    }
    // SAFETY: dup2 takes two numbers. What was at `number` is closed under its owner, who is gone with the coming exec.
    if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 { Err(last_error()) } else { Ok(()) }
}
