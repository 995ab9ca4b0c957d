//! Extended attributes of a name in an open directory; a symlink's own.
//!
//! Kernels from 6.13 have calls for this (`getxattrat` and its kin, fs/xattr.c). On older ones a path through `/proc` leads there: four
//! components more to walk each time.

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers on every architecture (include/uapi/asm-generic/unistd.h).
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

/// Whether the calls are missing, be it that a seccomp filter hides them.
static ARE_MISSING: AtomicBool = AtomicBool::new(false);

/// `struct xattr_args` (include/uapi/linux/xattr.h).
#[repr(C, align(8))]
struct Arguments {
    value: u64,
    size: u32,
    flags: u32,
}

/// Reads the attribute `attribute` of `name` in `dir` into `value` and returns its length; with an empty `value` only the length.
///
/// # Errors
/// As getxattr(2): `ENODATA` when there is none, `ERANGE` when `value` is too short.
pub fn get(dir: BorrowedFd<'_>, name: &[u8], attribute: &[u8], value: &mut [u8]) -> Result<usize> {
    let direct = with_strings(name, attribute, |name, attribute| {
        let arguments = Arguments { value: value.as_mut_ptr() as u64, size: length_of(value)?, flags: 0 };
        get_call(dir, name, attribute, &arguments)
    });
    or_else(direct, || {
        let path = proc_path(dir, name);
        // An empty buffer would only be filled.
        if value.is_empty() {
            return rustix::fs::lgetxattr_query(path, attribute);
        }
        rustix::fs::lgetxattr(path, attribute, value)
    })
}

/// Reads the names of the attributes of `name` in `dir` into `list`, each with a NUL behind it, and returns their length; with an empty
/// `list` only the length.
///
/// # Errors
/// As listxattr(2): `ERANGE` when `list` is too short.
pub fn list(dir: BorrowedFd<'_>, name: &[u8], list: &mut [u8]) -> Result<usize> {
    let direct = name.into_with_c_str(|name| list_call(dir, name, list));
    or_else(direct, || {
        let path = proc_path(dir, name);
        if list.is_empty() {
            return rustix::fs::llistxattr_query(path);
        }
        rustix::fs::llistxattr(path, list)
    })
}

/// Sets the attribute `attribute` of `name` in `dir`.
///
/// # Errors
/// As setxattr(2).
pub fn set(dir: BorrowedFd<'_>, name: &[u8], attribute: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
    let direct = with_strings(name, attribute, |name, attribute| {
        let arguments = Arguments { value: value.as_ptr() as u64, size: length_of(value)?, flags: flags.bits() };
        set_call(dir, name, attribute, &arguments)
    });
    or_else(direct, || rustix::fs::lsetxattr(proc_path(dir, name), attribute, value, flags))
}

/// Removes the attribute `attribute` of `name` in `dir`.
///
/// # Errors
/// As removexattr(2): `ENODATA` when there is none.
pub fn remove(dir: BorrowedFd<'_>, name: &[u8], attribute: &[u8]) -> Result<()> {
    let direct = with_strings(name, attribute, |name, attribute| remove_call(dir, name, attribute));
    or_else(direct, || rustix::fs::lremovexattr(proc_path(dir, name), attribute))
}

/// The result of the call, or that of `fallback` where the kernel lacks it.
fn or_else<T>(direct: Result<T>, fallback: impl FnOnce() -> Result<T>) -> Result<T> {
    match direct {
        Err(Errno::NOSYS) => {
            ARE_MISSING.store(true, Ordering::Relaxed);
            fallback()
        }
        // A seccomp filter of Docker before 20.10.0 says EPERM to every call it does not know.
        Err(Errno::PERM) if !ARE_MISSING.load(Ordering::Relaxed) => fallback(),
        result => result,
    }
}

fn with_strings<T>(name: &[u8], attribute: &[u8], call: impl FnOnce(&CStr, &CStr) -> Result<T>) -> Result<T> {
    name.into_with_c_str(|name| attribute.into_with_c_str(|attribute| call(name, attribute)))
}

fn length_of(value: &[u8]) -> Result<u32> {
    u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)
}

/// The path of `name` in the directory `dir`, by way of `/proc`.
fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// What a system call returned; none is made where the calls are known to be missing.
fn result_of(call: impl FnOnce() -> libc::c_long) -> Result<usize> {
    if ARE_MISSING.load(Ordering::Relaxed) {
        return Err(Errno::NOSYS);
    }
    usize::try_from(call()).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps the system call")]
fn get_call(dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr, arguments: &Arguments) -> Result<usize> {
    let (fd, flags, size) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW, size_of::<Arguments>());
    // SAFETY: the strings end with NUL, `arguments` holds the address and length of a buffer that the caller lends for writing; all
    // live until the call returns.
    result_of(|| unsafe {
        libc::syscall(SYS_GETXATTRAT, fd, name.as_ptr(), flags, attribute.as_ptr(), &raw const *arguments, size)
    })
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps the system call")]
fn set_call(dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr, arguments: &Arguments) -> Result<()> {
    let (fd, flags, size) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW, size_of::<Arguments>());
    // SAFETY: the strings end with NUL, `arguments` holds the address and length of a readable buffer; all live until the call returns.
    let set = result_of(|| unsafe {
        libc::syscall(SYS_SETXATTRAT, fd, name.as_ptr(), flags, attribute.as_ptr(), &raw const *arguments, size)
    });
    set.map(drop)
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps the system call")]
fn list_call(dir: BorrowedFd<'_>, name: &CStr, list: &mut [u8]) -> Result<usize> {
    let (fd, flags, size) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW, list.len());
    // SAFETY: `name` ends with NUL, `list` is a buffer of `size` bytes; both live until the call returns.
    result_of(|| unsafe { libc::syscall(SYS_LISTXATTRAT, fd, name.as_ptr(), flags, list.as_mut_ptr(), size) })
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps the system call")]
fn remove_call(dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr) -> Result<()> {
    let (fd, flags) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: the strings end with NUL and live until the call returns.
    let removed =
        result_of(|| unsafe { libc::syscall(SYS_REMOVEXATTRAT, fd, name.as_ptr(), flags, attribute.as_ptr()) });
    removed.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn attributes_are_set_read_listed_and_removed_with_and_without_the_calls() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let fd = File::open(dir.path()).unwrap();
        let fd = fd.as_fd();
        for missing in [false, true] {
            ARE_MISSING.store(missing, Ordering::Relaxed);
            let mut buffer = [0; 64];
            set(fd, b"file", b"user.one", b"value", XattrFlags::CREATE).unwrap();
            assert_eq!(set(fd, b"file", b"user.one", b"", XattrFlags::CREATE), Err(Errno::EXIST));
            assert_eq!(get(fd, b"file", b"user.one", &mut []), Ok(5));
            assert_eq!(get(fd, b"file", b"user.one", &mut buffer[..4]), Err(Errno::RANGE));
            let length = get(fd, b"file", b"user.one", &mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"value");
            assert_eq!(get(fd, b"link", b"user.one", &mut buffer), Err(Errno::NODATA), "not through a symlink");
            let length = list(fd, b"file", &mut buffer).unwrap();
            assert!(buffer[..length].split(|byte| *byte == 0).any(|name| name == b"user.one"));
            assert!(set(fd, b"link", b"user.one", b"value", XattrFlags::empty()).is_err(), "not through a symlink");
            remove(fd, b"file", b"user.one").unwrap();
            assert_eq!(remove(fd, b"file", b"user.one"), Err(Errno::NODATA));
            assert_eq!(get(fd, b"nothing", b"user.one", &mut buffer), Err(Errno::NOENT));
        }
        ARE_MISSING.store(false, Ordering::Relaxed);
    }
}
