//! The data of a file: from offsets in the file to offsets in the tar.

use super::TocLayer;
use super::format::{ExtentRecord, InodeRecord};
use super::tables::{Checked, Damage};
use crate::archive::tar::Extent;
use crate::union::{Layer, LayerError, LayerResult};
use std::io;

/// The pieces of one file's data, in order.
#[derive(Debug, Clone)]
pub struct Extents<'a> {
    pieces: Pieces<'a>,
    size: u64,
    tar_size: u64,
}

#[derive(Debug, Clone)]
enum Pieces<'a> {
    Single(Extent),
    Mapped(&'a [ExtentRecord]),
}

impl<'a> Extents<'a> {
    /// A file in one piece at `archive_offset`.
    pub(super) fn single(archive_offset: u64, size: u64, tar_size: u64) -> Checked<Self> {
        if archive_offset.checked_add(size).is_none_or(|end| end > tar_size) {
            return Err(Damage("data outside the tar"));
        }
        let pieces = Pieces::Single(Extent { file_offset: 0, archive_offset, length: size });
        Ok(Self { pieces, size, tar_size })
    }

    /// A file with a list of pieces.
    pub(super) fn mapped(records: &'a [ExtentRecord], size: u64, tar_size: u64) -> Self {
        Self { pieces: Pieces::Mapped(records), size, tar_size }
    }

    /// Bytes of the file, holes included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Number of pieces.
    pub fn count(&self) -> usize {
        match &self.pieces {
            Pieces::Single(extent) => usize::from(extent.length > 0),
            Pieces::Mapped(records) => records.len(),
        }
    }

    /// Bytes of data, holes not counted.
    pub fn total(&self) -> u64 {
        match &self.pieces {
            Pieces::Single(extent) => extent.length,
            Pieces::Mapped(records) => {
                records.iter().fold(0, |sum: u64, record| sum.saturating_add(record.length.get()))
            }
        }
    }

    /// The piece `index`; none behind the last one, and none where the TOC says something impossible.
    pub fn get(&self, index: usize) -> Option<Extent> {
        self.piece(index).ok().flatten()
    }

    /// The first piece that ends after `offset`.
    pub fn first_after(&self, offset: u64) -> usize {
        match &self.pieces {
            Pieces::Single(extent) => usize::from(extent.length <= offset),
            Pieces::Mapped(records) => {
                records.partition_point(|record| record.file_offset.get().saturating_add(record.length.get()) <= offset)
            }
        }
    }

    /// The piece `index`, checked to lie in the file and in the tar and after the one before it.
    pub(super) fn piece(&self, index: usize) -> Checked<Option<Extent>> {
        let records = match &self.pieces {
            Pieces::Single(extent) => return Ok((index == 0 && extent.length > 0).then_some(*extent)),
            Pieces::Mapped(records) => *records,
        };
        let Some(record) = records.get(index) else { return Ok(None) };
        let extent = Extent {
            file_offset: record.file_offset.get(),
            archive_offset: record.archive_offset.get(),
            length: record.length.get(),
        };
        let before = index.checked_sub(1).and_then(|before| records.get(before));
        let start = before.map_or(0, |before| before.file_offset.get().saturating_add(before.length.get()));
        let fits = |offset: u64, limit| offset.checked_add(extent.length).is_some_and(|end| end <= limit);
        let is_right = extent.length > 0
            && extent.file_offset >= start
            && fits(extent.file_offset, self.size)
            && fits(extent.archive_offset, self.tar_size);
        if is_right { Ok(Some(extent)) } else { Err(Damage("an impossible extent")) }
    }
}

/// Reads up to `buffer.len()` bytes of the file `record` at `offset`; fewer only at its end.
pub(super) fn read_at(layer: &TocLayer, record: &InodeRecord, offset: u64, buffer: &mut [u8]) -> LayerResult<usize> {
    let size = record.size.get();
    let wanted = size.saturating_sub(offset).min(buffer.len() as u64) as usize;
    let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
    let extents = layer.file_extents(record).map_err(|damage| layer.damaged(damage))?;
    let mut index = extents.first_after(offset);
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset + filled as u64;
        let extent = extents.piece(index).map_err(|damage| layer.damaged(damage))?;
        filled += match extent {
            Some(extent) if extent.file_offset <= at => {
                index += 1;
                let skipped = at - extent.file_offset;
                let run = extent.length.saturating_sub(skipped).min(rest.len() as u64) as usize;
                read_exactly(layer, extent.archive_offset + skipped, rest.get_mut(..run).unwrap_or_default())?;
                run
            }
            extent => {
                let hole = extent.map_or(u64::MAX, |extent| extent.file_offset - at).min(rest.len() as u64) as usize;
                rest.get_mut(..hole).unwrap_or_default().fill(0);
                hole
            }
        };
    }
    Ok(wanted)
}

/// Fills `buffer` from the tar.
fn read_exactly(layer: &TocLayer, mut offset: u64, mut buffer: &mut [u8]) -> LayerResult<()> {
    while !buffer.is_empty() {
        match layer.source().read_at(offset, buffer) {
            Ok(0) => return Err(layer.damaged(Damage("the tar ends too early"))),
            Ok(count) => {
                offset += count as u64;
                buffer = buffer.split_at_mut_checked(count).map(|(_, rest)| rest).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                let context = format!("read of the tar at {offset}");
                return Err(LayerError::Io { layer: layer.label().to_owned(), context, source });
            }
        }
    }
    Ok(())
}

/// `SEEK_DATA` and `SEEK_HOLE` of lseek(2).
pub(super) fn seek(layer: &TocLayer, record: &InodeRecord, offset: u64, hole: bool) -> Checked<Option<u64>> {
    let size = record.size.get();
    if offset >= size {
        return Ok(None);
    }
    let extents = layer.file_extents(record)?;
    let mut index = extents.first_after(offset);
    if !hole {
        return Ok(extents.piece(index)?.map(|extent| extent.file_offset.max(offset)));
    }
    let mut at = offset;
    while let Some(extent) = extents.piece(index)?.filter(|extent| extent.file_offset <= at) {
        at = extent.file_offset + extent.length;
        index += 1;
    }
    Ok(Some(at.min(size)))
}
