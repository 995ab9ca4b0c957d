//! Options that fuse-overlayfs has as well: the same results, in the mount and in the upper.

use super::{Overlay, ROOT};
use crate::support::{Need, Scene};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Changes of every kind that stores an owner, by root and by someone else.
const CHANGES: &str = "cd \"$1\"
    echo more >>low; chmod 600 mode; touch made; mkdir dir; ln -s to link; mkfifo pipe
    chown 1003:1004 given; chown -h 1005 lowlink; mkdir open; chmod 777 open
    setpriv --reuid 1001 --regid 1002 --clear-groups sh -c 'touch open/theirs; mkdir open/dir'";

/// `path uid:gid` of all objects below `at`.
fn owners(scene: &Scene, at: &Path) -> String {
    scene.sh("cd \"$1\"; find . -mindepth 1 -printf '%P %U:%G\\n' | sort").arg("sh").arg(at).ok().text()
}

/// Mounts the same layers with a program and `options`, makes the changes, and returns the owners in the mount and in the upper.
fn changed_by(scene: &Scene, name: &str, program: &[&str], options: &str) -> (String, String) {
    let base = scene.dir(name);
    let script = "cd \"$1\"; mkdir lower upper work mnt; cd lower; touch low mode given; ln -s to lowlink
        chown 5:6 low mode; chown 7:8 given";
    scene.sh(script).arg("sh").arg(&base).ok();
    let at = |part: &str| base.join(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={},{options}", at("lower"), at("upper"), at("work"));
    let (program, verb) = program.split_first().expect("a program");
    scene.run(program).args(verb).args(["-o", &options]).arg(base.join("mnt")).ok();
    scene.sh(CHANGES).arg("sh").arg(base.join("mnt")).ok();
    let seen = owners(scene, &base.join("mnt"));
    scene.run("umount").arg(base.join("mnt")).ok();
    (seen, owners(scene, &base.join("upper")))
}

#[test]
fn rule_21_owners_are_mapped_and_squashed_as_by_the_peer() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("fuse-overlayfs")]) else { return };
    let program = scene.program().display().to_string();
    for (number, options) in [
        "uidmapping=:0:1000:100,gidmapping=:0:1000:100",
        "uidmapping=0:0:1000:1000:1000:500,gidmapping=0:0:5000",
        "squash_to_root",
        "squash_to_uid=77,squash_to_gid=88",
        "squash_to_uid=77,gidmapping=0:1000:1000",
    ]
    .into_iter()
    .enumerate()
    {
        let ours = changed_by(&scene, &format!("ours{number}"), &[&program, "overlay"], options);
        let theirs = changed_by(&scene, &format!("theirs{number}"), &["fuse-overlayfs"], options);
        assert_eq!(ours.0, theirs.0, "in the mount, with {options}");
        assert_eq!(ours.1, theirs.1, "in the upper, with {options}");
    }
}

#[test]
fn rule_21_link_counts_of_directories_can_be_fixed() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    for (options, counts) in [("", (1, 4)), (",static_nlink", (1, 1))] {
        let overlay = Overlay::new(&scene, &["dir low\ndir low/one\ndir low/two"], options);
        fs::create_dir_all(overlay.path("new/one")).expect("directories");
        fs::create_dir_all(overlay.path("new/two")).expect("directories");
        let links = |name: &str| fs::metadata(overlay.path(name)).expect("metadata").nlink();
        assert_eq!((links("low"), links("new")), counts, "{options}");
        fs::remove_dir_all(overlay.path("new")).expect("remove");
        overlay.unmount();
        fs::remove_dir_all(scene.path("lower0")).expect("remove");
    }
}

#[test]
fn rule_21_the_kernel_asks_again_after_the_timeout() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    for (options, asks) in [("", false), (",timeout=0", true), (",timeout=3600", false)] {
        let overlay = Overlay::new(&scene, &["dir d\nfile d/f =low"], options);
        let look = || {
            assert_eq!(fs::metadata(overlay.path("d/f")).expect("metadata").len(), 3);
            assert!(!overlay.path("d/none").exists());
        };
        look();
        let before = overlay.requests();
        (0..10).for_each(|_| look());
        let after = overlay.requests();
        let more = ["lookup", "getattr"].map(|kind| after.get(kind) > before.get(kind));
        assert_eq!(more.contains(&true), asks, "{options}: {before:?} {after:?}");
        overlay.unmount();
        fs::remove_dir_all(scene.path("lower0")).expect("remove");
    }
}

#[test]
fn rule_21_writes_can_be_passed_on_at_once() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    for opens in ["zero-message", "answered"] {
        let overlay = Overlay::new(&scene, &["file low =lower-content"], &format!(",writeback=0,opens={opens}"));
        let mut file = fs::OpenOptions::new().append(true).open(overlay.path("low")).expect("a lower file");
        std::io::Write::write_all(&mut file, b" and more").expect("write");
        assert_eq!(fs::read(scene.path("upper/low")).expect("the upper"), b"lower-content and more", "before any sync");
        drop(file);
        fs::write(overlay.path("low"), "cut").expect("truncate and write");
        assert_eq!(fs::read(overlay.path("low")).expect("read"), b"cut");
        overlay.unmount();
        for part in ["lower0", "upper", "work"] {
            fs::remove_dir_all(scene.path(part)).expect("remove");
        }
    }
}

/// Without SELinux the kernel would refuse it, and mount(8) leaves it out.
#[test]
fn rule_21_a_context_is_taken_with_its_quotes() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let context = r#",context="system_u:object_r:container_file_t:s0:c1,c2",volatile"#;
    let overlay = Overlay::new(&scene, &["file f =low"], context);
    assert_eq!(fs::read(overlay.path("f")).expect("read"), b"low");
    let mounts = fs::read_to_string("/proc/mounts").expect("the mounts");
    let source = format!("volatile:{}", scene.path("lower0").display());
    assert!(mounts.lines().any(|line| line.starts_with(&source)), "rule 16: {mounts}");
    overlay.unmount();
}

/// As mount(8) calls its helpers, and as fuse-overlayfs takes its arguments: in any order, and flags of either.
#[test]
fn rule_21_arguments_are_those_of_helpers_and_of_the_peer() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let (lower, point) = (scene.dir("lower"), scene.dir("mnt"));
    fs::write(lower.join("f"), "low").expect("a file");
    let options = format!("lowerdir={},nofail,_netdev,noauto,x-systemd.automount,user,comment=x", lower.display());
    let (options, at) = (options.as_str(), point.display().to_string());
    let at = at.as_str();
    for (name, arguments, mounted) in [
        ("mount.fuse.layerfs", vec!["none", at, "-o", options], true),
        ("mount.layerfs", vec!["none", at, "-snv", "-t", "fuse.layerfs", "-o", options], true),
        ("mount.layerfs", vec!["none", at, "-sfnv", "-o", options], false),
        ("fuse-overlayfs", vec![at, "-s", "-o", options, "-o", "clone_fd,max_threads=4"], true),
        ("fuse-overlayfs", vec!["-o", options, "-d", at], true),
    ] {
        let link = scene.dir("links").join(name);
        // It may be there from before.
        let _ = std::os::unix::fs::symlink(scene.program(), &link);
        scene.run(&link).args(&arguments).ok();
        assert_eq!(point.join("f").exists(), mounted, "{name} {arguments:?}");
        if mounted {
            scene.layerfs(["umount"]).arg(&point).ok();
        }
    }
}

/// Symlinks and special files carry no `user.` attributes: what is written down of them lies beside the workdir for root as well.
#[test]
fn regression_owners_of_symlinks_are_kept_for_root_too() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["link low ->to 3:4"], ",xattr_permissions=2");
    let owner = |name: &str| {
        let meta = fs::symlink_metadata(overlay.path(name)).expect("metadata");
        (meta.uid(), meta.gid())
    };
    fs::rename(overlay.path("low"), overlay.path("moved")).expect("rename");
    std::os::unix::fs::symlink("to", overlay.path("new")).expect("a symlink");
    std::os::unix::fs::lchown(overlay.path("new"), Some(5), Some(6)).expect("chown");
    for _ in 0..2 {
        assert_eq!((owner("moved"), owner("new")), ((3, 4), (5, 6)));
        overlay.remount();
    }
    overlay.unmount();
}
