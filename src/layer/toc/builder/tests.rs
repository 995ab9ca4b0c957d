//! The rules for one layer's archive, each as: entries in their order, and the tree that comes of them.
//!
//! Entries are written one a line: `path/` a directory, `path` a file, `path -> target` a symlink, `path => target` a hard
//! link. Trees are written as `path kind`, kinds being `d` directory, `f` file, `l` symlink, `h` hard link below, `w`
//! whiteout; followed by `+` for opaque (directories only), `?` for implied, `-` for nothing but whiteouts, and `#n` for more
//! than one name.

use super::super::{BuildError, Builder, TocLayer};
use crate::archive::tar::{Entry, EntryKind, EntryPath, Extent, Limits};
use crate::layer::toc::testing;
use crate::model::{DeviceNumber, FileKind, Timestamp};
use crate::union::{self, Layer, LocalIno};

pub(super) fn parse(line: &str) -> Entry {
    let path = |text: &str| EntryPath::parse(text.as_bytes(), &Limits::default()).unwrap();
    if let Some((name, target)) = line.split_once(" -> ") {
        return Entry::new(path(name), EntryKind::Symlink { target: target.into() });
    }
    if let Some((name, target)) = line.split_once(" => ") {
        return Entry::new(path(name), EntryKind::HardLink { target: path(target) });
    }
    let kind =
        if line.ends_with('/') { EntryKind::Directory } else { EntryKind::File { size: 0, extents: Vec::new() } };
    Entry::new(path(line), kind)
}

fn entries(lines: &[&str]) -> Vec<Entry> {
    lines
        .iter()
        .enumerate()
        .map(|(at, line)| {
            let mut entry = parse(line);
            // Tells the objects of equal names apart.
            entry.uid = at as u32;
            entry
        })
        .collect()
}

fn layer(lines: &[&str]) -> TocLayer {
    testing::layer_of(&entries(lines)).unwrap()
}

fn describe(layer: &TocLayer, dir: LocalIno, path: &str, lines: &mut Vec<String>) {
    let mut below = Vec::new();
    layer
        .entries(dir, &mut |entry| {
            let name = format!("{path}{}", entry.name.escape_ascii());
            assert_eq!(layer.lookup(dir, &entry.name).unwrap(), Some(entry.kind), "{name}");
            let text = match entry.kind {
                union::EntryKind::Whiteout => "w".to_owned(),
                union::EntryKind::LinkBelow { ino } => {
                    format!("h {}", layer.link_target(ino).unwrap().escape_ascii())
                }
                union::EntryKind::Node { ino, kind, opaque, implied } => {
                    let meta = layer.meta(ino).unwrap();
                    assert_eq!(meta.kind, kind, "{name}");
                    match kind {
                        FileKind::Directory => {
                            below.push((ino, format!("{name}/")));
                            let hollow = layer.only_whiteouts(ino).unwrap();
                            let mark = |set, text: &'static str| if set { text } else { "" };
                            format!("d{}{}{}", mark(opaque, "+"), mark(implied, "?"), mark(hollow, "-"))
                        }
                        FileKind::Symlink => format!("l {}", layer.read_link(ino).unwrap().escape_ascii()),
                        _ if meta.nlink > 1 => format!("f#{}", meta.nlink),
                        _ => "f".to_owned(),
                    }
                }
            };
            lines.push(format!("{name} {text}"));
        })
        .unwrap();
    for (ino, path) in below {
        describe(layer, ino, &path, lines);
    }
}

pub(super) fn tree(layer: &TocLayer) -> Vec<String> {
    let mut lines = Vec::new();
    describe(layer, layer.root(), "", &mut lines);
    lines
}

#[track_caller]
fn check(lines: &[&str], expected: &[&str]) {
    let layer = layer(lines);
    layer.verify(&testing::DIFF_ID).unwrap();
    assert_eq!(tree(&layer), expected, "of {lines:?}");
}

fn find(layer: &TocLayer, path: &str) -> LocalIno {
    path.split('/').fold(layer.root(), |dir, name| match layer.lookup(dir, name.as_bytes()).unwrap() {
        Some(union::EntryKind::Node { ino, .. }) => ino,
        other => panic!("{name} of {path}: {other:?}"),
    })
}

#[track_caller]
fn refused(lines: &[&str], expected: &str) {
    let error = testing::layer_of(&entries(lines)).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.contains(lines.last().unwrap().split(' ').next().unwrap()), "{error} names no entry");
}

#[test]
fn whiteouts_do_not_depend_on_the_order() {
    check(&["foo", ".wh.foo"], &["foo f"]);
    check(&[".wh.foo", "foo"], &["foo f"]);
    check(&[".wh.foo"], &["foo w"]);
    check(&["d/", ".wh.d", "d/x"], &["d d+", "d/x f"]);
    check(&[".wh.d", "d/", "d/x"], &["d d+", "d/x f"]);
    check(&["d/", "d/x", "d/.wh..wh..opq"], &["d d+", "d/x f"]);
    check(&["d/.wh..wh..opq", "d/", "d/x"], &["d d+", "d/x f"]);
    check(&["d/.wh.x", "d/", "d/y"], &["d d", "d/x w", "d/y f"]);
}

#[test]
fn links_below_are_told() {
    let names = |lines: &[&str]| {
        let (layer, mut names) = (layer(lines), Vec::new());
        layer.links_below(&mut |path| names.push(String::from_utf8(path.to_vec()).unwrap())).unwrap();
        names.sort();
        (layer.has_links_below(), names)
    };
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&["a", "d/", "d/b"]), (false, vec![]));
    assert_eq!(names(&["a", "c", "d/e/b => a", ".wh.x"]), (false, vec![]));
    assert_eq!(names(&["a", "d/b => below", "c => below"]), (true, owned(&["c", "d/b"])));
}

#[test]
fn the_root_may_be_opaque_and_may_be_named() {
    assert!(layer(&[".wh..wh..opq", "a"]).root_is_opaque().unwrap());
    let plain = layer(&["a"]);
    assert!(!plain.root_is_opaque().unwrap() && plain.root_is_implied());
    let meta = plain.meta(plain.root()).unwrap();
    assert_eq!((meta.permissions, meta.uid, meta.kind), (0o755, 0, FileKind::Directory));
    let named = layer(&["a", "./"]);
    assert!(!named.root_is_implied());
    assert_eq!(named.meta(named.root()).unwrap().uid, 1);
    assert_eq!(tree(&named), ["a f"]);
    refused(&["./ -> x"], "root");
}

#[test]
fn marks_that_make_no_sense_and_those_of_aufs() {
    refused(&["d/.wh."], "whiteout of nothing");
    refused(&[".wh.."], "whiteout of nothing");
    refused(&["d/.wh..."], "whiteout of nothing");
    refused(&[".wh.d/x"], "no directory");
    refused(&["d/.wh..wh..opq/x"], "no directory");
    check(&[".wh..wh.aufs", ".wh..wh.orph/", ".wh..wh.plnk/", ".wh..wh.plnk/1.2", "a"], &["a f"]);
    check(&[".wh..wh.plnk/1.2", "a => .wh..wh.plnk/1.2", "b => .wh..wh.plnk/1.2"], &["a f#2", "b f#2"]);
    check(&["d/.wh..wh.plnk/.wh.x", "d/.wh..wh.plnk/.wh..wh..opq"], &["d d?-"]);
}

#[test]
fn whiteouts_below_what_is_no_directory_are_ignored() {
    check(&["d", "d/.wh.x"], &["d f"]);
    check(&["d", "d/.wh..wh..opq"], &["d f"]);
    check(&["d", "d/e/.wh.x"], &["d f"]);
    check(&[".wh.d", "d/.wh.x"], &["d w"]);
    check(&["d/e/.wh.x", ".wh.d"], &["d w"]);
    refused(&["d", "d/x"], "not a directory");
}

#[test]
fn missing_parents_are_implied() {
    check(&["a/b/c"], &["a d?", "a/b d?", "a/b/c f"]);
    check(&["a/b/c", "a/"], &["a d", "a/b d?", "a/b/c f"]);
    check(&["a/b/.wh.c"], &["a d?-", "a/b d?-", "a/b/c w"]);
    check(&["a/b/.wh.c", "a/d"], &["a d?", "a/b d?-", "a/d f", "a/b/c w"]);
    check(&["a/.wh..wh..opq"], &["a d+?-"]);
    // A whiteout beside it: nothing of the layers below is left to inherit from.
    check(&["a/b", ".wh.a"], &["a d+", "a/b f"]);
    let layer = layer(&["a/b/c", "x", "d/e"]);
    let mut implied = Vec::new();
    layer.implied_directories(&mut |path, ino| implied.push((path.escape_ascii().to_string(), ino))).unwrap();
    let expected = ["a", "a/b", "d"].map(|path| (path.to_owned(), find(&layer, path)));
    implied.sort();
    assert_eq!(implied, expected);
    let meta = layer.meta(find(&layer, "a")).unwrap();
    assert_eq!((meta.permissions, meta.uid, meta.mtime), (0o755, 0, Timestamp::default()));
}

#[test]
fn the_last_of_a_name_wins() {
    let layer = layer(&["a", "b", "a"]);
    assert_eq!(layer.meta(find(&layer, "a")).unwrap().uid, 2);
    check(&["a", "a -> b"], &["a l b"]);
    check(&["a -> b", "a"], &["a f"]);
}

#[test]
fn directories_and_files_replace_each_other() {
    check(&["d/", "d/x", "d/e/y", "d"], &["d f"]);
    check(&["d/", "d/x", "d", "d/", "d/y"], &["d d+", "d/y f"]);
    // A file in between has removed what the layers below have.
    check(&["d", "d/"], &["d d+"]);
    check(&["d/", "d/x", "d/", "d/y"], &["d d", "d/x f", "d/y f"]);
    let layer = layer(&["d/", "d/x", "d/"]);
    assert_eq!(layer.meta(find(&layer, "d")).unwrap().uid, 2);
}

#[test]
fn names_lead_through_symlinks_of_the_same_layer() {
    check(&["usr/lib/", "lib -> usr/lib", "lib/x"], &["lib l usr/lib", "usr d?", "usr/lib d", "usr/lib/x f"]);
    check(&["lib -> /usr/lib", "lib/x"], &["lib l /usr/lib", "usr d?", "usr/lib d?", "usr/lib/x f"]);
    check(&["a/up -> ../../../..", "a/up/x"], &["a d?", "x f", "a/up l ../../../.."]);
    check(&["a -> b", "b -> c/./", "c/", "a/x"], &["a l b", "b l c/./", "c d", "c/x f"]);
    check(&["a -> missing/../b", "a/x"], &["a l missing/../b", "b d?", "b/x f"]);
    check(&["lib -> usr/lib", "lib/"], &["lib d+"]);
    check(&["lib -> f", "f", "lib/.wh.x"], &["f f", "lib l f"]);
    check(&["l -> d", "d/x", "l/.wh.x"], &["d d?", "l l d", "d/x f"]);
    refused(&["a -> b", "b -> a", "a/x"], "symlinks");
    refused(&["a -> a/a", "a/x"], "symlinks");
    refused(&["f", "a -> f", "a/x"], "not a directory");
}

#[test]
fn a_symlink_put_later_does_not_move_what_is_there() {
    check(&["lib/x", "lib -> usr/lib", "lib/y"], &["lib l usr/lib", "usr d?", "usr/lib d?", "usr/lib/y f"]);
}

#[test]
fn hard_links_share_their_object() {
    check(&["a", "b => a", "c => b"], &["a f#3", "b f#3", "c f#3"]);
    check(&["a -> x", "b => a"], &["a l x", "b l x"]);
    check(&["a", "b => a", "a"], &["a f", "b f"]);
    let layer = layer(&["a", "b => a", "a"]);
    assert_eq!(layer.meta(find(&layer, "b")).unwrap().uid, 0, "the other name keeps the old object");
    check(&["d/", "d/a", "b => d/a", "d"], &["b f", "d f"]);
    check(&["real/a", "link -> real", "b => link/a"], &["b f#2", "link l real", "real d?", "real/a f#2"]);
    refused(&["d/", "b => d"], "directory");
}

#[test]
fn hard_links_forward_and_below() {
    check(&["b => a", "a"], &["a f#2", "b f#2"]);
    check(&["c => b", "b => a", "a"], &["a f#3", "b f#3", "c f#3"]);
    check(&["b => a"], &["b h a"]);
    check(&["b => usr/bin/a", "c => b"], &["b h usr/bin/a", "c h usr/bin/a"]);
    check(&["t -> /s", "b => t/g"], &["b h s/g", "t l /s"]);
    check(&["x/t -> ../s", "s/", "b => x/t/d/g"], &["b h s/d/g", "s d", "x d?", "x/t l ../s"]);
    check(&["a => a"], &["a h a"]);
    check(&["a => b", "b => a"], &["a h b", "b h b"]);
    check(&["a => b", "b => c", "c => a"], &["a h b", "b h b", "c h b"]);
    check(&["l => x", "m => l", "l", "x"], &["l f", "m f#2", "x f#2"]);
    check(&[".wh.a", "b => a"], &["a w", "b h a"]);
    refused(&["d/x", "b => d"], "directory");
    refused(&["b => a", "b/x"], "not a directory");
}

#[test]
fn a_hard_link_to_a_later_directory_is_refused() {
    let error = testing::layer_of(&entries(&["x/b => d", "d/"])).unwrap_err();
    assert_eq!(error.to_string(), "entry \"x/b\": a hard link to a directory");
}

#[test]
fn regression_long_chains_of_forward_links_are_tied_in_linear_time() {
    let lines: Vec<String> = (0..20_000).map(|at| format!("n{at} => n{}", at + 1)).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.push("n20000");
    let layer = layer(&lines);
    assert_eq!(layer.meta(find(&layer, "n0")).unwrap().nlink, 20_001);
}

fn with(line: &str, change: impl Fn(&mut Entry)) -> Entry {
    let mut entry = parse(line);
    change(&mut entry);
    entry
}

#[test]
fn metadata_come_out_as_they_went_in() {
    let mtime = Timestamp { seconds: -7, nanoseconds: 5 };
    let atime = Timestamp { seconds: 1 << 40, nanoseconds: 999_999_999 };
    let device = DeviceNumber { major: 259, minor: 1 << 20 };
    let layer = testing::layer_of(&[
        with("f", |entry| {
            entry.permissions = 0o6755;
            entry.uid = u32::MAX;
            entry.gid = 1 << 30;
            entry.mtime = mtime;
            entry.atime = Some(atime);
        }),
        with("c", |entry| entry.kind = EntryKind::CharDevice { device }),
        with("b", |entry| entry.kind = EntryKind::BlockDevice { device: DeviceNumber { major: 8, minor: 1 } }),
        with("p", |entry| entry.kind = EntryKind::Fifo),
        with("l -> target", |_| {}),
    ])
    .unwrap();
    let meta = |name| layer.meta(find(&layer, name)).unwrap();
    let file = meta("f");
    assert_eq!((file.permissions, file.uid, file.gid, file.nlink), (0o6755, u32::MAX, 1 << 30, 1));
    assert_eq!((file.mtime, file.atime, file.ctime), (mtime, atime, mtime));
    assert_eq!((meta("c").kind, meta("c").device), (FileKind::CharDevice, device));
    assert_eq!((meta("b").kind, meta("b").device), (FileKind::BlockDevice, DeviceNumber { major: 8, minor: 1 }));
    assert_eq!((meta("p").kind, meta("p").device), (FileKind::Fifo, DeviceNumber::default()));
    assert_eq!((meta("l").size, meta("l").permissions), (6, 0o777));
    assert!(layer.read_link(find(&layer, "f")).is_err());
    assert!(layer.entries(find(&layer, "f"), &mut |_| {}).is_err());
    assert!(layer.meta(LocalIno(0)).is_err());
    assert!(layer.meta(LocalIno(layer.inode_count() + 1)).is_err());
}

#[test]
fn xattrs_but_those_of_overlay() {
    let xattr = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    let set = vec![
        xattr("user.b", b""),
        xattr("security.capability", &[1, 0, 0, 2]),
        xattr("trusted.overlay.opaque", b"y"),
        xattr("user.overlay.whiteout", b"y"),
    ];
    let both = [with("f", |entry| entry.xattrs.clone_from(&set)), with("g", |entry| entry.xattrs.clone_from(&set))];
    let layer = testing::layer_of(&both).unwrap();
    for name in ["f", "g"] {
        let ino = find(&layer, name);
        let mut names = Vec::new();
        layer.xattr_names(ino, &mut |name| names.push(name.to_vec())).unwrap();
        assert_eq!(names, [&b"security.capability"[..], b"user.b"]);
        assert_eq!(layer.xattr(ino, b"security.capability").unwrap().as_deref(), Some(&[1, 0, 0, 2][..]));
        assert_eq!(layer.xattr(ino, b"user.b").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(layer.xattr(ino, b"user.overlay.whiteout").unwrap(), None);
        assert_eq!(layer.xattr(ino, b"user").unwrap(), None);
    }
    assert_eq!(layer.xattr(layer.root(), b"user.b").unwrap(), None);
}

#[test]
fn data_of_plain_and_sparse_files() {
    let extent = |file_offset, archive_offset, length| Extent { file_offset, archive_offset, length };
    let file = |size, extents: &[Extent]| EntryKind::File { size, extents: extents.to_vec() };
    let layer = testing::layer_of(&[
        with("plain", |entry| entry.kind = file(100, &[extent(0, 1000, 100)])),
        with("holes", |entry| entry.kind = file(1000, &[extent(10, 50, 20), extent(30, 5, 5), extent(500, 7, 100)])),
        with("all-hole", |entry| entry.kind = file(600, &[])),
        with("shifted", |entry| entry.kind = file(100, &[extent(50, 0, 50)])),
        with("empty", |_| {}),
    ])
    .unwrap();
    let byte = |at: u64| testing::tar_byte(at);
    let expected = |size: u64, extents: &[Extent]| -> Vec<u8> {
        let data = |at: u64| {
            let extent =
                extents.iter().find(|extent| at >= extent.file_offset && at < extent.file_offset + extent.length);
            extent.map_or(0, |extent| byte(extent.archive_offset + at - extent.file_offset))
        };
        (0..size).map(data).collect()
    };
    let holes = [extent(10, 50, 20), extent(30, 5, 5), extent(500, 7, 100)];
    for (name, content) in [
        ("plain", expected(100, &[extent(0, 1000, 100)])),
        ("holes", expected(1000, &holes)),
        ("all-hole", vec![0; 600]),
        ("shifted", expected(100, &[extent(50, 0, 50)])),
        ("empty", vec![]),
    ] {
        let ino = find(&layer, name);
        assert_eq!(layer.meta(ino).unwrap().size, content.len() as u64);
        for start in (0..content.len() + 2).step_by(7) {
            for length in [0, 1, 3, 40, 2000] {
                let mut buffer = vec![0xee; length];
                let count = layer.read_at(ino, start as u64, &mut buffer).unwrap();
                let end = (start + length).min(content.len());
                assert_eq!(&buffer[..count], content.get(start..end).unwrap_or_default(), "{name} {start} {length}");
            }
        }
        assert_eq!(layer.read_at(ino, u64::MAX, &mut [0; 4]).unwrap(), 0);
    }
    let seek = |name, offset, hole| layer.seek(find(&layer, name), offset, hole).unwrap();
    for (name, offset, data, hole) in [
        ("plain", 0, Some(0), Some(100)),
        ("plain", 99, Some(99), Some(100)),
        ("plain", 100, None, None),
        ("holes", 0, Some(10), Some(0)),
        ("holes", 12, Some(12), Some(35)),
        ("holes", 40, Some(500), Some(40)),
        ("holes", 599, Some(599), Some(600)),
        ("holes", 600, None, Some(600)),
        ("all-hole", 5, None, Some(5)),
        ("shifted", 60, Some(60), Some(100)),
        ("empty", 0, None, None),
    ] {
        assert_eq!((seek(name, offset, false), seek(name, offset, true)), (data, hole), "{name} {offset}");
    }
    assert_eq!(layer.meta(find(&layer, "holes")).unwrap().blocks, 1);
    assert!(layer.backing_file(find(&layer, "holes")).unwrap().is_none());
    assert_eq!(layer.backing_file(find(&layer, "plain")).unwrap().unwrap().1, 1000);
}

#[test]
fn data_beyond_the_tar_are_refused() {
    let beyond = Extent { file_offset: 0, archive_offset: testing::TAR_SIZE - 1, length: 2 };
    let entry = with("f", |entry| entry.kind = EntryKind::File { size: 2, extents: vec![beyond] });
    assert!(matches!(testing::layer_of(&[entry]), Err(BuildError::BeyondTar)));
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    let lines = ["b/x", "a -> b", "a/y", ".wh.z", "l => b/x", "b/.wh..wh..opq", "m => n"];
    let build = || testing::toc_of(&entries(&lines)).unwrap();
    assert_eq!(build(), build());
}

#[test]
fn limits_of_the_builder() {
    let mut builder = Builder::new(Limits { entries: 1, ..Limits::default() });
    builder.add(&parse("a")).unwrap();
    assert!(matches!(builder.add(&parse("b")), Err(BuildError::TooLarge(_))));
    let mut builder = Builder::new(Limits { entries: 5, ..Limits::default() });
    assert!(matches!(builder.add(&parse("1/2/3/4/5/6/7")), Err(BuildError::TooLarge("names"))));
    let path = EntryPath::parse(&[b'n'; 256], &Limits { name: 300, ..Limits::default() }).unwrap();
    let entry = Entry::new(path, EntryKind::Directory);
    let error = Builder::new(Limits::default()).add(&entry).unwrap_err();
    assert!(error.to_string().contains("longer than 255"), "{error}");
}

#[test]
fn deep_trees_need_no_stack() {
    let path = "d/".repeat(16_000);
    let layer = layer(&[path.trim_end_matches('/')]);
    assert_eq!(layer.inode_count(), 16_001);
    layer.verify(&testing::DIFF_ID).unwrap();
    let deepest = LocalIno(layer.inode_count() - 1);
    assert_eq!(layer.directory_path(deepest).unwrap().len(), 2 * 15_999 - 1);
}

#[test]
fn a_walk_over_all_objects_is_in_tree_order() {
    let layer = layer(&["b/", "b/c/", "b/c/d", "a/", "a/e", "f => b/c/d", "below => gone"]);
    let kinds: Vec<_> = layer.inodes().map(|item| item.unwrap().1.kind.is_directory()).collect();
    // Root; a, b, f (below is none of this layer's objects); a/e; b/c.
    assert_eq!(kinds, [true, true, true, false, false, true]);
}
