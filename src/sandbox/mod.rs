//! A command in a given root: namespaces, id maps, seccomp, terminal, signals.
//!
//! Must not know images.
