//! The deterministic writer.

use super::{Entry, Error, Result};
use std::io::{Read, Write};

/// Writes a PAX archive whose bytes depend on nothing but the entries given: no clock, no user names, no process id.
///
/// Whole seconds, never sparse, extended attributes as `SCHILY.xattr.`; overlay's own and `security.selinux` are left
/// out. The order is the caller's: sorted, whiteouts before their siblings, the target of a hard link before the link.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// A writer to `output`. Writes large pieces; needs no buffered output.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Appends `entry`; for a file, exactly its size in bytes from `data`, which must end there. The extents of the entry
    /// do not matter.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let _ = (entry, data, &mut self.output);
        Err(Error::Write { source: std::io::ErrorKind::Unsupported.into() })
    }

    /// Writes the end marker, flushes, and returns the output.
    pub fn finish(self) -> Result<W> {
        Ok(self.output)
    }
}
