//! The filesystem over layers in memory.

use super::*;
use crate::model::Timestamp;
use crate::union::{Follow, Layer, MemLayer};
use std::ops::ControlFlow;
use std::sync::Arc;

fn layerfs(layers: &[&str]) -> LayerFs {
    let parse = |(at, text): (usize, &&str)| -> Arc<dyn Layer> {
        Arc::new(MemLayer::parse(&format!("layer {at}"), text).expect("a layer"))
    };
    let layers = layers.iter().enumerate().map(parse).collect();
    LayerFs::new(Stack::new(layers, None, Follow::default()).expect("a stack"))
}

fn walk(fs: &LayerFs, path: &str) -> Ino {
    path.split('/').fold(Ino::ROOT, |ino, name| fs.lookup(ino, name.as_bytes()).unwrap().expect(name).ino)
}

fn content(fs: &LayerFs, path: &str) -> String {
    let mut buffer = vec![0; 100];
    let length = fs.read(walk(fs, path), 0, &mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// The names of a directory in steps of `step` entries, with the offset behind each.
fn names(fs: &LayerFs, ino: Ino, step: usize) -> Vec<String> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let mut taken = 0;
        fs.readdir(ino, offset, &mut |entry| {
            if taken == step {
                return ControlFlow::Break(());
            }
            taken += 1;
            offset = entry.next;
            all.push(String::from_utf8(entry.name.to_vec()).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
        if taken == 0 {
            return all;
        }
    }
}

#[test]
fn numbers_are_the_same_in_every_mount() {
    let layers = ["dir d\nfile d/a one\nfile d/b two", "file d/b three\nwhiteout x"];
    let (first, second) = (layerfs(&layers), layerfs(&layers));
    for path in ["d", "d/a", "d/b"] {
        assert_eq!(walk(&first, path), walk(&second, path));
    }
    assert_eq!(content(&first, "d/a"), "one");
    assert_eq!(content(&first, "d/b"), "three");
    assert_eq!(walk(&first, "d/b").source().unwrap().layer.as_lower(), Some(1));
}

#[test]
fn listings_can_be_taken_up_at_any_offset() {
    let fs = layerfs(&["file a 1\nfile b 1\nfile c 1\nfile d 1", "whiteout b\nfile e 1"]);
    for step in [1, 2, 3, 100] {
        assert_eq!(names(&fs, Ino::ROOT, step), [".", "..", "a", "c", "d", "e"], "step {step}");
    }
}

#[test]
fn the_listing_with_attributes_makes_directories_known() {
    let fs = layerfs(&["file d/x 1\nsymlink s d", "dir d 700\nfile d/y 2"]);
    let mut directory = None;
    fs.readdirplus(Ino::ROOT, 0, &mut |entry, attr| {
        assert_eq!(entry.ino, attr.ino);
        assert_eq!(entry.kind, attr.meta.kind);
        if entry.name == b"d" {
            directory = Some((entry.ino, attr.meta.permissions));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let (ino, permissions) = directory.unwrap();
    assert_eq!(permissions, 0o700);
    assert_eq!(names(&fs, ino, 100), [".", "..", "x", "y"]);
}

#[test]
fn dot_dot_is_the_parent() {
    let fs = layerfs(&["file a/b/c 1"]);
    let mut dots = Vec::new();
    fs.readdir(walk(&fs, "a/b"), 0, &mut |entry| {
        dots.push(entry.ino);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(dots, [walk(&fs, "a/b"), walk(&fs, "a"), walk(&fs, "a/b/c")]);
}

#[test]
fn metadata_and_data_of_a_metadata_only_copy() {
    let fs = layerfs(&["file a 644 one\nxattr a user.x lower", "file a 600 zero\nmetacopy a\nxattr a user.x upper"]);
    let ino = walk(&fs, "a");
    assert_eq!(fs.getattr(ino).unwrap().meta.permissions, 0o600);
    assert_eq!(content(&fs, "a"), "one");
    assert_eq!(&*fs.getxattr(ino, b"user.x").unwrap(), b"upper");
}

#[test]
fn xattrs_and_their_absence() {
    let fs = layerfs(&["file a 1\nxattr a user.x 1\nxattr a user.y 2\nxattr a trusted.z 3"]);
    let ino = walk(&fs, "a");
    assert_eq!(fs.listxattr(ino, false).unwrap(), b"trusted.z\0user.x\0user.y\0");
    assert_eq!(fs.listxattr(ino, true).unwrap(), b"user.x\0user.y\0");
    for unknown in [&b"system.x"[..], b"x", b"bogus.x"] {
        assert!(matches!(fs.getxattr(ino, unknown), Err(FsError::NotSupported)));
    }
    assert!(matches!(fs.getxattr(ino, b"user.z"), Err(FsError::NoXattr)));
    assert_eq!(fs.listxattr(Ino::ROOT, false).unwrap(), b"");
}

#[test]
fn wrong_uses_are_errors() {
    let fs = layerfs(&["file a 1\ndir d"]);
    assert!(fs.lookup(Ino::ROOT, b"gone").unwrap().is_none());
    assert!(matches!(fs.lookup(Ino::ROOT, &[b'x'; 256]), Err(FsError::NameTooLong)));
    assert!(matches!(fs.lookup(Ino(77), b"a"), Err(FsError::Stale(77))));
    assert!(matches!(fs.getattr(Ino(77)), Err(FsError::Stale(77))));
    assert!(fs.getattr(Ino(0x7000_0000_0000_0001)).is_err());
    assert!(matches!(fs.read(walk(&fs, "d"), 0, &mut [0]), Err(FsError::IsDirectory)));
    assert!(matches!(fs.readlink(Ino::ROOT), Err(FsError::WrongKind)));
    assert!(matches!(fs.seek(walk(&fs, "a"), 5, false), Err(FsError::BeyondEnd)));
    assert_eq!(fs.seek(walk(&fs, "a"), 0, true).unwrap(), 1);
}

/// A writable filesystem over the directories `lower` and `upper` in a fresh one.
fn writable_over(base: &std::path::Path) -> LayerFs {
    use crate::layer::dir::{Descriptors, DirLayer, DirOptions, Owners, XattrPrefix};
    use crate::layer::upper::{Ownership, Upper, UpperOptions};
    let descriptors = Arc::new(Descriptors::for_this_process(1));
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| base.join(name));
    for dir in [&upper, &work] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let prefix = XattrPrefix::User;
    let lower = DirLayer::open(&lower, DirOptions::new(prefix), &descriptors).expect("the lower");
    let options = UpperOptions { prefix, ownership: Ownership::Override, owners: Owners::default(), volatile: true };
    let upper = Upper::open(&upper, &work, options, &descriptors).expect("the upper");
    let settings = Settings { redirect_dir: true, metacopy: true };
    LayerFs::new_writable(vec![Arc::new(lower)], upper, settings, Follow::default()).expect("a stack")
}

#[test]
fn what_the_kernel_forgot_is_found_again() {
    use crate::layer::upper::Changes;
    let base = tempfile::tempdir().unwrap();
    for dir in ["lower/a", "lower/b"] {
        std::fs::create_dir_all(base.path().join(dir)).unwrap();
    }
    std::fs::write(base.path().join("lower/a/f"), "data").unwrap();
    std::fs::hard_link(base.path().join("lower/a/f"), base.path().join("lower/b/linked")).unwrap();
    std::fs::write(base.path().join("lower/a/moved"), "other").unwrap();
    let fs = writable_over(base.path());
    let known = |path: &str| {
        (path.split('/').scan(Ino::ROOT, |at, name| {
            *at = fs.lookup(*at, name.as_bytes()).unwrap().expect(name).ino;
            Some(*at)
        }))
        .collect::<Vec<_>>()
    };
    let forget = |inodes: &[Ino]| inodes.iter().rev().for_each(|ino| fs.forget(*ino, 1));
    // Another name of a hard link, in a directory that stays listed.
    let (first, b) = (known("a/f"), known("b"));
    names(&fs, b[0], 10);
    forget(&first);
    assert_eq!(content(&fs, "b/linked"), "data");
    // A copy of metadata that was moved away from where its data are.
    let moved = known("a/moved");
    let changes = Changes { permissions: Some(0o600), ..Changes::default() };
    fs.setattr(moved[1], &changes, None, None).unwrap();
    fs.rename(moved[0], b"moved", b[0], b"here", RenameMode::Replace).unwrap();
    forget(&moved);
    let twice = known("b/here");
    forget(&twice);
    // Once more for each time it was known above.
    forget(&[b[0], b[0], b[0]]);
    assert_eq!(content(&fs, "b/here"), "other");
}

#[test]
fn a_file_whose_place_was_dropped_while_it_was_looked_up_is_found() {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(base.path().join("lower/d")).unwrap();
    std::fs::write(base.path().join("lower/d/f"), "data").unwrap();
    let fs = writable_over(base.path());
    let directory = fs.lookup(Ino::ROOT, b"d").unwrap().unwrap().ino;
    names(&fs, directory, 10);
    let (file, dir) = (fs.lookup(directory, b"f").unwrap().unwrap().ino, directory.source().unwrap());
    fs.forget(file, 1);
    // As a FORGET of the directory does that began before the directory was looked up again.
    fs.layer(dir).unwrap().forget(file.source().unwrap().ino, dir.ino, b"f");
    assert_eq!(content(&fs, "d/f"), "data");
}

#[test]
fn times_of_writes_are_kept_for_a_kernel_that_keeps_them() {
    use crate::layer::upper::{Changes, SetTime};
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("lower")).unwrap();
    std::fs::write(base.path().join("lower/f"), "data").unwrap();
    let fs = writable_over(base.path());
    let file = walk(&fs, "f");
    let long_ago = Timestamp { seconds: 978_307_200, nanoseconds: 0 };
    let changes = Changes { mtime: Some(SetTime::At(long_ago)), ..Changes::default() };
    let change = |keeps: bool| {
        fs.set_kernel_keeps_times(keeps);
        fs.setattr(file, &changes, None, None).unwrap();
        let written = fs.write(file, 0, b"D", Write { unprivileged: None, cached: true });
        written.and_then(|()| fs.fallocate(file, rustix::fs::FallocateFlags::empty(), (0, 100), None)).unwrap();
        fs.getattr(file).unwrap().meta.mtime
    };
    assert_eq!(change(true), long_ago);
    assert_ne!(change(false), long_ago);
}

#[test]
fn times_that_are_flushed_are_set_unless_they_are_there() {
    use crate::layer::upper::{Changes, SetTime};
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("lower")).unwrap();
    let fs = writable_over(base.path());
    std::fs::write(base.path().join("upper/f"), "data").unwrap();
    let file = walk(&fs, "f");
    let meta = || fs.getattr(file).unwrap().meta;
    let before = meta();
    let changes = |mtime| Changes { mtime: Some(SetTime::At(mtime)), ..Changes::default() };
    let is_there = |mtime, told| fs.changes_nothing(file, &before, &changes(mtime), told);
    let later = Timestamp { seconds: before.ctime.seconds + 1, ..before.ctime };
    assert!(!is_there(before.mtime, Some(before.ctime)), "whoever asks keeps no times");
    fs.set_kernel_keeps_times(true);
    assert!(is_there(before.mtime, Some(before.ctime)));
    assert!(is_there(before.mtime, Some(Timestamp::from_seconds(5))));
    assert!(!is_there(before.mtime, Some(later)), "its status was changed later");
    assert!(!is_there(before.mtime, None), "nobody told when its status was changed");
    assert!(!is_there(later, Some(before.ctime)));
    fs.setattr(file, &changes(later), Some(before.ctime), None).unwrap();
    assert_eq!(meta().mtime, later);
}
