//! The builder against a model that keeps whole paths in maps and does everything the slow way.

use super::super::testing;
use super::tests::{parse, tree};
use crate::archive::tar::{Entry, EntryKind};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Path = Vec<String>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Object {
    Directory { implied: bool },
    File,
    Symlink(String),
    Link(String),
}

#[derive(Debug, Default)]
struct Model {
    /// Paths to indexes of objects.
    names: BTreeMap<Path, usize>,
    objects: Vec<Object>,
    whiteouts: BTreeSet<Path>,
    opaque: BTreeSet<Path>,
    /// Links whose target was not there.
    pending: Vec<usize>,
}

/// The entry cannot be added.
#[derive(Debug, PartialEq, Eq)]
struct Refused;

/// What a path leads to.
enum Resolved {
    /// This directory, which may not exist yet.
    Path(Path),
    Blocked,
    Loop,
}

fn split(text: &str) -> Path {
    text.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

impl Model {
    fn object(&self, path: &Path) -> Option<&Object> {
        if path.is_empty() {
            return Some(&Object::Directory { implied: true });
        }
        self.names.get(path).map(|index| &self.objects[*index])
    }

    fn resolve(&self, path: &[String]) -> Resolved {
        let mut rest: Path = path.to_vec();
        let mut at: Path = Vec::new();
        let mut links = 0;
        while !rest.is_empty() {
            let name = rest.remove(0);
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            match self.object(&at) {
                None | Some(Object::Directory { .. }) => {}
                Some(Object::Symlink(target)) => {
                    links += 1;
                    if links > 40 {
                        return Resolved::Loop;
                    }
                    at.pop();
                    if target.starts_with('/') {
                        at.clear();
                    }
                    rest = split(target).into_iter().chain(rest).collect();
                }
                Some(_) => return Resolved::Blocked,
            }
        }
        Resolved::Path(at)
    }

    fn put(&mut self, path: &Path, object: Object) -> usize {
        self.objects.push(object);
        self.names.insert(path.clone(), self.objects.len() - 1);
        self.objects.len() - 1
    }

    fn forget_below(&mut self, path: &Path) {
        let below = |other: &Path| other.len() > path.len() && other.starts_with(path);
        self.names.retain(|other, _| !below(other));
        self.whiteouts.retain(|other| !below(other));
        self.opaque.retain(|other| !below(other) && other != path);
    }

    fn find(&self, path: &str) -> Option<usize> {
        let mut path = split(path);
        let name = path.pop()?;
        let Resolved::Path(mut parent) = self.resolve(&path) else { return None };
        parent.push(name);
        self.names.get(&parent).copied()
    }

    fn add(&mut self, entry: &Entry) -> Result<(), Refused> {
        let mut path = split(std::str::from_utf8(entry.path.as_bytes()).unwrap());
        let name = path.pop().unwrap();
        let is_mark = name.starts_with(".wh.");
        let mut parent = match self.resolve(&path) {
            Resolved::Path(parent) => parent,
            Resolved::Blocked if is_mark => return Ok(()),
            Resolved::Blocked | Resolved::Loop => return Err(Refused),
        };
        for depth in 1..=parent.len() {
            if self.object(&parent[..depth].to_vec()).is_none() {
                self.put(&parent[..depth].to_vec(), Object::Directory { implied: true });
            }
        }
        if name == ".wh..wh..opq" {
            self.opaque.insert(parent);
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            parent.push(hidden.to_owned());
            self.whiteouts.insert(parent);
            return Ok(());
        }
        parent.push(name);
        self.add_object(&parent, entry)
    }

    fn add_object(&mut self, path: &Path, entry: &Entry) -> Result<(), Refused> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let object = match &entry.kind {
            EntryKind::Directory => Object::Directory { implied: false },
            EntryKind::Symlink { target } => Object::Symlink(text(target)),
            EntryKind::HardLink { target } => Object::Link(text(target.as_bytes())),
            _ => Object::File,
        };
        let mut shared = None;
        if let Object::Link(target) = &object {
            shared = self.find(target);
            if let Some(Object::Directory { .. }) = shared.map(|index| &self.objects[index]) {
                return Err(Refused);
            }
        }
        match self.object(path) {
            Some(Object::Directory { .. }) if object == (Object::Directory { implied: false }) => {}
            Some(Object::Directory { .. }) => self.forget_below(path),
            Some(_) if object == (Object::Directory { implied: false }) => drop(self.whiteouts.insert(path.clone())),
            _ => {}
        }
        if let Some(index) = shared {
            self.names.insert(path.clone(), index);
        } else {
            let is_link = matches!(object, Object::Link(_));
            let index = self.put(path, object);
            self.pending.extend(is_link.then_some(index));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<String>, Refused> {
        let (mut next, mut leading) = (BTreeMap::new(), Vec::new());
        for &index in &self.pending {
            let Object::Link(target) = &self.objects[index] else { continue };
            let Some(found) = self.find(target) else {
                let mut path = split(target);
                let name = path.pop().unwrap();
                if let Resolved::Path(parent) = self.resolve(&path) {
                    leading.push((index, [parent, vec![name]].concat().join("/")));
                }
                continue;
            };
            if matches!(self.objects[found], Object::Directory { .. }) {
                return Err(Refused);
            }
            next.insert(index, found);
        }
        for (index, target) in leading {
            self.objects[index] = Object::Link(target);
        }
        for index in self.names.values_mut() {
            let mut seen = vec![*index];
            while let Some(target) = next.get(seen.last().unwrap()) {
                if let Some(at) = seen.iter().position(|index| index == target) {
                    // A circle: the smallest of its members.
                    let smallest = seen[at..].iter().copied().min().unwrap();
                    seen.push(smallest);
                    break;
                }
                seen.push(*target);
            }
            *index = *seen.last().unwrap();
        }
        Ok(self.lines())
    }

    fn is_hollow(&self, path: &Path) -> bool {
        let holds = |index: &usize| !matches!(self.objects[*index], Object::Directory { implied: true });
        !self.names.iter().any(|(other, index)| other.starts_with(path) && holds(index))
    }

    /// Whether nothing of `path` is left: something above it is gone.
    fn is_gone(&self, path: &Path) -> bool {
        (1..path.len()).any(|depth| {
            let above = path[..depth].to_vec();
            self.whiteouts.contains(&above) && self.is_hollow(&above)
        })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = BTreeMap::new();
        for path in self.whiteouts.iter().filter(|path| self.object(path).is_none()) {
            lines.insert(path.clone(), "w".to_owned());
        }
        for (path, index) in &self.names {
            let whiteout = self.whiteouts.contains(path);
            let nlink = self.names.iter().filter(|(path, other)| *other == index && !self.is_gone(path)).count();
            let text = match &self.objects[*index] {
                Object::Directory { .. } if whiteout && self.is_hollow(path) => "w".to_owned(),
                Object::Directory { implied } => {
                    let opaque = whiteout || self.opaque.contains(path);
                    let implied = *implied && !whiteout;
                    let hollow = implied && self.is_hollow(path);
                    let mark = |set, text: &'static str| if set { text } else { "" };
                    format!("d{}{}{}", mark(opaque, "+"), mark(implied, "?"), mark(hollow, "-"))
                }
                Object::File if nlink > 1 => format!("f#{nlink}"),
                Object::File => "f".to_owned(),
                Object::Symlink(target) => format!("l {target}"),
                Object::Link(target) => format!("h {target}"),
            };
            lines.insert(path.clone(), text);
        }
        lines.retain(|path, _| !self.is_gone(path));
        lines.into_iter().map(|(path, text)| format!("{} {text}", path.join("/"))).collect()
    }
}

fn line() -> impl Strategy<Value = String> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = move || vec(name(), 1..4).prop_map(|names| names.join("/"));
    let target = prop_oneof![
        path(),
        path().prop_map(|path| format!("/{path}")),
        path().prop_map(|path| format!("../{path}")),
        Just("..".to_owned()),
    ];
    let marked = |mark: &'static str| {
        path().prop_map(move |path| match path.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/{mark}{name}"),
            None => format!("{mark}{path}"),
        })
    };
    prop_oneof![
        4 => path(),
        3 => path().prop_map(|path| format!("{path}/")),
        2 => (path(), target).prop_map(|(path, target)| format!("{path} -> {target}")),
        2 => (path(), path()).prop_map(|(path, target)| format!("{path} => {target}")),
        2 => marked(".wh."),
        1 => path().prop_map(|path| format!("{path}/.wh..wh..opq")),
    ]
}

fn built(lines: &[String]) -> Result<Vec<String>, Refused> {
    let entries: Vec<Entry> = lines.iter().map(|line| parse(line)).collect();
    let layer = testing::layer_of(&entries).map_err(|_| Refused)?;
    layer.verify(&testing::DIFF_ID).unwrap();
    let mut lines = tree(&layer);
    lines.sort_by_key(|line| split(line.split(' ').next().unwrap()));
    Ok(lines)
}

fn modelled(lines: &[String]) -> Result<Vec<String>, Refused> {
    let mut model = Model::default();
    for line in lines {
        model.add(&parse(line))?;
    }
    model.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_builder_does_what_the_model_does(lines in vec(line(), 0..14)) {
        prop_assert_eq!(built(&lines), modelled(&lines));
    }
}

#[test]
fn regression_a_link_to_a_name_with_a_whiteout_is_led_through_symlinks() {
    let lines = ["a/c/.wh.c", "a/a => b/c/c", "b -> a"].map(str::to_owned);
    assert_eq!(built(&lines), modelled(&lines));
    assert!(built(&lines).unwrap().contains(&"a/a h a/c/c".to_owned()));
}
