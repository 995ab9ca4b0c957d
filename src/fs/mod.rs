//! The live filesystem: inode table, lookup, attributes, data, namespace, copy-up.
//!
//! Returns values; knows no type of the FUSE protocol.
