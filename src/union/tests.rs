//! Stacks of layers in memory, and the listing a person would expect.

use super::*;
use crate::model::FileKind;
use std::fmt::Write;
use std::sync::Arc;

fn stack(layers: &[&str]) -> Stack {
    stack_following(layers, Follow::default())
}

fn stack_following(layers: &[&str], follow: Follow) -> Stack {
    let parse = |(at, text): (usize, &&str)| -> Arc<dyn Layer> {
        Arc::new(MemLayer::parse(&format!("layer {at}"), text).expect("a layer"))
    };
    Stack::new(layers.iter().enumerate().map(parse).collect(), None, follow).expect("a stack")
}

/// One line an object, in order: path, and content, target or mode.
fn tree(stack: &Stack) -> String {
    let mut text = String::new();
    walk(stack, &stack.root().sources, "", &mut text);
    text
}

fn walk(stack: &Stack, sources: &[Source], path: &str, text: &mut String) {
    let listing = stack.list(sources).expect("a listing");
    for listed in listing.iter() {
        let name = String::from_utf8_lossy(listed.name);
        let path = format!("{path}/{name}");
        let node = stack.child(sources, listed.name).expect("a child").expect("what is listed is found");
        assert_eq!(node.ino(), Some(listed.ino), "{path}: the listing and the lookup disagree");
        assert_eq!(node.kind(), listed.kind, "{path}: the listing and the lookup disagree");
        match node {
            Node::Directory(Directory { sources, metadata }) => {
                let meta = stack.layer(metadata.layer).unwrap().meta(metadata.ino).unwrap();
                writeln!(text, "{path}/ {:o}", meta.permissions).unwrap();
                walk(stack, &sources, &path, text);
            }
            Node::Other { source, kind, data } => {
                let source = data.unwrap_or(source);
                let layer = stack.layer(source.layer).unwrap();
                let mut buffer = vec![0; 64];
                let length = layer.read_at(source.ino, 0, &mut buffer).unwrap();
                let content = String::from_utf8_lossy(&buffer[..length]);
                let arrow = if kind == FileKind::Symlink { "->" } else { "=" };
                writeln!(text, "{path} {arrow} {content}").unwrap();
            }
        }
    }
}

fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).fold(String::new(), |all, line| all + line + "\n")
}

/// Name of the case, layers bottom to top, expected tree.
type Case = (&'static str, &'static [&'static str], &'static str);

const CASES: &[Case] = &[
    ("upper layers win", &["file a one\nfile b one", "file a two"], "/a = two\n/b = one"),
    ("directories merge", &["dir d 700\nfile d/a 1", "dir d 711\nfile d/b 2"], "/d/ 711\n/d/a = 1\n/d/b = 2"),
    (
        "an implied directory keeps what is below",
        &["dir d 700\nfile d/a 1", "file d/b 2"],
        "/d/ 700\n/d/a = 1\n/d/b = 2",
    ),
    ("a directory implied everywhere is 0755", &["file d/a 1", "file d/b 2"], "/d/ 755\n/d/a = 1\n/d/b = 2"),
    ("a whiteout hides", &["file a 1\nfile b 1", "whiteout a"], "/b = 1"),
    ("a whiteout hides a directory", &["file d/a 1\nfile b 1", "whiteout d"], "/b = 1"),
    (
        "a whiteout in the middle stops the search",
        &["file d/a 1", "whiteout d/a", "dir d\nfile d/b 3"],
        "/d/ 755\n/d/b = 3",
    ),
    ("a whiteout hits lower layers only", &["file a 1", "whiteout a\nfile a 2"], "/a = 2"),
    ("a whiteout beside a directory makes it opaque", &["file d/a 1", "whiteout d\nfile d/b 2"], "/d/ 755\n/d/b = 2"),
    (
        "an opaque directory",
        &["file d/a 1\nfile x 1", "opaque d\nfile d/b 2", "file d/c 3"],
        "/d/ 755\n/d/b = 2\n/d/c = 3\n/x = 1",
    ),
    ("an opaque root", &["file a 1", "opaque .\nfile b 2"], "/b = 2"),
    (
        "a whiteout of nothing",
        &["file a 1", "whiteout b\nwhiteout c/d\nwhiteout e/f/g\nfile e/h 2"],
        "/a = 1\n/e/ 755\n/e/h = 2",
    ),
    ("a whiteout in the bottom layer", &["whiteout c/d\nfile a 1\nopaque f"], "/a = 1"),
    ("only an opaque mark", &["dir d 700\nfile d/a 1", "opaque d"], "/d/ 700"),
    ("a whiteout under a file", &["file a 1", "whiteout a/b"], "/a = 1"),
    ("a file replaces a directory", &["file a/x 1", "file a 2"], "/a = 2"),
    ("a directory replaces a file", &["file a 1", "file a/x 2"], "/a/ 755\n/a/x = 2"),
    ("a file in the middle cuts directories", &["file a/x 1", "file a 2", "file a/y 3"], "/a/ 755\n/a/y = 3"),
    ("deleted and made again", &["file d/a 1", "whiteout d", "file d/b 3"], "/d/ 755\n/d/b = 3"),
    (
        "an implied directory over a symlink",
        &["file usr/lib/a 1\nsymlink lib usr/lib", "file lib/b 2"],
        "/lib -> usr/lib\n/usr/ 755\n/usr/lib/ 755\n/usr/lib/a = 1\n/usr/lib/b = 2",
    ),
    (
        "an explicit directory replaces the symlink",
        &["file usr/lib/a 1\nsymlink lib usr/lib", "dir lib\nfile lib/b 2"],
        "/lib/ 755\n/lib/b = 2\n/usr/ 755\n/usr/lib/ 755\n/usr/lib/a = 1",
    ),
    (
        "an absolute symlink stays inside the root",
        &["dir x/y\nsymlink l /x/../../x/y", "file l/b 2"],
        "/l -> /x/../../x/y\n/x/ 755\n/x/y/ 755\n/x/y/b = 2",
    ),
    (
        "a chain of symlinks, and one on the way",
        &["dir r\nsymlink p q\nsymlink q r\nsymlink r/s ../t", "file p/s/f 2"],
        "/p -> q\n/q -> r\n/r/ 755\n/r/s -> ../t\n/t/ 755\n/t/f = 2",
    ),
    ("a symlink to nothing", &["symlink l a/b", "file l/f 2"], "/a/ 755\n/a/b/ 755\n/a/b/f = 2\n/l -> a/b"),
    ("a symlink to a file is replaced", &["file f 1\nsymlink l f", "file l/g 2"], "/f = 1\n/l/ 755\n/l/g = 2"),
    ("a symlink loop is replaced", &["symlink a b\nsymlink b a", "file a/g 2"], "/a/ 755\n/a/g = 2\n/b -> a"),
    (
        "a hidden symlink is not followed",
        &["dir t\nsymlink l t", "whiteout l", "file l/g 2"],
        "/l/ 755\n/l/g = 2\n/t/ 755",
    ),
    (
        "moved entries meet their own layer's",
        &["dir t 700\nsymlink l t\nfile t/d/z 0", "file l/g 2\nwhiteout l/z\nfile t/h 3\nfile t/d/i 4\nfile l/d/j 5"],
        "/l -> t\n/t/ 700\n/t/d/ 755\n/t/d/i = 4\n/t/d/j = 5\n/t/d/z = 0\n/t/g = 2\n/t/h = 3",
    ),
    ("regression: an opaque mark under a file", &["file c 1", "opaque c"], "/c = 1"),
    ("regression: an opaque mark and a whiteout under a file", &["file c 1", "opaque c\nwhiteout c/a"], "/c = 1"),
    ("regression: an opaque mark through a symlink to nothing", &["symlink l t", "opaque l"], "/l -> t"),
    (
        "regression: an opaque mark through a symlink",
        &["dir usr/lib 700\nfile usr/lib/a 1\nsymlink lib usr/lib", "opaque lib\nfile lib/b 2"],
        "/lib -> usr/lib\n/usr/ 755\n/usr/lib/ 700\n/usr/lib/b = 2",
    ),
    (
        "regression: an opaque mark through a symlink to the root",
        &["file a 1\nsymlink l /", "opaque l\nfile l/b 2"],
        "/b = 2",
    ),
    (
        "regression: a whiteout beside an implied directory removes the symlink",
        &["dir t 700\nsymlink l t", "whiteout l\nfile l/b 2"],
        "/l/ 755\n/l/b = 2\n/t/ 700",
    ),
    (
        "regression: a symlink of a lower layer that leads on through one of the layer's own",
        &["dir a\nsymlink b a", "whiteout a\nsymlink a c\ndir c 700\nfile b/f 2"],
        "/a -> c\n/b -> a\n/c/ 700\n/c/f = 2",
    ),
    ("a whiteout through a symlink to nothing", &["symlink l t", "whiteout l/a"], "/l -> t"),
    ("a whiteout through a symlink", &["file t/a 1\nsymlink l t", "whiteout l/a"], "/l -> t\n/t/ 755"),
    (
        "a relative redirect",
        &["file old/a 1", "whiteout old\ndir new\nfile new/b 2\nredirect new old"],
        "/new/ 755\n/new/a = 1\n/new/b = 2",
    ),
    (
        "an absolute redirect",
        &["file x/old/a 1", "whiteout x/old\ndir y/new\nredirect y/new /x/old"],
        "/x/ 755\n/y/ 755\n/y/new/ 755\n/y/new/a = 1",
    ),
    (
        "a redirect through a redirect",
        &["file a/f 1", "whiteout a\ndir b\nredirect b a", "whiteout b\ndir c\nredirect c /b"],
        "/c/ 755\n/c/f = 1",
    ),
    (
        "redirects see only what lies below",
        &["file a/f 1", "whiteout a\ndir b\nredirect b a", "file a/g 3"],
        "/a/ 755\n/a/g = 3\n/b/ 755\n/b/f = 1",
    ),
    ("a redirect to nothing", &["file a 1", "dir b\nredirect b gone"], "/a = 1\n/b/ 755"),
    ("a metadata-only copy", &["file a one", "file a 600\nmetacopy a", "file b 3"], "/a = one\n/b = 3"),
    ("a metadata-only copy of one", &["file a one", "file a\nmetacopy a", "file a\nmetacopy a"], "/a = one"),
    (
        "a renamed metadata-only copy",
        &["file x/a one", "whiteout x/a\nfile b 600\nmetacopy b\nredirect b /x/a"],
        "/b = one\n/x/ 755",
    ),
];

#[test]
fn a_stack_shows_what_its_layers_say() {
    for (case, layers, expected) in CASES {
        assert_eq!(tree(&stack(layers)), lines(expected), "{case}: {layers:?}");
    }
}

#[test]
fn what_is_not_followed_is_refused() {
    let follow = Follow { redirects: false, metacopy: false };
    let redirected = stack_following(&["file a/f 1", "dir b\nredirect b a"], follow);
    assert!(redirected.child(&redirected.root().sources, b"b").is_err());
    let copied = stack_following(&["file a 1", "file a\nmetacopy a"], follow);
    assert!(copied.child(&copied.root().sources, b"a").is_err());
}

#[test]
fn a_metadata_only_copy_of_nothing_is_an_error() {
    let copied = stack(&["file b 1", "file a\nmetacopy a"]);
    assert!(copied.child(&copied.root().sources, b"a").is_err());
}

#[test]
fn hard_links_are_one_object() {
    let stack = stack(&["file a 1\nlink d/b a", "file c 2"]);
    let a = stack.resolve(&"a".path()).unwrap().unwrap();
    let b = stack.resolve(&"d/b".path()).unwrap().unwrap();
    assert_eq!(a, b);
    let Node::Other { source, .. } = a else { panic!("a file") };
    assert_eq!(stack.layer(source.layer).unwrap().meta(source.ino).unwrap().nlink, 2);
}

#[test]
fn regression_links_of_layers_above_count() {
    let stack = stack(&[
        "file a 1\nlink b a\nfile e 2\nlink f e\nfile k 4",
        "whiteout b\nlink i e\nlink f e",
        "link m k\nlink n k",
        "link o n\nwhiteout m",
    ]);
    let links = |path: &str| {
        let Some(Node::Other { source, .. }) = stack.resolve(&path.path()).unwrap() else { panic!("a file: {path}") };
        let counted = stack.layer(source.layer).unwrap().meta(source.ino).unwrap().nlink;
        (counted, stack.links(source, counted))
    };
    assert_eq!(links("a"), (2, 2), "hidden names count, as in the kernel");
    assert_eq!(links("e"), (2, 3), "a layer above has one more, and one of the same name");
    assert_eq!(links("i"), (2, 3));
    assert_eq!(links("k"), (1, 3), "of three in two layers above one is hidden");
    assert_eq!(links("o"), (1, 3));
}

#[test]
fn paths_are_followed_inside_the_root() {
    let stack = stack(&["file usr/bin/sh #!\nsymlink bin usr/bin\nsymlink sh /bin/../../bin/sh\nsymlink loop loop"]);
    let kind = |path: &str, follow| stack.resolve_following(path.as_bytes(), follow).unwrap().map(|node| node.kind());
    assert_eq!(kind("/sh", true), Some(FileKind::File));
    assert_eq!(kind("sh", false), Some(FileKind::Symlink));
    assert_eq!(kind("bin/", false), Some(FileKind::Symlink));
    assert_eq!(kind("bin/sh", false), Some(FileKind::File));
    assert_eq!(kind("bin/..", true), Some(FileKind::Directory));
    assert_eq!(kind("/", true), Some(FileKind::Directory));
    assert_eq!(kind("../..", true), Some(FileKind::Directory));
    assert_eq!(kind("loop", true), None);
    assert_eq!(kind("usr/bin/sh/x", true), None);
    assert_eq!(kind("gone", true), None);
}

#[test]
fn a_stack_has_one_to_five_hundred_lower_layers() {
    let layer = || -> Arc<dyn Layer> { Arc::new(MemLayer::parse("one", "file a 1").unwrap()) };
    let of = |count: usize| Stack::new((0..count).map(|_| layer()).collect(), None, Follow::default());
    assert!(matches!(of(0), Err(StackError::Empty)));
    assert!(of(MAX_LOWERS).is_ok());
    assert!(matches!(of(MAX_LOWERS + 1), Err(StackError::TooMany(501))));
}

trait AsPath {
    fn path(&self) -> crate::model::RelPath;
}

impl AsPath for str {
    fn path(&self) -> crate::model::RelPath {
        crate::model::RelPath::parse(self.as_bytes()).expect("a path")
    }
}
