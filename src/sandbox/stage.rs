//! The process between the starter and the first process inside: makes the namespaces, starts init, waits, cleans up.
//!
//! It stays outside the pid namespace, so that it outlives everything inside and can take away the mount points that were made.
//! It runs in a program of its own, started afresh, and has one thread: fork is safe in it, whatever threads the starter has.
//!
//! It stays in the host's mount namespace as well. In one of its own it would have a copy of every mount the host had at that time, and keep
//! them alive as long as the container runs: a FUSE server ends with the last copy of its mount. Init has such a copy until it has changed its
//! root; for the end it gives the stage a descriptor of the container's root, by which mount points are taken away without any mount.

use super::init::{self, Made};
use super::join;
use super::limits::ControlGroup;
use super::oci;
use super::program::{own_program, start_again};
use super::protocol::{CONTROL, Failure, Order, Report, SPECIFICATION, Trying, receive, send};
use super::resolve::remove_stubs;
use super::spec::{Identity, Network, Root, Spec};
use super::task;
use crate::sys::namespace::{Fork, fork, inherited, unshare};
use crate::sys::spawn::{Ended, close_on_exec_from, reap};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::thread::UnshareFlags;
use std::ffi::{CString, OsString};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The hidden verb by which the program runs as a part of a sandbox.
pub const VERB: &str = "sandbox-init";
/// Its argument in the first process inside.
const FIRST: &str = "first";

/// Runs the hidden verb when this process was started for it; returns at once otherwise. To be called before anything else in `main`.
pub fn reenter() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).take(2).collect();
    if arguments.first().is_none_or(|verb| verb != VERB) {
        return;
    }
    let part = arguments.get(1).and_then(|argument| argument.to_str());
    let code = match inherited(CONTROL) {
        Err(_) => 125,
        Ok(control) => {
            let result = match part {
                Some(FIRST) => init::main(&control),
                Some(join::JOINED) => join::joined(&control),
                _ => main(&control),
            };
            result.unwrap_or_else(|failure| {
                // When the starter is gone, so is whoever could be told.
                let _ = send(&control, &Report::Failed(failure), None);
                125
            })
        }
    };
    std::process::exit(code);
}

/// Reads the specification, which stays open for the next process.
pub(super) fn read_spec() -> Result<(Spec, OwnedFd), Failure> {
    let what = || "read the specification".to_owned();
    let mut file = std::fs::File::from(inherited(SPECIFICATION).trying(what)?);
    let mut bytes = Vec::new();
    file.rewind().trying(what)?;
    file.read_to_end(&mut bytes).trying(what)?;
    let spec = serde_json::from_slice(&bytes).map_err(|error| Failure {
        what: format!("{}: {error}", what()),
        errno: 0,
        at_exec: false,
    })?;
    Ok((spec, file.into()))
}

fn main(control: &OwnedFd) -> Result<i32, Failure> {
    close_on_exec_from(3).trying(|| "close what was left open".into())?;
    let (spec, specification) = read_spec()?;
    // A session of its own: the terminal's signals reach the starter only, which passes them on.
    rustix::process::setsid().trying(|| "start a session".into())?;
    if let Root::Running { .. } = spec.root {
        return join::main(control, &specification);
    }
    if let Root::Task(work) = &spec.root {
        make_user_namespace(&spec, control)?;
        return task::main(work, control);
    }
    make_user_namespace(&spec, control)?;
    if let Some(runtime) = &spec.runtime {
        unshare(UnshareFlags::NEWNS).trying(|| "make a mount namespace".into())?;
        detach_mounts()?;
        mount_fuse(&spec, control)?;
        return oci::main(runtime, &spec, control);
    }
    oversee(&spec, &specification, control)
}

/// Starts init, waits for its end and takes away what it made in the root.
fn oversee(spec: &Spec, specification: &OwnedFd, control: &OwnedFd) -> Result<i32, Failure> {
    let (made, made_in) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .trying(|| "make a pair of sockets".into())?;
    // Before there is a pid namespace, whose first process a child would be.
    let program = own_program(UnshareFlags::empty())?;
    make_namespaces(spec)?;
    let pid = match fork().trying(|| "fork".into())? {
        Fork::Child => {
            drop(made);
            let handed = [(control, CONTROL), (specification, SPECIFICATION), (&made_in, init::MADE)];
            return Err(start_again(&program, FIRST, &handed));
        }
        Fork::Parent(pid) => pid,
    };
    drop((made_in, program));
    // A starter that is gone gives no order to go on: init ends by itself, and what it made is taken away all the same.
    let reported = send(control, &Report::Init(pid), None).trying(|| "report init".into());
    let (mut root, mut stubs) = (None, Vec::new());
    // It ends when init has said what it made, or with init.
    while let Some((made, descriptor)) = receive(&made, RecvFlags::empty()).trying(|| "read what was made".into())? {
        match made {
            Made::Root => root = descriptor,
            Made::Stub(stub) => stubs.push(stub),
        }
    }
    let ended = reap(pid, true).trying(|| "wait for init".into())?;
    // The starter may have been killed; otherwise it finds them gone.
    drop(ControlGroup::left_by(pid));
    if let Some(root) = root {
        remove_stubs(root.as_fd(), &stubs);
    }
    reported?;
    Ok(code_of(ended.map(|(_, ended)| ended)))
}

pub(super) fn code_of(ended: Option<Ended>) -> i32 {
    match ended {
        Some(Ended::Exited(code)) => code,
        Some(Ended::Signaled(signal)) => 128 + signal,
        None => 125,
    }
}

fn make_user_namespace(spec: &Spec, control: &OwnedFd) -> Result<(), Failure> {
    if !spec.identity.is_mapped() {
        return Ok(());
    }
    unshare(UnshareFlags::NEWUSER).trying(|| "make a user namespace".into())?;
    send(control, &Report::NeedMaps, None).trying(|| "ask for maps".into())?;
    match receive::<Order>(control, RecvFlags::empty()).trying(|| "wait for maps".into())? {
        Some((Order::MapsWritten, _)) => {}
        // The starter is gone or has given up.
        _ => std::process::exit(125),
    }
    become_root(&spec.identity)
}

/// Those of everything inside but the mounts, after the user namespace, which owns them.
fn make_namespaces(spec: &Spec) -> Result<(), Failure> {
    let mut flags = UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    unshare(flags).trying(|| "make namespaces".into())
}

/// Of what is mounted in the calling process's own mount namespace nothing reaches the host's.
pub(super) fn detach_mounts() -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .trying(|| "detach the mounts from the host's".into())
}

pub(super) fn become_root(identity: &Identity) -> Result<(), Failure> {
    use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let what = || "become the container's root".to_owned();
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).trying(what)?;
    if *identity != Identity::Single {
        set_thread_groups(&[]).trying(what)?;
    }
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).trying(what)
}

/// Mounts the root in this mount namespace, when the sandbox is to do that.
pub(super) fn mount_fuse(spec: &Spec, control: &OwnedFd) -> Result<(), Failure> {
    let Root::Fuse { at, source, subtype } = &spec.root else { return Ok(()) };
    let what = || format!("mount the root {}", at.display());
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .trying(|| "open /dev/fuse".into())?;
    // With a single number everyone inside is the caller; the supervisor, outside of the user namespace, must not be kept out.
    let others = if spec.identity == Identity::Single { "" } else { ",allow_other" };
    let number = device.as_raw_fd();
    let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0,default_permissions{others}");
    let options = CString::new(options).map_err(|_| Failure::new(what(), rustix::io::Errno::INVAL))?;
    let flags = rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOATIME;
    let kind = format!("fuse.{subtype}");
    rustix::mount::mount(source.as_str(), at.as_os_str(), kind.as_str(), flags, options.as_c_str()).trying(what)?;
    send(control, &Report::Mounted, Some(device.as_fd())).trying(|| "hand over /dev/fuse".into())
}
