//! Acting as another user for one system call, without giving up capabilities.
//!
//! A new file belongs to the file system IDs of the thread that makes it, its mode is cut by the thread's umask, and the
//! file system derives the rest (group of a setgid directory, default ACLs) from both. Setting them makes a creation
//! one atomic call, as the kernel's overlayfs does it (`ovl_override_creator_creds`, fs/overlayfs/dir.c).

use parking_lot::Mutex;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::cell::Cell;
use std::io;

/// Who asked for something to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creator {
    /// Owner of the new object.
    pub uid: u32,
    /// Its group, unless the directory decides.
    pub gid: u32,
    /// Permissions that the creator withholds, unless a default ACL decides.
    pub umask: u32,
}

/// A thread that asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its file system user ID.
    pub uid: u32,
    /// Its file system group ID.
    pub gid: u32,
    /// Its number; 0 for one that this process cannot see.
    pub tid: u32,
}

impl Caller {
    /// Whether it has the group `gid`, as its own or as a supplementary one; those of a thread that cannot be seen are not known.
    pub fn is_in_group(self, gid: u32) -> bool {
        let supplementary = || std::fs::read(format!("/proc/{}/status", self.tid)).unwrap_or_default();
        self.gid == gid || self.tid != 0 && has_group(&supplementary(), gid)
    }
}

/// Whether the text of a `/proc/PID/status` has `gid` among the supplementary groups.
fn has_group(status: &[u8], gid: u32) -> bool {
    let gid = gid.to_string();
    let groups = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Groups:"));
    groups.is_some_and(|groups| groups.split(u8::is_ascii_whitespace).any(|group| group == gid.as_bytes()))
}

thread_local! {
    /// The umask of this thread, once it has one of its own.
    static OWN_UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Held while the umask of the whole process is changed, where threads cannot have their own.
static SHARED_UMASK: Mutex<()> = Mutex::new(());

/// Runs `action` with the IDs and the umask of `creator`.
///
/// # Errors
/// `EPERM` when this process may not act for the creator: it needs `CAP_SETUID` and `CAP_SETGID`, and the IDs have to
/// exist in its user namespace.
pub fn as_creator<T>(creator: Creator, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    with_umask(creator.umask, || with_ids(creator.uid, creator.gid, action))
}

/// Runs `action` with the given umask.
pub fn with_umask<T>(umask: u32, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = OWN_UMASK.get().or_else(|| unshare_fs().ok().map(|()| u32::MAX));
    if let Some(current) = own {
        if current != umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        }
        OWN_UMASK.set(Some(umask));
        return action();
    }
    let _guard = SHARED_UMASK.lock();
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    let result = action();
    rustix::process::umask(before);
    result
}

/// Gives this thread a umask, root and working directory of its own.
#[expect(unsafe_code, reason = "rustix offers unshare for namespaces only as unsafe")]
fn unshare_fs() -> io::Result<()> {
    // SAFETY: CLONE_FS separates root, working directory and umask of this thread from its siblings; no memory and no
    // descriptor is touched.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?)
}

/// Restores the IDs of the thread when it is dropped.
struct Restore {
    uid: u32,
    gid: u32,
}

impl Drop for Restore {
    fn drop(&mut self) {
        set_fs_uid(self.uid);
        set_fs_gid(self.gid);
    }
}

fn with_ids<T>(uid: u32, gid: u32, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if own == (uid, gid) {
        return action();
    }
    let before = capabilities(None)?;
    let restore = Restore { uid: own.0, gid: own.1 };
    set_fs_gid(gid);
    set_fs_uid(uid);
    // An ID that was refused leaves the old one; asking for an impossible one tells which it is.
    if (set_fs_uid(u32::MAX), set_fs_gid(u32::MAX)) != (uid, gid) {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    if uid != 0 && before.effective != CapabilitySet::empty() {
        // Leaving user 0 drops the file system capabilities from the effective set only.
        set_capabilities(None, before)?;
    }
    let result = action();
    drop(restore);
    if uid != 0 {
        set_capabilities(None, before)?;
    }
    result
}

#[expect(unsafe_code, reason = "no safe wrapper exists")]
fn set_fs_uid(uid: u32) -> u32 {
    // SAFETY: takes and returns a number; changes only this thread's file system user ID.
    unsafe { libc::setfsuid(uid) as u32 }
}

#[expect(unsafe_code, reason = "no safe wrapper exists")]
fn set_fs_gid(gid: u32) -> u32 {
    // SAFETY: as for setfsuid.
    unsafe { libc::setfsgid(gid) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    #[test]
    fn groups_are_read_as_the_kernel_writes_them() {
        let status = b"Name:\tx\nGid:\t5\t5\t5\t5\nFDSize:\t64\nGroups:\t7 3000 \nNStgid:\t1\n";
        assert!(has_group(status, 7) && has_group(status, 3000));
        assert!(
            !has_group(status, 5) && !has_group(status, 300) && !has_group(b"Groups:\t \n", 0) && !has_group(b"", 0)
        );
        let unseen = Caller { uid: 1, gid: 2, tid: 0 };
        assert!(unseen.is_in_group(2) && !unseen.is_in_group(3));
    }

    #[test]
    fn the_umask_is_the_creators() {
        let dir = tempfile::tempdir().unwrap();
        for umask in [0o022, 0o077, 0] {
            let path = dir.path().join(umask.to_string());
            let open = || std::fs::File::options().create(true).write(true).truncate(true).mode(0o666).open(&path);
            with_umask(umask, open).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o666 & !umask);
        }
    }

    #[test]
    fn a_privileged_process_acts_as_the_creator_and_returns() {
        if !rustix::process::geteuid().is_root() {
            eprintln_skip("only root can act as someone else");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let creator = Creator { uid: 1234, gid: 5678, umask: 0o027 };
        let before = capabilities(None).unwrap();
        as_creator(creator, || std::fs::write(&path, "x")).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (1234, 5678, 0o640));
        assert_eq!(capabilities(None).unwrap(), before);
        as_creator(Creator { uid: 0, gid: 0, umask: 0 }, || std::fs::write(dir.path().join("own"), "x")).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("own")).unwrap().uid(), 0);
    }

    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn eprintln_skip(reason: &str) {
        eprintln!("skipped: {reason}");
    }
}
