//! The terminal of whoever looks on: raw while the command has one of its own, and put back whatever happens.

use super::{RunError, failed};
use crate::sandbox::WindowSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
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
    let input = input.then(rustix::stdio::stdin);
    carry(master, input, rustix::stdio::stdout())
}

/// As [`relay`], between any two streams. What the command does not take yet waits here, and no more is read meanwhile: whoever waited for
/// the command to take it would not take what the command says, and a command that reads what it writes would never go on.
fn carry(master: &OwnedFd, mut input: Option<BorrowedFd<'_>>, output: BorrowedFd<'_>) -> io::Result<()> {
    rustix::fs::fcntl_setfl(master, rustix::fs::fcntl_getfl(master)? | OFlags::NONBLOCK)?;
    let mut buffer = vec![0; CHUNK];
    let mut waiting = Vec::new();
    loop {
        let wanted = if waiting.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut descriptors = vec![PollFd::new(master, wanted)];
        if let Some(input) = input.filter(|_| waiting.is_empty()) {
            descriptors.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        match poll(&mut descriptors, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let ready = |at: usize| descriptors.get(at).map_or(PollFlags::empty(), PollFd::revents);
        let (from_command, from_us) = (ready(0) != PollFlags::OUT && !ready(0).is_empty(), !ready(1).is_empty());
        if let Some(stream) = input.filter(|_| from_us)
            && !take(stream, &mut buffer, &mut waiting)?
        {
            input = None;
            // What a terminal makes of ^D; a command that reads on sees the end.
            waiting.push(4);
        }
        give(master, &mut waiting)?;
        if from_command && !copy(master.as_fd(), output, &mut buffer)? {
            return Ok(());
        }
    }
}

/// Reads what there is; false at the end.
fn take(from: BorrowedFd<'_>, buffer: &mut [u8], waiting: &mut Vec<u8>) -> io::Result<bool> {
    let size = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut *buffer))?;
    waiting.extend_from_slice(buffer.get(..size).unwrap_or_default());
    Ok(size > 0)
}

/// Writes as much of what waits as is taken at once.
fn give(master: &OwnedFd, waiting: &mut Vec<u8>) -> io::Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    match rustix::io::retry_on_intr(|| rustix::io::write(master, waiting)) {
        Ok(written) => drop(waiting.drain(..written.min(waiting.len()))),
        Err(Errno::AGAIN) => {}
        // The last one who had the other side open is gone, which reading what it left tells.
        Err(Errno::IO) => waiting.clear(),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Copies what the command said; false when the last one who had the other side open is gone.
fn copy(master: BorrowedFd<'_>, output: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<bool> {
    let size = match rustix::io::retry_on_intr(|| rustix::io::read(master, &mut *buffer)) {
        Err(Errno::AGAIN) => return Ok(true),
        Err(Errno::IO) => 0,
        other => other?,
    };
    let mut rest = buffer.get(..size).unwrap_or_default();
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(output, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use std::fs::File;
    use std::io::{Read, Write};

    /// More than the two sides of a terminal hold together.
    const PASTED: usize = 512 << 10;

    #[test]
    fn regression_a_command_that_says_what_it_is_told_does_not_wait_for_ever() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&master).unwrap();
        let command = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let mut raw = tcgetattr(&command).unwrap();
        raw.make_raw();
        tcsetattr(&command, OptionalActions::Now, &raw).unwrap();
        let (input, pasted) = rustix::pipe::pipe().unwrap();
        let (said, output) = rustix::pipe::pipe().unwrap();
        let text: Vec<u8> = (0..PASTED).map(|at| b'a' + (at % 23) as u8).collect();
        let heard = std::thread::scope(|scope| {
            scope.spawn(|| File::from(pasted).write_all(&text).unwrap());
            scope.spawn(|| {
                let mut command = File::from(command);
                let mut chunk = vec![0; 4096];
                let mut left = PASTED;
                while left > 0 {
                    let count = command.read(&mut chunk).unwrap();
                    left -= count.min(left);
                    command.write_all(&chunk[..count]).unwrap();
                }
            });
            let heard = scope.spawn(|| {
                let mut heard = Vec::new();
                File::from(said).read_to_end(&mut heard).unwrap();
                heard
            });
            carry(&master, Some(input.as_fd()), output.as_fd()).unwrap();
            drop(output);
            heard.join().unwrap()
        });
        assert_eq!(heard.get(..PASTED), Some(&*text));
    }
}
