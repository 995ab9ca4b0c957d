//! Streams to store and layers: load, import, save, export, squash, fsck and the rebuilding of TOCs.
//!
//! Must not know FUSE.
