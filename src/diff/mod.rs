//! Changes: the upper of a mount, or two images, to an ordered set of changes, to a layer tar.
//!
//! Must not know FUSE.
