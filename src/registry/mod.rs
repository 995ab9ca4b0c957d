//! Registries: transport, authentication, pull, push.
//!
//! Must not know the union.
