//! The kinds of layer: `toc` (a table of contents over a tar), `dir` (an unpacked directory), the writable upper.
//!
//! Must not know FUSE.

pub mod dir;
pub mod staging;
pub mod toc;
pub mod upper;
