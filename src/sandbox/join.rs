//! A further command in a container that runs: its namespaces are joined instead of made.

use super::account::{self, Databases};
use super::init::{run_command, wait_for_go};
use super::program::{own_program, start_again};
use super::protocol::{CONTROL, Failure, Report, SPECIFICATION, Trying, send};
use super::spec::{Root, Spec};
use super::stage::{become_root, code_of, read_spec};
use crate::sys::namespace::{Fork, fork};
use crate::sys::spawn::{reap, signals_as_descriptor};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

/// The argument of the hidden verb in the process that has joined.
pub(super) const JOINED: &str = "joined";

/// In the stage: begins again, from where our own program is safe. Returns only on failure.
pub(super) fn main(control: &OwnedFd, specification: &OwnedFd) -> Result<i32, Failure> {
    // The container's user namespace cannot be joined for this: from inside our own program must not be found.
    let program = own_program(UnshareFlags::NEWUSER)?;
    Err(start_again(&program, JOINED, &[(control, CONTROL), (specification, SPECIFICATION)]))
}

/// Joins the namespaces, starts a process inside that starts the command, and waits. From the first on there is no exec any more:
/// the container's root need not have what our program is linked to.
pub(super) fn joined(control: &OwnedFd) -> Result<i32, Failure> {
    let (spec, specification) = read_spec()?;
    drop(specification);
    let Root::Running { init } = spec.root else { return Err(Failure::new("join", Errno::INVAL)) };
    join_namespaces(init)?;
    if spec.identity.is_mapped() {
        become_root(&spec.identity)?;
    }
    let pid = match fork().trying(|| "fork".into())? {
        Fork::Child => return inside(spec, control),
        Fork::Parent(pid) => pid,
    };
    send(control, &Report::Init(pid), None).trying(|| "report the process inside".into())?;
    Ok(code_of(reap(pid, true).trying(|| "wait for the command".into())?.map(|(_, ended)| ended)))
}

/// In the process inside: starts the command and watches it.
fn inside(mut spec: Spec, control: &OwnedFd) -> Result<i32, Failure> {
    let what = || "prepare the joined process".to_owned();
    rustix::thread::set_name(c"layerfs-exec").trying(what)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).trying(what)?;
    set_parent_process_death_signal(Some(Signal::KILL)).trying(what)?;
    let signals = signals_as_descriptor().trying(what)?;
    if look_up(&mut spec)? {
        send(control, &Report::User(spec.user.clone()), None).trying(|| "report the user".into())?;
    }
    wait_for_go(control)?;
    run_command(&spec, control, &signals)
}

/// Finds the user the command is to run as in the container's own files; false when none is named.
fn look_up(spec: &mut Spec) -> Result<bool, Failure> {
    let Some(name) = spec.account.take() else { return Ok(false) };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let account = account::resolve(Databases { passwd: &passwd, group: &group }, &name);
    let account =
        account.map_err(|error| Failure { what: format!("find the user: {error}"), errno: 0, at_exec: false })?;
    spec.user = account.user;
    if spec.variable("HOME").is_none() {
        spec.env.push(format!("HOME={}", account.home).into());
    }
    Ok(true)
}

/// A text file of the container; empty when there is none. It may be a FIFO, which must not make us wait.
fn read(path: &str) -> Result<String, Failure> {
    let what = || format!("read {path} of the container");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => std::fs::File::from(other.trying(what)?),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST_DATABASE).read_to_end(&mut bytes).trying(what)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The most bytes read of /etc/passwd or /etc/group.
const LONGEST_DATABASE: u64 = 16 << 20;

const NAMESPACES: &[(&str, ThreadNameSpaceType)] = &[
    ("user", ThreadNameSpaceType::USER),
    ("mnt", ThreadNameSpaceType::MOUNT),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("net", ThreadNameSpaceType::NETWORK),
];

fn join_namespaces(init: i32) -> Result<(), Failure> {
    let what = || format!("join the container of process {init}");
    let pid = Pid::from_raw(init).ok_or(Errno::SRCH).trying(what)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).trying(what)?;
    // Those that are shared anyway must be left out: for the host's network a plain user has no rights, and one's own user namespace is refused.
    let namespace = |process: &str, kind: &str| std::fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let mut all = ThreadNameSpaceType::empty();
    for (kind, flag) in NAMESPACES {
        if namespace("self", kind).trying(what)? != namespace(&init.to_string(), kind).trying(what)? {
            all |= *flag;
        }
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).trying(what)?;
    move_into_thread_name_spaces(process.as_fd(), all).trying(what)
}
