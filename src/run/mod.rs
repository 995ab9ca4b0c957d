//! The life of a container: a command in a fresh writable mount.
