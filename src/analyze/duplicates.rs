//! Files of equal content under different paths.

use super::waste::{Waste, WasteReport};
use crate::diff::same_bytes;
use crate::model::{FileKind, RelPath};
use crate::oci::Hasher;
use crate::union::{EntryKind, LayerIndex, LayerResult, Node, Source, Stack, Visit, Walk};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Files of equal content that are no hard links of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateGroup {
    /// Bytes of one of them.
    pub size: u64,
    /// The paths, sorted; one for each object.
    pub paths: Vec<RelPath>,
}

impl DuplicateGroup {
    /// Bytes that would be saved if there were only one.
    pub fn wasted(&self) -> u64 {
        self.size * (self.paths.len() as u64 - 1)
    }
}

/// Bytes of each candidate that are read to tell it from others of the same size.
const SAMPLE: u64 = 4096;
/// Bytes read at once.
const AT_ONCE: u64 = 64 * 1024;
/// The most files of one size and one checksum that are compared with each other.
const COMPARED: usize = 1000;

/// The groups of duplicates among the files visible in `stack` of at least `minimum` bytes, most wasted bytes first.
///
/// Reads a sample of files that have the size of another, and the whole only of those whose samples agree. Checksums only sort
/// candidates, bytes decide.
pub fn duplicates(stack: &Stack, minimum: u64) -> LayerResult<Vec<DuplicateGroup>> {
    let mut by_size: HashMap<u64, Vec<(RelPath, Source)>> = HashMap::new();
    for (path, source, size) in files(stack, minimum.max(1))? {
        by_size.entry(size).or_default().push((path, source));
    }
    let mut groups = Vec::new();
    for (size, candidates) in by_size {
        for sampled in split(candidates, |source| checksum(stack, source, SAMPLE))? {
            for equal in equal_groups(stack, sampled)? {
                // Candidates come in the order of their paths.
                groups.push(DuplicateGroup { size, paths: equal.into_iter().map(|(path, _)| path).collect() });
            }
        }
    }
    groups.sort_by(|a, b| b.wasted().cmp(&a.wasted()).then_with(|| a.paths.cmp(&b.paths)));
    Ok(groups)
}

type Candidates = Vec<(RelPath, Source)>;

/// Splits `candidates` by what `key` says of them; those that are alone drop out.
fn split<K: Ord>(candidates: Candidates, key: impl Fn(Source) -> LayerResult<K>) -> LayerResult<Vec<Candidates>> {
    if candidates.len() < 2 {
        return Ok(Vec::new());
    }
    let mut by_key: BTreeMap<K, Candidates> = BTreeMap::new();
    for (path, source) in candidates {
        by_key.entry(key(source)?).or_default().push((path, source));
    }
    Ok(by_key.into_values().filter(|group| group.len() > 1).collect())
}

/// The groups of equal files among `candidates`, which have one size.
fn equal_groups(stack: &Stack, candidates: Candidates) -> LayerResult<Vec<Candidates>> {
    if candidates.len() == 2 {
        return compared(stack, candidates);
    }
    let mut groups = Vec::new();
    for alike in split(candidates, |source| checksum(stack, source, u64::MAX))? {
        groups.extend(if alike.len() <= COMPARED {
            compared(stack, alike)?
        } else {
            // Files made to have one checksum would be compared each with each.
            split(alike, |source| digest(stack, source))?
        });
    }
    Ok(groups)
}

/// The groups of equal files, found by comparing each with one of every group there is so far.
fn compared(stack: &Stack, candidates: Candidates) -> LayerResult<Vec<Candidates>> {
    let mut groups: Vec<Candidates> = Vec::new();
    'candidates: for (path, source) in candidates {
        for group in &mut groups {
            if let Some(&(_, first)) = group.first()
                && same_bytes((stack, first), (stack, source))?
            {
                group.push((path, source));
                continue 'candidates;
            }
        }
        groups.push(vec![(path, source)]);
    }
    groups.retain(|group| group.len() > 1);
    Ok(groups)
}

/// The CRC-32 of the first `length` bytes.
fn checksum(stack: &Stack, source: Source, length: u64) -> LayerResult<u32> {
    let mut checksum = crc32fast::Hasher::new();
    read(stack, source, length, |part| checksum.update(part))?;
    Ok(checksum.finalize())
}

fn digest(stack: &Stack, source: Source) -> LayerResult<[u8; 32]> {
    let mut hasher = Hasher::new();
    read(stack, source, u64::MAX, |part| hasher.update(part))?;
    Ok(*hasher.finish().0.as_bytes())
}

/// Hands the first `length` bytes of a file to `take`, or all where there are fewer.
fn read(stack: &Stack, source: Source, length: u64, mut take: impl FnMut(&[u8])) -> LayerResult<()> {
    let layer = stack.layer(source.layer)?;
    let mut buffer = vec![0; usize::try_from(length.min(AT_ONCE)).unwrap_or_default()];
    let mut offset = 0;
    while offset < length {
        let count = layer.read_at(source.ino, offset, &mut buffer)?;
        if count == 0 {
            break;
        }
        take(buffer.get(..count).unwrap_or_default());
        offset += count as u64;
    }
    Ok(())
}

/// Every visible file of at least `minimum` bytes once, with its size, under the first of its names, by these.
fn files(stack: &Stack, minimum: u64) -> LayerResult<Vec<(RelPath, Source, u64)>> {
    let (mut files, mut known) = (Vec::new(), HashSet::new());
    let mut walk = Walk::of(stack);
    while let Some(Visit { path, node }) = walk.step()? {
        let Node::Other { source, kind: FileKind::File, .. } = node else { continue };
        let size = stack.layer(source.layer)?.meta(source.ino)?.size;
        if size >= minimum && known.insert(*source) {
            files.push((path.clone(), *source, size));
        }
    }
    Ok(files)
}

/// Of what later layers replaced, that where the bytes are the same again: a change of mode, owner or time made a copy.
pub fn copies(stack: &Stack, report: &WasteReport) -> LayerResult<Vec<Waste>> {
    let mut found = Vec::new();
    for waste in report.waste.iter().filter(|waste| waste.same_size) {
        let Some(&below) = waste.bytes_of.keys().next_back() else { continue };
        let (old, new) = (file_in(stack, below, &waste.path)?, file_in(stack, waste.hidden_by, &waste.path)?);
        let (Some((old, size)), Some((new, new_size))) = (old, new) else { continue };
        if size == new_size && same_bytes((stack, old), (stack, new))? {
            found.push(waste.clone());
        }
    }
    Ok(found)
}

/// The file at `path` in the layer `index` itself, with its size.
fn file_in(stack: &Stack, index: usize, path: &RelPath) -> LayerResult<Option<(Source, u64)>> {
    let (Some(layer), Some(at)) = (stack.lowers().get(index), LayerIndex::lower(index)) else { return Ok(None) };
    let mut ino = layer.root();
    let mut kind = FileKind::Directory;
    for name in path.names() {
        match layer.lookup(ino, name)? {
            Some(EntryKind::Node { ino: below, kind: found, .. }) => (ino, kind) = (below, found),
            _ => return Ok(None),
        }
    }
    let size = if kind == FileKind::File { layer.meta(ino)?.size } else { return Ok(None) };
    Ok(Some((Source { layer: at, ino }, size)))
}
