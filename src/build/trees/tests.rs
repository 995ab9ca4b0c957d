//! Each kind of tree shows the same things in the same way.

use super::*;
use crate::archive::tar::{Entry, EntryKind, EntryPath, Limits, Writer};
use crate::build::context::Matcher;
use crate::build::copy::{Tree, open_archive};
use crate::model::{FileKind, RelPath};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// Every path of a tree, with its kind and the content of files.
fn everything(tree: &dyn Tree) -> Vec<String> {
    fn walk(tree: &dyn Tree, at: &RelPath, found: &mut Vec<String>) {
        for (name, stat) in tree.list(at).unwrap() {
            let path = at.join(name);
            assert_eq!(tree.stat(&path).unwrap().as_ref(), Some(&stat));
            let detail = match stat.kind {
                FileKind::File => {
                    let mut text = String::new();
                    tree.open(&path).unwrap().read_to_string(&mut text).unwrap();
                    format!(" {text}")
                }
                FileKind::Symlink => format!(" -> {}", tree.read_link(&path).unwrap().escape_ascii()),
                _ => "/".to_owned(),
            };
            found.push(format!("{path}{detail} {:o}", stat.permissions));
            if stat.kind.is_directory() {
                walk(tree, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(tree, &RelPath::root(), &mut found);
    found
}

fn directory() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    std::fs::create_dir_all(root.join("d/e")).unwrap();
    for (name, text) in [("a", "1"), ("d/b", "2"), ("d/e/c.txt", "3"), ("d/e/k", "4")] {
        std::fs::write(root.join(name), text).unwrap();
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    for name in ["d", "d/e"] {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::hard_link(root.join("a"), root.join("hard")).unwrap();
    symlink("/etc", root.join("out")).unwrap();
    symlink("d", root.join("in")).unwrap();
    scratch
}

const WHOLE: [&str; 9] = [
    "/a 1 640",
    "/d/ 755",
    "/d/b 2 640",
    "/d/e/ 755",
    "/d/e/c.txt 3 640",
    "/d/e/k 4 640",
    "/hard 1 640",
    "/in -> d 777",
    "/out -> /etc 777",
];

#[test]
fn a_directory_is_read_but_never_left() {
    let scratch = directory();
    let tree = DirectoryTree::open(scratch.path()).unwrap();
    assert_eq!(everything(&tree), WHOLE);
    assert_eq!(tree.stat(&path("out/passwd")).unwrap(), None, "no symlink is followed");
    assert_eq!(tree.stat(&path("in/b")).unwrap(), None);
    assert_eq!(tree.stat(&path("a/b")).unwrap(), None);
    assert!(tree.open(&path("out/passwd")).is_err() && tree.list(&path("out")).is_err());
    let (a, hard) = (tree.stat(&path("a")).unwrap().unwrap(), tree.stat(&path("hard")).unwrap().unwrap());
    assert!(a.identity.is_some() && a.identity == hard.identity);
    assert_eq!((a.uid, a.gid, a.mtime.seconds), (0, 0, std::fs::metadata(scratch.path().join("a")).unwrap().mtime()));
}

#[test]
fn regression_a_build_does_not_find_what_it_puts_below_its_context() {
    let scratch = directory();
    let stage = scratch.path().join("d/e");
    let tree = DirectoryTree::open(scratch.path()).and_then(|tree| tree.without(&stage)).unwrap();
    let left: Vec<&str> = WHOLE.iter().copied().filter(|line| !line.starts_with("/d/e/")).collect();
    assert_eq!(everything(&tree), left);
    assert_eq!(tree.stat(&path("d/e")).unwrap(), None);
}

#[test]
fn regression_a_swapped_file_is_not_waited_for() {
    let scratch = directory();
    let tree = DirectoryTree::open(scratch.path()).unwrap();
    std::fs::remove_file(scratch.path().join("a")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, scratch.path().join("a"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    assert!(tree.open(&path("a")).is_err());
}

#[test]
fn ignored_paths_are_not_seen() {
    let scratch = directory();
    for (patterns, expected) in [
        (vec!["d"], vec!["/a 1 640", "/hard 1 640", "/in -> d 777", "/out -> /etc 777"]),
        (vec!["*", "!d/e/k"], vec!["/d/ 755", "/d/e/ 755", "/d/e/k 4 640"]),
        (vec!["**/*.txt", "out", "in", "hard"], vec!["/a 1 640", "/d/ 755", "/d/b 2 640", "/d/e/ 755", "/d/e/k 4 640"]),
        (vec!["**"], vec![]),
        (vec!["*", "!d", "d/e"], vec!["/d/ 755", "/d/b 2 640"]),
    ] {
        let tree = Filtered::new(DirectoryTree::open(scratch.path()).unwrap(), Matcher::new(&patterns).unwrap());
        assert_eq!(everything(&tree), expected, "{patterns:?}");
        let hidden = tree.stat(&path("d/e/c.txt")).unwrap().is_none();
        assert_eq!(hidden, !expected.iter().any(|line| line.contains("c.txt")), "{patterns:?}");
    }
}

#[test]
fn an_archive_is_read_like_a_directory() {
    let mut writer = Writer::new(Vec::new());
    let mut add = |name: &str, kind: EntryKind, data: &str| {
        let path = EntryPath::parse(name.as_bytes(), &Limits::default()).unwrap();
        let permissions = match kind {
            EntryKind::File { .. } => 0o640,
            EntryKind::Symlink { .. } => 0o777,
            _ => 0o755,
        };
        writer.append(&Entry { permissions, uid: 7, ..Entry::new(path, kind) }, &mut data.as_bytes()).unwrap();
    };
    let file = || EntryKind::File { size: 1, extents: Vec::new() };
    add("a", file(), "0");
    add("a", file(), "1");
    add("d/e/c.txt", file(), "3");
    add("d/e/k", file(), "4");
    add("d/b", file(), "2");
    add("hard", EntryKind::HardLink { target: EntryPath::parse(b"a", &Limits::default()).unwrap() }, "");
    add("in", EntryKind::Symlink { target: b"d".to_vec() }, "");
    add("out", EntryKind::Symlink { target: b"/etc".to_vec() }, "");
    let bytes = writer.finish().unwrap();
    let opened = open_archive("x", Box::new(bytes.as_slice()), tempfile::tempfile().unwrap()).unwrap().unwrap();
    let tree = ArchiveTree::new(opened).unwrap();
    assert_eq!(everything(&tree), WHOLE);
    assert_eq!(tree.stat(&path("a")).unwrap().unwrap().uid, 0);
    assert_eq!(tree.stat(&path("a")).unwrap().unwrap().identity, tree.stat(&path("hard")).unwrap().unwrap().identity);
}
