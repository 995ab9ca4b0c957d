//! Directories of a union that lie in each other, and mount points in them.

use crate::support::{Need, Scene, Who};
use std::fs;
use std::path::Path;

const NEEDS: &[Need] = &[Need::Root, Need::Fuse];

/// What lies below a directory, as find(1) sees it: it ends where the mount shows itself in itself.
fn names(scene: &Scene, at: &Path) -> Vec<String> {
    let text = scene.run("find").arg(at).args(["-mindepth", "1", "-printf", "%P\\n"]).ok().text();
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// The kernel shows a lower without what is mounted in it. Where the mount itself were seen in it, a walk would wait for the server, which
/// waits for itself.
#[test]
fn regression_a_mount_point_in_a_lower_is_not_entered_again() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for part in ["lower/point", "lower/dir", "upper", "work"] {
        scene.dir(part);
    }
    fs::write(scene.path("lower/dir/file"), "low").expect("a lower file");
    let at = |part: &str| scene.path(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let mount = scene.mount(["overlay", "-o", &options], "lower/point");
    assert_eq!(names(&scene, mount.path()), ["dir", "dir/file", "point"]);
    fs::write(mount.join("point/new"), "new").expect("a file where the mount point lies");
    fs::write(mount.join("dir/file"), "changed").expect("a change");
    assert_eq!(names(&scene, mount.path()), ["dir", "dir/file", "point", "point/new"]);
    mount.unmount().ok();
    assert_eq!(fs::read(scene.path("upper/point/new")).expect("in the upper"), b"new");
    assert_eq!(fs::read(scene.path("lower/dir/file")).expect("in the lower"), b"low");
    assert_eq!(names(&scene, &scene.path("lower")), ["dir", "dir/file", "point"]);
}

/// As over `/`: the lower has everything else in it.
#[test]
fn a_lower_may_have_upper_workdir_and_mount_point_in_it() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for part in ["lower/upper", "lower/work", "lower/point"] {
        scene.dir(part);
    }
    fs::write(scene.path("lower/file"), "low").expect("a lower file");
    let at = |part: &str| scene.path(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("lower/upper"), at("lower/work"));
    let mount = scene.mount(["overlay", "-o", &options], "lower/point");
    fs::rename(mount.join("file"), mount.join("moved")).expect("a rename");
    fs::remove_dir(mount.join("point")).expect("the mount point as it is seen in the lower");
    assert!(!names(&scene, mount.path()).iter().any(|name| name == "file" || name == "point"));
    mount.unmount().ok();
    assert_eq!(fs::read(scene.path("lower/upper/moved")).expect("in the upper"), b"low");
    assert!(scene.path("lower/file").exists() && scene.path("lower/point").exists());
}

/// Their own directories and those above were opened before anything lay on them.
#[test]
fn a_mount_over_its_own_directories_shows_them() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for part in ["all/lower", "all/upper", "all/work"] {
        scene.dir(part);
    }
    fs::write(scene.path("all/lower/file"), "low").expect("a lower file");
    let at = |part: &str| scene.path(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("all/lower"), at("all/upper"), at("all/work"));
    for (index, point) in ["all/lower", "all/upper", "all"].into_iter().enumerate() {
        let mount = scene.mount(["overlay", "-o", &options], point);
        fs::write(mount.join(format!("new-{index}")), "new").expect("a new file");
        fs::hard_link(mount.join("file"), mount.join(format!("link-{index}"))).expect("a link");
        assert_eq!(fs::read(mount.join("file")).expect("a lower file"), b"low", "{point}");
        assert_eq!(names(&scene, mount.path()).len(), 3 + 2 * index, "{point}");
        mount.unmount().ok();
        assert!(scene.path(format!("all/upper/new-{index}")).exists(), "{point}");
    }
}

#[test]
fn what_the_kernel_refuses_is_refused() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::KernelOverlay]) else { return };
    for part in ["lower/inside", "upper/inside", "work/inside", "point"] {
        scene.dir(part);
    }
    let at = |part: &str| scene.path(part).display().to_string();
    let cases = [
        (["lower", "upper", "work"], true),
        (["lower:lower", "upper", "work"], false),
        (["lower:lower/inside", "upper", "work"], false),
        (["lower/inside:lower", "upper", "work"], false),
        (["upper", "upper", "work"], false),
        (["upper/inside", "upper", "work"], false),
        (["work", "upper", "work"], false),
        (["work/inside", "upper", "work"], false),
        (["lower", "upper", "upper"], false),
        (["lower", "upper", "upper/inside"], false),
        (["lower", "work/inside", "work"], false),
        (["lower", "lower/inside", "work"], true),
    ];
    for ([lowers, upper, work], accepted) in cases {
        let lowers: Vec<String> = lowers.split(':').map(at).collect();
        let options = format!("lowerdir={},upperdir={},workdir={}", lowers.join(":"), at(upper), at(work));
        let kernel = scene.run("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(at("point")).output();
        assert_eq!(kernel.status.success(), accepted, "the kernel: {options}");
        if accepted {
            scene.run("umount").arg(at("point")).ok();
        }
        let ours = scene.layerfs(["overlay", "-o", &options]).arg(at("point")).output();
        if accepted {
            ours.ok();
            scene.layerfs(["umount"]).arg(at("point")).ok();
        } else {
            ours.fails(1, &["overlap", "hint:"]);
        }
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    scene.dir("upper/point");
    scene.layerfs(["overlay", "-o", &options]).arg(at("upper/point")).output().fails(1, &["the mount point", "hint:"]);
}

/// Only who may mount can look at a directory without what is mounted in it; without that nothing would ever end.
#[test]
fn a_plain_user_is_told_that_the_mount_point_lies_in_a_lower() {
    let Some(scene) = Scene::begin(&[Need::PlainUser, Need::Root]) else { return };
    let base = scene.plain_dir("inside");
    let script = "mkdir -p lower/point upper work mnt; \"$1\" overlay -o lowerdir=lower,upperdir=upper,workdir=work \"$2\"; \"$1\" umount \"$2\"";
    let run = |point| scene.sh(script).arg("sh").arg(scene.program()).arg(point).in_dir(&base).who(Who::Plain).output();
    run("lower/point").fails(1, &["lies in lowerdir", "hint:"]);
    run("mnt").ok();
}
