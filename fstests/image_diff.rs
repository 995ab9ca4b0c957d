//! How two images differ, for people: packages, and text line by line.

use crate::support::{Image, Need, Scene};

/// `text` as an attribute of a line of a tree.
fn content(text: &str) -> String {
    text.bytes().fold("=".to_owned(), |escaped, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped + char::from(byte).to_string().as_str(),
        _ => escaped + &format!("\\x{byte:02x}"),
    })
}

fn two_images(needs: &[Need], old: &str, new: &str) -> Option<Scene> {
    let scene = Scene::begin(needs)?;
    for (name, text) in [("old:1", old), ("new:1", new)] {
        Image::new().layer(text).write_oci(&scene.path(name), name);
        scene.layerfs(["load", name]).ok();
    }
    Some(scene)
}

#[test]
fn packages_are_told_by_their_databases() {
    let dpkg = |packages: &[(&str, &str)]| {
        let paragraph = |(name, version): &(&str, &str)| {
            format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\nArchitecture: amd64\n")
        };
        content(&packages.iter().map(paragraph).collect::<Vec<_>>().join("\n"))
    };
    let old = format!(
        "file var/lib/dpkg/status {}\nfile var/lib/dpkg/status.d/base {}\nfile lib/apk/db/installed {}",
        dpkg(&[("curl", "8.1-1"), ("libc6", "2.36-9"), ("nano", "7.2")]),
        content("Package: base\nVersion: 12.4\n"),
        content("P:musl\nV:1.2.4-r0\nA:x86_64\n\n"),
    );
    let new = format!(
        "file var/lib/dpkg/status {}\nfile var/lib/dpkg/status.d/base {}\nfile lib/apk/db/installed {}",
        dpkg(&[("libc6", "2.36-9+deb12u1"), ("nano", "7.1"), ("we\u{1b}[31mird", "1")]),
        content("Package: base\nVersion: 12.5\n"),
        content("P:musl\nV:1.2.4-r1\nA:x86_64\n\nP:zlib\nV:1-r0\nA:x86_64\n\n"),
    );
    let Some(scene) = two_images(&[], &old, &new) else { return };
    let expected = "upgraded base 12.4 -> 12.5\nremoved curl 8.1-1\nupgraded libc6 2.36-9 -> 2.36-9+deb12u1\n\
                    downgraded nano 7.2 -> 7.1\nadded we\\u{1b}[31mird 1\nupgraded musl 1.2.4-r0 -> 1.2.4-r1\nadded zlib 1-r0\n";
    assert_eq!(scene.layerfs(["diff", "--packages", "old:1", "new:1"]).ok().text(), expected);
    let whole = scene.layerfs(["diff", "old:1", "new:1"]).ok().text();
    assert!(
        whole.starts_with("C /lib/apk/db/installed\n") && whole.ends_with(&format!("\nPackages:\n{expected}")),
        "{whole}"
    );
    let names = scene.layerfs(["diff", "--name-only", "old:1", "new:1"]).ok().text();
    assert!(!names.contains("Packages"), "names are for programs: {names}");
    let rows = scene.layerfs(["diff", "--packages", "--format", "json", "old:1", "new:1"]).ok().json();
    assert_eq!(rows[2]["package"], "libc6");
    assert_eq!((&rows[2]["kind"], &rows[2]["manager"]), (&"upgraded".into(), &"dpkg".into()));
    assert_eq!((&rows[2]["oldVersion"], &rows[2]["newVersion"]), (&"2.36-9".into(), &"2.36-9+deb12u1".into()));
    assert_eq!(scene.layerfs(["diff", "--packages", "old:1", "old:1"]).ok().text(), "");
}

#[test]
fn content_is_told_line_by_line() {
    let old = format!(
        "file etc/a {} 0644\nfile etc/bin =a\\x00b\nfile etc/gone {}\nlink etc/link ->a\nfile etc/mode =same 0644\nfile etc/kind =x",
        content("one\ntwo\nthree\n"),
        content("text\n")
    );
    let new = format!(
        "file etc/a {} 0644\nfile etc/bin =a\\x00c\nfile etc/new {}\nlink etc/link ->b\nfile etc/mode =same 0755 1:2\ndir etc/kind",
        content("one\nTWO \u{1b}[31m\nthree"),
        content("new\n")
    );
    let Some(scene) = two_images(&[], &old, &new) else { return };
    let told = scene.layerfs(["diff", "--content", "old:1", "new:1"]).ok().text();
    let expected = "C /etc/a\n--- a/etc/a\n+++ b/etc/a\n@@ -1,3 +1,3 @@\n one\n-two\n-three\n+TWO \\u{1b}[31m\n+three\n\
                    \\ No newline at end of file\nC /etc/bin\nBinary files a/etc/bin and b/etc/bin differ\n\
                    D /etc/gone\n--- a/etc/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-text\n\
                    C /etc/kind\n  type file to directory\n  mode 0644 to 0755\n--- a/etc/kind\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
                    \\ No newline at end of file\nC /etc/link\n  target a to b\nC /etc/mode\n  mode 0644 to 0755\n  owner 0:0 to 1:2\n\
                    A /etc/new\n--- /dev/null\n+++ b/etc/new\n@@ -0,0 +1 @@\n+new\n";
    assert_eq!(told, expected);
    let rows =
        scene.layerfs(["diff", "--content", "--format", "json", "--path", "/etc/bin", "old:1", "new:1"]).ok().json();
    assert_eq!((&rows[0]["content"], rows[0].get("diff")), (&"binary".into(), None));
    let rows =
        scene.layerfs(["diff", "--content", "--format", "json", "--path", "/etc/new", "old:1", "new:1"]).ok().json();
    assert_eq!(rows[0]["diff"], "--- /dev/null\n+++ b/etc/new\n@@ -0,0 +1 @@\n+new\n");
    let rows =
        scene.layerfs(["diff", "--content", "--format", "json", "--path", "/etc/mode", "old:1", "new:1"]).ok().json();
    assert_eq!(rows[0]["metadata"], serde_json::json!(["mode 0644 to 0755", "owner 0:0 to 1:2"]));
}

/// What others do with the output: it is a patch from the one image to the other.
#[test]
fn the_differences_are_a_patch() {
    let numbers = |skip: u32, extra: &str| {
        let lines: Vec<String> =
            (1..200).filter(|number| number % skip != 0).map(|number| format!("line {number}\n")).collect();
        content(&(lines.concat() + extra))
    };
    let old = format!(
        "file a {}\nfile d/b {}\nfile d/gone {}\nfile same =x",
        numbers(17, ""),
        numbers(50, ""),
        content("x\n")
    );
    let new = format!(
        "file a {}\nfile d/b {}\nfile e/new {}\nfile same =x",
        numbers(23, ""),
        numbers(60, "end"),
        content("y\nz\n")
    );
    let Some(scene) = two_images(&[Need::Program("git")], &old, &new) else { return };
    for name in ["old", "new"] {
        scene.layerfs(["cp", &format!("{name}:1:/."), &format!("{name}-tree")]).ok();
    }
    let patch = scene.layerfs(["diff", "--content", "old:1", "new:1"]).ok().stdout;
    scene.run("git").args(["apply", "-"]).in_dir(scene.path("old-tree")).stdin(patch).ok();
    scene.run("diff").args(["-r", "old-tree", "new-tree"]).ok();
}
