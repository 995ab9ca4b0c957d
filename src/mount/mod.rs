//! What to mount for an image, a name or directories: background process, control socket, list of mounts.
//!
//! Must not know the FUSE protocol.
