//! Holding the names of a container that runs: its root has no mount point outside, and its server no entry among the mounts.

use super::control::{Hold, Request, Response, hold_until_end, request_line, send};
use crate::fs::LayerFs;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the socket in a container's directory.
const SOCKET: &str = "hold.sock";

/// How long somebody who has connected may take to say what he wants.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// Lets others hold the names of a container as long as this lives.
#[derive(Debug)]
pub struct Holder {
    path: PathBuf,
    fs: Arc<LayerFs>,
}

impl Holder {
    /// Answers on a socket in the container's `directory`. `mount_points` are there for the container's time only; `sync` brings what
    /// was written in it to `fs`.
    pub fn new(
        directory: &Path,
        fs: Arc<LayerFs>,
        mount_points: Vec<OsString>,
        sync: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (_directory, address) = address(directory)?;
        // The store's directories are their owner's alone.
        let listener = UnixListener::bind(address)?;
        let served = Arc::new((Arc::clone(&fs), mount_points, sync));
        std::thread::Builder::new().name("hold".to_owned()).spawn(move || {
            for connection in listener.incoming() {
                // Each in a thread of its own: a sync may have to wait until another hold ends.
                let served = Arc::clone(&served);
                let answer = move || {
                    let (fs, mount_points, sync) = &*served;
                    if let Err(error) = connection.and_then(|stream| answer(stream, fs, mount_points, sync)) {
                        log::debug!("hold socket: {error}");
                    }
                };
                if let Err(error) = std::thread::Builder::new().name("answer".to_owned()).spawn(answer) {
                    log::debug!("hold socket: {error}");
                }
            }
        })?;
        Ok(Self { path, fs })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
        // Whoever holds the names still looks at what the container changed: it stays until then.
        drop(self.fs.hold_names());
    }
}

fn answer(
    stream: UnixStream,
    fs: &Arc<LayerFs>,
    mount_points: &[OsString],
    sync: &impl Fn() -> io::Result<()>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_PATIENCE))?;
    let line = request_line(&stream)?.unwrap_or_default();
    match serde_json::from_slice(&line) {
        Ok(Request::HoldNames) => {
            if let Err(error) = sync() {
                return send(&stream, &Response::Error(error.to_string()));
            }
            hold_until_end(stream, Arc::clone(fs))
        }
        Ok(Request::MountPoints) => send(&stream, &Response::MountPoints(mount_points.to_vec())),
        _ => send(&stream, &Response::Error("only names are held here".to_owned())),
    }
}

/// The address of the socket in `directory`, by a descriptor: an address has 108 bytes only.
fn address(directory: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
    Ok((directory, address))
}

/// Holds the names of the container in `directory`, which someone runs. None when nobody answers there.
pub fn hold_running(directory: &Path) -> io::Result<Option<Hold>> {
    match ask(directory, &Request::HoldNames)? {
        None => Ok(None),
        Some((Response::Held, stream)) => Ok(Some(Hold::new(stream))),
        Some(other) => Err(unexpected(other.0)),
    }
}

/// What is in the container in `directory` for as long as it runs only.
pub fn mount_points_of_running(directory: &Path) -> io::Result<Vec<OsString>> {
    match ask(directory, &Request::MountPoints)? {
        None => Ok(Vec::new()),
        Some((Response::MountPoints(paths), _)) => Ok(paths),
        Some(other) => Err(unexpected(other.0)),
    }
}

fn unexpected(response: Response) -> io::Error {
    match response {
        Response::Error(text) => io::Error::other(text),
        _ => io::ErrorKind::InvalidData.into(),
    }
}

/// Asks whoever runs the container in `directory`. None when nobody answers there, be it that the container has just ended.
fn ask(directory: &Path, request: &Request) -> io::Result<Option<(Response, UnixStream)>> {
    let (_directory, address) = address(directory)?;
    let stream = match UnixStream::connect(address) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        other => other?,
    };
    let mut line = String::new();
    // As long as writing back takes; the end of the container ends it.
    let asked = send(&stream, request).and_then(|()| BufReader::new(&stream).read_line(&mut line));
    match asked {
        Ok(0) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(None),
        asked => asked.and_then(|_| Ok(Some((serde_json::from_str(&line)?, stream)))),
    }
}
