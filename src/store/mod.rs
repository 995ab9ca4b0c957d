//! The store: an OCI image layout with tables of contents and named writable mounts.
//!
//! Owns its layout, blobs, references, containers, lock and garbage collection. Must not know FUSE.
