//! Ending what runs in a container, from outside: signals, patience, and what is done when that is over.

use crate::mount::{Registry, Unmount, unmount};
use crate::oci::ContainerConfig;
use crate::run::state;
use crate::store::{Container, Store};
use crate::sys::spawn::send_signal_to;
use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a container may take to be gone once it was killed, and whoever ran it to let go of it.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at whether somebody still has it.
const LOOK: Duration = Duration::from_millis(10);

/// The command of a container that runs.
#[derive(Debug)]
pub(super) struct Command {
    /// The first process inside, which passes signals on to the command.
    init: i32,
    process: OwnedFd,
}

impl Command {
    /// That of `container`; none when it does not run.
    pub(super) fn of(container: &Container) -> anyhow::Result<Option<Self>> {
        let Some(running) = state::read(&container.dir)? else { return Ok(None) };
        let Some(pid) = Pid::from_raw(running.init) else { return Ok(None) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            other => other.with_context(|| format!("cannot look at process {}", running.init))?,
        };
        // Another process may have got the number meanwhile; what is opened stands for one process from here on.
        let same = state::started(running.init) == Some(running.started);
        Ok(same.then_some(Self { init: running.init, process }))
    }

    /// Sends a signal. One that has just ended needs none.
    pub(super) fn signal(&self, signal: i32) -> anyhow::Result<()> {
        match send_signal_to(self.process.as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send a signal to process {}", self.init)),
        }
    }

    /// Whether it ends within `patience`; for ever without one.
    fn ends_within(&self, patience: Option<Duration>) -> anyhow::Result<bool> {
        // What no clock reaches is for ever as well.
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.process, PollFlags::IN)], left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other.context("cannot wait for the container")? > 0),
            }
        }
    }

    /// Ends it: by `signal`, and by SIGKILL when that has not helped within `patience`.
    pub(super) fn end(&self, signal: i32, patience: Option<Duration>) -> anyhow::Result<()> {
        self.signal(signal)?;
        if signal != libc::SIGKILL && self.ends_within(patience)? {
            return Ok(());
        }
        self.signal(libc::SIGKILL)?;
        if !self.ends_within(Some(LAST_PATIENCE))? {
            bail!("process {} does not end", self.init);
        }
        Ok(())
    }
}

/// The command of `container`; none when nobody has that, or it is mounted. Whoever is about to run it, or to let go of it after a command
/// has ended, is waited for.
pub(super) fn settled(container: &Container) -> anyhow::Result<Option<Command>> {
    patiently(container, || {
        if let Some(command) = Command::of(container)? {
            return Ok(Some(Some(command)));
        }
        let is_settled = !container.is_mounted()? || Registry::open()?.mount_of(&container.dir)?.is_some();
        Ok(is_settled.then_some(None))
    })
}

/// Waits until whoever ran `container` has let go of it; `--rm` takes it away before.
pub(super) fn wait_until_let_go(container: &Container) -> anyhow::Result<()> {
    patiently(container, || Ok((!container.is_mounted()?).then_some(())))
}

/// Looks until something is found; a container of which nothing is found in time is busy.
fn patiently<T>(container: &Container, look: impl Fn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let until = Instant::now() + LAST_PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > until {
            return Err(container.busy().into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Ends whatever uses `container`: kills its command, takes its mount away.
pub(super) fn free(container: &Container) -> anyhow::Result<()> {
    if let Some(command) = settled(container)? {
        command.end(libc::SIGKILL, None)?;
    }
    let registry = Registry::open()?;
    if let Some(mount) = registry.mount_of(&container.dir)? {
        unmount(&registry, &mount.mount_point, Unmount::Kill)?;
    }
    wait_until_let_go(container)
}

/// The signal by which the command of `container` wants to be asked to end: its image's, or SIGTERM.
pub(super) fn stop_signal(store: &Store, container: &Container) -> i32 {
    let image = store.resolve(&container.record.manifest.to_string()).ok();
    let named = image.and_then(|image| stop_signal_of(&image.config.config));
    named.unwrap_or(libc::SIGTERM)
}

fn stop_signal_of(config: &ContainerConfig) -> Option<i32> {
    signal_number(config.stop_signal.as_deref()?)
}

const SIGNALS: &[(&str, i32)] = &[
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGIOT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

/// The number of a signal by its number or name, with or without `SIG`, `RTMIN+3` and `RTMAX-2` included, as moby's package `signal` has it.
pub(super) fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|number| (1..=64).contains(number));
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign)?.parse::<i32>().ok().filter(|offset| (1..=15).contains(offset)),
    };
    let real_time = || {
        let above = name.strip_prefix("RTMIN").and_then(|rest| Some(libc::SIGRTMIN() + offset(rest, '+')?));
        above.or_else(|| name.strip_prefix("RTMAX").and_then(|rest| Some(libc::SIGRTMAX() - offset(rest, '-')?)))
    };
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number).or_else(real_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_patience_beyond_all_clocks_and_a_process_that_has_ended_are_no_failures() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let init = child.id().cast_signed();
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let command = Command { init, process };
        command.end(libc::SIGTERM, Some(Duration::from_secs(u64::MAX))).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(libc::SIGTERM));
        // Its number may be another's now.
        command.signal(libc::SIGTERM).unwrap();
        assert_eq!(send_signal_to(command.process.as_fd(), libc::SIGTERM), Err(rustix::io::Errno::SRCH));
    }

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("sigterm", Some(15)),
            ("SIGRTMIN", Some(libc::SIGRTMIN())),
            ("RTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMAX-1", Some(libc::SIGRTMAX() - 1)),
            ("0", None),
            ("65", None),
            ("RTMIN-3", None),
            ("RTMIN+16", None),
            ("SIGNOPE", None),
            ("", None),
        ] {
            assert_eq!(signal_number(text), number, "{text:?}");
        }
    }
}
