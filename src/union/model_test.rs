//! Stacks against a model that does the obvious: it unpacks one layer after the other into one tree, as container tools do.

use super::*;
use crate::model::{FileKind, Name, RelPath};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a line of a layer says.
#[derive(Debug, Clone)]
enum Line {
    Dir(u16),
    File(u32),
    Symlink(String),
    Whiteout,
    Opaque,
}

/// The lines of one layer, each path once.
type Lines = BTreeMap<String, Line>;

/// What the model has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Object {
    Dir(u16),
    File(u32),
    Symlink(String),
}

#[derive(Debug, Default)]
struct Model(BTreeMap<RelPath, Object>);

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a path")
}

impl Model {
    fn is_directory(&self, path: &RelPath) -> bool {
        path.is_root() || matches!(self.0.get(path), Some(Object::Dir(_)))
    }

    fn remove(&mut self, path: &RelPath) {
        self.0.retain(|other, _| !other.starts_with(path));
    }

    fn remove_below(&mut self, path: &RelPath) {
        self.0.retain(|other, _| other == path || !other.starts_with(path));
    }

    /// One layer: what it hides goes first, then what it has comes, parents before children.
    fn unpack(&mut self, lines: &Lines) {
        for (at, line) in lines {
            let at = path(at);
            match line {
                Line::Opaque if self.is_directory(&at) => self.remove_below(&at),
                // In what is no directory an opaque mark hides nothing.
                Line::Whiteout => self.remove(&at),
                _ => {}
            }
        }
        for (at, line) in lines {
            let at = path(at);
            let object = match line {
                Line::Dir(mode) => Object::Dir(*mode),
                Line::File(content) => Object::File(*content),
                Line::Symlink(target) => Object::Symlink(target.clone()),
                Line::Whiteout | Line::Opaque => continue,
            };
            self.imply_parents(&at);
            match (&object, self.is_directory(&at)) {
                (Object::Dir(_), true) => {}
                _ => self.remove(&at),
            }
            self.0.insert(at, object);
        }
    }

    fn imply_parents(&mut self, at: &RelPath) {
        let mut parent = RelPath::root();
        for name in at.names().split_last().map_or(&[][..], |(_, parents)| parents) {
            parent = parent.join(name.clone());
            if !self.is_directory(&parent) {
                self.remove(&parent);
                self.0.insert(parent.clone(), Object::Dir(0o755));
            }
        }
    }
}

fn text(lines: &Lines) -> String {
    let line = |(path, line): (&String, &Line)| match line {
        Line::Dir(mode) => format!("dir {path} {mode:o}\n"),
        Line::File(content) => format!("file {path} 644 0:0 {content}\n"),
        Line::Symlink(target) => format!("symlink {path} {target}\n"),
        Line::Whiteout => format!("whiteout {path}\n"),
        Line::Opaque => format!("opaque {path}\n"),
    };
    lines.iter().map(line).collect()
}

fn shown(stack: &Stack, sources: &[Source], at: &RelPath, all: &mut BTreeMap<RelPath, Object>) {
    let listing = stack.list(sources).expect("a listing");
    let children = stack.children(sources).expect("children");
    assert_eq!(children.len(), listing.len(), "{at}");
    for (listed, (name, child)) in listing.iter().zip(children) {
        let path = at.join(Name::new(listed.name).expect("a name"));
        let node = stack.child(sources, listed.name).expect("a child").expect("what is listed is found");
        assert_eq!((node.ino(), node.kind()), (Some(listed.ino), listed.kind), "{path}");
        assert_eq!((&*name, &child), (listed.name, &node), "{path}: a walk sees the same");
        match node {
            Node::Directory(directory) => {
                let layer = stack.layer(directory.metadata.layer).expect("a layer");
                let meta = layer.meta(directory.metadata.ino).expect("metadata");
                all.insert(path.clone(), Object::Dir(meta.permissions));
                shown(stack, &directory.sources, &path, all);
            }
            Node::Other { source, kind, .. } => {
                let layer = stack.layer(source.layer).expect("a layer");
                let mut buffer = [0; 32];
                let length = layer.read_at(source.ino, 0, &mut buffer).expect("content");
                let content = String::from_utf8(buffer[..length].to_vec()).expect("text");
                let object = match kind {
                    FileKind::Symlink => Object::Symlink(content),
                    _ => Object::File(content.parse().expect("a number")),
                };
                all.insert(path, object);
            }
        }
    }
}

/// A layer as tools write them: nothing lies in what is no directory of the layer, and symlinks lead to where no layer has
/// entries below (those are cases of their own).
fn layer() -> impl Strategy<Value = Lines> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let mode = prop::sample::select(vec![0o700_u16, 0o711, 0o755]);
    let line = prop_oneof![
        3 => mode.prop_map(Line::Dir),
        4 => (1..1000_u32).prop_map(Line::File),
        1 => Just(Line::Symlink("nowhere".to_owned())),
        2 => Just(Line::Whiteout),
        1 => Just(Line::Opaque),
    ];
    prop::collection::btree_map(path, line, 1..12).prop_map(|mut lines| {
        let leaves: Vec<String> = lines
            .iter()
            .filter(|(_, line)| !matches!(line, Line::Dir(_) | Line::Opaque))
            .map(|(path, _)| format!("{path}/"))
            .collect();
        lines.retain(|path, _| !leaves.iter().any(|leaf| path.starts_with(leaf.as_str())));
        lines
    })
}

/// Entries below a path that is a symlink in a lower layer land elsewhere: the table of cases has these.
fn goes_through_a_symlink(layers: &[Lines]) -> bool {
    let links: Vec<String> = layers
        .iter()
        .flatten()
        .filter(|(_, line)| matches!(line, Line::Symlink(_)))
        .map(|(path, _)| format!("{path}/"))
        .collect();
    layers.iter().flatten().any(|(path, _)| links.iter().any(|link| path.starts_with(link.as_str())))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_shows_what_unpacking_would_make(layers in prop::collection::vec(layer(), 1..6)) {
        prop_assume!(!goes_through_a_symlink(&layers));
        let mut model = Model::default();
        for lines in &layers {
            model.unpack(lines);
        }
        let parse = |lines: &Lines| -> Arc<dyn Layer> {
            Arc::new(MemLayer::parse("layer", &text(lines)).expect("a layer"))
        };
        let stack = Stack::new(layers.iter().map(parse).collect(), None, Follow::default()).expect("a stack");
        let mut all = BTreeMap::new();
        shown(&stack, &stack.root().sources, &RelPath::root(), &mut all);
        prop_assert_eq!(all, model.0);
    }
}
