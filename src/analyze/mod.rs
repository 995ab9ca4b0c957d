//! What an image is made of: waste, duplicates, which layer has what, from tables of contents.
//!
//! Must not know FUSE.
