//! The FUSE adapter: log, one call into `fs`, one reply; errno mapping; session and threads.
//!
//! Owns the protocol. Must not know policy.
