//! Walks through merged trees.
//!
//! Owns the order in which a subtree is visited. Must not know what is done with what is found.

use super::{Directory, LayerError, LayerResult, Listed, Node, Source, Stack};
use crate::model::{FileKind, Name, RelPath};

impl Stack {
    /// What is in the directory made of `sources`, by the bytes of the names.
    pub fn children(&self, sources: &[Source]) -> LayerResult<Vec<(Name, Node)>> {
        let listing = self.list(sources)?;
        let mut children = Vec::with_capacity(listing.len());
        for listed in listing.iter() {
            let name = Name::new(listed.name).map_err(|error| self.bad_name(sources, listed.name, &error))?;
            if let Some(node) = self.listed_node(sources, &listed)? {
                children.push((name, node));
            }
        }
        Ok(children)
    }

    /// The object of an entry of the listing of `parent`.
    ///
    /// The listing names the topmost source. That is all there is of an object that is no directory, and of a directory whose parent
    /// has one source; only where the layer keeps records that lead elsewhere, or several layers may have the directory, is
    /// the name looked up again.
    fn listed_node(&self, parent: &[Source], listed: &Listed<'_>) -> LayerResult<Option<Node>> {
        let is_directory = listed.kind == FileKind::Directory;
        let Some(source) = listed.ino.source().filter(|_| !is_directory || parent.len() == 1) else {
            return self.child(parent, listed.name);
        };
        if self.layer(source.layer)?.keeps_marks() {
            return self.child(parent, listed.name);
        }
        Ok(Some(if is_directory {
            Node::Directory(Directory { sources: Box::new([source]), metadata: source })
        } else {
            Node::Other { source, kind: listed.kind, data: None }
        }))
    }

    fn bad_name(&self, sources: &[Source], name: &[u8], error: &impl std::fmt::Display) -> LayerError {
        let layer = sources.first().and_then(|source| self.layer(source.layer).ok());
        LayerError::Damaged {
            layer: layer.map_or_else(String::new, |layer| layer.label().to_owned()),
            detail: format!("\"{}\": {error}", name.escape_ascii()),
        }
    }
}

/// An object met on a walk.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// Where.
    pub path: &'a RelPath,
    /// What it is.
    pub node: &'a Node,
}

/// A walk through a subtree: each directory before what is in it, names by their bytes; symlinks are not followed.
///
/// Keeps its own list of what is still to be visited, since a path may have 16,000 components.
#[derive(Debug)]
pub struct Walk<'a> {
    stack: &'a Stack,
    path: RelPath,
    /// How many components the path of the subtree itself has.
    base: usize,
    /// What is still to be visited, last first: the depth below the subtree, the name where there is one, the object.
    waiting: Vec<(usize, Option<Name>, Node)>,
    current: Option<(usize, Node)>,
}

impl<'a> Walk<'a> {
    /// A walk through `node`, whose path is told as `path`, and all that is below it.
    pub fn new(stack: &'a Stack, path: RelPath, node: Node) -> Self {
        Self { stack, base: path.names().len(), path, waiting: vec![(0, None, node)], current: None }
    }

    /// A walk through all that `stack` shows.
    pub fn of(stack: &'a Stack) -> Self {
        Self::new(stack, RelPath::root(), Node::Directory(stack.root().clone()))
    }

    /// The next object; none at the end.
    pub fn step(&mut self) -> LayerResult<Option<Visit<'_>>> {
        if let Some((depth, Node::Directory(directory))) = self.current.take() {
            let children = self.stack.children(&directory.sources)?.into_iter().rev();
            self.waiting.extend(children.map(|(name, node)| (depth + 1, Some(name), node)));
        }
        let Some((depth, name, node)) = self.waiting.pop() else { return Ok(None) };
        if let Some(name) = name {
            while self.path.names().len() >= self.base + depth {
                self.path.pop();
            }
            self.path.push(name);
        }
        let (_, node) = self.current.insert((depth, node));
        Ok(Some(Visit { path: &self.path, node }))
    }

    /// Leaves out what is below the directory just visited.
    pub fn skip(&mut self) {
        self.current = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::{Follow, Layer, MemLayer};
    use std::sync::Arc;

    fn stack(layers: &[&str]) -> Stack {
        let layer = |text: &&str| -> Arc<dyn Layer> { Arc::new(MemLayer::parse("layer", text).expect("layer text")) };
        Stack::new(layers.iter().map(layer).collect(), None, Follow::default()).expect("a stack")
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let stack = stack(&["file a/b/c 644\nfile a/d 644\nfile a-b 644", "whiteout a/d\nfile a/b/e 644\ndir f"]);
        let mut walk = Walk::of(&stack);
        let mut visited = Vec::new();
        while let Some(visit) = walk.step().unwrap() {
            let path = visit.path.to_string();
            let (skipped, path_and_kind) = (path == "/f", format!("{path} {:?}", visit.node.kind()));
            visited.push(path_and_kind);
            if skipped {
                walk.skip();
            }
        }
        let (directory, file) = ("Directory", "File");
        let expected = [
            format!("/ {directory}"),
            format!("/a {directory}"),
            format!("/a/b {directory}"),
            format!("/a/b/c {file}"),
            format!("/a/b/e {file}"),
            format!("/a-b {file}"),
            format!("/f {directory}"),
        ];
        assert_eq!(visited, expected);
    }

    #[test]
    fn a_subtree_has_the_path_that_it_is_given() {
        let stack = stack(&["file a/b/c 644\nfile a/d 644"]);
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let node = stack.resolve(&path("a")).unwrap().unwrap();
        let mut walk = Walk::new(&stack, path("x/y"), node);
        let mut visited = Vec::new();
        while let Some(visit) = walk.step().unwrap() {
            visited.push(visit.path.to_string());
        }
        assert_eq!(visited, ["/x/y", "/x/y/b", "/x/y/b/c", "/x/y/d"]);
    }

    #[test]
    fn a_skipped_directory_is_left_out() {
        let stack = stack(&["file a/b/c 644\nfile d 644"]);
        let mut walk = Walk::of(&stack);
        let mut visited = Vec::new();
        while let Some(visit) = walk.step().unwrap() {
            let path = visit.path.to_string();
            let skip = path == "/a";
            visited.push(path);
            if skip {
                walk.skip();
            }
        }
        assert_eq!(visited, ["/", "/a", "/d"]);
    }
}
