//! Pure values of a filesystem tree: names, paths, kinds, metadata.
//!
//! Owns the types that every other module speaks in. Must not know I/O, layers or protocols.

pub mod acl;
mod meta;
mod name;
mod path;
mod printable;

pub use meta::{DeviceNumber, FileKind, Meta, Timestamp};
pub use name::{InvalidName, NAME_MAX, Name};
pub use path::RelPath;
pub use printable::{harmless, printable, printable_briefly};
