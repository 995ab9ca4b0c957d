//! Images whose waste is known by construction.

use super::{TouchKind, WasteCause, copies, duplicates, history_of, leftovers, waste};
use crate::model::RelPath;
use crate::union::{Follow, Layer, MemLayer, Stack};
use std::sync::Arc;

fn stack(layers: &[&str]) -> Stack {
    let layer = |(at, text): (usize, &&str)| -> Arc<dyn Layer> {
        Arc::new(MemLayer::parse(&at.to_string(), text).expect("layer text"))
    };
    Stack::new(layers.iter().enumerate().map(layer).collect(), None, Follow::default()).expect("stack")
}

/// The first screen of `explore` waits for the whole tree: what a name costs is what it costs.
#[test]
fn a_tree_takes_few_allocations_a_name() {
    let lines = |layer: usize| -> String {
        let line = |at: usize| format!("file usr/share/d{}/e{}/file-{at} 644 0:0 {layer}\n", at / 200, at / 20 % 10);
        (0..4000).filter(|at| layer == 0 || at % 10 == 0).map(line).collect()
    };
    let stack = stack(&[&lines(0), &lines(1), "whiteout usr/share/d0"]);
    let (count, made) = crate::sys::allocations(|| super::ImageTree::of(&stack));
    let (tree, _) = made.expect("a tree");
    assert_eq!(tree.len(), 4000 + 20 + 200 + 3);
    // The name for the walk and for the tree, what the layers have there; for every tenth file an event, and what grows by doubling.
    assert!(count < 6 * tree.len() as u64, "{count} allocations for {} names", tree.len());
}

/// `layer hides bytes of path (cause)`, most bytes first.
fn told(layers: &[&str]) -> Vec<String> {
    let report = waste(&stack(layers)).expect("report");
    let line = |waste: &super::Waste| {
        let cause = match waste.cause {
            WasteCause::Deleted => "deleted",
            WasteCause::Recreated => "recreated",
            WasteCause::Replaced => "replaced",
        };
        format!("{} {} {} {cause}", waste.hidden_by, waste.bytes(), waste.path)
    };
    assert_eq!(report.hidden_bytes(), report.waste.iter().map(super::Waste::bytes).sum::<u64>(), "{layers:?}");
    report.waste.iter().map(line).collect()
}

#[test]
fn every_hidden_byte_counts_once() {
    let base = "dir d\nfile d/a 644 0:0 1234567890\nfile d/b 644 0:0 12345\nfile f 644 0:0 123";
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("nothing hidden", &[base, "file g 644 0:0 x"], &[]),
        ("a deleted file", &[base, "whiteout f"], &["1 3 /f deleted"]),
        ("a deleted tree", &[base, "whiteout d"], &["1 15 /d deleted"]),
        ("an opaque directory", &[base, "dir d\nopaque d\nfile d/a 644 0:0 x"], &["1 15 /d recreated"]),
        ("a replaced file", &[base, "file f 644 0:0 12345678"], &["1 3 /f replaced"]),
        (
            "a copy of a copy",
            &[base, "file f 644 0:0 1234", "file f 644 0:0 1"],
            &["2 4 /f replaced", "1 3 /f replaced"],
        ),
        (
            "hidden twice counts for the first",
            &[base, "dir d\nwhiteout d/a", "whiteout d"],
            &["1 10 /d/a deleted", "2 5 /d deleted"],
        ),
        (
            "deleted, then made again, then deleted",
            &[base, "whiteout d", "dir d\nfile d/a 644 0:0 12", "whiteout d"],
            &["1 15 /d deleted", "3 2 /d deleted"],
        ),
        ("file to directory", &[base, "dir f\nfile f/x 644 0:0 1"], &["1 3 /f replaced"]),
        ("directory to file", &[base, "file d 644 0:0 1"], &["1 15 /d replaced"]),
        ("a whiteout over nothing", &[base, "whiteout nothing"], &[]),
        ("an opaque root", &[base, "opaque ."], &["1 18 / recreated"]),
    ];
    for (what, layers, expected) in cases {
        assert_eq!(&told(layers), expected, "{what}");
    }
}

#[test]
fn an_object_is_hidden_with_its_last_name() {
    let base = "file a 644 0:0 12345\nlink b a";
    assert!(told(&[base, "whiteout a"]).is_empty());
    assert_eq!(told(&[base, "whiteout a", "whiteout b"]), ["2 5 /b deleted"]);
    assert!(told(&["file a 644 0:0 12345", "link b a\nwhiteout a"]).is_empty());
}

#[test]
fn layers_are_summed_up() {
    let report = waste(&stack(&[
        "dir d\nfile d/a 644 0:0 1234567890\nfile f 644 0:0 123",
        "whiteout d\nwhiteout zzz\nfile f 644 0:0 12\nfile g 644 0:0 1",
    ]))
    .expect("report");
    let [base, top] = report.layers[..] else { panic!("two layers") };
    assert_eq!((base.bytes, base.hidden_bytes, base.added), (13, 13, 3));
    assert_eq!((top.bytes, top.added, top.changed, top.removed, top.idle_whiteouts), (3, 1, 1, 2, 1));
    assert!((report.efficiency() - 3.0 / 16.0).abs() < 1e-9);
}

#[test]
fn the_history_of_a_path_is_told() {
    let stack = stack(&["dir d\nfile d/a 644 0:0 1", "file d/b", "whiteout d", "dir d\nfile d/a", "file d 644 0:0 x"]);
    let path = RelPath::parse(b"d/a").unwrap();
    let letters: String = history_of(&stack, &path)
        .expect("history")
        .iter()
        .map(|touch| match touch.kind {
            TouchKind::Object { .. } => 'o',
            TouchKind::Removed { .. } => 'r',
            TouchKind::Covered { .. } => 'c',
            TouchKind::LinkBelow { .. } => 'l',
        })
        .collect();
    assert_eq!(letters, "oroc");
}

#[test]
fn duplicates_are_no_links_and_no_mere_equals_in_size() {
    let stack =
        stack(&["file a 644 0:0 same\nlink b a\nfile c 644 0:0 diff\nfile d/e 644 0:0 same\nfile g 644 0:0 longer"]);
    let groups = duplicates(&stack, 1).expect("groups");
    assert_eq!(groups.len(), 1);
    let paths: Vec<String> = groups[0].paths.iter().map(ToString::to_string).collect();
    assert_eq!((groups[0].wasted(), paths), (4, vec!["/a".to_owned(), "/d/e".to_owned()]));
}

#[test]
fn leftovers_are_found_where_they_are() {
    let stack = stack(&[
        "file var/cache/apt/archives/x.deb 644 0:0 12345\nfile usr/lib/python3/m.pyc 644 0:0 12\nfile var/log/l 644 0:0 1",
    ]);
    let found = leftovers(&stack).expect("leftovers");
    let lines: Vec<String> =
        found.iter().map(|kind| format!("{} {} {}", kind.kind.label(), kind.files, kind.bytes)).collect();
    assert_eq!(lines, ["package caches 1 5", "compiled Python 1 2", "logs 1 1"]);
}

#[test]
fn the_tree_shows_every_layer_as_it_was() {
    let stack = stack(&["dir d\nfile d/a 644 0:0 12345\nfile f 644 0:0 123", "whiteout d\nfile f 644 0:0 1"]);
    let (tree, report) = super::ImageTree::of(&stack).expect("tree");
    assert_eq!((tree.len(), report.hidden_bytes()), (4, 8));
    let at = |layer: usize| tree.sums(|version| version.is_visible_at(layer))[0];
    assert_eq!((at(0), at(1)), (8, 1));
    let own = tree.sums(|version| version.layer == 1)[0];
    assert_eq!(own, 1);
    let visible: Vec<String> =
        tree.ids().filter(|&id| tree.node(id).visible_at(1).is_some()).map(|id| tree.path(id).to_string()).collect();
    assert_eq!(visible, ["/f"]);
}

#[test]
fn the_page_holds_its_data_and_nothing_that_ends_its_script() {
    let stack = stack(&["file </script><b> 644 0:0 123", "file a 644 0:0 1"]);
    let (tree, report) = super::ImageTree::of(&stack).expect("tree");
    let instructions = ["RUN <b>".to_owned(), "COPY".to_owned()];
    let page = super::Page {
        image: "an/image:tag",
        instructions: &instructions,
        report: &report,
        tree: &tree,
        duplicates: &[],
        leftovers: &[],
    };
    let mut html = Vec::new();
    page.write(&mut html).expect("the page");
    let html = String::from_utf8(html).expect("text");
    let data = html.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["layers"][0]["instruction"], "RUN <b>");
    assert_eq!(data["nodes"].as_array().map(Vec::len), Some(4));
    assert!(!html.contains("http"), "the page must not need the network");
}

#[test]
fn a_change_of_mode_is_told_from_a_change_of_content() {
    let stack = stack(&["file a 644 0:0 same\nfile b 644 0:0 same", "file a 755 0:0 same\nfile b 644 0:0 SAME"]);
    let found = copies(&stack, &waste(&stack).expect("report")).expect("copies");
    let paths: Vec<String> = found.iter().map(|waste| waste.path.to_string()).collect();
    assert_eq!(paths, ["/a"]);
}
