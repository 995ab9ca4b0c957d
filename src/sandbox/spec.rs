//! What is to run, where and how: plain values, the same for the built-in executor and for an OCI runtime.
//!
//! Owns the description. Must not know how it is carried out, nor images: names of users and variables are resolved by the caller.

use super::capability::Capabilities;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// A command and the surroundings it runs in. [`Spec::new`] gives Docker's defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    pub root: Root,
    /// Whether the root itself is mounted read-only; mounts inside it are as they say.
    pub root_read_only: bool,
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of `env`, inside the root.
    pub argv: Vec<OsString>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<OsString>,
    /// Working directory inside the root; made when it is missing.
    pub cwd: OsString,
    pub user: User,
    /// With [`Root::Running`]: the user by name, looked up in the container itself. Takes the place of `user`, and gives a home.
    pub account: Option<String>,
    pub identity: Identity,
    pub hostname: String,
    pub network: Network,
    /// Mounted in this order, after /proc, /sys and /dev.
    pub mounts: Vec<Mount>,
    pub capabilities: Capabilities,
    /// Whether Docker's default seccomp profile applies.
    pub seccomp: bool,
    pub no_new_privileges: bool,
    pub limits: Limits,
    /// Paths hidden from the command: files read as empty, directories are empty.
    pub masked: Vec<OsString>,
    /// Paths that cannot be written below.
    pub read_only: Vec<OsString>,
    /// The size of the terminal to give to the command; without one it has the standard streams of [`super::Sandbox`].
    pub terminal: Option<WindowSize>,
    /// After this time everything inside is killed.
    pub timeout: Option<Duration>,
    pub umask: u32,
    /// An OCI runtime that carries this out instead of us: a program's name or path. Takes neither a terminal nor a single number.
    pub runtime: Option<OsString>,
}

/// Where the root comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Root {
    /// A directory of the host, which may be a mount.
    Directory(OsString),
    /// A FUSE file system, mounted inside the sandbox's own user namespace, so that owners are the container's and every user of it may
    /// enter. Its server is given by [`super::Sandbox::fuse`]; `at` is an empty directory of the host to mount at.
    Fuse { at: OsString, source: String, subtype: String },
    /// That of a container that runs, whose first process has this number: the command joins its namespaces. The identity must be the
    /// container's; what is said of mounts, the network and the host name has no effect.
    Running { init: i32 },
    /// None: no command runs. Something on the host is dealt with by who has rights over all numbers of the container.
    Task(Task),
}

/// What is done on the host in a user namespace like the container's, where a plain user alone would be refused: what a container
/// wrote into a directory of the host belongs to subordinate numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// The directory, with everything below it, is removed.
    Remove(OsString),
    /// The directory gets an owner, in the numbers of the container.
    Own { path: OsString, uid: u32, gid: u32 },
}

impl Root {
    /// The directory of the host the root lies at.
    pub fn path(&self) -> &OsStr {
        match self {
            Self::Directory(path) | Self::Fuse { at: path, .. } => path,
            Self::Running { .. } | Self::Task(_) => OsStr::new("/"),
        }
    }
}

/// Who the command runs as, in the numbers of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl User {
    /// The supplementary groups with the user's own: a setgid program changes that, and must not get a process out of what is forbidden
    /// to its group (as Docker since 20.10.18).
    pub(super) fn all_groups(&self) -> Vec<u32> {
        let others = self.groups.iter().filter(|gid| **gid != self.gid);
        std::iter::once(&self.gid).chain(others).copied().collect()
    }
}

/// How the container's user and group numbers relate to the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// They are the host's: no user namespace. For root only.
    Host,
    /// By ranges. A plain user's are set up by newuidmap and newgidmap, which check /etc/subuid and /etc/subgid.
    Ranges { uids: Vec<IdRange>, gids: Vec<IdRange> },
    /// The container's 0 is the caller, and there is nothing else: a supervisor answers what the kernel would refuse.
    Single,
}

/// `count` numbers of the container, from `inside`, are those of the host from `outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's interfaces.
    Host,
    /// A loopback interface of its own and nothing else.
    None,
}

/// Something that appears at `target` inside the root. A missing target is made, and taken away again at the end if it is still empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    pub target: OsString,
    pub source: Source,
    pub read_only: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    /// A file or directory of the host with everything mounted below it; setuid bits and devices have no effect in it.
    Host(OsString),
    /// An empty file system in memory; whether programs in it can be executed.
    Tmpfs { size: Option<u64>, mode: u32, executable: bool },
    /// A file with this content: a secret, /etc/resolv.conf. It never touches a disk.
    Content { bytes: Vec<u8>, mode: u32, uid: u32, gid: u32 },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Processes and threads at the same time. A control group enforces it where one can be made, RLIMIT_NPROC otherwise.
    pub processes: Option<u64>,
    /// Memory in bytes; needs a control group.
    pub memory: Option<u64>,
    /// Resource limits as setrlimit(2) numbers them: (resource, soft, hard).
    pub resources: Vec<(u32, u64, u64)>,
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub columns: u16,
    pub rows: u16,
}

/// Processes a container may have at once unless told otherwise, as podman's default; Docker has none, and a fork bomb takes the host with it.
const DEFAULT_PROCESSES: u64 = 2048;

impl Spec {
    /// `argv` in `root` with Docker's defaults, as the container's root, with the best identity the caller can have.
    pub fn new(root: Root, argv: Vec<OsString>) -> Self {
        Self {
            root,
            root_read_only: false,
            argv,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cwd: "/".into(),
            user: User::default(),
            account: None,
            identity: Identity::detect(),
            hostname: "localhost".to_owned(),
            network: Network::Host,
            mounts: Vec::new(),
            capabilities: Capabilities::docker(),
            seccomp: true,
            no_new_privileges: false,
            limits: Limits { processes: Some(DEFAULT_PROCESSES), ..Limits::default() },
            masked: MASKED.iter().map(Into::into).collect(),
            read_only: READ_ONLY.iter().map(Into::into).collect(),
            terminal: None,
            timeout: None,
            umask: 0o022,
            runtime: None,
        }
    }

    /// The value of an environment variable of the command.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        use std::os::unix::ffi::OsStrExt;
        self.env.iter().rev().find_map(|pair| {
            let value = pair.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(value))
        })
    }
}

/// Hidden as by Docker (moby, `oci/defaults.go`).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Not writable, as by Docker.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
