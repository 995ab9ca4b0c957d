//! Talking to the server of a mount: one line of JSON each way over a Unix socket.

use super::{MountError, MountRecord, Registry};
use crate::fs::LayerFs;
use crate::fuse::Counters;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

/// How long either side waits for the other's line.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request, with much to spare.
const REQUEST_MAX: u64 = 4096;

/// What a server can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// How many requests of each kind it has answered.
    Stats,
    /// To end the connection only when the server ends: whoever reads on learns of that.
    WaitForEnd,
    /// To hold all names as they are until the connection ends.
    HoldNames,
    /// What is there for as long as a container runs only.
    MountPoints,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Counts by the name of the request.
    Stats(BTreeMap<String, u64>),
    /// The connection stays open until the server ends.
    Waiting,
    /// No name changes until the connection ends.
    Held,
    /// Paths below the root.
    MountPoints(Vec<OsString>),
    /// It cannot do that.
    Error(String),
}

/// What a server needs to answer.
#[derive(Debug, Clone)]
pub(super) struct Services {
    pub(super) counters: Arc<Counters>,
    pub(super) fs: Arc<LayerFs>,
}

/// Answers on `listener` for as long as the process lives.
pub(super) fn answer(listener: UnixListener, services: Services) -> io::Result<()> {
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let mut waiting = Vec::new();
        for connection in listener.incoming() {
            // Whoever has given up waiting, because the mount is in use for instance, needs no descriptor any more.
            waiting.retain(is_open);
            match connection.and_then(|stream| answer_one(stream, &services)) {
                Ok(Some(stream)) => waiting.push(stream),
                Ok(None) => {}
                Err(error) => log::debug!("control socket: {error}"),
            }
        }
    })?;
    Ok(())
}

/// Whether the other side has not closed a connection on which it has nothing more to say.
fn is_open(stream: &UnixStream) -> bool {
    let mut poll = [PollFd::new(stream, PollFlags::RDHUP)];
    !rustix::event::poll(&mut poll, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Answers one request; returns the connection when it is to stay open.
fn answer_one(stream: UnixStream, services: &Services) -> io::Result<Option<UnixStream>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(line) = request_line(&stream)? else { return Ok(None) };
    let response = match serde_json::from_slice(&line) {
        Ok(Request::Stats) => {
            let counts = services.counters.snapshot().into_iter().map(|(name, count)| (name.to_owned(), count));
            Response::Stats(counts.collect())
        }
        Ok(Request::WaitForEnd) => Response::Waiting,
        Ok(Request::MountPoints) => Response::MountPoints(Vec::new()),
        Ok(Request::HoldNames) => return hold_until_end(stream, Arc::clone(&services.fs)).map(|()| None),
        Err(error) => Response::Error(error.to_string()),
    };
    send(&stream, &response)?;
    Ok((response == Response::Waiting).then_some(stream))
}

/// What the other side asks; none when it asks nothing. One that goes on without end is cut, and is no request then.
pub(super) fn request_line(stream: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let size = BufReader::new(stream.take(REQUEST_MAX)).read_until(b'\n', &mut line)?;
    Ok((size > 0).then_some(line))
}

/// Holds all names in a thread of its own until the other side is gone.
pub(super) fn hold_until_end(mut stream: UnixStream, fs: Arc<LayerFs>) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    std::thread::Builder::new().name("hold".to_owned()).spawn(move || {
        let _held = fs.hold_names();
        if send(&stream, &Response::Held).is_ok() {
            // Whatever comes, an end or an error: the other side has what it wanted, or is gone.
            let _ = io::copy(&mut stream, &mut io::sink());
        }
    })?;
    Ok(())
}

/// No name in a mount changes while this lives.
#[derive(Debug)]
pub struct Hold {
    _connection: UnixStream,
}

impl Hold {
    /// As long as `connection`, whose other side holds them.
    pub(super) fn new(connection: UnixStream) -> Self {
        Self { _connection: connection }
    }
}

/// Makes the server of `record` hold all names as they are. What was written before is with the server then, be it closed or not.
pub fn hold_names(registry: &Registry, record: &MountRecord) -> Result<Hold, MountError> {
    let failed =
        |source: io::Error| MountError::Io { context: format!("cannot sync {}", record.mount_point.display()), source };
    let root = std::fs::File::open(&record.mount_point).map_err(failed)?;
    rustix::fs::syncfs(&root).map_err(|error| failed(error.into()))?;
    match ask(registry, record, &Request::HoldNames)? {
        (Response::Held, connection) => Ok(Hold::new(connection)),
        (Response::Error(text), _) => Err(failed(io::Error::other(text))),
        _ => Err(failed(io::ErrorKind::InvalidData.into())),
    }
}

pub(super) fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Asks the server of `record`; returns its answer and the connection.
pub fn ask(registry: &Registry, record: &MountRecord, request: &Request) -> Result<(Response, UnixStream), MountError> {
    let context = || format!("cannot talk to the server of {}", record.mount_point.display());
    let failed = |source| MountError::Io { context: context(), source };
    let stream = UnixStream::connect(registry.socket_path(record.pid)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    send(&stream, request).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).map_err(failed)?;
    let response = serde_json::from_str(&line).map_err(|error| failed(error.into()))?;
    Ok((response, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_request_without_end_is_not_read_to_its_end() {
        let line = |input: &mut dyn Read| request_line(input).unwrap();
        assert_eq!(line(&mut io::empty()), None);
        assert_eq!(line(&mut &b"{}\nmore"[..]), Some(b"{}\n".to_vec()));
        assert_eq!(line(&mut io::repeat(b' ')).map(|line| line.len() as u64), Some(REQUEST_MAX));
    }
}
