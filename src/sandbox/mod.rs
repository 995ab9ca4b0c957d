//! A command in a given root directory, which it can neither leave nor look out of.
//!
//! Owns namespaces, number maps, mounts of the container, capabilities, the seccomp filter and its supervisor, init, terminal and limits.
//! Must not know images, the store or FUSE: the root is a directory, everything about the command is in its [`Spec`].
//!
//! How it is made, and why so:
//! 1. The starter has many threads; between fork and exec such a process may only make async-signal-safe calls, which building a root is not.
//!    So nothing is done there: the program is started afresh under a hidden verb ([`stage::VERB`]), reads the specification from a memory
//!    file, and forks with a single thread. It costs two execs (about 2 ms) and buys ordinary Rust in every step.
//! 2. Three processes: the *stage* makes the namespaces and outlives everything inside, so that it can clean up; *init* is the first of the
//!    pid namespace, whose end kills all the others; the *command* is its child.
//! 3. The control socket between starter and init is the lifeline: when its far end closes, by the starter's death too, init ends, and all with it.
//! 4. Only the number mapping differs between root, users with subordinate ranges and users without. For the last the kernel refuses any other
//!    number before a file system sees it: a [`supervise`]d seccomp filter answers those calls and keeps the books ([`OwnershipSink`]).
//! 5. The image is hostile: paths in it are resolved by [`resolve`] only; our own program is reachable from inside through a read-only mount only.
//!
//! Needs Linux 5.12. An OCI runtime can be named instead of our own init ([`oci`]). What the container cannot be given is refused by name.

pub mod account;
mod capability;
mod command;
mod identity;
mod init;
mod join;
mod launch;
mod limits;
mod oci;
mod program;
mod protocol;
mod resolve;
mod root;
mod seccomp;
mod spec;
mod stage;
mod supervise;
mod task;

pub use capability::{Capabilities, Capability, by_name as capability_by_name};
pub use launch::{Handle, Outcome, Running, Sandbox};
pub use protocol::Failure;
pub use spec::{IdRange, Identity, Limits, Mount, Network, Root, Source, Spec, Task, User, WindowSize};
pub use stage::{VERB, reenter};
pub use supervise::{MapSink, NodeKind, Ownership, OwnershipSink, RemoteSink, SharedSink};

use std::io;

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot start the sandbox: {0}")]
    Start(#[source] io::Error),
    #[error("cannot map users with {tool}: {reason}")]
    Map { tool: String, reason: String },
    #[error("cannot {what}: {reason}")]
    Setup { what: String, reason: io::Error },
    /// The command itself: not there, not executable, of a foreign format.
    #[error("cannot run {name}: {reason}")]
    Exec { name: String, reason: io::Error },
    #[error("cannot {0}")]
    Refused(String),
    #[error("the sandbox ended without a word")]
    Lost,
}

impl SandboxError {
    /// The exit code Docker gives for this: 127 for a command that is not there, 126 for one that cannot be executed, 125 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec { reason, .. } if reason.kind() == io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
            _ => 125,
        }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        if failure.errno == 0 {
            return Self::Refused(failure.what);
        }
        let reason = io::Error::from_raw_os_error(failure.errno);
        if failure.at_exec {
            Self::Exec { name: failure.what, reason }
        } else {
            Self::Setup { what: failure.what, reason }
        }
    }
}
