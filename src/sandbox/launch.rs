//! The starter's side: starts the sandbox, answers what it asks, waits for its end.

use super::SandboxError;
use super::identity::write_maps;
use super::limits::{ControlGroup, join_groups, warn_of_memory};
use super::protocol::{self, CONTROL, Order, Report, SPECIFICATION, SYNCED};
use super::spec::{Root, Spec};
use super::stage::VERB;
use super::supervise::{OwnershipSink, Supervisor};
use crate::sys::spawn::hand_over;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

/// A command ready to be started.
#[derive(Debug)]
pub struct Sandbox {
    spec: Spec,
    program: OsString,
    streams: [Stdio; 3],
    server: Option<RootServer>,
    sink: Option<Arc<dyn OwnershipSink>>,
}

impl Sandbox {
    /// Streams are inherited unless set otherwise.
    pub fn new(spec: Spec) -> Self {
        let streams = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
        Self { spec, program: "/proc/self/exe".into(), streams, server: None, sink: None }
    }

    /// The `layerfs` program that knows the hidden verb, where this process runs another one.
    #[must_use]
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    #[must_use]
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[0] = stream.into();
        self
    }

    #[must_use]
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[1] = stream.into();
        self
    }

    #[must_use]
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[2] = stream.into();
        self
    }

    /// Who serves a root of [`super::Root::Fuse`]: called with the open /dev/fuse once it is mounted, from the thread that starts the
    /// sandbox; it must return at once. The kernel wants the device opened in the user namespace it is mounted in, so it comes from there.
    #[must_use]
    pub fn fuse(mut self, serve: impl FnOnce(OwnedFd) + Send + 'static) -> Self {
        self.server = Some(RootServer(Box::new(serve)));
        self
    }

    /// Who keeps owners and devices when the identity is [`super::Identity::Single`]. Without one they are forgotten at the end.
    #[must_use]
    pub fn ownership(mut self, sink: Arc<dyn OwnershipSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Starts the command; returns once it runs.
    ///
    /// # Errors
    /// [`SandboxError::Exec`] when it is the command that cannot be started; nothing is left behind.
    pub fn spawn(self) -> Result<Running, SandboxError> {
        let packets = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (control, theirs) = packets.map_err(|error| SandboxError::Start(error.into()))?;
        let descriptors =
            vec![(theirs, CONTROL), (specification(&self.spec).map_err(SandboxError::Start)?, SPECIFICATION)];
        let [stdin, stdout, stderr] = self.streams;
        let mut command = Command::new(&self.program);
        command.arg0("layerfs").arg(VERB).stdin(stdin).stdout(stdout).stderr(stderr);
        hand_over(&mut command, descriptors).map_err(|error| SandboxError::Start(error.into()))?;
        let child = command.spawn().map_err(SandboxError::Start)?;
        // Our copies of the other end go with the command: only the sandbox holds it now.
        drop(command);
        let mut running = Running {
            handle: Handle { control: Arc::new(control) },
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
            init: None,
            mount_points: Vec::new(),
            child,
            group: None,
            supervisor: None,
            outcome: None,
        };
        running.begin(&self.spec, self.server, self.sink)?;
        running.stdin = running.child.stdin.take();
        running.stdout = running.child.stdout.take();
        running.stderr = running.child.stderr.take();
        Ok(running)
    }
}

/// What begins to serve a root.
struct RootServer(Box<dyn FnOnce(OwnedFd) + Send>);

impl std::fmt::Debug for RootServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootServer")
    }
}

/// The specification in a sealed memory file.
fn specification(spec: &Spec) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("layerfs-sandbox", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&serde_json::to_vec(spec).map_err(io::Error::other)?)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Exited(i32),
    Signaled(i32),
    /// It was killed because its time was up.
    TimedOut,
    /// It was killed with everything inside, for another reason.
    Killed,
}

impl Outcome {
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The exit code to pass on: 128 + n for signal n, as a shell says it.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code as u8,
            Self::Signaled(signal) => 128_u8.wrapping_add(signal as u8),
            Self::TimedOut => 124,
            Self::Killed => 137,
        }
    }
}

/// Sends signals to a running command, from any thread.
#[derive(Debug, Clone)]
pub struct Handle {
    control: Arc<OwnedFd>,
}

impl Handle {
    /// Sends a signal to the command (those of a terminal to its process group). A command that has ended gets none.
    pub fn signal(&self, signal: i32) {
        if let Err(error) = protocol::send(&*self.control, &Order::Signal(signal), None) {
            log::debug!("signal {signal} not sent: {error}");
        }
    }

    /// Waits until everything written in the container so far is with whoever serves its root.
    pub fn sync(&self) -> io::Result<()> {
        let (done, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        protocol::send(&*self.control, &Order::Sync, Some(theirs.as_fd()))?;
        drop(theirs);
        // It is closed without a word when that failed, or when everything has ended.
        let mut told = [0];
        match io::Read::read(&mut std::fs::File::from(done), &mut told)? {
            1 if told == [SYNCED] => Ok(()),
            _ => Err(io::Error::other("what was written in the container could not be synced")),
        }
    }

    /// Kills everything inside.
    pub fn kill(&self) {
        // Init takes the end of the stream for the starter's death.
        if let Err(error) = rustix::net::shutdown(&*self.control, rustix::net::Shutdown::Write) {
            log::debug!("nothing left to kill: {error}");
        }
    }
}

/// A command that runs. Dropped, it is killed with everything inside.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    /// Our ends of the streams that were piped.
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
    /// The master side of the command's terminal.
    pub terminal: Option<OwnedFd>,
    init: Option<i32>,
    mount_points: Vec<OsString>,
    child: Child,
    supervisor: Option<Supervisor>,
    outcome: Option<Outcome>,
    /// Goes last: it can be removed when nobody is in it.
    group: Option<ControlGroup>,
}

impl Running {
    /// Answers what the sandbox asks until the command runs.
    fn begin(
        &mut self,
        spec: &Spec,
        mut server: Option<RootServer>,
        sink: Option<Arc<dyn OwnershipSink>>,
    ) -> Result<(), SandboxError> {
        let mut sink = Some(sink.unwrap_or_else(|| Arc::new(super::supervise::MapSink::default())));
        let mut user = spec.user.clone();
        if spec.runtime.is_some() && spec.identity.is_mapped() && spec.limits.memory.is_some() {
            warn_of_memory("an OCI runtime in a user namespace makes none");
        }
        loop {
            let (report, descriptor) = self.next()?.ok_or(SandboxError::Lost)?;
            match (report, descriptor) {
                (Report::NeedMaps, _) => {
                    write_maps(&spec.identity, self.child.id())?;
                    self.order(&Order::MapsWritten);
                }
                (Report::Init(pid), _) => {
                    self.init = Some(pid);
                    self.limit(spec, pid)?;
                    self.order(&Order::Go);
                }
                (Report::Mounted, Some(device)) => {
                    if let Some(RootServer(serve)) = server.take() {
                        serve(device);
                    }
                }
                (Report::MountPoints(paths), _) => self.mount_points = paths,
                (Report::User(found), _) => user = found,
                (Report::Terminal, terminal) => self.terminal = terminal,
                (Report::Listener { root_device }, Some(listener)) => {
                    if let Some(sink) = sink.take() {
                        sink.begin(root_device);
                        self.supervisor = Some(Supervisor::start(listener, sink, &user).map_err(SandboxError::Start)?);
                    }
                }
                (Report::Running, _) => return Ok(()),
                (Report::Failed(failure), _) => return Err(failure.into()),
                _ => return Err(SandboxError::Lost),
            }
        }
    }

    /// Puts the first process under the limits of `spec`, or under those of the container that it joins: a further command must not get out of them.
    fn limit(&mut self, spec: &Spec, pid: i32) -> Result<(), SandboxError> {
        if let Root::Running { init } = spec.root {
            return join_groups(init, pid).map_err(|reason| SandboxError::Setup {
                what: "join the control groups of the container".to_owned(),
                reason,
            });
        }
        let group = ControlGroup::enclose(pid, &spec.limits);
        group.warn();
        self.group.replace(group);
        Ok(())
    }

    fn next(&self) -> Result<Option<(Report, Option<OwnedFd>)>, SandboxError> {
        protocol::receive(&*self.handle.control, RecvFlags::empty()).map_err(|error| SandboxError::Start(error.into()))
    }

    /// A sandbox that has ended cannot be told; why it has is in its last report, still to be read.
    fn order(&self, order: &Order) {
        if let Err(error) = protocol::send(&*self.handle.control, order, None) {
            log::debug!("order {order:?} not sent: {error}");
        }
    }

    /// For signals from another thread while this one waits.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The number of the first process inside, as this process sees it; another command can join its namespaces.
    pub fn init(&self) -> Option<i32> {
        self.init
    }

    /// What was made in the root to mount something on, below the root. It is gone when the container is, if nothing was put into it.
    pub fn mount_points(&self) -> &[OsString] {
        &self.mount_points
    }

    /// Waits for the end of the command and of everything it started.
    pub fn wait(&mut self) -> Result<Outcome, SandboxError> {
        if let Some(outcome) = self.outcome {
            return Ok(outcome);
        }
        let outcome = loop {
            match self.next()? {
                Some((Report::Exited(code), _)) => break Outcome::Exited(code),
                Some((Report::Signaled(signal), _)) => break Outcome::Signaled(signal),
                Some((Report::TimedOut, _)) => break Outcome::TimedOut,
                Some((Report::Failed(failure), _)) => {
                    self.finish()?;
                    return Err(failure.into());
                }
                Some(_) => {}
                None => break Outcome::Killed,
            }
        };
        self.outcome = Some(outcome);
        self.finish()?;
        Ok(outcome)
    }

    /// Until nothing is left: the stage ends when everything inside has, and has cleaned up.
    fn finish(&mut self) -> Result<(), SandboxError> {
        self.child.wait().map_err(SandboxError::Start)?;
        // Every process under the filter is gone, hence the supervisor ends.
        self.supervisor = None;
        self.group = None;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.kill();
        if let Err(error) = self.finish() {
            log::warn!("a sandbox could not be waited for: {error}");
        }
    }
}
