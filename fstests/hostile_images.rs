//! Looking into images that nobody should have made: cycles of links, names that a terminal would obey, a million entries, a lost layer.

use crate::support::{Done, Image, Need, Scene};
use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

/// Neither stream holds anything that a terminal would obey.
#[track_caller]
fn harmless(done: &Done) {
    for text in [done.text(), done.error_text()] {
        let obeyed = |character: char| {
            (character.is_control() && character != '\n') || ('\u{202a}'..='\u{202e}').contains(&character)
        };
        assert!(!text.contains(obeyed), "{}: {text:?}", done.command);
    }
}

#[test]
fn cycles_of_links_end() {
    let Some(scene) = Scene::begin(&[]) else { return };
    Image::new()
        .layer("link a ->b\nlink b ->a\nlink d/self ->.\nlink d/up ->../d/up\nfile d/f =x\nhard x =>y\nhard y =>x\nhard z =>z")
        .layer("link a ->b\nhard v =>w")
        .write_oci(&scene.path("layout"), "cycles:1");
    scene.layerfs(["load", "layout"]).ok();
    scene.layerfs(["cat", "cycles:1:/a"]).output().fails(1, &["no such file"]);
    scene.layerfs(["cat", "cycles:1:/d/up"]).output().fails(1, &["no such file"]);
    assert_eq!(scene.layerfs(["cat", "cycles:1:/d/self/self/self/f"]).ok().text(), "x");
    assert_eq!(scene.layerfs(["ls", "cycles:1:/**/f"]).ok().text(), "/d/f\n");
    assert_eq!(scene.layerfs(["ls", "-R", "--type", "f", "cycles:1"]).ok().text(), "/d/f\n");
    for verb in ["analyze", "ls"] {
        scene.layerfs([verb, "cycles:1"]).ok();
    }
    scene.layerfs(["whence", "cycles:1", "/a"]).ok();
    scene.layerfs(["diff", "--content", "--layers", "0..1", "cycles:1"]).ok();
    scene.layerfs(["cp", "cycles:1:/.", "out"]).ok();
    assert_eq!(std::fs::read(scene.path("out/d/f")).expect("the file"), b"x");
}

#[test]
fn names_that_a_terminal_would_obey_are_escaped_everywhere() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let name = "\\x1b]0;title\\x07\\x1b[31m\\xc2\\x9b2J\\xe2\\x80\\xae\\x0a";
    Image::new()
        .layer(&format!("file {name}/{name} #5000\nfile {name}.pyc =x\nlink link ->{name}\nfile text =a\\x1b[2Jb"))
        .layer(&format!("file {name}/{name} #5000 0755\nfile copy-{name} #5000\nfile text =a\\x1b[3Jb"))
        .config(serde_json::json!({ "Env": ["A=\u{1b}[31m"], "Labels": { "l": "\u{9b}2J\u{202e}" } }))
        .write_oci(&scene.path("layout"), "evil:1");
    scene.layerfs(["load", "layout"]).ok();
    let raw = "\u{1b}]0;title\u{7}\u{1b}[31m\u{9b}2J\u{202e}\n";
    let path = format!("evil:1:/{raw}");
    let successes: [&[&str]; 15] = [
        &["ls", "evil:1"],
        &["ls", "-lR", "evil:1"],
        &["ls", "-R", "--size", "+1k", "evil:1"],
        &["ls", "--format", "json", "evil:1"],
        &["ls", &path],
        &["ls", "evil:1:/*"],
        &["whence", "evil:1", raw],
        &["whence", "--format", "json", "evil:1", raw],
        &["analyze", "evil:1"],
        &["analyze", "--format", "json", "evil:1"],
        &["diff", "--content", "--layers", "0..1", "evil:1"],
        &["diff", "--content", "--format", "json", "--layers", "0..1", "evil:1"],
        &["inspect", "evil:1"],
        &["history", "evil:1"],
        &["cp", "evil:1:/link", "out"],
    ];
    for arguments in successes {
        harmless(&scene.layerfs(arguments).ok());
    }
    let nothing = format!("evil:1:/no{raw}");
    let missing = format!("no{raw}");
    let point = scene.dir("mnt").to_string_lossy().into_owned();
    let failures: [&[&str]; 9] = [
        &["ls", &nothing],
        &["cat", &nothing],
        &["cat", &path],
        &["cp", &nothing, "out"],
        &["whence", "evil:1", &missing],
        &["mount", "evil:1", &missing],
        &["mount", "--pull", "never", &missing, &point],
        &["umount", &missing],
        &["diff", &missing],
    ];
    for arguments in failures {
        harmless(&scene.layerfs(arguments).output().fails(1, &["layerfs: "]));
    }
}

#[test]
fn a_lost_layer_is_told_in_a_line() {
    let Some(scene) = Scene::begin(&[]) else { return };
    Image::new()
        .layer("file a =x")
        .packing(crate::support::image::Packing::Plain)
        .write_oci(&scene.path("layout"), "lost:1");
    scene.layerfs(["load", "layout"]).ok();
    let layer = scene.layerfs(["inspect", "lost:1"]).ok().json()[0]["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    std::fs::remove_file(scene.path("me/store/blobs/sha256").join(&layer["sha256:".len()..])).expect("remove the tar");
    let verbs: [&[&str]; 5] = [
        &["ls", "lost:1"],
        &["cat", "lost:1:/a"],
        &["analyze", "lost:1"],
        &["whence", "lost:1", "/a"],
        &["cp", "lost:1:/a", "out"],
    ];
    for arguments in verbs {
        let told =
            scene.layerfs(arguments).output().fails(1, &[&layer, "is lost", "hint: `layerfs fsck`"]).error_text();
        assert_eq!(told.lines().count(), 2, "{told}");
    }
    scene.layerfs(["fsck"]).output().fails(1, &[]);
}

/// The most kilobytes of address space for an image of a million entries: at 100 MB for each 70,000, with the mapped tables counted in.
const SPACE: u64 = 1_430_000;

#[test]
fn a_million_entries_are_taken_in_seconds() {
    let Some(scene) = Scene::begin(&[]) else { return };
    // A million empty files in a thousand directories: a stream of headers, nothing of which is kept here.
    let mut child =
        scene.layerfs(["import", "-", "million:1"]).command().stdin(Stdio::piped()).spawn().expect("layerfs import");
    let mut pipe = std::io::BufWriter::with_capacity(1 << 20, child.stdin.take().expect("a pipe"));
    for number in 0..1_000_000 {
        let mut header = tar::Header::new_ustar();
        header.set_path(format!("d{}/file{number}", number % 1000)).expect("a path");
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        pipe.write_all(header.as_bytes()).expect("write to layerfs");
    }
    pipe.write_all(&[0; 1024]).and_then(|()| pipe.flush()).expect("the end of the tar");
    drop(pipe);
    assert!(child.wait().expect("wait").success());
    for verb in ["analyze --top 1", "analyze --html page.html", "ls -R --newer /d1", "ls -R"] {
        let begun = Instant::now();
        let script = format!("ulimit -v {SPACE}; exec {} {verb} million:1 >told", scene.program().display());
        scene.sh(script).ok();
        eprintln!("{verb}: {:?}", begun.elapsed());
        assert!(begun.elapsed().as_secs() < 30, "{verb}: {:?}", begun.elapsed());
    }
    let listed = std::fs::read_to_string(scene.path("told")).expect("the listing");
    assert_eq!(listed.lines().filter(|line| line.starts_with("file")).count(), 1_000_000);
}
