//! Changing modes without following symlinks.

use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of `fchmodat2` on every architecture (include/uapi/asm-generic/unistd.h).
const SYS_FCHMODAT2: libc::c_long = 452;

/// Whether the kernel is older than 6.6 and lacks `fchmodat2`.
static NO_FCHMODAT2: AtomicBool = AtomicBool::new(false);

/// Sets the permission bits of `name` in `dir`, which must be no symlink.
///
/// # Errors
/// `EOPNOTSUPP` for a symlink, and what `fchmodat2(2)` says.
pub fn chmod_no_follow(dir: BorrowedFd<'_>, name: &[u8], permissions: u32) -> io::Result<()> {
    if !NO_FCHMODAT2.load(Ordering::Relaxed) {
        match fchmodat2(dir, name, permissions) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => NO_FCHMODAT2.store(true, Ordering::Relaxed),
            result => return result,
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(permissions))?)
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps the system call")]
fn fchmodat2(dir: BorrowedFd<'_>, name: &[u8], permissions: u32) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: `name` is a NUL-terminated string that lives until the call returns; the descriptor is open.
    let result =
        unsafe { libc::syscall(SYS_FCHMODAT2, dir.as_raw_fd(), name.as_ptr(), permissions, libc::AT_SYMLINK_NOFOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_mode_is_set_but_never_through_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let fd = File::open(dir.path()).unwrap();
        for old_kernel in [false, true] {
            NO_FCHMODAT2.store(old_kernel, Ordering::Relaxed);
            let mode = if old_kernel { 0o4711 } else { 0o640 };
            chmod_no_follow(fd.as_fd(), b"file", mode).unwrap();
            let refused = chmod_no_follow(fd.as_fd(), b"link", 0o777).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
            assert_eq!(std::fs::metadata(dir.path().join("file")).unwrap().mode() & 0o7777, mode);
        }
    }
}
