//! Getting a `/dev/fuse` descriptor that is mounted somewhere, and getting rid of the mount.

use super::{MountError, MountOptions};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mount::UnmountFlags;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
use std::ffi::CString;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEVICE: &str = "/dev/fuse";
/// Through this variable the helper learns which descriptor to send the device over (fusermount.c).
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// A mounted device.
#[derive(Debug)]
pub(super) struct Attached {
    /// The open device.
    pub(super) device: OwnedFd,
    /// Whether the kernel checks permissions. Not so for a plain user on his own: he may read all of his image.
    pub(super) permissions_checked: bool,
}

/// Mounts on `mount_point` as `source`.
pub(super) fn attach(mount_point: &Path, source: &str, options: &MountOptions) -> Result<Attached, MountError> {
    match mount_directly(mount_point, source, options) {
        Err(MountError::Mount { source: cause, .. }) if cause.raw_os_error() == Some(libc::EPERM) => {
            mount_by_helper(mount_point, source, options)
        }
        other => other,
    }
}

/// By mount(2): as root, or as who is root in a user namespace.
fn mount_directly(mount_point: &Path, source: &str, options: &MountOptions) -> Result<Attached, MountError> {
    let device = open_device()?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut data = format!("fd={},rootmode=40000,user_id={uid},group_id={gid}", device.as_raw_fd());
    data.push_str(",default_permissions");
    if options.allow_other {
        data.push_str(",allow_other");
    }
    // As mount(8) does: without SELinux its options would be refused, and have nothing to say.
    if let Some(context) = options.context.as_ref().filter(|_| has_selinux()) {
        data.push(',');
        data.push_str(context);
    }
    let failed = |cause: io::Error| MountError::Mount { path: mount_point.to_owned(), source: cause };
    let data = CString::new(data).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let kind = format!("fuse.{}", options.subtype);
    rustix::mount::mount(source, mount_point, kind, options.flags(), data.as_c_str())
        .map_err(|cause| failed(cause.into()))?;
    Ok(Attached { device, permissions_checked: true })
}

fn has_selinux() -> bool {
    std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|list| list.lines().any(|line| line.ends_with("\tselinuxfs")))
}

fn open_device() -> Result<OwnedFd, MountError> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|cause| match cause {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => MountError::NoDevice,
        other => MountError::Device(other.into()),
    })
}

/// By the setuid program of the fuse3 package, which sends the mounted device over a socket.
fn mount_by_helper(mount_point: &Path, source: &str, options: &MountOptions) -> Result<Attached, MountError> {
    if options.allow_other && !users_may_allow_other() {
        return Err(MountError::AllowOther);
    }
    let helper = find_helper().ok_or(MountError::NoHelper)?;
    if let Some(context) = options.context.as_ref().filter(|_| has_selinux()) {
        log::warn!("{context} is not set: fusermount3 passes no SELinux contexts on");
    }
    let context = |context: &str| {
        let context = context.to_owned();
        move |cause: Errno| MountError::Io { context, source: cause.into() }
    };
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(context("cannot make a socket pair"))?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(context("cannot hand a socket on"))?;
    let mut words: Vec<String> = options.words().into_iter().map(str::to_owned).collect();
    words.push(format!("fsname={}", escape(source)));
    words.push(format!("subtype={}", escape(&options.subtype)));
    if options.allow_other {
        words.extend(["allow_other".to_owned(), "default_permissions".to_owned()]);
    }
    let mut child = Command::new(helper)
        .arg("-o")
        .arg(words.join(","))
        .arg("--")
        .arg(mount_point)
        .env(HELPER_SOCKET, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| MountError::Io { context: "cannot run fusermount3".to_owned(), source })?;
    drop(theirs);
    let device = receive_descriptor(&ours);
    let mut complaint = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What cannot be read is not shown; that the helper failed is known without it.
        let _ = stderr.read_to_string(&mut complaint);
    }
    // The descriptor says how it went; the child only has to be reaped.
    let _ = child.wait();
    match device {
        Ok(Some(device)) => Ok(Attached { device, permissions_checked: options.allow_other }),
        _ => Err(helper_failure(&complaint)),
    }
}

fn helper_failure(complaint: &str) -> MountError {
    let lines: Vec<&str> = complaint.lines().map(|line| line.trim_start_matches("fusermount3: ")).collect();
    let text = lines.join("; ");
    if text.contains("device not found") {
        return MountError::NoDevice;
    }
    let text = if text.is_empty() { "no descriptor received".to_owned() } else { text };
    MountError::Helper(text)
}

/// Commas and backslashes end an option of the helper's unless a backslash stands before them.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

fn users_may_allow_other() -> bool {
    std::fs::read_to_string("/etc/fuse.conf")
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"))
}

fn find_helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/bin".into(), "/bin".into()]);
    directories.map(|directory| directory.join("fusermount3")).find(|program| program.is_file())
}

fn receive_descriptor(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let received = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(received)
}

/// Unmounts `mount_point`; with `lazy` at once for the eyes of everyone, and really when its last user has gone.
pub(super) fn detach(mount_point: &Path, lazy: bool) -> Result<(), MountError> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() } | UnmountFlags::NOFOLLOW;
    match rustix::mount::unmount(mount_point, flags) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::StillUsed(mount_point.to_owned())),
        Err(Errno::PERM) => detach_by_helper(mount_point, lazy),
        Err(cause) => Err(MountError::Unmount { path: mount_point.to_owned(), source: cause.into() }),
    }
}

/// Breaks the connection of the mount, so that whatever waits for it fails. Where that is not allowed the lazy unmount that
/// follows has to do. Returns whether the mount has gone already, as one does that nobody uses.
pub(super) fn abort(mount_point: &Path) -> bool {
    let result = rustix::mount::unmount(mount_point, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW);
    if let Err(error) = result {
        log::debug!("forced unmount of {}: {error}", mount_point.display());
    }
    result.is_ok()
}

fn detach_by_helper(mount_point: &Path, lazy: bool) -> Result<(), MountError> {
    let helper = find_helper().ok_or(MountError::NoHelper)?;
    let mut command = Command::new(helper);
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(mount_point);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| MountError::Io { context: "cannot run fusermount3".to_owned(), source })?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false if complaint.contains("busy") => Err(MountError::StillUsed(mount_point.to_owned())),
        false => Err(helper_failure(&complaint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_for_the_helper_are_escaped() {
        assert_eq!(escape(r"a,b\c"), r"a\,b\\c");
    }

    #[test]
    fn the_helpers_complaint_is_one_line() {
        let error = helper_failure("fusermount3: mount failed: Permission denied\nfusermount3: second\n");
        assert_eq!(error.to_string(), "fusermount3: mount failed: Permission denied; second");
    }
}
