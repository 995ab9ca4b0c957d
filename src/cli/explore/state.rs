//! What the explorer shows and how keys change it. Pure: neither terminal nor files.

use crate::analyze::{ImageTree, NodeId};
use crate::cli::printable;
use regex::{Regex, RegexBuilder};
use std::collections::HashSet;

/// What happened to a path in the chosen layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// As it was, or a directory that is only passed through.
    Unchanged,
    /// New in this layer.
    Added,
    /// Something else was here.
    Changed,
    /// Gone with this layer.
    Removed,
}

impl Status {
    /// The sign before the name.
    pub(super) fn sign(self) -> char {
        match self {
            Self::Unchanged => ' ',
            Self::Added => '+',
            Self::Changed => '~',
            Self::Removed => '-',
        }
    }
}

/// The order of the names of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Name,
    Size,
}

/// Where keys go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    Layers,
    Tree,
}

/// A line of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: NodeId,
    pub(super) depth: usize,
}

/// The state of the explorer.
#[derive(Debug)]
pub(super) struct State {
    tree: ImageTree,
    pub(super) layer: usize,
    pub(super) focus: Focus,
    pub(super) order: Order,
    pub(super) only_changes: bool,
    filter: Option<Regex>,
    expanded: HashSet<NodeId>,
    rows: Vec<Row>,
    pub(super) cursor: usize,
    /// Bytes at the chosen layer, and hidden ones among them, by node.
    sums: Vec<u64>,
    wasted: Vec<u64>,
    /// Nodes with a change of the chosen layer at or below them.
    changed: Vec<bool>,
}

impl State {
    /// The explorer of `tree`, at its top layer, with the root open.
    pub(super) fn new(tree: ImageTree) -> Self {
        let layer = tree.layers().saturating_sub(1);
        let mut state = Self {
            tree,
            layer,
            focus: Focus::Tree,
            order: Order::Name,
            only_changes: false,
            filter: None,
            expanded: HashSet::from([ImageTree::ROOT]),
            rows: Vec::new(),
            cursor: 0,
            sums: Vec::new(),
            wasted: Vec::new(),
            changed: Vec::new(),
        };
        state.choose_layer(layer);
        state
    }

    pub(super) fn tree(&self) -> &ImageTree {
        &self.tree
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The node under the cursor.
    pub(super) fn selected(&self) -> Option<NodeId> {
        self.rows.get(self.cursor).map(|row| row.id)
    }

    pub(super) fn is_expanded(&self, id: NodeId) -> bool {
        self.expanded.contains(&id) || self.filter.is_some()
    }

    pub(super) fn size(&self, id: NodeId) -> u64 {
        self.sums.get(ImageTree::index(id)).copied().unwrap_or_default()
    }

    /// Bytes at or below `id` that are to be seen now and that a later layer hides.
    pub(super) fn wasted(&self, id: NodeId) -> u64 {
        self.wasted.get(ImageTree::index(id)).copied().unwrap_or_default()
    }

    /// Shows the image as of `layer`.
    pub(super) fn choose_layer(&mut self, layer: usize) {
        self.layer = layer.min(self.tree.layers().saturating_sub(1));
        let layer = self.layer;
        self.sums = self.tree.sums(|version| version.is_visible_at(layer));
        self.wasted = self.tree.sums(|version| version.is_visible_at(layer) && version.hidden_by.is_some());
        self.changed = vec![false; self.tree.len()];
        for id in self.tree.ids().rev() {
            let own = self.status(id) != Status::Unchanged;
            let index = ImageTree::index(id);
            let here = own || self.changed.get(index).copied().unwrap_or_default();
            let parent = ImageTree::index(self.tree.node(id).parent);
            for at in [index, parent] {
                if let Some(changed) = self.changed.get_mut(at) {
                    *changed |= here;
                }
            }
        }
        self.rebuild();
    }

    /// What the chosen layer did to `id` itself.
    pub(super) fn status(&self, id: NodeId) -> Status {
        let node = self.tree.node(id);
        let before = self.layer.checked_sub(1).and_then(|below| node.visible_at(below));
        match (before, node.visible_at(self.layer)) {
            (None, Some(_)) => Status::Added,
            (Some(_), None) => Status::Removed,
            (Some(before), Some(now)) if now.layer == self.layer && now.layer != before.layer => {
                let merged =
                    now.kind.is_directory() && before.kind.is_directory() && before.hidden_by != Some(self.layer);
                if merged { Status::Unchanged } else { Status::Changed }
            }
            _ => Status::Unchanged,
        }
    }

    fn is_shown(&self, id: NodeId) -> bool {
        let changed = self.changed.get(ImageTree::index(id)).copied().unwrap_or_default();
        if self.only_changes {
            return changed;
        }
        self.tree.node(id).visible_at(self.layer).is_some() || self.status(id) == Status::Removed
    }

    /// Makes the lines anew; the cursor stays on its node where that is still there.
    fn rebuild(&mut self) {
        let selected = self.selected();
        let matching = self.filter.as_ref().map(|filter| self.matching(filter));
        let mut rows = Vec::new();
        let mut work: Vec<Row> = self.children(ImageTree::ROOT, 0);
        while let Some(row) = work.pop() {
            if matching.as_ref().is_some_and(|matching| !matching.contains(&row.id)) {
                continue;
            }
            rows.push(row);
            if self.is_expanded(row.id) {
                work.extend(self.children(row.id, row.depth + 1));
            }
        }
        self.rows = rows;
        let kept = selected.and_then(|id| self.rows.iter().position(|row| row.id == id));
        self.cursor = kept.unwrap_or(self.cursor).min(self.rows.len().saturating_sub(1));
    }

    /// What is shown below `id`, last line first.
    fn children(&self, id: NodeId, depth: usize) -> Vec<Row> {
        let mut ids: Vec<NodeId> =
            self.tree.node(id).children.iter().copied().filter(|&id| self.is_shown(id)).collect();
        if self.order == Order::Size {
            ids.sort_by_key(|&id| std::cmp::Reverse(self.size(id)));
        }
        ids.into_iter().rev().map(|id| Row { id, depth }).collect()
    }

    /// The nodes whose path matches, those above them, and all below them.
    fn matching(&self, filter: &Regex) -> HashSet<NodeId> {
        let mut found = HashSet::new();
        // Parents come first: the path of each is there when those below it need it.
        let mut paths: Vec<String> = Vec::with_capacity(self.tree.len());
        for id in self.tree.ids() {
            let node = self.tree.node(id);
            let name = node.name.as_ref().map_or_else(String::new, |name| printable(name));
            let above = paths.get(ImageTree::index(node.parent)).filter(|path| !path.is_empty());
            let path = above.map_or_else(|| name.clone(), |above| format!("{above}/{name}"));
            if id != ImageTree::ROOT && filter.is_match(&path) && self.is_shown(id) {
                let mut at = id;
                while at != ImageTree::ROOT && found.insert(at) {
                    at = self.tree.node(at).parent;
                }
            }
            paths.push(path);
        }
        found
    }

    /// Shows only what matches `text`: a regular expression, or the text itself where it is none. Empty shows all.
    pub(super) fn set_filter(&mut self, text: &str) {
        let build = |pattern: &str| RegexBuilder::new(pattern).case_insensitive(true).size_limit(1 << 20).build();
        self.filter = match text {
            "" => None,
            _ => build(text).or_else(|_| build(&regex::escape(text))).ok(),
        };
        self.rebuild();
    }

    /// Moves the cursor by `by` lines, or the choice of layer where the keys go there.
    pub(super) fn step(&mut self, by: isize) {
        match self.focus {
            Focus::Layers => self.choose_layer(self.layer.saturating_add_signed(by)),
            Focus::Tree => self.cursor = self.cursor.saturating_add_signed(by).min(self.rows.len().saturating_sub(1)),
        }
    }

    /// Opens the directory under the cursor; in an open one, goes to its first name.
    pub(super) fn open(&mut self) {
        let Some(id) = self.selected() else { return };
        if self.tree.node(id).children.is_empty() {
            return;
        }
        if self.expanded.insert(id) {
            self.rebuild();
        } else {
            self.step(1);
        }
    }

    /// Closes the directory under the cursor; in a closed one, goes to the directory above.
    pub(super) fn close(&mut self) {
        let Some(id) = self.selected() else { return };
        if self.expanded.remove(&id) {
            self.rebuild();
            return;
        }
        let parent = self.tree.node(id).parent;
        if let Some(at) = self.rows.iter().position(|row| row.id == parent) {
            self.cursor = at;
        }
    }

    /// Opens or closes the directory under the cursor.
    pub(super) fn toggle(&mut self) {
        let Some(id) = self.selected() else { return };
        if !self.expanded.remove(&id) {
            self.expanded.insert(id);
        }
        self.rebuild();
    }

    /// Closes everything.
    pub(super) fn collapse_all(&mut self) {
        self.expanded = HashSet::from([ImageTree::ROOT]);
        self.rebuild();
    }

    pub(super) fn toggle_order(&mut self) {
        self.order = if self.order == Order::Name { Order::Size } else { Order::Name };
        self.rebuild();
    }

    pub(super) fn toggle_only_changes(&mut self) {
        self.only_changes = !self.only_changes;
        self.rebuild();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::{Follow, Layer, MemLayer, Stack};
    use std::sync::Arc;

    fn state(layers: &[&str]) -> State {
        let layer = |(at, text): (usize, &&str)| -> Arc<dyn Layer> {
            Arc::new(MemLayer::parse(&at.to_string(), text).expect("layer text"))
        };
        let layers = layers.iter().enumerate().map(layer).collect();
        let stack = Stack::new(layers, None, Follow::default()).expect("stack");
        State::new(ImageTree::of(&stack).expect("tree").0)
    }

    fn shown(state: &State) -> Vec<String> {
        let line = |row: &Row| format!("{}{}", state.status(row.id).sign(), state.tree().path(row.id));
        state.rows().iter().map(line).collect()
    }

    const BASE: &str = "dir d\nfile d/a 644 0:0 12345\nfile d/b 644 0:0 1\nfile f 644 0:0 123";
    const TOP: &str = "dir d\nwhiteout d/a\nfile d/n 644 0:0 12\nfile f 644 0:0 1234";

    #[test]
    fn a_layer_shows_what_it_did() {
        let mut state = state(&[BASE, TOP]);
        assert_eq!(shown(&state), [" /d", "~/f"]);
        state.open();
        assert_eq!(shown(&state), [" /d", "-/d/a", " /d/b", "+/d/n", "~/f"]);
        state.toggle_only_changes();
        assert_eq!(shown(&state), [" /d", "-/d/a", "+/d/n", "~/f"]);
        state.choose_layer(0);
        assert_eq!(shown(&state), ["+/d", "+/d/a", "+/d/b", "+/f"]);
        let wasted: Vec<u64> = state.rows().iter().map(|row| state.wasted(row.id)).collect();
        assert_eq!(wasted, [5, 5, 0, 3]);
    }

    #[test]
    fn a_filter_shows_matches_and_the_way_to_them() {
        let mut state = state(&[BASE]);
        state.set_filter("^d/[b-z]$");
        assert_eq!(shown(&state), ["+/d", "+/d/b"]);
        state.set_filter("(");
        assert!(shown(&state).is_empty(), "no regular expression: taken as it stands");
        state.set_filter("");
        assert_eq!(shown(&state), ["+/d", "+/f"]);
    }

    #[test]
    fn the_cursor_stays_on_its_node() {
        let mut state = state(&[BASE]);
        state.step(1);
        let before = state.selected();
        state.toggle_order();
        state.step(-1);
        state.open();
        state.step(10);
        assert_eq!(state.selected(), before);
        state.step(-1);
        state.close();
        assert_eq!(shown(&state)[state.cursor], "+/d");
        state.close();
        assert_eq!(shown(&state), ["+/d", "+/f"]);
    }
}
