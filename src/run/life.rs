//! A command from its start to its end, with whoever looks on.

use super::terminal::{RawMode, relay, resize};
use super::{RunError, failed};
use crate::sandbox::{Outcome, Running, Sandbox};
use crate::sys::{SignalSet, is_ignored};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

/// Signals that are passed on to the command, with those of real time: all that somebody sends. A stop from the terminal stops this process.
const PASSED_ON: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGCONT,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGWINCH,
];

/// How a command is attached to our streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Standard input is given to the command; it is empty otherwise.
    pub input: bool,
}

/// Keeps the signals that are passed on to a command from ending this process. To be called while it has one thread, so that no other
/// takes them.
pub fn block_signals() -> Result<SignalSet, RunError> {
    let all = PASSED_ON.iter().copied().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
    // nohup(1), or a shell that put this into the background of a script, wants those left alone; blocked ones would be taken all the same.
    let heeded: Vec<i32> = all.filter(|signal| !is_ignored(*signal)).collect();
    SignalSet::block(&heeded).map_err(failed("block signals"))
}

/// Starts the command and stays with it to its end; `started` is called in between. Signals go to the command.
pub fn attend<T>(
    sandbox: Sandbox,
    attached: Attached,
    signals: SignalSet,
    started: impl FnOnce(&Running) -> Result<T, RunError>,
) -> Result<Outcome, RunError> {
    let stdin = if attached.input { Stdio::inherit() } else { Stdio::null() };
    let mut running = sandbox.stdin(stdin).spawn()?;
    let _kept = started(&running)?;
    let terminal = running.terminal.take().map(Arc::new);
    pass_signals_on(signals, &running, terminal.clone())?;
    if let Some(terminal) = terminal {
        let _raw = if attached.input { RawMode::enter()? } else { None };
        resize(&terminal);
        // The command's end ends this; how it ended is told by its exit code.
        if let Err(error) = relay(&terminal, attached.input) {
            log::debug!("terminal: {error}");
        }
        return Ok(running.wait()?);
    }
    Ok(running.wait()?)
}

/// Starts the thread that passes signals on; it ends with this process.
fn pass_signals_on(signals: SignalSet, running: &Running, terminal: Option<Arc<OwnedFd>>) -> Result<(), RunError> {
    let handle = running.handle();
    let work = move || {
        while let Ok(signal) = signals.wait() {
            match &terminal {
                Some(terminal) if signal == libc::SIGWINCH => resize(terminal),
                _ => handle.signal(signal),
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(work).map(drop).map_err(failed("start a thread"))
}
