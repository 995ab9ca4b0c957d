//! Where the bytes of a layer's files come from.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Positioned reads of a layer's uncompressed tar, from wherever it is kept. Immutable.
pub trait DataSource: fmt::Debug + Send + Sync {
    /// Bytes of the stream.
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 only at the end of the stream.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The local file with these very bytes at these very offsets, where there is one: for what bypasses this trait (copying
    /// inside the kernel).
    fn backing_file(&self) -> Option<Arc<OwnedFd>> {
        None
    }
}

/// An uncompressed tar in a local file.
#[derive(Debug)]
pub struct LocalTar(Arc<OwnedFd>);

impl LocalTar {
    /// The tar in `file`, which must not change any more.
    pub fn new(file: File) -> Self {
        Self(Arc::new(file.into()))
    }
}

impl DataSource for LocalTar {
    fn size(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.0)?.st_size as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.0, buffer, offset)?)
    }

    fn backing_file(&self) -> Option<Arc<OwnedFd>> {
        Some(Arc::clone(&self.0))
    }
}
