//! Tar archives and compression: tar to entries, entries to deterministic tar, inflate and deflate streams.
//!
//! Owns the dialects of tar. Must not know the store or the union.

pub mod compression;
pub mod tar;
