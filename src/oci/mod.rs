//! Names and documents of the OCI image specification: digests, references, manifests, configurations, history.
//!
//! Owns their types, parsing and rules. Must not know I/O.
