//! Our own program as the processes of a sandbox run it: out of reach of those inside.
//!
//! /proc/PID/exe of the first process leads to it, and a program of the container that begins with `#!/proc/self/exe` makes the kernel execute it
//! there: who could write the file itself must not get to it that way. It is run from a read-only mount that lies nowhere.

use super::protocol::{Failure, Trying, receive, send};
use super::stage::VERB;
use crate::sys::namespace::{Fork, MountAttributes, add_mount_attributes, fork, unshare};
use crate::sys::spawn::{exec_fd, keep_as, reap};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// The program through a read-only mount. Where the caller may make none he becomes who may, in a child and in the namespaces `others` and one for
/// mounts: the caller himself gets no copy of the host's mounts, which would keep them alive as long as he lives.
pub(super) fn own_program(others: UnshareFlags) -> Result<OwnedFd, Failure> {
    match clone_program() {
        Err(failure) if failure.errno == Errno::PERM.raw_os_error() => by_child(others),
        other => other,
    }
}

fn clone_program() -> Result<OwnedFd, Failure> {
    let what = || "open our own program".to_owned();
    let path = rustix::fs::readlink("/proc/self/exe", Vec::new()).trying(what)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, path.as_c_str(), flags).trying(|| format!("clone {}", path.to_string_lossy()))?;
    add_mount_attributes(clone.as_fd(), MountAttributes::READ_ONLY | MountAttributes::NOSUID, false).trying(what)?;
    Ok(clone)
}

fn by_child(others: UnshareFlags) -> Result<OwnedFd, Failure> {
    let what = || "get our own program from a child".to_owned();
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).trying(what)?;
    let pid = match fork().trying(|| "fork".into())? {
        Fork::Child => {
            let made = unshare(others | UnshareFlags::NEWNS).trying(|| "make a mount namespace".into());
            let made = made.and_then(|()| clone_program());
            let told = send(&theirs, &made.as_ref().err(), made.as_ref().ok().map(AsFd::as_fd));
            std::process::exit(i32::from(told.is_err()));
        }
        Fork::Parent(pid) => pid,
    };
    drop(theirs);
    let told = receive::<Option<Failure>>(&ours, RecvFlags::empty()).trying(what);
    reap(pid, true).trying(what)?;
    match told? {
        Some((None, Some(program))) => Ok(program),
        Some((Some(failure), _)) => Err(failure),
        _ => Err(Failure::new(what(), Errno::IO)),
    }
}

/// In a child: this program begins again as another part. Returns only on failure.
pub(super) fn start_again(program: &OwnedFd, part: &str, descriptors: &[(&OwnedFd, RawFd)]) -> Failure {
    for (fd, number) in descriptors {
        if let Err(error) = keep_as(fd.as_fd(), *number) {
            return Failure::new("hand over descriptors", error);
        }
    }
    let argv = ["layerfs", VERB, part].map(|word| CString::new(word).unwrap_or_default());
    let env: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| name.as_bytes().starts_with(b"RUST_"))
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    Failure::new("start the next part", exec_fd(program.as_fd(), &argv, &env))
}
