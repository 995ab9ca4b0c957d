//! Which paths differ between two stacks.
//!
//! The problems, and what solves them:
//! 1. Trees are large and mostly equal: [`Pair`]s are compared by their sources first, and only names mentioned by
//!    sources that one side has alone are looked at.
//! 2. Paths may be 16,000 levels deep: the walk keeps its own stack of [`Task`]s.
//! 3. The order of a layer: deletions first, then each object followed by what is in it.
//! 4. A recreated directory hides everything below it, so everything in it must be in the set even where it equals what
//!    was there: `forced`.

use super::view::{data_source, meta, same_bytes, xattrs};
use super::{Change, ChangeKind, ChangeSet, Result};
use crate::model::{FileKind, Meta, Name, RelPath};
use crate::union::{LayerError, LayerResult, Node, Source, Stack};
use std::collections::BTreeSet;

/// When two files are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// When they are one object of one layer. What was copied up or written again is a change, even to the same bytes:
    /// what commit writes, and what `docker diff` tells.
    Sources,
    /// When metadata and bytes are equal.
    Content,
}

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// When two files are the same.
    pub comparison: Comparison,
    /// Whether the parents of a change are in the set, as a layer needs them.
    pub parents: bool,
}

/// What changed from `old` to `new`.
pub fn compare(old: &Stack, new: &Stack, options: Options) -> Result<ChangeSet> {
    let root = |stack: &Stack| Some(Node::Directory(stack.root().clone()));
    let mut walk = Walk { old, new, options, changes: Vec::new() };
    let mut tasks = vec![Task { path: RelPath::root(), old: root(old), new: root(new), forced: false }];
    while let Some(task) = tasks.pop() {
        walk.visit(task, &mut tasks)?;
    }
    let mut changes = without_idle_parents(walk.changes, options.parents);
    changes.shrink_to_fit();
    Ok(ChangeSet::new(changes))
}

/// Drops the directories that are only parents, all of them or those of no change.
fn without_idle_parents(changes: Vec<Change>, parents: bool) -> Vec<Change> {
    let mut kept: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes.into_iter().rev() {
        let needed = kept.last().is_some_and(|next: &Change| next.path.starts_with(&change.path));
        if !change.parent_only || (parents && needed) {
            kept.push(change);
        }
    }
    kept.reverse();
    kept
}

/// A path to look at, with what both sides have there.
struct Task {
    path: RelPath,
    old: Option<Node>,
    new: Option<Node>,
    /// In the set whether it differs or not.
    forced: bool,
}

struct Walk<'a> {
    old: &'a Stack,
    new: &'a Stack,
    options: Options,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn visit(&mut self, task: Task, tasks: &mut Vec<Task>) -> Result<()> {
        match (&task.old, &task.new) {
            (None, None) => {}
            (Some(_), None) => self.push(task, ChangeKind::Deleted, false),
            (None, Some(new)) => {
                let children = self.children(&task.path, None, directory(new), task.forced)?;
                self.push(task, ChangeKind::Added, false);
                tasks.extend(children);
            }
            (Some(Node::Directory(old)), Some(Node::Directory(new))) => {
                let (old, new) = (old.sources.clone(), new.sources.clone());
                self.visit_directories(task, &old, &new, tasks)?;
            }
            (Some(old), Some(new)) => {
                if task.forced || !self.same_object(old, new)? {
                    let children = self.children(&task.path, None, directory(new), task.forced)?;
                    self.push(task, ChangeKind::Modified, false);
                    tasks.extend(children);
                }
            }
        }
        Ok(())
    }

    fn visit_directories(&mut self, task: Task, old: &[Source], new: &[Source], tasks: &mut Vec<Task>) -> Result<()> {
        let shared = self.shared(old, new);
        if shared == old.len() && shared == new.len() && !task.forced {
            return Ok(());
        }
        let opaque = shared == 0
            && self.options.comparison == Comparison::Sources
            && !task.forced
            && !self.old.list(old)?.is_empty();
        let forced = task.forced || opaque;
        let children = self.children(&task.path, Some(old), Some(new), forced)?;
        let parent_only = !forced && self.same_metadata(task.old.as_ref(), task.new.as_ref())?;
        self.push(task, ChangeKind::Modified, parent_only);
        if let Some(change) = self.changes.last_mut() {
            change.opaque = opaque;
        }
        tasks.extend(children);
        Ok(())
    }

    fn push(&mut self, task: Task, kind: ChangeKind, parent_only: bool) {
        let Task { path, old, new, .. } = task;
        self.changes.push(Change { path, kind, old, new, opaque: false, parent_only });
    }

    /// The names of both directories that may differ, in the order in which they are to be popped from a stack.
    fn children(
        &self,
        path: &RelPath,
        old: Option<&[Source]>,
        new: Option<&[Source]>,
        forced: bool,
    ) -> Result<Vec<Task>> {
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        let shared = if forced { 0 } else { self.shared(old, new) };
        let mut names = BTreeSet::new();
        mentioned(self.old, old, shared, &mut names)?;
        mentioned(self.new, new, shared, &mut names)?;
        let (mut kept, mut deleted) = (Vec::new(), Vec::new());
        for name in names.into_iter().rev() {
            let (old, new) = (self.old.child(old, &name)?, self.new.child(new, &name)?);
            let into = if new.is_some() { &mut kept } else { &mut deleted };
            into.push(Task { path: path.join(name), old, new, forced });
        }
        kept.append(&mut deleted);
        Ok(kept)
    }

    /// How many sources both lists end in.
    fn shared(&self, old: &[Source], new: &[Source]) -> usize {
        old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| self.same_source(**old, **new)).count()
    }

    fn same_source(&self, old: Source, new: Source) -> bool {
        let layers = (self.old.layer(old.layer), self.new.layer(new.layer));
        old.ino == new.ino && matches!(layers, (Ok(old), Ok(new)) if old.label() == new.label())
    }

    /// Whether two objects, at least one of which is no directory, are the same.
    fn same_object(&self, old: &Node, new: &Node) -> Result<bool> {
        let (Node::Other { source: old_source, kind, .. }, Node::Other { source: new_source, kind: new_kind, .. }) =
            (old, new)
        else {
            return Ok(false);
        };
        if self.same_source(*old_source, *new_source) {
            return Ok(true);
        }
        if self.options.comparison == Comparison::Sources || kind != new_kind {
            return Ok(false);
        }
        Ok(self.same_metadata(Some(old), Some(new))? && self.same_content(old, new, *kind)?)
    }

    fn same_metadata(&self, old: Option<&Node>, new: Option<&Node>) -> LayerResult<bool> {
        let (Some(old), Some(new)) = (old, new) else { return Ok(false) };
        let stated = |meta: Meta| {
            let size = if meta.kind == FileKind::Directory { 0 } else { meta.size };
            (meta.kind, meta.permissions, meta.uid, meta.gid, meta.device, size, meta.mtime)
        };
        Ok(stated(meta(self.old, old)?) == stated(meta(self.new, new)?)
            && xattrs(self.old, old)? == xattrs(self.new, new)?)
    }

    fn same_content(&self, old: &Node, new: &Node, kind: FileKind) -> LayerResult<bool> {
        match kind {
            FileKind::Symlink => Ok(link_target(self.old, old)? == link_target(self.new, new)?),
            FileKind::File => self.same_file(old, new),
            _ => Ok(true),
        }
    }

    fn same_file(&self, old: &Node, new: &Node) -> LayerResult<bool> {
        let (Some(old), Some(new)) = (data_source(old), data_source(new)) else { return Ok(false) };
        Ok(self.same_source(old, new) || same_bytes((self.old, old), (self.new, new))?)
    }
}

fn directory(node: &Node) -> Option<&[Source]> {
    match node {
        Node::Directory(directory) => Some(&directory.sources),
        Node::Other { .. } => None,
    }
}

fn link_target(stack: &Stack, node: &Node) -> LayerResult<Option<Vec<u8>>> {
    match node {
        Node::Other { source, .. } => Ok(Some(stack.layer(source.layer)?.read_link(source.ino)?.into_owned())),
        Node::Directory(_) => Ok(None),
    }
}

/// The names in all but the last `shared` of `sources`, whiteouts included.
fn mentioned(stack: &Stack, sources: &[Source], shared: usize, names: &mut BTreeSet<Name>) -> LayerResult<()> {
    for source in sources.get(..sources.len().saturating_sub(shared)).unwrap_or_default() {
        let layer = stack.layer(source.layer)?;
        let mut refused = None;
        layer.entries(source.ino, &mut |entry| match Name::new(&entry.name) {
            Ok(name) => drop(names.insert(name)),
            Err(error) => refused = Some(error),
        })?;
        if let Some(error) = refused {
            return Err(LayerError::Damaged { layer: layer.label().to_owned(), detail: error.to_string() });
        }
    }
    Ok(())
}
