//! From the map of a sparse file to extents.

use super::Extent;
use super::pax::parse_decimal;

/// Longest line of a map in the data (format 1.0): the digits of 2^64.
const MAX_DIGITS: usize = 20;

/// The extents of a file of `size` bytes whose `pieces` lie one after the other from `archive_offset` on, `stored` bytes
/// together. None where the pieces overlap, go backwards or do not fit.
pub(super) fn extents(pieces: &[(u64, u64)], size: u64, archive_offset: u64, stored: u64) -> Option<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::with_capacity(pieces.len());
    let mut archive_end = archive_offset;
    let mut file_end = 0;
    for &(file_offset, length) in pieces {
        let end = file_offset.checked_add(length).filter(|end| *end <= size)?;
        if file_offset < file_end {
            return None;
        }
        if length > 0 {
            push(&mut extents, Extent { file_offset, archive_offset: archive_end, length });
        }
        archive_end = archive_end.checked_add(length)?;
        file_end = end;
    }
    (archive_end - archive_offset == stored).then_some(extents)
}

/// Appends `extent`, joined with the last one where no hole lies between.
fn push(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last) if last.file_offset + last.length == extent.file_offset => last.length += extent.length,
        _ => extents.push(extent),
    }
}

/// Reads the map of format 1.0, which stands before the data as decimal lines: the number of pieces, then offset and
/// length of each. Fed byte by byte.
#[derive(Debug, Default)]
pub(super) struct MapParser {
    line: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    pieces: Vec<(u64, u64)>,
}

impl MapParser {
    /// Whether the map is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.pieces.len() as u64 >= count)
    }

    /// The number of pieces announced.
    pub(super) fn count(&self) -> u64 {
        self.count.unwrap_or(0)
    }

    /// Takes the bytes of the next block, until the map is complete. None where they are no map.
    pub(super) fn feed(&mut self, block: &[u8]) -> Option<()> {
        for &byte in block {
            if self.is_complete() {
                break;
            }
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > MAX_DIGITS {
                    return None;
                }
                continue;
            }
            let number = parse_decimal(&self.line)?;
            self.line.clear();
            match (self.count, self.offset.take()) {
                (None, _) => self.count = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => self.pieces.push((offset, number)),
            }
        }
        Some(())
    }

    pub(super) fn into_pieces(self) -> Vec<(u64, u64)> {
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_extents() {
        let extent = |file_offset, archive_offset, length| Extent { file_offset, archive_offset, length };
        assert_eq!(
            extents(&[(0, 5), (10, 5), (15, 5), (100, 0)], 100, 512, 15),
            Some(vec![extent(0, 512, 5), extent(10, 517, 10)])
        );
        assert_eq!(extents(&[], 100, 512, 0), Some(vec![]));
        assert_eq!(extents(&[(0, 5), (4, 5)], 100, 0, 10), None, "overlap");
        assert_eq!(extents(&[(10, 5), (0, 5)], 100, 0, 10), None, "backwards");
        assert_eq!(extents(&[(96, 5)], 100, 0, 5), None, "beyond the size");
        assert_eq!(extents(&[(0, 5)], 100, 0, 6), None, "more stored than mapped");
        assert_eq!(extents(&[(0, 6)], 100, 0, 5), None, "less stored than mapped");
        assert_eq!(extents(&[(u64::MAX, 5)], u64::MAX, 0, 5), None, "overflow");
    }

    #[test]
    fn a_map_in_the_data_may_span_blocks() {
        let mut map = MapParser::default();
        map.feed(b"2\n1").unwrap();
        assert!(!map.is_complete());
        map.feed(b"0\n20\n30\n4\n9\n9\n").unwrap();
        assert!(map.is_complete());
        assert_eq!(map.into_pieces(), [(10, 20), (30, 4)]);
        assert!(MapParser::default().feed(b"x\n").is_none());
        assert!(MapParser::default().feed(&[b'1'; 21]).is_none());
        let mut empty = MapParser::default();
        empty.feed(b"0\n").unwrap();
        assert!(empty.is_complete());
    }
}
