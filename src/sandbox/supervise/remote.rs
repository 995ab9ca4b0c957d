//! A sink of another process: a further command in a container keeps its owners where the first one does.

use super::sink::{NodeKind, Ownership, OwnershipSink};
use crate::sandbox::protocol::{receive, send};
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

/// Name of the socket in a container's directory.
const SOCKET: &str = "owners.sock";

/// The object comes along as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    SetOwner { uid: Option<u32>, gid: Option<u32> },
    MakeDevice { name: OsString, character: bool, device: u64, mode: u32, owner: (u32, u32) },
    Ownership,
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Done,
    Failed(i32),
    Owner(Option<(u32, u32)>),
}

/// A sink that others may use, as long as this lives.
#[derive(Debug)]
pub struct SharedSink {
    path: PathBuf,
}

impl SharedSink {
    /// Lets processes of the same user use `sink`, by a socket in `directory`.
    pub fn new(directory: &Path, sink: Arc<dyn OwnershipSink>) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = socket()?;
        let (_directory, address) = address(directory)?;
        bind(&listener, &address)?;
        // Before it listens nobody can connect, hence nobody has while the mode was wider.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&listener, 8)?;
        thread::Builder::new().name("owners".to_owned()).spawn(move || {
            while let Ok(connection) = accept_with(&listener, SocketFlags::CLOEXEC) {
                let sink = Arc::clone(&sink);
                let serve = move || serve(&connection, &*sink);
                if let Err(error) = thread::Builder::new().name("owners".to_owned()).spawn(serve) {
                    log::warn!("a further command cannot keep owners: {error}");
                }
            }
        })?;
        Ok(Self { path })
    }
}

impl Drop for SharedSink {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

fn socket() -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// The address of the socket in `directory`, by a descriptor: an address has 108 bytes only.
fn address(directory: &Path) -> Result<(OwnedFd, SocketAddrUnix)> {
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
    Ok((directory, address))
}

fn serve(connection: &OwnedFd, sink: &dyn OwnershipSink) {
    while let Ok(Some((request, descriptor))) = receive::<Request>(connection, RecvFlags::empty()) {
        let reply = descriptor.ok_or(Errno::BADF).and_then(|node| carry_out(&request, node.as_fd(), sink));
        let reply = reply.unwrap_or_else(|error| Reply::Failed(error.raw_os_error()));
        if send(connection, &reply, None).is_err() {
            return;
        }
    }
}

fn carry_out(request: &Request, node: BorrowedFd<'_>, sink: &dyn OwnershipSink) -> Result<Reply> {
    match request {
        Request::SetOwner { uid, gid } => sink.set_owner(node, *uid, *gid).map(|()| Reply::Done),
        Request::MakeDevice { name, character, device, mode, owner } => {
            let kind = if *character { NodeKind::Character } else { NodeKind::Block };
            sink.make_device(node, name, kind, *device, *mode, *owner).map(|()| Reply::Done)
        }
        Request::Ownership => {
            let found = sink.ownership(node, &rustix::fs::fstat(node)?)?;
            Ok(Reply::Owner(found.map(|owner| (owner.uid, owner.gid))))
        }
    }
}

/// The sink of the process that runs a container.
#[derive(Debug)]
pub struct RemoteSink {
    connection: Mutex<OwnedFd>,
}

impl RemoteSink {
    /// That of the container in `directory`.
    pub fn connect(directory: &Path) -> io::Result<Self> {
        let connection = socket()?;
        let (_directory, address) = address(directory)?;
        connect(&connection, &address)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn ask(&self, request: &Request, node: BorrowedFd<'_>) -> Result<Reply> {
        let connection = self.connection.lock();
        send(&*connection, request, Some(node))?;
        match receive(&*connection, RecvFlags::empty())? {
            Some((Reply::Failed(number), _)) => Err(Errno::from_raw_os_error(number)),
            Some((reply, _)) => Ok(reply),
            None => Err(Errno::IO),
        }
    }
}

impl OwnershipSink for RemoteSink {
    fn set_owner(&self, node: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.ask(&Request::SetOwner { uid, gid }, node).map(drop)
    }

    fn make_device(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: NodeKind,
        device: u64,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<()> {
        let character = kind == NodeKind::Character;
        self.ask(&Request::MakeDevice { name: name.to_owned(), character, device, mode, owner }, parent).map(drop)
    }

    fn ownership(&self, node: BorrowedFd<'_>, _seen: &Stat) -> Result<Option<Ownership>> {
        match self.ask(&Request::Ownership, node)? {
            Reply::Owner(found) => Ok(found.map(|(uid, gid)| Ownership { uid, gid, device: None })),
            Reply::Done | Reply::Failed(_) => Err(Errno::IO),
        }
    }
}
