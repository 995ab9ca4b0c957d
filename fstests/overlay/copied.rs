//! Uppers that other programs changed while nothing was mounted: what is written down on an object was copied or moved with it.

use super::{Overlay, ROOT, ino};
use crate::support::Scene;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

/// Changes the bare upper.
fn offline(overlay: &Overlay<'_>, script: &str) {
    overlay.unmount();
    overlay.scene.sh(script).in_dir(overlay.scene.path("upper")).ok();
    overlay.mount();
}

fn text(path: impl AsRef<Path>) -> String {
    String::from_utf8(fs::read(path).expect("a file")).expect("text")
}

fn append(path: impl AsRef<Path>, text: &str) {
    let file = fs::OpenOptions::new().append(true).open(path);
    std::io::Write::write_all(&mut file.expect("open"), text.as_bytes()).expect("write");
}

fn names(path: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// All of `paths` have different numbers, and directories list them under these.
fn differ(overlay: &Overlay<'_>, paths: &[&str]) {
    let mut numbers: Vec<u64> = paths.iter().map(|path| ino(overlay.path(path))).collect();
    for (path, number) in paths.iter().zip(&numbers) {
        let path = overlay.path(path);
        let listed = fs::read_dir(path.parent().expect("a parent")).expect("a directory");
        let listed =
            listed.map(|entry| entry.expect("an entry")).find(|entry| Some(&*entry.file_name()) == path.file_name());
        assert_eq!(listed.expect("the entry").ino(), *number, "{}", path.display());
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), paths.len(), "{paths:?}");
}

#[test]
fn regression_a_copied_directory_of_the_upper_is_another_one() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["dir d\nfile d/f =low"], "");
    append(overlay.path("d/f"), "x");
    offline(&overlay, "cp -a d e");
    fs::write(overlay.path("e/f"), "E").expect("write");
    assert_eq!((text(overlay.path("d/f")), text(overlay.path("e/f"))), ("lowx".into(), "E".into()));
    differ(&overlay, &["d", "e", "d/f", "e/f"]);
    append(overlay.path("d/f"), "y");
    fs::write(overlay.path("e/new"), "new").expect("write");
    overlay.unmount();
    assert_eq!((text(scene.path("upper/d/f")), text(scene.path("upper/e/f"))), ("lowxy".into(), "E".into()));
    assert_eq!(
        (names(scene.path("upper/d")), names(scene.path("upper/e"))),
        (vec!["f".into()], vec!["f".into(), "new".into()])
    );
}

#[test]
fn regression_a_directory_moved_in_the_upper_is_not_the_lower_one() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["dir d\nfile d/f =low"], "");
    fs::write(overlay.path("d/x"), "x").expect("write");
    offline(&overlay, "mv d e");
    differ(&overlay, &["d", "e"]);
    fs::write(overlay.path("e/n"), "n").expect("write");
    assert_eq!((names(overlay.path("d")), names(overlay.path("e"))), (vec!["f".into()], vec!["n".into(), "x".into()]));
    fs::write(overlay.path("d/m"), "m").expect("write");
    overlay.unmount();
    assert_eq!(
        (names(scene.path("upper/d")), names(scene.path("upper/e"))),
        (vec!["m".into()], vec!["n".into(), "x".into()])
    );
}

#[test]
fn regression_a_copied_file_of_the_upper_has_its_own_content() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["file f =low\nfile a =a\nhard b =>a"], "");
    append(overlay.path("f"), "x");
    append(overlay.path("a"), "x");
    for order in [["g", "f"], ["f", "g"]] {
        offline(&overlay, "rm -f g c; cp -a f g; echo other >g; cp -a a c; echo third >c; ln -f f h");
        for name in order {
            assert!(overlay.path(name).exists());
        }
        assert_eq!((text(overlay.path("g")), text(overlay.path("c"))), ("other\n".into(), "third\n".into()));
        differ(&overlay, &["f", "g", "a", "c"]);
        assert_eq!((ino(overlay.path("h")), ino(overlay.path("b"))), (ino(overlay.path("f")), ino(overlay.path("a"))));
        fs::write(overlay.path("f"), "W").expect("write");
        fs::write(overlay.path("b"), "B").expect("write");
        assert_eq!((text(scene.path("upper/g")), text(scene.path("upper/c"))), ("other\n".into(), "third\n".into()));
        // One is removed while it is open; the other stays what it is.
        let held = fs::File::open(overlay.path("f")).expect("open");
        fs::remove_file(overlay.path("g")).expect("remove");
        drop(held);
        assert_eq!((text(overlay.path("h")), text(overlay.path("a"))), ("W".into(), "B".into()));
    }
    overlay.unmount();
    assert_eq!((text(scene.path("upper/f")), text(scene.path("upper/h"))), ("W".into(), "W".into()));
}

/// The lower file is seen again, and the moved one says its number.
#[test]
fn regression_a_file_moved_in_the_upper_is_not_the_lower_one() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["file f =low\ndir d\nfile d/z =z"], "");
    append(overlay.path("f"), "x");
    append(overlay.path("d/z"), "x");
    offline(&overlay, "mv f d/g");
    // The lower file was listed, and not looked up, before the moved one was met.
    assert_eq!(names(&overlay.at), ["d", "f"]);
    assert_eq!(text(overlay.path("d/g")), "lowx");
    assert_eq!(text(overlay.path("f")), "low");
    differ(&overlay, &["f", "d/g", "d/z"]);
    fs::write(overlay.path("f"), "F").expect("write");
    append(overlay.path("d/g"), "y");
    for _ in 0..2 {
        assert_eq!((text(overlay.path("f")), text(overlay.path("d/g"))), ("F".into(), "lowxy".into()));
        differ(&overlay, &["f", "d/g", "d/z"]);
        overlay.remount();
    }
    overlay.unmount();
    assert_eq!((text(scene.path("upper/f")), text(scene.path("upper/d/g"))), ("F".into(), "lowxy".into()));
}

#[test]
fn regression_two_directories_redirected_to_one_are_two() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let layer = "dir d\nfile d/low =low\nfile d/other =other\ndir d/s\nfile d/s/deep =deep";
    let overlay = Overlay::new(&scene, &[layer], ",redirect_dir=on");
    fs::rename(overlay.path("d"), overlay.path("r1")).expect("rename");
    fs::write(overlay.path("r1/one"), "one").expect("write");
    offline(&overlay, "cp -a r1 r2");
    fs::write(overlay.path("r2/NEW"), "new").expect("write");
    append(overlay.path("r2/low"), "2");
    append(overlay.path("r1/other"), "1");
    append(overlay.path("r2/s/deep"), "2");
    fs::rename(overlay.path("r2/s"), overlay.path("moved")).expect("rename");
    for _ in 0..2 {
        let all = ["r1/low", "r2/low", "r1/other", "r2/other", "r1/s/deep", "moved/deep"];
        let expected = ["low", "low2", "other1", "other", "deep", "deep2"];
        assert_eq!(all.map(|path| text(overlay.path(path))), expected);
        differ(&overlay, &all);
        differ(&overlay, &["r1", "r2", "r1/s", "moved"]);
        assert_eq!(names(overlay.path("r1")), ["low", "one", "other", "s"]);
        assert_eq!(names(overlay.path("r2")), ["NEW", "low", "one", "other"]);
        overlay.remount();
    }
    overlay.unmount();
    assert!(scene.path("upper/r2/NEW").exists() && !scene.path("upper/r1/NEW").exists());
    assert!(!scene.path("upper/r1/low").exists() && !scene.path("upper/r2/other").exists());
}
