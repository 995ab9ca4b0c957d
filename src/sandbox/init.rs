//! The first process of the container's pid namespace: builds the root, starts the command, reaps, passes signals on, ends everything.
//!
//! When it ends, for whatever reason, the kernel kills every process of the namespace: nothing can be left behind. It ends with the command,
//! when its time is up, or when the starter's end of the control socket is closed.

use super::command;
use super::protocol::{Failure, Order, Report, SYNCED, Trying, receive, send};
use super::resolve::Stub;
use super::root;
use super::spec::{Network, Spec};
use super::stage::{detach_mounts, mount_fuse, read_spec};
use crate::sys::namespace::{Fork, fork, inherited, loopback_up, unshare};
use crate::sys::spawn::{Ended, read_signal, reap, send_signal, signals_as_descriptor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Instant;

/// Where what was made is reported to the stage.
pub(super) const MADE: RawFd = 60;

/// What was made, for the stage.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Made {
    /// The root, a descriptor of which comes along: as it is, whatever the container may do to it.
    Root,
    Stub(Stub),
}

/// The exit code of a process that was killed with everything inside.
const KILLED: i32 = 137;

pub(super) fn main(control: &OwnedFd) -> Result<i32, Failure> {
    let (spec, specification) = read_spec()?;
    drop(specification);
    let what = || "prepare init".to_owned();
    rustix::thread::set_name(c"layerfs-init").trying(what)?;
    set_parent_process_death_signal(Some(Signal::KILL)).trying(what)?;
    let signals = signals_as_descriptor().trying(what)?;
    unshare(UnshareFlags::NEWNS).trying(|| "make a mount namespace".into())?;
    detach_mounts()?;
    mount_fuse(&spec, control)?;
    enter_root(&spec, control)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).trying(what)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).trying(|| format!("set the host name {}", spec.hostname))?;
    if spec.network == Network::None {
        loopback_up().trying(|| "bring up the loopback interface".into())?;
    }
    // Moving a process to a control group makes the kernel wait for all processors, which takes as long as all of the above.
    wait_for_go(control)?;
    run_command(&spec, control, &signals)
}

/// Starts the command and watches it to its end.
pub(super) fn run_command(spec: &Spec, control: &OwnedFd, signals: &OwnedFd) -> Result<i32, Failure> {
    let started = Instant::now();
    let command = command::start(spec, control)?;
    send(control, &Report::Running, None).trying(|| "report the start".into())?;
    let code = watch(spec, control, signals, command, started)?;
    // Where this is the first process, its end kills all the others; where it is not, the command's group has to be killed by hand.
    if code == KILLED {
        // It may have ended meanwhile.
        let _ = send_signal(-command, libc::SIGKILL);
    }
    Ok(code)
}

pub(super) fn wait_for_go(control: &OwnedFd) -> Result<(), Failure> {
    match receive::<Order>(control, RecvFlags::empty()).trying(|| "wait for the starter".into())? {
        Some((Order::Go, _)) => Ok(()),
        _ => std::process::exit(KILLED),
    }
}

/// What had to be made in the root is told whether all went well or not: it is taken away at the end.
fn enter_root(spec: &Spec, control: &OwnedFd) -> Result<(), Failure> {
    let stage = inherited(MADE).trying(|| "prepare init".into())?;
    let seen = root::clone_root(spec)?;
    send(&stage, &Made::Root, Some(seen.as_fd())).trying(|| "hand over the root".into())?;
    drop(seen);
    let mut stubs = Vec::new();
    let entered = root::enter(spec, &mut stubs);
    // The stage first: it is there also when the starter is not.
    for stub in &stubs {
        send(&stage, &Made::Stub(stub.clone()), None).trying(|| "report the mount points".into())?;
    }
    entered?;
    tell_mount_points(control, &stubs)
}

/// Tells the starter what is there for as long as the container runs only.
pub(super) fn tell_mount_points(control: &OwnedFd, stubs: &[Stub]) -> Result<(), Failure> {
    let paths = stubs.iter().map(Stub::path).collect();
    send(control, &Report::MountPoints(paths), None).trying(|| "report the mount points".into())
}

/// Until the command has ended.
pub(super) fn watch(
    spec: &Spec,
    control: &OwnedFd,
    signals: &OwnedFd,
    command: i32,
    started: Instant,
) -> Result<i32, Failure> {
    loop {
        let left = spec.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            let _ = send(control, &Report::TimedOut, None); // a starter that is gone needs no report
            return Ok(KILLED);
        }
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut descriptors = [PollFd::new(signals, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
        match poll(&mut descriptors, left.as_ref()) {
            Err(Errno::INTR) => continue,
            other => drop(other.trying(|| "wait for events".into())?),
        }
        let (signal_waits, order_waits) = (!descriptors[0].revents().is_empty(), !descriptors[1].revents().is_empty());
        if order_waits && !obey(spec, control, command)? {
            return Ok(KILLED);
        }
        if signal_waits && let Some(ended) = take_signals(signals, command)? {
            report_end(control, ended);
            return Ok(0);
        }
    }
}

/// Carries out one order; false when the starter is gone.
fn obey(spec: &Spec, control: &OwnedFd, command: i32) -> Result<bool, Failure> {
    match receive::<Order>(control, RecvFlags::DONTWAIT) {
        Ok(Some((Order::Signal(signal), _))) => pass_on(signal, command),
        Ok(Some((Order::Sync, Some(done)))) => sync_root(spec, done),
        Ok(Some(_)) | Err(Errno::AGAIN) => {}
        Ok(None) => return Ok(false),
        Err(error) => return Err(Failure::new("receive an order", error)),
    }
    Ok(true)
}

/// Syncs the root in a process of its own: nobody else waits for the disk. It writes [`SYNCED`] to `done` when that has succeeded, and closes
/// it in any case.
fn sync_root(spec: &Spec, done: OwnedFd) {
    match fork() {
        Ok(Fork::Child) => {
            // A runtime's container has another first process; ours is outside, where the root lies at its path.
            let root = if spec.runtime.is_some() { spec.root.path() } else { OsStr::new("/") };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let synced = rustix::fs::open(root, flags, Mode::empty()).and_then(rustix::fs::syncfs);
            let told = synced.and_then(|()| rustix::io::write(&done, &[SYNCED]));
            std::process::exit(i32::from(told.is_err()));
        }
        // Without a word on it the sync has failed.
        Ok(Fork::Parent(_)) | Err(_) => drop(done),
    }
}

/// Reaps who has ended and passes on every other signal; returns how the command ended, once it has.
fn take_signals(signals: &OwnedFd, command: i32) -> Result<Option<Ended>, Failure> {
    while let Some(signal) = read_signal(signals).trying(|| "read a signal".into())? {
        if signal != libc::SIGCHLD {
            pass_on(signal, command);
        }
    }
    loop {
        match reap(-1, false) {
            Ok(Some((pid, ended))) if pid == command => return Ok(Some(ended)),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(error) => return Err(Failure::new("reap a process", error)),
        }
    }
}

/// Signals that a terminal makes go to the whole process group, as from a terminal; all others to the command.
fn pass_on(signal: i32, command: i32) {
    let group = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGCONT].contains(&signal);
    // The command may have ended in this moment, which SIGCHLD tells.
    let _ = send_signal(if group { -command } else { command }, signal);
}

fn report_end(control: &OwnedFd, ended: Ended) {
    let report = match ended {
        Ended::Exited(code) => Report::Exited(code),
        Ended::Signaled(signal) => Report::Signaled(signal),
    };
    // A starter that is gone needs no report.
    let _ = send(control, &report, None);
}
