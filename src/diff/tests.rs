//! Changes of stacks of layers written down as text.

use super::{
    ChangeSet, Comparison, LayerOptions, Options, Override, add_linked_names, compare, keep_links, write_layer,
};
use crate::model::RelPath;
use crate::union::{Follow, Layer, LayerIndex, MemLayer, Node, Source, Stack};
use std::sync::Arc;

fn layer(label: &str, text: &str) -> Arc<dyn Layer> {
    Arc::new(MemLayer::parse(label, text).expect("layer text"))
}

fn stack(lowers: &[&str], upper: Option<&str>) -> Stack {
    let lowers = lowers.iter().enumerate().map(|(at, text)| layer(&format!("{at}:{text}"), text)).collect();
    Stack::new(lowers, upper.map(|text| layer("upper", text)), Follow::default()).expect("stack")
}

fn lines(changes: &ChangeSet) -> Vec<String> {
    let line = |change: &super::Change| {
        let opaque = if change.opaque { " opaque" } else { "" };
        format!("{} {}{opaque}", change.kind.letter(), change.path)
    };
    changes.iter().map(line).collect()
}

fn upper_changes(lowers: &[&str], upper: &str) -> Vec<String> {
    let (old, new) = (stack(lowers, None), stack(lowers, Some(upper)));
    let options = Options { comparison: Comparison::Sources, parents: true };
    lines(&compare(&old, &new, options).expect("changes"))
}

const BASE: &str =
    "dir d\nfile d/a 644 0:0 one\nfile d/b 644 0:0 two\ndir e\nfile e/c 644 0:0 three\nfile f 644 0:0 four\n";

#[test]
fn an_upper_is_told_in_the_order_of_a_layer() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("nothing", "", &[]),
        ("a new file", "dir d\nfile d/n", &["C /", "C /d", "A /d/n"]),
        ("a changed file", "file f 644 0:0 other", &["C /", "C /f"]),
        ("a whiteout", "dir d\nwhiteout d/a", &["C /", "C /d", "D /d/a"]),
        ("a whiteout over nothing", "dir d\nwhiteout d/zzz", &[]),
        ("deletions come first", "dir d\nfile d/0\nwhiteout d/b", &["C /", "C /d", "D /d/b", "A /d/0"]),
        ("chmod of a directory", "dir d 700", &["C /", "C /d"]),
        ("a copied-up directory without a change", "dir d", &[]),
        ("file to directory", "dir f\nfile f/x", &["C /", "C /f", "A /f/x"]),
        ("directory to file", "file d 644 0:0 x", &["C /", "C /d"]),
        ("deleted tree", "whiteout d", &["C /", "D /d"]),
        ("recreated directory", "dir d\nopaque d\nfile d/a 644 0:0 one", &["C /", "C /d opaque", "D /d/b", "C /d/a"]),
        ("renamed directory", "whiteout d\ndir z\nredirect z /d", &["C /", "D /d", "A /z", "A /z/a", "A /z/b"]),
        (
            "directory renamed over another",
            "whiteout d\ndir e\nredirect e /d",
            &["C /", "D /d", "C /e opaque", "D /e/c", "A /e/a", "A /e/b"],
        ),
    ];
    for (what, upper, expected) in cases {
        assert_eq!(&upper_changes(&[BASE], upper), expected, "{what}");
    }
}

#[test]
fn two_images_are_compared_by_content() {
    let other =
        "dir d\nfile d/a 644 0:0 one\nfile d/b 600 0:0 two\ndir e\nfile e/c 644 0:0 THREE\nfile g 644 0:0 four\n";
    let (old, new) = (stack(&[BASE], None), stack(&[other], None));
    let options = Options { comparison: Comparison::Content, parents: false };
    let changes = compare(&old, &new, options).expect("changes");
    assert_eq!(lines(&changes), ["D /f", "C /d/b", "C /e/c", "A /g"]);
}

#[test]
fn what_both_sides_share_is_not_looked_at() {
    let top = "dir d\nfile d/n 644 0:0 new\n";
    let (old, new) = (stack(&[BASE], None), stack(&[BASE, top], None));
    let options = Options { comparison: Comparison::Content, parents: false };
    let changes = compare(&old, &new, options).expect("changes");
    assert_eq!(lines(&changes), ["A /d/n"]);
    assert!(compare(&new, &new, options).expect("changes").is_empty());
}

#[test]
fn names_of_a_copied_object_that_only_lower_layers_have_are_added() {
    let base = "dir d\nfile d/one 644 0:0 text\nlink other d/one\nlink gone d/one\nfile z";
    let upper = "dir d\nfile d/one 644 0:0 changed\nwhiteout gone\nwhiteout z";
    let (old, new) = (stack(&[base], None), stack(&[base], Some(upper)));
    let options = Options { comparison: Comparison::Sources, parents: true };
    let changes = compare(&old, &new, options).expect("changes");
    let at = |stack: &Stack, path: &[u8]| match stack.resolve(&RelPath::parse(path).unwrap()).unwrap() {
        Some(Node::Other { source, .. }) => source,
        other => panic!("{other:?} is no object"),
    };
    let (lower, upper): (Source, Source) = (at(&old, b"d/one"), at(&new, b"d/one"));
    assert_eq!(lower.layer, LayerIndex::lower(0).unwrap());
    let changes = add_linked_names(changes, &new, &[Override { lower, upper }]).expect("changes");
    assert_eq!(lines(&changes), ["C /", "D /gone", "D /z", "C /d", "C /d/one", "C /other"]);
    let other = changes.iter().find(|change| change.path.to_bytes() == b"other").unwrap();
    assert_eq!(other.new.as_ref().and_then(Node::ino), Some(crate::union::Ino::of(upper)));
}

#[test]
fn regression_names_that_were_moved_with_their_directory_stay_links_to_the_others() {
    let base = "dir d\nfile d/one 644 0:0 text\nlink other d/one\nlink gone d/one";
    let (old, new) = (stack(&[base], None), stack(&[base], Some("whiteout d\nwhiteout gone\ndir z\nredirect z /d")));
    let options = Options { comparison: Comparison::Sources, parents: true };
    let changes = compare(&old, &new, options).expect("changes");
    assert_eq!(lines(&changes), ["C /", "D /d", "D /gone", "A /z", "A /z/one"], "what is shown");
    let changes = keep_links(changes, &new).expect("changes");
    assert_eq!(lines(&changes), ["C /", "D /d", "D /gone", "C /other", "A /z", "A /z/one"], "what is written");
    let (bytes, _) = write_layer(&changes, &new, LayerOptions::default(), Vec::new()).expect("a layer");
    let link = |entry: tar::Entry<'_, &[u8]>| entry.link_name().unwrap().map(std::borrow::Cow::into_owned);
    let mut archive = tar::Archive::new(&*bytes);
    let links: Vec<_> = archive.entries().unwrap().map(Result::unwrap).filter_map(link).collect();
    assert_eq!(links, [std::path::Path::new("other")]);
}

#[test]
fn regression_a_copy_of_the_metadata_of_a_hard_link_keeps_its_data() {
    let base = "file one 644 0:0 text\nlink two one";
    let upper = "file one 600 0:0\nmetacopy one";
    let (old, new) = (stack(&[base], None), stack(&[base], Some(upper)));
    let options = Options { comparison: Comparison::Sources, parents: true };
    let at = |stack: &Stack, path: &[u8]| match stack.resolve(&RelPath::parse(path).unwrap()).unwrap() {
        Some(Node::Other { source, .. }) => source,
        other => panic!("{other:?} is no object"),
    };
    let (lower, upper) = (at(&old, b"one"), at(&new, b"one"));
    let changes = compare(&old, &new, options).expect("changes");
    let changes = add_linked_names(changes, &new, &[Override { lower, upper }]).expect("changes");
    for change in changes.iter().filter(|change| !change.path.is_root()) {
        assert_eq!(super::view::data_source(change.new.as_ref().unwrap()), Some(lower), "{}", change.path);
        assert_eq!(super::meta(&new, change.new.as_ref().unwrap()).unwrap().size, 4);
    }
    assert_eq!(changes.len(), 3);
}
