//! The plans against a naive model: an upper and one lower as maps, merged by the definition, before and after.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// An object of the model, with an identity to follow it by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Object {
    File(u32),
    Directory(Directory),
    Whiteout,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Directory {
    id: u32,
    opaque: bool,
    redirect: Option<String>,
    entries: BTreeMap<String, Object>,
}

/// What the union shows: path → identity of the file, or that it is a directory.
type View = BTreeMap<String, Option<u32>>;

#[derive(Debug, Clone)]
struct Model {
    upper: Directory,
    lower: Directory,
    workdir: Vec<Object>,
}

fn merge(upper: Option<&Directory>, lower: Option<&Directory>, root: &Directory, path: &str, view: &mut View) {
    let none = BTreeMap::new();
    let above = upper.map_or(&none, |dir| &dir.entries);
    let below = lower.map_or(&none, |dir| &dir.entries);
    let names: BTreeSet<&String> = above.keys().chain(below.keys()).collect();
    for name in names {
        let path = format!("{path}/{name}");
        match (above.get(name), below.get(name)) {
            (Some(Object::Whiteout), _) | (None, Some(Object::Whiteout) | None) => {}
            (Some(Object::File(id)), _) | (None, Some(Object::File(id))) => {
                view.insert(path, Some(*id));
            }
            (Some(Object::Directory(dir)), same_name) => {
                view.insert(path.clone(), None);
                let beside = match same_name {
                    Some(Object::Directory(below)) => Some(below),
                    _ => None,
                };
                let below = match &dir.redirect {
                    _ if dir.opaque => None,
                    Some(target) => find(root, target),
                    None => beside,
                };
                merge(Some(dir), below, root, &path, view);
            }
            (None, Some(Object::Directory(dir))) => {
                view.insert(path.clone(), None);
                merge(None, Some(dir), root, &path, view);
            }
        }
    }
}

fn find<'a>(root: &'a Directory, name: &str) -> Option<&'a Directory> {
    match root.entries.get(name) {
        Some(Object::Directory(dir)) => Some(dir),
        _ => None,
    }
}

impl Model {
    fn view(&self) -> View {
        let mut view = View::new();
        merge(Some(&self.upper), Some(&self.lower), &self.lower, "", &mut view);
        view
    }

    fn spot(&self, name: &str) -> Spot {
        let upper = match self.upper.entries.get(name) {
            None => InUpper::Nothing,
            Some(Object::Whiteout) => InUpper::Whiteout,
            Some(_) => InUpper::Object,
        };
        let below = match self.lower.entries.get(name) {
            None | Some(Object::Whiteout) => Below::Nothing,
            Some(Object::Directory(_)) => Below::Directory,
            Some(Object::File(_)) => Below::Other,
        };
        Spot { upper, below }
    }

    /// Copies `name` up: a file with its identity, a directory without its entries.
    fn copy_up(&mut self, name: &str) {
        if self.upper.entries.contains_key(name) {
            return;
        }
        let copy = match &self.lower.entries[name] {
            Object::Directory(dir) => Object::Directory(Directory { id: dir.id, ..Directory::default() }),
            other => other.clone(),
        };
        self.upper.entries.insert(name.to_owned(), copy);
    }

    fn moved(&self, name: &str) -> Moved {
        match &self.upper.entries[name] {
            Object::Directory(dir) if dir.opaque => Moved::PureDirectory,
            Object::Directory(dir) => match &dir.redirect {
                Some(target) if find(&self.lower, target).is_some() => Moved::MergedDirectory,
                None if find(&self.lower, name).is_some() => Moved::MergedDirectory,
                _ => Moved::PureDirectory,
            },
            _ => Moved::File,
        }
    }

    fn directory(&mut self, name: &str) -> &mut Directory {
        match self.upper.entries.get_mut(name) {
            Some(Object::Directory(dir)) => dir,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Applies the steps; `check` sees the model after each of them.
    fn apply(&mut self, steps: &[Step], source: &str, target: &str, new: Option<Object>, check: &mut dyn FnMut(&Self)) {
        let mut new = new;
        for step in steps {
            let at = |side| if side == Side::Source { source } else { target };
            match *step {
                Step::Publish => {
                    assert!(self.upper.entries.insert(target.into(), new.take().unwrap()).is_none());
                }
                Step::PublishOverWhiteout { opaque } => {
                    let mut object = new.take().unwrap();
                    if let Object::Directory(dir) = &mut object {
                        dir.opaque = opaque;
                    }
                    assert_eq!(self.upper.entries.insert(target.into(), object), Some(Object::Whiteout));
                }
                Step::Detach => self.workdir.push(self.upper.entries.remove(target).unwrap()),
                Step::DetachLeavingWhiteout => {
                    self.workdir.push(self.upper.entries.insert(target.into(), Object::Whiteout).unwrap());
                }
                Step::Whiteout => {
                    assert!(self.upper.entries.insert(target.into(), Object::Whiteout).is_none());
                }
                Step::RemoveWhiteout(side) => {
                    assert_eq!(self.upper.entries.remove(at(side)), Some(Object::Whiteout));
                }
                Step::MarkOpaque(side) => self.directory(at(side)).opaque = true,
                Step::MarkRedirect(side) => {
                    let name = at(side).to_owned();
                    let dir = self.directory(&name);
                    dir.redirect.get_or_insert(name);
                }
                Step::KeepAside => self.workdir.push(self.upper.entries[target].clone()),
                Step::ReplaceByEmpty => {
                    let empty = Object::Directory(Directory { id: 0, opaque: true, ..Directory::default() });
                    self.workdir.push(self.upper.entries.insert(target.into(), empty).unwrap());
                }
                Step::Move(how) => {
                    let object = self.upper.entries.remove(source).unwrap();
                    let replaced = self.upper.entries.insert(target.into(), object);
                    match how {
                        Move::Replace => assert!(!(self.is_dir(target) && replaced == Some(Object::Whiteout))),
                        Move::Exchange => {
                            self.upper.entries.insert(source.into(), replaced.unwrap());
                        }
                        Move::LeaveWhiteout => {
                            self.upper.entries.insert(source.into(), Object::Whiteout);
                        }
                    }
                }
            }
            check(self);
        }
    }

    fn is_dir(&self, name: &str) -> bool {
        matches!(self.upper.entries.get(name), Some(Object::Directory(_)))
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone, Copy)]
enum Operation {
    CreateFile(usize),
    MakeDirectory(usize),
    CreateInside(usize),
    Remove(usize),
    Rename(usize, usize),
    Exchange(usize, usize),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let name = || 0..NAMES.len();
    let one = prop_oneof![
        name().prop_map(Operation::CreateFile),
        name().prop_map(Operation::MakeDirectory),
        name().prop_map(Operation::CreateInside),
        name().prop_map(Operation::Remove),
        (name(), name()).prop_map(|(from, to)| Operation::Rename(from, to)),
        (name(), name()).prop_map(|(from, to)| Operation::Exchange(from, to)),
    ];
    prop::collection::vec(one, 1..30)
}

/// The lower layer that `seed` describes: per name nothing, a file, an empty directory, or one with a file.
fn lower(seed: u32) -> Directory {
    let mut root = Directory::default();
    for (at, name) in NAMES.iter().enumerate() {
        let id = 100 + at as u32;
        let empty = Directory { id, ..Directory::default() };
        let object = match seed >> (2 * at) & 3 {
            0 => continue,
            1 => Object::File(id),
            2 => Object::Directory(empty),
            _ => Object::Directory(Directory {
                entries: [("inside".to_owned(), Object::File(id + 100))].into(),
                ..empty
            }),
        };
        root.entries.insert((*name).to_owned(), object);
    }
    root
}

/// Removes `path` and what lies below it, and returns it with paths relative to `path`.
fn take(view: &mut View, path: &str) -> View {
    let below = format!("{path}/");
    let taken: Vec<String> = view.keys().filter(|key| *key == path || key.starts_with(&below)).cloned().collect();
    taken.into_iter().filter_map(|key| view.remove(&key).map(|value| (key[path.len()..].to_owned(), value))).collect()
}

fn put(view: &mut View, path: &str, what: View) {
    view.extend(what.into_iter().map(|(key, value)| (format!("{path}{key}"), value)));
}

/// Runs one operation on the model and on the naive view, and compares after every step.
fn run(model: &mut Model, operation: Operation, next: u32) {
    let before = model.view();
    let mut after = before.clone();
    let path = |at: usize| format!("/{}", NAMES[at]);
    let is_empty = |view: &View, at: usize| !view.keys().any(|key| key.starts_with(&format!("{}/", path(at))));
    let (steps, source, target, new) = match operation {
        Operation::CreateFile(at) | Operation::MakeDirectory(at) => {
            if before.contains_key(&path(at)) {
                return;
            }
            let directory = matches!(operation, Operation::MakeDirectory(_));
            let new = if directory {
                Object::Directory(Directory { id: next, ..Directory::default() })
            } else {
                Object::File(next)
            };
            after.insert(path(at), (!directory).then_some(next));
            (create(model.spot(NAMES[at]), directory), at, at, Some(new))
        }
        Operation::CreateInside(at) => {
            if before.get(&path(at)) == Some(&None) {
                model.copy_up(NAMES[at]);
                model.directory(NAMES[at]).entries.insert("inside".into(), Object::File(next));
                after.insert(format!("{}/inside", path(at)), Some(next));
                assert_eq!(model.view(), after);
            }
            return;
        }
        Operation::Remove(at) => {
            if !before.contains_key(&path(at)) || !is_empty(&before, at) {
                return;
            }
            after.remove(&path(at));
            (remove(model.spot(NAMES[at])), at, at, None)
        }
        Operation::Rename(from, to) => {
            let (Some(&moved), replaced) = (before.get(&path(from)), before.get(&path(to))) else { return };
            if from == to || replaced.is_some_and(|there| there.is_some() != moved.is_some()) || !is_empty(&before, to)
            {
                return;
            }
            let replaced = match replaced {
                None => Replaced::Nothing,
                Some(None) => Replaced::Directory,
                Some(Some(_)) => Replaced::File,
            };
            let subtree = take(&mut after, &path(from));
            take(&mut after, &path(to));
            put(&mut after, &path(to), subtree);
            model.copy_up(NAMES[from]);
            let steps = rename(model.moved(NAMES[from]), model.spot(NAMES[from]), model.spot(NAMES[to]), replaced);
            (steps, from, to, None)
        }
        Operation::Exchange(from, to) => {
            if from == to || !before.contains_key(&path(from)) || !before.contains_key(&path(to)) {
                return;
            }
            let (left, right) = (take(&mut after, &path(from)), take(&mut after, &path(to)));
            put(&mut after, &path(to), left);
            put(&mut after, &path(from), right);
            model.copy_up(NAMES[from]);
            model.copy_up(NAMES[to]);
            let side = |at: usize| (model.moved(NAMES[at]), model.spot(NAMES[at]));
            (exchange(side(from), side(to)), from, to, None)
        }
    };
    model.apply(&steps, NAMES[source], NAMES[target], new, &mut |model| {
        let now = model.view();
        assert!(now == before || now == after, "{operation:?} {steps:?}\nshows {now:?}\nwas {before:?}\nfor {after:?}");
    });
    assert_eq!(model.view(), after, "{operation:?} by {steps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn plans_do_what_a_plain_tree_does(seed in 0..256_u32, operations in operations()) {
        let mut model = Model { upper: Directory::default(), lower: lower(seed), workdir: Vec::new() };
        for (next, operation) in operations.into_iter().enumerate() {
            run(&mut model, operation, next as u32);
        }
    }
}

#[test]
fn removing_writes_a_whiteout_only_over_something() {
    use Below::{Directory, Nothing, Other};
    let cases = [
        (InUpper::Object, Nothing, vec![Step::Detach]),
        (InUpper::Object, Other, vec![Step::DetachLeavingWhiteout]),
        (InUpper::Object, Directory, vec![Step::DetachLeavingWhiteout]),
        (InUpper::Nothing, Other, vec![Step::Whiteout]),
        (InUpper::Nothing, Nothing, vec![]),
    ];
    for (upper, below, steps) in cases {
        assert_eq!(remove(Spot { upper, below }), steps, "{upper:?} over {below:?}");
    }
}

#[test]
fn a_directory_over_a_whiteout_is_opaque() {
    let spot = Spot { upper: InUpper::Whiteout, below: Below::Directory };
    assert_eq!(create(spot, true), [Step::PublishOverWhiteout { opaque: true }]);
    assert_eq!(create(spot, false), [Step::PublishOverWhiteout { opaque: false }]);
    assert_eq!(create(Spot::EMPTY, true), [Step::Publish]);
}

#[test]
fn renames_take_the_steps_of_the_kernel() {
    let object = Spot { upper: InUpper::Object, below: Below::Nothing };
    let covering = Spot { upper: InUpper::Object, below: Below::Directory };
    let whiteout = Spot { upper: InUpper::Whiteout, below: Below::Directory };
    let lower_directory = Spot { upper: InUpper::Nothing, below: Below::Directory };
    let cases = [
        (Moved::File, object, Spot::EMPTY, Replaced::Nothing, vec![Step::Move(Move::Replace)]),
        (Moved::File, covering, Spot::EMPTY, Replaced::Nothing, vec![Step::Move(Move::LeaveWhiteout)]),
        (Moved::File, object, object, Replaced::File, vec![Step::KeepAside, Step::Move(Move::Replace)]),
        (Moved::File, covering, whiteout, Replaced::Nothing, vec![Step::Move(Move::Exchange)]),
        (Moved::File, object, whiteout, Replaced::Nothing, vec![Step::Move(Move::Replace)]),
        (
            Moved::PureDirectory,
            object,
            whiteout,
            Replaced::Nothing,
            vec![Step::MarkOpaque(Side::Source), Step::Move(Move::Exchange), Step::RemoveWhiteout(Side::Source)],
        ),
        (
            Moved::PureDirectory,
            object,
            lower_directory,
            Replaced::Directory,
            vec![Step::MarkOpaque(Side::Source), Step::Move(Move::Replace)],
        ),
        (
            Moved::MergedDirectory,
            covering,
            covering,
            Replaced::Directory,
            vec![Step::ReplaceByEmpty, Step::MarkRedirect(Side::Source), Step::Move(Move::LeaveWhiteout)],
        ),
    ];
    for (moved, source, target, replaced, steps) in cases {
        assert_eq!(rename(moved, source, target, replaced), steps, "{moved:?} {source:?} {target:?}");
    }
}
