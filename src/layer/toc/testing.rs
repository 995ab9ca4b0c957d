//! Layers for tests: a TOC of given entries over a tar whose bytes are told by their offset.

use super::{BuildError, Builder, DataSource, DiffId, TocLayer};
use crate::archive::tar::{Entry, Limits};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

pub(super) const DIFF_ID: DiffId = [7; 32];

/// Bytes of the pretended tar.
pub(super) const TAR_SIZE: u64 = 1 << 20;

/// The byte at `offset` of the pretended tar; never 0.
pub(super) fn tar_byte(offset: u64) -> u8 {
    (offset % 251) as u8 + 1
}

/// A tar without an archive in it.
#[derive(Debug)]
struct Pattern;

impl DataSource for Pattern {
    fn size(&self) -> io::Result<u64> {
        Ok(TAR_SIZE)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(offset < TAR_SIZE, "a read outside the tar");
        // Short reads, as the system may give them.
        let count = buffer.len().min(13).min((TAR_SIZE - offset) as usize);
        for (at, byte) in buffer.iter_mut().take(count).enumerate() {
            *byte = tar_byte(offset + at as u64);
        }
        Ok(count)
    }

    fn backing_file(&self) -> Option<Arc<std::os::fd::OwnedFd>> {
        Some(Arc::new(tempfile::tempfile().ok()?.into()))
    }
}

pub(super) fn toc_of(entries: &[Entry]) -> Result<Vec<u8>, BuildError> {
    let mut builder = Builder::new(Limits::default());
    for entry in entries {
        builder.add(entry)?;
    }
    builder.finish(DIFF_ID, TAR_SIZE)
}

/// A file with the bytes `content`.
pub(super) fn file_of(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

pub(super) fn open(toc: &[u8]) -> Result<TocLayer, super::OpenError> {
    TocLayer::open_with_source(file_of(toc), Arc::new(Pattern), "test".to_owned())
}

pub(super) fn layer_of(entries: &[Entry]) -> Result<TocLayer, BuildError> {
    Ok(open(&toc_of(entries)?).unwrap())
}
