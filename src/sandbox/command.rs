//! The command itself, from fork to exec: terminal, limits, filter, capabilities, user.
//!
//! The order matters. The filter is loaded while `CAP_SYS_ADMIN` is still there, since no_new_privs is off as in Docker; the bounding set
//! shrinks before the user changes, which takes `CAP_SETPCAP` away; nothing of init's stays open.

use super::capability::Capabilities;
use super::protocol::{Failure, Report, Trying, send};
use super::root::bind_console;
use super::seccomp::{Policy, compile};
use super::spec::{Identity, Root, Spec, User, WindowSize};
use super::supervise;
use crate::sys::namespace::{Fork, fork};
use crate::sys::seccomp::load_filter;
use crate::sys::spawn::{close_on_exec_from, exec, replace_stream, reset_signals};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Starts the command of `spec` in the root this process is in; returns its number once it has become the program asked for.
pub(super) fn start(spec: &Spec, control: &OwnedFd) -> Result<i32, Failure> {
    let terminal = spec.terminal.map(|size| open_terminal(&spec.root, size, control)).transpose()?;
    let (failed, failed_in) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).trying(|| "make a pipe".into())?;
    let pid = match fork().trying(|| "fork".into())? {
        Fork::Child => {
            drop(failed);
            let failure = become_command(spec, control, terminal);
            // Whoever reads is init, which waits for this.
            let _ = serde_json::to_writer(std::fs::File::from(failed_in), &failure);
            std::process::exit(127);
        }
        Fork::Parent(pid) => pid,
    };
    drop(failed_in);
    match serde_json::from_reader::<_, Failure>(std::fs::File::from(failed)) {
        Ok(failure) => Err(failure),
        // Nothing came: exec closed the pipe.
        Err(_) => Ok(pid),
    }
}

/// A terminal of the container's own devpts; its master goes to the starter.
fn open_terminal(root: &Root, size: WindowSize, control: &OwnedFd) -> Result<OwnedFd, Failure> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let what = || "open a terminal".to_owned();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).trying(what)?;
    unlockpt(&master).trying(what)?;
    let slave =
        ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).trying(what)?;
    let window = rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, window).trying(what)?;
    if !matches!(root, Root::Running { .. }) {
        bind_console(&slave)?;
    }
    send(control, &Report::Terminal, Some(master.as_fd())).trying(what)?;
    Ok(slave)
}

/// In the child: everything up to exec. Returns only on failure.
fn become_command(spec: &Spec, control: &OwnedFd, terminal: Option<OwnedFd>) -> Failure {
    match prepare(spec, control, terminal) {
        Ok(()) => execute(spec),
        Err(failure) => failure,
    }
}

fn prepare(spec: &Spec, control: &OwnedFd, terminal: Option<OwnedFd>) -> Result<(), Failure> {
    reset_signals();
    rustix::process::setsid().trying(|| "start a session".into())?;
    if let Some(slave) = terminal {
        rustix::process::ioctl_tiocsctty(&slave).trying(|| "take the terminal".into())?;
        for stream in 0..=2 {
            replace_stream(slave.as_fd(), stream).trying(|| "take the terminal".into())?;
        }
    }
    super::limits::apply(spec)?;
    rustix::process::umask(Mode::from_raw_mode(spec.umask));
    enter_directory(&spec.cwd)?;
    restrict(spec, control)?;
    close_on_exec_from(3).trying(|| "close what was left open".into())
}

/// The working directory, made as Docker makes it.
fn enter_directory(cwd: &OsStr) -> Result<(), Failure> {
    let what = || format!("enter the working directory {}", cwd.display());
    match rustix::process::chdir(cwd) {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(cwd).trying(what)?;
            rustix::process::chdir(cwd).trying(what)
        }
        other => other.trying(what),
    }
}

fn restrict(spec: &Spec, control: &OwnedFd) -> Result<(), Failure> {
    if spec.no_new_privileges {
        rustix::thread::set_no_new_privs(true).trying(|| "set no_new_privs".into())?;
    }
    let supervised = spec.identity == Identity::Single;
    if spec.seccomp || supervised {
        let notify = if supervised { supervise::CALLS } else { &[] };
        let notify_creation = if supervised { supervise::CREATING } else { &[] };
        let program =
            compile(&Policy { capabilities: spec.capabilities, notify, notify_creation, restrict: spec.seccomp });
        let root_device = rustix::fs::stat("/").trying(|| "look at the root".into())?.st_dev;
        let listener = load_filter(&program, supervised).trying(|| "load the seccomp filter".into())?;
        if let Some(listener) = listener {
            send(control, &Report::Listener { root_device }, Some(listener.as_fd()))
                .trying(|| "hand over the seccomp listener".into())?;
        }
    }
    shrink_bounding_set(spec.capabilities)?;
    if !supervised {
        become_user(&spec.user)?;
    }
    let root = supervised || spec.user.uid == 0;
    set_capabilities(if root { spec.capabilities } else { Capabilities::none() })
}

fn shrink_bounding_set(keep: Capabilities) -> Result<(), Failure> {
    for number in 0..Capabilities::all().bits().count_ones() {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.bits() & capability.bits() != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability this kernel does not know yet.
            Err(Errno::INVAL) => {}
            other => other.trying(|| "shrink the bounding set".into())?,
        }
    }
    Ok(())
}

fn become_user(user: &User) -> Result<(), Failure> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let what = || format!("become user {}:{} (is the number mapped?)", user.uid, user.gid);
    let groups: Vec<Gid> = user.all_groups().into_iter().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&groups).trying(what)?;
    set_thread_res_gid(gid, gid, gid).trying(what)?;
    set_thread_res_uid(uid, uid, uid).trying(what)
}

/// Docker's way since 20.10.14: effective and permitted, nothing inheritable, nothing ambient.
fn set_capabilities(wanted: Capabilities) -> Result<(), Failure> {
    let what = || "set the capabilities".to_owned();
    let held = rustix::thread::capabilities(None).trying(what)?;
    let kept = CapabilitySet::from_bits_retain(wanted.bits()) & held.permitted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::clear_ambient_capability_set().trying(what)?;
    rustix::thread::set_capabilities(None, sets).trying(what)
}

fn execute(spec: &Spec) -> Failure {
    let failed = |name: &OsStr, error: Errno| Failure {
        what: name.display().to_string(),
        errno: error.raw_os_error(),
        at_exec: true,
    };
    let Some(name) = spec.argv.first() else { return failed(OsStr::new("no command"), Errno::INVAL) };
    let (Some(argv), Some(env)) = (c_strings(&spec.argv), c_strings(&spec.env)) else {
        return failed(name, Errno::INVAL);
    };
    let path = match find_program(name, spec.variable("PATH")) {
        Ok(path) => path,
        Err(error) => return failed(name, error),
    };
    let Ok(path) = CString::new(path.into_vec()) else { return failed(name, Errno::INVAL) };
    failed(name, exec(&path, &argv, &env))
}

fn c_strings(strings: &[OsString]) -> Option<Vec<CString>> {
    strings.iter().map(|string| CString::new(string.as_bytes()).ok()).collect()
}

/// Where the program is: a name with a slash is a path, any other is looked for in `path`.
///
/// # Errors
/// `EACCES` when there is only one that cannot be executed; `ENOENT` when there is none.
fn find_program(name: &OsStr, path: Option<&OsStr>) -> Result<OsString, Errno> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.to_owned());
    }
    let path = path.unwrap_or(OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    let mut found = Errno::NOENT;
    for dir in path.as_bytes().split(|byte| *byte == b':') {
        let mut candidate = OsString::from_vec(if dir.is_empty() { b".".to_vec() } else { dir.to_vec() });
        candidate.push("/");
        candidate.push(name);
        let Ok(stat) = rustix::fs::stat(&candidate) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            continue;
        }
        match rustix::fs::accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => return Ok(candidate),
            Err(_) => found = Errno::ACCESS,
        }
    }
    Err(found)
}
