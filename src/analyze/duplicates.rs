//! Files of equal content under different paths.

use super::checked_join;
use super::waste::{Waste, WasteReport};
use crate::model::{FileKind, RelPath};
use crate::oci::Hasher;
use crate::union::{EntryKind, LayerIndex, LayerResult, Node, Source, Stack};
use std::collections::HashMap;

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
const SAMPLE: usize = 4096;

/// The groups of duplicates among the files visible in `stack` of at least `minimum` bytes, most wasted bytes first.
///
/// Reads a sample of files that have the size of another, and the whole only of those whose samples agree.
pub fn duplicates(stack: &Stack, minimum: u64) -> LayerResult<Vec<DuplicateGroup>> {
    let mut by_size: HashMap<u64, Vec<(RelPath, Source)>> = HashMap::new();
    for (path, source, size) in files(stack, minimum.max(1))? {
        by_size.entry(size).or_default().push((path, source));
    }
    let mut groups = Vec::new();
    for (size, candidates) in by_size {
        for sampled in split(candidates, |source| sample(stack, source, size))? {
            for paths in split(sampled, |source| whole(stack, source, size))? {
                let mut paths: Vec<RelPath> = paths.into_iter().map(|(path, _)| path).collect();
                paths.sort();
                groups.push(DuplicateGroup { size, paths });
            }
        }
    }
    groups.sort_by(|a, b| b.wasted().cmp(&a.wasted()).then_with(|| a.paths.cmp(&b.paths)));
    Ok(groups)
}

type Candidates = Vec<(RelPath, Source)>;

/// Splits `candidates` by what `key` says of them; those that are alone drop out.
fn split(candidates: Candidates, key: impl Fn(Source) -> LayerResult<[u8; 32]>) -> LayerResult<Vec<Candidates>> {
    if candidates.len() < 2 {
        return Ok(Vec::new());
    }
    let mut by_key: HashMap<[u8; 32], Candidates> = HashMap::new();
    for (path, source) in candidates {
        by_key.entry(key(source)?).or_default().push((path, source));
    }
    Ok(by_key.into_values().filter(|group| group.len() > 1).collect())
}

fn sample(stack: &Stack, source: Source, size: u64) -> LayerResult<[u8; 32]> {
    hash(stack, source, size.min(SAMPLE as u64))
}

fn whole(stack: &Stack, source: Source, size: u64) -> LayerResult<[u8; 32]> {
    hash(stack, source, size)
}

fn hash(stack: &Stack, source: Source, length: u64) -> LayerResult<[u8; 32]> {
    let layer = stack.layer(source.layer)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; (64 * SAMPLE).min(usize::try_from(length).unwrap_or(usize::MAX))];
    let mut offset = 0;
    while offset < length {
        let count = layer.read_at(source.ino, offset, &mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        offset += count as u64;
    }
    Ok(*hasher.finish().0.as_bytes())
}

/// Every visible file of at least `minimum` bytes once, under the first of its names.
fn files(stack: &Stack, minimum: u64) -> LayerResult<Vec<(RelPath, Source, u64)>> {
    let mut found: HashMap<Source, (RelPath, u64)> = HashMap::new();
    let mut work = vec![(RelPath::root(), stack.root().clone())];
    while let Some((path, directory)) = work.pop() {
        let layer = stack.layer(directory.metadata.layer)?;
        for listed in stack.list(&directory.sources)?.iter() {
            if !matches!(listed.kind, FileKind::File | FileKind::Directory) {
                continue;
            }
            let below = checked_join(layer, &path, listed.name)?;
            match stack.child(&directory.sources, listed.name)? {
                Some(Node::Directory(child)) => work.push((below, child)),
                Some(Node::Other { source, kind: FileKind::File, .. }) => {
                    let size = stack.layer(source.layer)?.meta(source.ino)?.size;
                    if size >= minimum {
                        let known = found.entry(source).or_insert_with(|| (below.clone(), size));
                        if below < known.0 {
                            known.0 = below;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found.into_iter().map(|(source, (path, size))| (path, source, size)).collect())
}

/// Of what later layers replaced, that where the bytes are the same again: a change of mode, owner or time made a copy.
pub fn copies(stack: &Stack, report: &WasteReport) -> LayerResult<Vec<Waste>> {
    let mut found = Vec::new();
    for waste in report.waste.iter().filter(|waste| waste.same_size) {
        let Some(&below) = waste.bytes_of.keys().next_back() else { continue };
        let (old, new) = (file_in(stack, below, &waste.path)?, file_in(stack, waste.hidden_by, &waste.path)?);
        let (Some((old, size)), Some((new, new_size))) = (old, new) else { continue };
        if size == new_size && whole(stack, old, size)? == whole(stack, new, size)? {
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
