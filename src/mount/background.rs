//! Going into the background.
//!
//! The program starts itself again with the same arguments, in a session of its own; the first process waits for the word
//! that the mount answers, or ends as the second did. Not by fork(2): threads and locks do not survive it.

use super::MountError;
use crate::sys::spawn::close_on_exec_from;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Set in the environment of the second process.
const MARK: &str = "LAYERFS_BACKGROUND";

/// Whether this is the second process.
pub fn is_background() -> bool {
    std::env::var_os(MARK).is_some()
}

/// How the second process came along.
#[derive(Debug)]
pub enum Outcome {
    /// It serves; this is what it had to say.
    Ready(String),
    /// It has ended, and has told why on standard error.
    Ended(ExitStatus),
}

/// Starts the second process and waits until it serves or ends. What stands in standard output before [`ready`] is its
/// message.
pub fn start() -> Result<Outcome, MountError> {
    let failed = |source| MountError::Io { context: "cannot start the background process".to_owned(), source };
    leave_descriptors();
    let mut arguments = std::env::args_os();
    let called_as = arguments.next().unwrap_or_else(|| OsString::from("layerfs"));
    let mut child = Command::new("/proc/self/exe")
        .arg0(called_as)
        .args(arguments)
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut said).map_err(failed)?;
    }
    match said.strip_suffix(READY) {
        Some(message) => Ok(Outcome::Ready(String::from_utf8_lossy(message).into_owned())),
        None => child.wait().map(Outcome::Ended).map_err(failed),
    }
}

/// Keeps what was left open to this process from the second one, which outlives whoever started this one: a lock would be held, and the
/// reader of a pipe wait, as long as something is mounted. Not where an argument names something that is open.
fn leave_descriptors() {
    let names_one = |argument: OsString| argument.as_bytes().windows(4).any(|part| part == b"/fd/");
    if !std::env::args_os().any(names_one)
        && let Err(error) = close_on_exec_from(3)
    {
        log::debug!("descriptors are handed on: {error}");
    }
}

/// What the second process says when it serves. No message contains a NUL.
const READY: &[u8] = b"\0ready\n";

/// Makes the second process independent of the terminal that the first one belongs to.
pub fn leave_terminal() {
    if let Err(error) = rustix::process::setsid() {
        log::debug!("setsid: {error}");
    }
    // It was started as /proc/self/exe, and would be called `exe` by ps(1).
    if let Err(error) = rustix::thread::set_name(c"layerfs") {
        log::debug!("process name: {error}");
    }
}

/// Tells the first process that the mount answers, and lets go of the terminal: standard error goes to `log` from now on.
pub(super) fn ready(log: &Path) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(READY)?;
    stdout.flush()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    rustix::stdio::dup2_stderr(&log)?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    std::env::set_current_dir("/")
}
