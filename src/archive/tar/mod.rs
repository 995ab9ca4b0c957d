//! Tar: a streaming reader of every dialect that image layers come in, and a deterministic writer.
//!
//! Owns what a header means, names that are refused, and the limits against bombs. Must not know what an entry means
//! to a layer (whiteouts, hard links, duplicates): that is the business of whoever reads the entries.

mod archive;
mod entry;
mod error;
mod header;
mod input;
mod limits;
mod path;
mod pax;
mod reader;
mod records;
mod sparse;
mod writer;

pub use archive::{Archive, FileData};
pub use entry::{Entry, EntryKind, Extent, Xattr};
pub use error::{Error, Result};
pub use input::Skip;
pub use limits::Limits;
pub use path::{EntryPath, InvalidPath};
pub use reader::{Data, Reader};
pub use writer::Writer;

/// Unit of an archive in bytes: a header is one block, data are padded to whole blocks (POSIX pax, "ustar Interchange
/// Format").
pub const BLOCK: u64 = 512;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
