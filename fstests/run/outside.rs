//! Containers from outside: ended, removed, copied from; and what is refused beforehand.

use super::{ALL, NEEDS, Runner};
use crate::support::Scene;
use std::process::Child;

/// By name, whoever started it and whatever it does.
#[test]
fn containers_are_stopped_killed_and_removed_from_outside() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let code = |mut child: Child| child.wait().expect("reaped").code();
        let gentle = runner.start("gentle", "trap 'echo bye >/tmp/end; exit 5' TERM");
        let deaf = runner.start("deaf", "trap '' TERM");
        // Mounts of others are listed too.
        let listed = runner.command(&["ps", "-q"]).ok().text();
        assert!(listed.ends_with("deaf\ngentle\n") && !listed.contains("PID"), "{who:?}: {listed}");
        runner.command(&["rm", "gentle"]).output().fails(1, &["it runs", "layerfs stop gentle"]);
        assert_eq!(runner.command(&["stop", "gentle"]).ok().text(), "gentle\n");
        assert_eq!(code(gentle), Some(5), "{who:?}: it was asked, and let end");
        assert_eq!(runner.command(&["stop", "gentle"]).ok().text(), "gentle\n", "what has ended is stopped");
        runner.command(&["cp", "gentle:/tmp/end", "."]).ok();
        assert_eq!(std::fs::read(runner.home.join("end")).expect("copied"), b"bye\n");
        runner.command(&["stop", "-t", "0", "deaf"]).ok();
        assert_eq!(code(deaf), Some(137), "{who:?}: it was killed");
        let asked = runner.start("asked", "trap 'exit 6' USR1");
        runner.command(&["kill", "-s", "usr1", "asked"]).ok();
        assert_eq!(code(asked), Some(6), "{who:?}");
        runner.command(&["kill", "asked"]).output().fails(1, &["is not running", "hint:"]);
        runner.command(&["kill", "-s", "nope", "asked"]).output().fails(2, &["invalid signal: nope"]);
        let busy = runner.start("busy", "echo here >/tmp/f");
        assert_eq!(runner.command(&["cat", "busy:/tmp/f"]).ok().text(), "here\n", "{who:?}: while it runs");
        let done = runner.command(&["rm", "-f", "busy", "gentle", "nowhere"]).ok();
        assert_eq!(done.text(), "busy\ngentle\n", "{who:?}");
        assert!(done.error_text().contains("no such container: nowhere"), "{done:?}");
        assert_eq!(code(busy), Some(137), "{who:?}");
        runner.command(&["rm", "deaf", "asked"]).ok();
    }
}

#[test]
fn regression_a_mounted_container_is_removed_by_force() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    let point = scene.dir("point");
    runner.command(&["mount", "--rw", "--name", "used", "box"]).arg(&point).ok();
    runner.command(&["stop", "used"]).output().fails(1, &["it is mounted", "layerfs umount used"]);
    let inside = std::fs::File::open(point.join("etc/passwd")).expect("open");
    runner.command(&["rm", "used"]).output().fails(1, &["it is mounted"]);
    runner.command(&["rm", "-f", "used"]).ok();
    drop(inside);
    assert!(scene.mounts().is_empty());
    assert_eq!(runner.home.join("store/containers").read_dir().expect("the containers").count(), 0);
}

/// Its command is gone, and whoever ran it has not let go of it yet.
#[test]
fn regression_a_container_that_is_about_to_end_is_stopped_and_removed() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    for verb in ["stop", "stop", "rm -f", "rm -f"] {
        let mut child = runner.start("ending", "true");
        runner.command(&["kill", "ending"]).ok();
        runner.command(&verb.split(' ').collect::<Vec<_>>()).arg("ending").ok();
        assert_eq!(child.wait().expect("reaped").code(), Some(137));
        runner.command(&["rm", "-f", "ending"]).ok();
    }
}

/// No name can be made there while it is looked at: the copy waited for itself.
#[test]
fn regression_nothing_is_copied_into_the_mount_that_it_comes_from() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    let point = scene.dir("point");
    runner.command(&["mount", "--rw", "--name", "used", "box"]).arg(&point).ok();
    for place in ["tmp", "tmp/new"] {
        let copy = runner.command(&["cp", "used:/etc/passwd"]).arg(point.join(place));
        copy.output().fails(1, &["in the mount that is copied from", "hint:"]);
    }
    runner.command(&["cp", "used:/etc/passwd", "copy"]).ok();
    runner.command(&["umount", "used"]).ok();
    runner.command(&["rm", "used"]).ok();
}

#[test]
fn regression_what_cannot_be_is_refused_with_a_hint() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    let long = "h".repeat(65);
    runner.run(&["-h", &long, "box", "true"]).fails(125, &["the host name", "65 bytes", "hint: the kernel takes 64"]);
    runner.run(&["-v", "/tmp:/proc", "box", "true"]).fails(125, &["the container's /proc", "hint:"]);
    runner.run(&["--tmpfs", "/proc/x", "box", "true"]).fails(125, &["the container's /proc"]);
    let done = runner
        .command(&["cp", "box:/etc/passwd", "/no/such/place/x"])
        .output()
        .fails(1, &["No such file or directory"]);
    assert!(!done.error_text().contains("os error"), "{}", done.error_text());
}

/// Whoever makes directories in each other without end does not keep the store from being used.
#[test]
fn regression_a_container_deeper_than_there_are_descriptors_is_removed() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    let point = scene.dir("point");
    runner.command(&["mount", "--rw", "--name", "deep", "box"]).arg(&point).ok();
    let mut below = std::os::fd::OwnedFd::from(std::fs::File::open(point.join("tmp")).expect("open"));
    for _ in 0..3000 {
        rustix::fs::mkdirat(&below, "d", rustix::fs::Mode::RWXU).expect("a directory");
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        below = rustix::fs::openat(&below, "d", flags, rustix::fs::Mode::empty()).expect("open");
    }
    drop(below);
    runner.command(&["umount", "deep"]).ok();
    runner.command(&["rm", "deep"]).ok();
    let left = std::fs::read_dir(runner.home.join("store/stage")).expect("the stage").count();
    assert_eq!(left, 0);
}

/// A copy of a program that runs as somebody else must not run as whoever copied it.
#[test]
fn regression_setuid_stays_only_with_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    let make = "cp /bin/busybox /a && cp /a /b && chown 33:34 /b && chmod 6755 /a /b";
    runner.run(&["--name", "made", "box", "sh", "-c", make]).ok();
    let mode = |name: &str| std::fs::metadata(runner.home.join(name)).expect("copied").permissions().mode() & 0o7777;
    runner.command(&["cp", "made:/a", "a"]).ok();
    runner.command(&["cp", "made:/b", "b"]).ok();
    runner.command(&["cp", "-a", "made:/b", "kept"]).ok();
    assert_eq!((mode("a"), mode("b"), mode("kept")), (0o6755, 0o755, 0o6755));
}
