//! Where the bytes of a layer's files come from.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Positioned reads of a layer's uncompressed tar, from wherever it is kept. Immutable.
pub trait DataSource: fmt::Debug + Send + Sync {
    /// Bytes of the stream.
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 only at the end of the stream.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The local file, where it is one, for reads that bypass this trait (prefetch, copy-up inside the kernel).
    fn as_file(&self) -> Option<&File> {
        None
    }
}

impl DataSource for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn as_file(&self) -> Option<&File> {
        Some(self)
    }
}
