//! Names of a changed object that only lower layers mention.

use super::{Change, ChangeKind, ChangeSet, Result};
use crate::model::{Name, RelPath};
use crate::union::{EntryKind, Layer, LayerError, LayerIndex, LayerResult, LocalIno, Node, Source, Stack};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// An object of a lower layer that was copied up, and with it all its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// The object below.
    pub lower: Source,
    /// What stands for it now.
    pub upper: Source,
}

/// Makes `changes` show what objects in `overrides` are now under every one of their names: names among the changes that lead to
/// the object below lead to the copy, and names that only lower layers mention are added, so that a layer has them as links to
/// it. `stack` is the new side of `changes`.
///
/// Costs a walk of each lower layer that has such an object with more than one name.
pub fn add_linked_names(changes: ChangeSet, stack: &Stack, overrides: &[Override]) -> Result<ChangeSet> {
    let changes = led_to_copies(changes, stack, overrides)?;
    add_names(changes, stack, overrides.iter().copied())
}

/// Adds to `changes` the other names of unchanged objects that stand among them: a directory of a lower layer was renamed, and what
/// is in it has names elsewhere too. A layer then has all of them as links to one object; with the new names alone, the others would stay
/// with the object below. Nothing that anyone calls a change: for layers, not for showing.
///
/// Costs a walk of each lower layer that has such an object.
pub fn keep_links(changes: ChangeSet, stack: &Stack) -> Result<ChangeSet> {
    let unchanged = |change: &Change| match &change.new {
        Some(Node::Other { source, .. }) if source.layer != LayerIndex::UPPER => Some(*source),
        _ => None,
    };
    let objects: BTreeSet<Source> = changes.iter().filter_map(unchanged).collect();
    add_names(changes, stack, objects.into_iter().map(|object| Override { lower: object, upper: object }))
}

/// Adds the names under which lower layers know the objects of `overrides`, where nothing hides them.
fn add_names(changes: ChangeSet, stack: &Stack, overrides: impl Iterator<Item = Override>) -> Result<ChangeSet> {
    let mut by_layer: BTreeMap<_, HashMap<LocalIno, Source>> = BTreeMap::new();
    for Override { lower, upper } in overrides {
        if stack.layer(lower.layer)?.meta(lower.ino)?.nlink > 1 {
            by_layer.entry(lower.layer).or_default().insert(lower.ino, upper);
        }
    }
    if by_layer.is_empty() {
        return Ok(changes);
    }
    let mut found = Vec::new();
    for (layer, wanted) in by_layer {
        for (path, ino) in names_of(stack.layer(layer)?, &wanted)? {
            let Some(upper) = wanted.get(&ino) else { continue };
            let shown = stack.resolve(&path)?;
            if matches!(&shown, Some(Node::Other { source, .. }) if *source == (Source { layer, ino })) {
                found.push((path, *upper, shown));
            }
        }
    }
    merge(changes, stack, found)
}

fn led_to_copies(changes: ChangeSet, stack: &Stack, overrides: &[Override]) -> Result<ChangeSet> {
    let copies: HashMap<Source, Source> = overrides.iter().map(|pair| (pair.lower, pair.upper)).collect();
    let mut all = changes.into_inner();
    for change in &mut all {
        if let Some(Node::Other { source, data, .. }) = &mut change.new
            && let Some(copy) = copies.get(source)
        {
            let below = data.unwrap_or(*source);
            (*source, *data) = (*copy, data_of(stack, *copy, below)?);
        }
    }
    Ok(ChangeSet::new(all))
}

/// Where the data of `copy` lie, when it is a copy of the metadata only, made of what has its data at `below`.
fn data_of(stack: &Stack, copy: Source, below: Source) -> LayerResult<Option<Source>> {
    Ok(stack.layer(copy.layer)?.marks(copy.ino)?.metacopy.then_some(below))
}

/// Every path of `layer` whose object is in `wanted`.
fn names_of(layer: &dyn Layer, wanted: &HashMap<LocalIno, Source>) -> LayerResult<Vec<(RelPath, LocalIno)>> {
    let mut found = Vec::new();
    let mut directories = vec![(RelPath::root(), layer.root())];
    while let Some((path, dir)) = directories.pop() {
        let mut refused = None;
        layer.entries(dir, &mut |entry| {
            let EntryKind::Node { ino, kind, .. } = entry.kind else { return };
            if !kind.is_directory() && !wanted.contains_key(&ino) {
                return;
            }
            match Name::new(&entry.name) {
                Ok(name) if kind.is_directory() => directories.push((path.join(name), ino)),
                Ok(name) => found.push((path.join(name), ino)),
                Err(error) => refused = Some(error),
            }
        })?;
        if let Some(error) = refused {
            return Err(LayerError::Damaged { layer: layer.label().to_owned(), detail: error.to_string() });
        }
    }
    Ok(found)
}

/// Puts the names in `found` and their parents where they belong among `changes`.
fn merge(changes: ChangeSet, stack: &Stack, found: Vec<(RelPath, Source, Option<Node>)>) -> Result<ChangeSet> {
    let mut all = changes.into_inner();
    let mut known: HashSet<RelPath> = all.iter().map(|change| change.path.clone()).collect();
    for (path, upper, old) in found {
        let Some(Node::Other { kind, source, data }) = old else { continue };
        for depth in 0..path.names().len() {
            let parent: RelPath = path.names().iter().take(depth).cloned().collect();
            if known.insert(parent.clone()) {
                let node = stack.resolve(&parent)?;
                all.push(change(parent, node.clone(), node, true));
            }
        }
        if known.insert(path.clone()) {
            let data = data_of(stack, upper, data.unwrap_or(source))?;
            let new = Some(Node::Other { source: upper, kind, data });
            all.push(change(path, old, new, false));
        }
    }
    // Within a directory: deletions, then everything else by name; a directory before what is in it. A path compares by its
    // components, each with whether it is a deleted last one.
    all.sort_by_cached_key(|change| {
        let last = change.path.names().len().saturating_sub(1);
        let deleted = change.kind == ChangeKind::Deleted;
        let component = |(at, name): (usize, &Name)| (!(deleted && at == last), name.clone());
        change.path.names().iter().enumerate().map(component).collect::<Vec<_>>()
    });
    Ok(ChangeSet::new(all))
}

fn change(path: RelPath, old: Option<Node>, new: Option<Node>, parent_only: bool) -> Change {
    Change { path, kind: ChangeKind::Modified, old, new, opaque: false, parent_only }
}
