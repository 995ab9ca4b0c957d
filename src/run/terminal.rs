//! The terminal of whoever looks on: raw while the command has one of its own, and put back whatever happens.

use super::{RunError, failed};
use crate::sandbox::WindowSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes taken at once.
const CHUNK: usize = 16 << 10;

/// The size of the terminal at standard output or input; 80 by 24 where there is none.
pub fn size() -> WindowSize {
    let found = tcgetwinsize(rustix::stdio::stdout()).or_else(|_| tcgetwinsize(rustix::stdio::stdin()));
    match found {
        Ok(Winsize { ws_col, ws_row, .. }) if ws_col > 0 && ws_row > 0 => WindowSize { columns: ws_col, rows: ws_row },
        _ => WindowSize { columns: 80, rows: 24 },
    }
}

/// Tells the command's terminal the size of ours.
pub(super) fn resize(master: &OwnedFd) {
    let WindowSize { columns, rows } = size();
    let window = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    if let Err(error) = tcsetwinsize(master, window) {
        log::debug!("the size of the terminal was not passed on: {error}");
    }
}

/// Raw mode; dropped, the terminal is what it was.
#[derive(Debug)]
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Of standard input; `None` when that is no terminal.
    pub(super) fn enter() -> Result<Option<Self>, RunError> {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = tcgetattr(stdin) else { return Ok(None) };
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).map_err(|error| failed("set the terminal")(error.into()))?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before) {
            log::warn!("the terminal was not set back: {error}");
        }
    }
}

/// Copies between our streams and the command's terminal until its other side is closed.
pub(super) fn relay(master: &OwnedFd, input: bool) -> io::Result<()> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut reading = input;
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut descriptors = vec![PollFd::new(master, PollFlags::IN)];
        if reading {
            descriptors.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut descriptors, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let ready = |at: usize| descriptors.get(at).is_some_and(|descriptor| !descriptor.revents().is_empty());
        let (from_command, from_us) = (ready(0), ready(1));
        if from_us && !copy(stdin, master.as_fd(), &mut buffer)? {
            reading = false;
            // What a terminal makes of ^D; a command that reads on sees the end.
            rustix::io::write(master, &[4])?;
        }
        if from_command {
            match copy(master.as_fd(), stdout, &mut buffer) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // The last one who had the other side open is gone.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Copies once; false at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<bool> {
    let size = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut *buffer))?;
    let mut rest = buffer.get(..size).unwrap_or_default();
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(to, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(size > 0)
}
