//! The FUSE adapter: log, one call into `fs`, one reply; errno mapping; session and threads.
//!
//! Owns the protocol. Must not know policy.
//!
//! 1. A request costs a sleep and a wake-up on either side: whatever the kernel can cache it is told to cache without end
//!    ([`attr::FOREVER`]), opens are not asked about at all ([`OpenMode`]), and a server thread waits awake for a moment
//!    before it sleeps ([`spin`], [`awake`]).
//! 2. Kernels differ: every feature is asked for by itself ([`capabilities`]).
//! 3. A panic would end a worker thread: handlers run under a guard that turns it into EIO ([`adapter`]).
//! 4. A request that has to wait for the data of a file leaves its thread to the others ([`apart`]).
//!
//! Log targets: `layerfs::fuse` a line per request at debug.

mod adapter;
mod apart;
mod attr;
mod awake;
mod capabilities;
mod change;
mod counters;
mod errno;
mod incoming;
mod ioctl;
mod kernel;
mod lost;
mod push;
mod session;
mod spin;
mod walk;

pub use capabilities::OpenMode;
pub use counters::{Counters, Operation};
pub use errno::error_number;
pub use kernel::KernelVersion;
pub use session::{Names, Server, ServerOptions, SessionError};
