//! The process between the starter and the first process inside: makes the namespaces, starts init, waits, cleans up.
//!
//! It stays outside the pid namespace, so that it outlives everything inside and can take away the mount points that were made.
//! It runs in a program of its own, started afresh, and has one thread: fork is safe in it, whatever threads the starter has.

use super::init;
use super::join;
use super::limits::ControlGroup;
use super::oci;
use super::protocol::{CONTROL, Failure, Order, Report, SPECIFICATION, Trying, receive, send};
use super::resolve::{RootDir, Stub};
use super::spec::{Identity, Network, Root, Spec};
use super::task;
use crate::sys::namespace::{Fork, MountAttributes, add_mount_attributes, fork, inherited, unshare};
use crate::sys::spawn::{Ended, close_on_exec_from, exec_fd, keep_as, reap};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};
use rustix::net::RecvFlags;
use rustix::thread::UnshareFlags;
use std::ffi::{CString, OsString};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

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
    make_namespaces(&spec, control)?;
    mount_fuse(&spec, control)?;
    if let Some(runtime) = &spec.runtime {
        return oci::main(runtime, &spec, control);
    }
    let what = || format!("open the root {}", spec.root.path().display());
    let root = rustix::fs::open(spec.root.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .trying(what)?;
    let root = RootDir::new(root).trying(what)?;
    let (stubs, stubs_in) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).trying(|| "make a pipe".into())?;
    let program = own_program()?;
    let pid = match fork().trying(|| "fork".into())? {
        Fork::Child => {
            drop(stubs);
            let handed = [(control, CONTROL), (&specification, SPECIFICATION), (&stubs_in, init::STUBS)];
            return Err(start_again(&program, FIRST, &handed));
        }
        Fork::Parent(pid) => pid,
    };
    drop(stubs_in);
    // A starter that is gone gives no order to go on: init ends by itself, and what it made is taken away all the same.
    let reported = send(control, &Report::Init(pid), None).trying(|| "report init".into());
    let mut noted = Vec::new();
    // The pipe ends when init has said what it made, or with init.
    std::fs::File::from(stubs).read_to_end(&mut noted).trying(|| "read what was made".into())?;
    let ended = reap(pid, true).trying(|| "wait for init".into())?;
    // The starter may have been killed; otherwise it finds them gone.
    drop(ControlGroup::left_by(pid));
    root.remove_stubs(&serde_json::from_slice::<Vec<Stub>>(&noted).unwrap_or_default());
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

/// The user namespace first: it owns the others.
fn make_namespaces(spec: &Spec, control: &OwnedFd) -> Result<(), Failure> {
    make_user_namespace(spec, control)?;
    if spec.runtime.is_some() {
        unshare(UnshareFlags::NEWNS).trying(|| "make a mount namespace".into())?;
        return detach_mounts();
    }
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    unshare(flags).trying(|| "make namespaces".into())?;
    detach_mounts()
}

fn detach_mounts() -> Result<(), Failure> {
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
fn mount_fuse(spec: &Spec, control: &OwnedFd) -> Result<(), Failure> {
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

/// This program through a read-only mount: /proc/PID/exe of the first process leads there, and who could write the file itself
/// must not get to it from inside.
pub(super) fn own_program() -> Result<OwnedFd, Failure> {
    let what = || "open our own program".to_owned();
    let path = rustix::fs::readlink("/proc/self/exe", Vec::new()).trying(what)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, path.as_c_str(), flags).trying(|| format!("clone {}", path.to_string_lossy()))?;
    add_mount_attributes(clone.as_fd(), MountAttributes::READ_ONLY | MountAttributes::NOSUID, false).trying(what)?;
    Ok(clone)
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
