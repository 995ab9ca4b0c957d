//! What is captured reads back as what was there.

use super::{Clock, Step, append, capture, empty_config};
use crate::diff::{ChangeSet, Comparison, LayerOptions, Options, compare};
use crate::image::open_layer;
use crate::store::{Session, Store};
use crate::union::{Follow, Layer, MemLayer, Stack};
use proptest::prelude::*;
use std::fmt::Write;
use std::sync::Arc;

fn layer(label: &str, text: &str) -> Arc<dyn Layer> {
    Arc::new(MemLayer::parse(label, text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

fn stack(lowers: Vec<Arc<dyn Layer>>, upper: Option<&str>) -> Stack {
    Stack::new(lowers, upper.map(|text| layer("upper", text)), Follow::default()).expect("stack")
}

fn changes(old: &Stack, new: &Stack, comparison: Comparison) -> ChangeSet {
    compare(old, new, Options { comparison, parents: comparison == Comparison::Sources }).expect("changes")
}

/// Captures what `upper` changes over `lower`, and compares the image with that layer on top to the union.
fn round_trip(session: &Session, lower: &str, upper: &str) -> (String, ChangeSet) {
    let lowers = || vec![layer("lower", lower)];
    let (old, new) = (stack(lowers(), None), stack(lowers(), Some(upper)));
    let captured =
        capture(session, &changes(&old, &new, Comparison::Sources), &new, LayerOptions::default()).expect("capture");
    let step = Step { layer: Some(captured.clone()), ..Step::default() };
    let clock = Clock::new(Some("0")).expect("clock");
    let image = append(session, None, empty_config(), step, clock).expect("append");
    let record = session.store().image(&image.manifest, None).expect("image");
    let mut layers = lowers();
    layers.push(open_layer(session.store(), &record.layers[0]).expect("layer"));
    (captured.diff_id.to_string(), changes(&new, &stack(layers, None), Comparison::Content))
}

#[test]
fn a_captured_layer_gives_the_tree_of_the_union() {
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path()).expect("store");
    let session = store.session().expect("session");
    let base =
        "dir .\ndir d 755 1:2\nfile d/a 644 0:0 one\nlink d/b d/a\ndir e\nfile e/c 4755 7:8 three\nsymlink l d/a\n";
    let uppers = [
        "dir d\nwhiteout d/a\nfile new 600 5:6 text",
        "dir d\nopaque d\nfile d/x 644 0:0 x",
        "whiteout d\ndir z\nredirect z /d\nfile z/n 644 0:0 n",
        "file e/c 755 7:8\nmetacopy e/c",
        "file e 644 0:0 x\nchar null 666 1:3\nfifo pipe 600\nxattr e user.k value",
        "dir l\nfile l/in 644 0:0 x",
    ];
    for upper in uppers {
        let (first, left) = round_trip(&session, base, upper);
        assert!(left.is_empty(), "{upper}: {left:?}");
        assert_eq!(first, round_trip(&session, base, upper).0, "the same changes give the same layer");
    }
}

#[test]
fn a_step_without_files_is_an_empty_layer_in_the_history() {
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path()).expect("store");
    let session = store.session().expect("session");
    let clock = Clock::new(Some("1700000000")).expect("clock");
    let step = Step { created_by: Some("CMD [\"sh\"]".to_owned()), author: Some("me".to_owned()), ..Step::default() };
    let image = append(&session, None, empty_config(), step, clock).expect("append");
    let record = store.image(&image.manifest, None).expect("image");
    assert!(record.config.history[0].empty_layer && record.layers.is_empty());
    assert_eq!(record.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert!(record.layers.is_empty());
}

/// One line of a random layer over the names a to c, three levels deep.
fn line(upper: bool) -> impl Strategy<Value = (Vec<u8>, u8, u8)> {
    let verbs = if upper { 8u8 } else { 4 };
    (prop::collection::vec(0..3u8, 1..4), 0..verbs, any::<u8>())
}

/// A layer's text of those lines that can stand together: no object below a file, none twice.
fn text(lines: &[(Vec<u8>, u8, u8)]) -> String {
    let mut taken: std::collections::BTreeMap<String, bool> = std::collections::BTreeMap::new();
    let mut text = String::new();
    for (path, verb, salt) in lines {
        let names: Vec<String> = path.iter().map(|&name| char::from(b'a' + name).to_string()).collect();
        let full = names.join("/");
        let mut above = (1..names.len()).map(|depth| names[..depth].join("/"));
        if taken.contains_key(&full) || above.any(|parent| taken.get(&parent) == Some(&false)) {
            continue;
        }
        if *verb != 0 && *verb != 5 && taken.keys().any(|known| known.starts_with(&format!("{full}/"))) {
            continue;
        }
        for depth in 1..names.len() {
            let parent = names[..depth].join("/");
            taken.entry(parent.clone()).or_insert_with(|| {
                let _ = writeln!(text, "dir {parent}");
                true
            });
        }
        let directory = matches!(verb, 0 | 5);
        let _ = match verb {
            0 => writeln!(text, "dir {full} 7{}{} 0:0", salt % 8, salt % 5),
            1 => writeln!(text, "file {full} 644 {}:0 text {salt}", salt % 3),
            2 => writeln!(text, "symlink {full} {salt}"),
            3 => writeln!(text, "fifo {full} 6{}0", salt % 8),
            4 | 6 => writeln!(text, "whiteout {full}"),
            5 => writeln!(text, "dir {full}\nopaque {full}"),
            _ => writeln!(text, "file {full} 600 0:0 other {salt}\nxattr {full} user.salt {salt}"),
        };
        taken.insert(full, directory);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_captured_reads_back(
        lower in prop::collection::vec(line(false), 0..14),
        upper in prop::collection::vec(line(true), 0..14),
    ) {
        let dir = tempfile::tempdir().expect("directory");
        let session = Store::open(dir.path()).expect("store").session().expect("session");
        let (lower, upper) = (format!("dir .\n{}", text(&lower)), text(&upper));
        let (_, left) = round_trip(&session, &lower, &upper);
        prop_assert!(left.is_empty(), "lower:\n{lower}\nupper:\n{upper}\n{left:?}");
    }
}
