//! The classic mistakes of tools that turn changes into layers.

use super::{based_on, changed_by, diff_lines, layer_names, rules, shown};
use crate::support::{Need, Scene};

/// A base with everything that the scripts below touch.
const BASE: &str = "
    dir . 0755
    dir d
    file d/one =1
    file d/two =2
    dir e
    file e/three =3
    file f =four
    file big #100000
    file linked =same
    hard other =>linked
    link l ->f
    dir deep/er/est
    file deep/er/est/x =x
";

/// What was changed, how `diff` tells it, and what stands in the layer.
struct Case {
    what: &'static str,
    script: &'static str,
    diff: &'static [&'static str],
    layer: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        what: "a directory deleted and made again is opaque",
        script: "rm -r d; mkdir d; echo new >d/one",
        diff: &["C /d", "C /d/one", "D /d/two"],
        layer: &["./", "d/", "d/.wh..wh..opq", "d/one"],
    },
    Case {
        what: "a file in the place of a directory needs no whiteout",
        script: "rm -r d; echo file >d",
        diff: &["C /d"],
        layer: &["./", "d"],
    },
    Case {
        what: "a directory in the place of a file needs no whiteout",
        script: "rm f; mkdir f; echo in >f/in",
        diff: &["C /f", "A /f/in"],
        layer: &["./", "f/", "f/in"],
    },
    Case {
        what: "a renamed directory is written out",
        script: "mv d z",
        diff: &["D /d", "A /z", "A /z/one", "A /z/two"],
        layer: &["./", ".wh.d", "z/", "z/one", "z/two"],
    },
    Case {
        what: "a change by one name of a hard link shows under all of them",
        script: "echo changed >linked",
        diff: &["C /linked", "C /other"],
        layer: &["./", "linked", "other"],
    },
    Case {
        what: "one name of a hard link replaced leaves the others",
        script: "echo new >tmp; mv tmp linked",
        diff: &["C /linked"],
        layer: &["./", "linked"],
    },
    Case { what: "a change of mode only", script: "chmod 600 big", diff: &["C /big"], layer: &["./", "big"] },
    Case {
        what: "content changed with the time put back",
        script: "touch -r f /tmp/layerfs-stamp.$$; printf FOUR >f; touch -r /tmp/layerfs-stamp.$$ f; rm /tmp/layerfs-stamp.$$",
        diff: &["C /f"],
        layer: &["./", "f"],
    },
    Case {
        what: "made and deleted again is no change",
        script: "echo x >new; rm new; mkdir dd; rmdir dd; touch -d @1600000000 .",
        diff: &[],
        layer: &[],
    },
    Case {
        what: "a tree deleted is one whiteout",
        script: "rm -r deep",
        diff: &["D /deep"],
        layer: &["./", ".wh.deep"],
    },
    Case {
        what: "whiteouts stand before their siblings",
        script: "echo 0 >d/0; rm d/two",
        diff: &["C /d", "A /d/0", "D /d/two"],
        layer: &["./", "d/", "d/.wh.two", "d/0"],
    },
    Case { what: "a symlink replaced", script: "ln -sfn d l", diff: &["C /l"], layer: &["./", "l"] },
    Case {
        what: "special files, but no sockets",
        script: "mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'",
        diff: &["A /pipe", "A /sock"],
        layer: &["./", "pipe"],
    },
];

#[test]
fn classic_mistakes_are_not_made() {
    for case in CASES {
        let Some(scene) = Scene::begin(&[Need::Fuse, Need::Program("tar"), Need::Program("python3")]) else { return };
        based_on(&scene, BASE);
        let mut seen = changed_by(&scene, case.script);
        eprintln!("{}", case.what);
        let told: Vec<String> = diff_lines(&scene);
        assert_eq!(told, case.diff, "{}", case.what);
        scene.layerfs(["commit", "work", "new:1"]).ok();
        if !case.layer.is_empty() {
            assert_eq!(layer_names(&scene, "new:1"), case.layer, "{}", case.what);
        }
        seen.0.remove("sock");
        seen.assert_same(&shown(&scene, "new:1"), &rules());
    }
}

/// Capabilities and attributes stay; set-id bits too.
#[test]
fn capabilities_and_attributes_are_committed() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("setcap"), Need::Program("setfattr")])
    else {
        return;
    };
    based_on(&scene, BASE);
    let script = "setcap cap_net_raw+ep big; setfattr -n user.colour -v red d/one; chmod 4755 e/three; chown 7:8 d";
    let seen = changed_by(&scene, script);
    scene.layerfs(["commit", "work", "new:1"]).ok();
    let there = shown(&scene, "new:1");
    seen.assert_same(&there, &rules());
    assert!(there.at("big").xattrs.contains_key("security.capability"));
}

/// Five megabytes written in one layer and removed in the next cost them; in one layer they cost nothing.
#[test]
fn what_is_removed_in_the_same_layer_costs_nothing() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    based_on(&scene, BASE);
    let sizes = |image: &str| -> Vec<u64> {
        let steps = scene.layerfs(["history", "--format", "json", image]).ok().json();
        let steps = steps.as_array().expect("steps").clone();
        steps.iter().map(|step| step["Size"].as_u64().expect("a size in bytes")).collect()
    };
    let write = "head -c 5000000 /dev/zero >five";
    let mount = scene.mount(["mount", "--rw", "--name", "two", "base:1"], "two");
    scene.sh(write).in_dir(mount.path()).ok();
    scene.layerfs(["commit", "two", "first:1"]).ok();
    mount.unmount();
    let mount = scene.mount(["mount", "--rw", "--name", "three", "first:1"], "three");
    scene.sh("rm five").in_dir(mount.path()).ok();
    scene.layerfs(["commit", "three", "second:1"]).ok();
    mount.unmount();
    changed_by(&scene, &format!("{write}; rm five"));
    scene.layerfs(["commit", "work", "both:1"]).ok();
    let (apart, together) = (sizes("second:1"), sizes("both:1"));
    assert!(apart.iter().sum::<u64>() > 5_000_000, "{apart:?}");
    assert!(together.iter().sum::<u64>() < 200_000, "{together:?}");
}

/// The configuration, the history, an empty change, a second commit with the same clock.
#[test]
fn commits_say_what_they_are() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    based_on(&scene, BASE);
    changed_by(&scene, "true");
    let commit = ["commit", "-a", "me", "-m", "why", "-c", "CMD [\"sh\"]", "-c", "ENV A=b", "-c", "EXPOSE 80", "work"];
    let id = |name: &str| scene.layerfs(commit).arg(name).env("SOURCE_DATE_EPOCH", "1700000000").ok().text();
    assert_eq!(id("one:1"), id("two:1"), "the same changes at the same time are the same image");
    let inspected = scene.layerfs(["inspect", "one:1"]).ok().json();
    let config = &inspected[0]["Config"];
    assert_eq!(config["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(inspected[0]["Created"], "2023-11-14T22:13:20Z");
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1), "an empty change makes no layer");
    let steps = scene.layerfs(["history", "--format", "json", "one:1"]).ok().json();
    assert_eq!(steps[0]["Comment"], "why");
    scene.layerfs(["commit", "work", "Bad Name"]).output().fails(2, &["invalid reference"]);
    scene.layerfs(["commit", "nothing", "x:1"]).output().fails(1, &["no writable mount", "hint"]);
    scene.layerfs(["commit", "-c", "RUN x", "work", "x:1"]).output().fails(1, &["RUN"]);
    scene.layerfs(["diff", "base:1"]).output().fails(1, &["no writable mount"]);
    scene.layerfs(["fsck"]).ok();
}

/// What was closed before is in a commit of a mount in use; a name never shows half a file.
#[test]
fn a_mount_in_use_is_committed() {
    let Some(scene) = Scene::begin(&[Need::Fuse, Need::Program("python3")]) else { return };
    based_on(&scene, BASE);
    let mount = scene.mount(["mount", "--rw", "--name", "work", "base:1"], "mnt");
    let program = "import os, itertools
for number in itertools.count():
    if os.path.exists('stop'): break
    with open('next', 'w') as file: file.write('%d\\n' % number * 4000)
    os.rename('next', 'whole')
    if number == 20: open('ready', 'w').close()
";
    let mut writer = scene.run("python3").args(["-c", program]).in_dir(mount.path()).spawn();
    while !mount.join("ready").exists() {
        std::thread::yield_now();
    }
    std::fs::write(mount.join("closed"), b"closed before").unwrap();
    for number in 0..5 {
        let name = format!("live:{number}");
        scene.layerfs(["commit", "work", &name]).ok();
        let whole = scene.layerfs(["cat", &format!("{name}:/whole")]).ok().text();
        let lines: Vec<&str> = whole.lines().collect();
        assert!(
            lines.len() == 4000 && lines.iter().all(|line| *line == lines[0]),
            "half a file: {} lines",
            lines.len()
        );
        assert_eq!(scene.layerfs(["cat", &format!("{name}:/closed")]).ok().text(), "closed before");
    }
    std::fs::write(mount.join("stop"), b"").unwrap();
    assert!(writer.wait().unwrap().success());
    mount.unmount();
}
