//! Looking into images: analyze, whence, cp, explore, completions, on images whose content is known by construction.

use crate::support::{Image, Need, Scene};
use std::os::unix::fs::FileTypeExt;

/// Three layers: 15 bytes deleted, 3 replaced, a copy for a change of mode, a name that would colour a terminal.
fn known(needs: &[Need]) -> Option<Scene> {
    let scene = Scene::begin(needs)?;
    Image::new()
        .layer("dir d\nfile d/a =1234567890\nfile d/b =12345\nfile f =123\nfile same #5000\nfile \\x1b[31mred =x")
        .layer("whiteout d\nfile f =1234")
        .layer("file same #5000 0755\nfile twin =twin\nfile new/twin =twin")
        .write_oci(&scene.path("layout"), "known:1");
    scene.layerfs(["load", "layout"]).ok();
    Some(scene)
}

#[test]
fn every_hidden_byte_is_told_once() {
    let Some(scene) = known(&[]) else { return };
    let told = scene.layerfs(["analyze", "--format", "json", "--duplicates-from", "1", "known:1"]).ok().json();
    assert_eq!(told["hiddenBytes"], 15 + 3 + 5000);
    let rows: Vec<(u64, &str, &str)> = told["hidden"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["bytes"].as_u64().unwrap(), row["path"].as_str().unwrap(), row["cause"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [(5000, "/same", "replaced"), (15, "/d", "deleted"), (3, "/f", "replaced")]);
    assert_eq!(told["metadataOnlyCopies"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["duplicates"][0]["paths"], serde_json::json!(["/new/twin", "/twin"]));
    scene.layerfs(["analyze", "--ci", "--max-wasted", "4k", "known:1"]).output().fails(1, &["5.02kB are hidden"]);
    scene.layerfs(["analyze", "--ci", "--max-wasted", "6k", "known:1"]).ok();
    scene.layerfs(["analyze", "--ci", "--min-efficiency", "90%", "known:1"]).output().fails(1, &["efficiency"]);
    scene.layerfs(["analyze", "--max-wasted", "6k", "known:1"]).output().fails(2, &["--ci"]);
    let text = scene.layerfs(["analyze", "known:1"]).ok().text();
    assert!(!text.contains('\x1b'), "no escape reaches the terminal");
    scene.layerfs(["analyze", "--html", "page.html", "known:1"]).ok();
    let page = std::fs::read_to_string(scene.path("page.html")).expect("the page");
    assert!(page.contains("\"hidden\":5018") && !page.contains("http"), "one page that needs nothing else");
}

#[test]
fn the_layers_of_a_path_are_told() {
    let Some(scene) = known(&[]) else { return };
    let rows = scene.layerfs(["whence", "--format", "json", "known:1", "/d/a"]).ok().json();
    assert_eq!(
        (&rows[0]["deed"], &rows[1]["deed"], &rows[1]["path"]),
        (&"written".into(), &"removed".into(), &"d".into())
    );
    assert_eq!(rows[0]["size"], 10);
    scene.layerfs(["whence", "known:1", "/nothing"]).output().fails(1, &["no layer"]);
    scene.layerfs(["whence", "known:1", "../x"]).output().fails(1, &["no path"]);
}

#[test]
fn regression_a_path_through_links_is_the_path_it_leads_to() {
    let Some(scene) = Scene::begin(&[]) else { return };
    Image::new()
        .layer("file usr/bin/sh =one\nlink bin ->usr/bin\nlink loop ->loop\nlink usr/abs ->/bin")
        .layer("file usr/bin/sh =other\nwhiteout usr/bin/gone")
        .layer("whiteout usr/bin/sh")
        .write_oci(&scene.path("layout"), "merged:1");
    scene.layerfs(["load", "layout"]).ok();
    let plain = scene.layerfs(["whence", "merged:1", "/usr/bin/sh"]).ok();
    assert_eq!(plain.error_text(), "");
    for path in ["/bin/sh", "/usr/abs/sh"] {
        let led = scene.layerfs(["whence", "merged:1", path]).ok();
        assert_eq!(led.text(), plain.text(), "{path}");
        assert_eq!(led.error_text(), format!("{path} is /usr/bin/sh\n"));
    }
    assert_eq!(scene.layerfs(["whence", "merged:1", "/bin"]).ok().text().lines().count(), 1, "the link itself");
    for path in ["/bin/gone", "/bin/sh/x", "/loop/x", "/nowhere/x"] {
        scene.layerfs(["whence", "merged:1", path]).output().fails(1, &[&format!("no layer of merged:1 has {path}")]);
    }
}

/// Paths of different sizes, times, types and owners.
fn listed() -> Option<Scene> {
    let scene = Scene::begin(&[])?;
    Image::new()
        .layer(
            "file etc/passwd =root:x:0:0\\x0ame:x:1000:100 @1000\nfile etc/group =users:x:100: @1000\nfile etc/a.conf =a @2000.5
             file etc/b.conf =bb 0600 1000:100 @3000\nfile etc/sub/c.conf =ccc @4000\nlink etc/link ->a.conf @5000\nfile big #5000 @6000
             file etc/\\x1b]0;title\\x07 =x @1000\nchar etc/null dev=1:3 0666 @1000\nlink conf ->etc",
        )
        .write_oci(&scene.path("layout"), "listed:1");
    scene.layerfs(["load", "layout"]).ok();
    Some(scene)
}

#[test]
fn listings_are_those_of_ls() {
    let Some(scene) = listed() else { return };
    let lines = |arguments: &[&str]| {
        let text = scene.layerfs(["ls"]).args(arguments).ok().text();
        assert!(!text.contains(['\x1b', '\x07']), "{text}");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&["listed:1:/conf"])[1..], ["a.conf", "b.conf", "group", "link", "null", "passwd", "sub"]);
    assert_eq!(lines(&["-l", "listed:1:/etc/b.conf"]), ["-rw------- 1 me users 2 1970-01-01 00:50 /etc/b.conf"]);
    assert_eq!(lines(&["-ln", "listed:1:/etc/b.conf"]), ["-rw------- 1 1000 100 2 1970-01-01 00:50 /etc/b.conf"]);
    assert_eq!(lines(&["-l", "listed:1:/etc/link"]), ["lrwxrwxrwx 1 root 0 6 1970-01-01 01:23 /etc/link -> a.conf"]);
    assert_eq!(lines(&["-l", "listed:1:/etc/null"]), ["crw-rw-rw- 1 root 0 1, 3 1970-01-01 00:16 /etc/null"]);
    assert!(lines(&["-lh", "listed:1"]).iter().any(|line| line.contains(" 4.9K ")));
    assert_eq!(lines(&["-S", "listed:1:/etc/*.conf"]), ["/etc/b.conf", "/etc/a.conf"]);
    assert_eq!(lines(&["-tr", "listed:1:/etc/*.conf"]), ["/etc/a.conf", "/etc/b.conf"]);
    assert_eq!(lines(&["listed:1:/**/*.conf"]), ["/etc/a.conf", "/etc/b.conf", "/etc/sub/c.conf"]);
    let titled = lines(&["-R", "listed:1:/etc/sub", "listed:1:/big"]);
    assert_eq!(titled, ["/etc/sub:", "c.conf", "/big"]);
    let rows = scene.layerfs(["ls", "--format", "json", "listed:1:/etc/b.conf"]).ok().json();
    assert_eq!((&rows[0]["User"], &rows[0]["Group"], &rows[0]["Size"]), (&"me".into(), &"users".into(), &2.into()));
    scene.layerfs(["ls", "listed:1:/etc/*.nothing"]).output().fails(1, &["nothing matches"]);
    let told = scene.layerfs(["ls", "listed:1:/\x1b]0;x\x07"]).output().fails(1, &["\\u{1b}]0;x\\u{7}"]).error_text();
    assert!(!told.contains(['\x1b', '\x07']), "{told}");
}

#[test]
fn listings_are_searched_as_find_does() {
    let Some(scene) = listed() else { return };
    let found = |arguments: &[&str]| {
        let text = scene.layerfs(["ls", "-R"]).args(arguments).ok().text();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        found(&["--newer", "@2000", "--type", "f", "listed:1:/etc"]),
        ["/etc/a.conf", "/etc/b.conf", "/etc/sub/c.conf"]
    );
    assert_eq!(found(&["--newer", "/etc/b.conf", "--type", "f,l", "listed:1:/etc"]), ["/etc/link", "/etc/sub/c.conf"]);
    assert_eq!(found(&["--size", "+4k", "listed:1"]), ["/big"]);
    assert_eq!(found(&["--size", "-3c", "--type", "f", "listed:1:/etc/*.conf"]), ["/etc/a.conf", "/etc/b.conf"]);
    assert_eq!(found(&["--newer", "1970-01-01 01:30", "--type", "f", "listed:1:/"]), ["/big"]);
    assert_eq!(found(&["-l", "--size", "+4k", "listed:1"]), ["-rw-r--r-- 1 root 0 5000 1970-01-01 01:40 /big"]);
    let plain = scene.layerfs(["ls", "--size", "2c", "listed:1:/etc"]).ok().text();
    assert_eq!(plain, "b.conf\n", "without -R names, as ever");
    scene.layerfs(["ls", "--newer", "soon", "listed:1"]).output().fails(2, &["expected a time"]);
    scene.layerfs(["ls", "--size", "1X", "listed:1"]).output().fails(2, &["expected a unit"]);
    scene.layerfs(["ls", "-R", "--newer", "/nothing", "listed:1"]).output().fails(1, &["not in the image"]);
}

#[test]
fn files_that_match_are_written_one_after_the_other() {
    let Some(scene) = listed() else { return };
    assert_eq!(scene.layerfs(["cat", "listed:1:/**/*.conf"]).ok().text(), "abbccc");
    assert_eq!(scene.layerfs(["cat", "listed:1:/etc/[!a].conf"]).ok().text(), "bb");
    scene.layerfs(["cat", "listed:1:/etc/*.no"]).output().fails(1, &["no file matches", "hint: "]);
    scene.layerfs(["cat", "listed:1:/etc/sub"]).output().fails(1, &["is a directory"]);
    let told = scene.layerfs(["cat", "listed:1:/\x1b]1;x\x07"]).output().fails(1, &["\\u{1b}]1;x\\u{7}"]).error_text();
    assert!(!told.contains(['\x1b', '\x07']), "{told}");
}

#[test]
fn files_are_copied_out() {
    let Some(scene) = known(&[Need::Program("tar")]) else { return };
    scene.layerfs(["cp", "known:1:/f", "out"]).ok();
    assert_eq!(std::fs::read(scene.path("out")).unwrap(), b"1234");
    scene.layerfs(["cp", "known:1:/new", "tree"]).ok();
    assert_eq!(std::fs::read(scene.path("tree/twin")).unwrap(), b"twin");
    scene.dir("into");
    scene.layerfs(["cp", "known:1:/new", "into"]).ok();
    assert!(scene.path("into/new/twin").exists(), "into a directory that is there");
    let listed = scene.sh("layerfs cp known:1:/new - | tar -tf -").env("PATH", path_with(&scene)).ok().text();
    assert_eq!(listed, "new/\nnew/twin\n");
    scene.layerfs(["cp", "known:1:/d", "gone"]).output().fails(1, &["no such file"]);
    // Devices and FIFOs take what is written to them, as with cp, and are never replaced.
    let fifo = scene.path("fifo");
    scene.run("mkfifo").arg(&fifo).ok();
    let path = fifo.clone();
    let reader = std::thread::spawn(move || std::fs::read(path).expect("read the FIFO"));
    scene.layerfs(["cp", "known:1:/f"]).arg(&fifo).ok();
    assert_eq!(reader.join().expect("the reader"), std::fs::read(scene.path("out")).expect("the copy"));
    assert!(std::fs::symlink_metadata(&fifo).expect("the FIFO").file_type().is_fifo());
    scene.layerfs(["cp", "known:1:/new"]).arg(&fifo).output().fails(1, &["is a device or FIFO"]);
    assert!(std::fs::symlink_metadata(&fifo).expect("the FIFO").file_type().is_fifo());
}

fn path_with(scene: &Scene) -> String {
    let program = scene.program();
    format!("{}:{}", program.parent().expect("a directory").display(), std::env::var("PATH").unwrap_or_default())
}
