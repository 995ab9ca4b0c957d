//! The life of a mount as the command line makes it: errors, ends, views, looks into images.

use crate::support::{Image, Need, Run, Scene, Who};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LAYERS: [&str; 2] = ["dir etc 700\nfile etc/name =hello\nfile gone =x", "whiteout gone\nfile etc/more =1"];

fn load(scene: &Scene, who: Who) {
    let image = LAYERS.iter().fold(Image::new(), |image, text| image.layer(text));
    let archive = image.write_docker_archive(&scene.path("image.tar"), "thing:latest");
    scene.layerfs(["load", "-i"]).arg(archive).who(who).ok();
}

fn pid(scene: &Scene, point: &std::path::Path) -> i32 {
    let mounts = scene.layerfs(["ps", "--format", "json"]).ok().json();
    let mounts = mounts.as_array().expect("a list").clone();
    let found = mounts.iter().find(|mount| mount["MountPoint"] == point.to_str().expect("UTF-8"));
    found.expect("the mount is listed")["Pid"].as_i64().expect("a pid") as i32
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("kill");
}

fn mount(scene: &Scene, point: &PathBuf) -> Run {
    scene.layerfs(["mount", "thing"]).arg(point)
}

#[test]
fn bad_mount_points_are_one_line_and_a_hint() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    load(&scene, Who::Me);
    let (full, file) = (scene.dir("full"), scene.path("file"));
    std::fs::write(full.join("x"), "").unwrap();
    std::fs::write(&file, "").unwrap();
    mount(&scene, &scene.path("nowhere")).output().fails(1, &["does not exist", "hint: make it: mkdir -p"]);
    mount(&scene, &full).output().fails(1, &["is not empty", "hint:"]);
    mount(&scene, &file).output().fails(1, &["is not a directory"]);
    mount(&scene, &"/proc".into()).output().fails(1, &["is in use", "hint:"]);
    let point = scene.dir("mnt");
    mount(&scene, &point).args(["-o", "ro,frobnicate"]).output().fails(1, &["unknown mount option `frobnicate`"]);
    mount(&scene, &point).args(["--layer", "2"]).output().fails(1, &["no layer 2: the image has 2"]);
    scene.layerfs(["umount"]).arg(&point).output().fails(1, &["is not mounted by layerfs", "hint:"]);
    assert!(scene.mounts().is_empty());
}

#[test]
fn signals_end_a_mount_cleanly() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    load(&scene, Who::Me);
    let point = scene.dir("mnt");
    for end in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        mount(&scene, &point).ok();
        assert_eq!(std::fs::read(point.join("etc/name")).unwrap(), b"hello");
        signal(pid(&scene, &point), end);
        while !scene.mounts().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_killed_server_is_told_of_and_cleared_away() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    load(&scene, Who::Me);
    let point = scene.dir("mnt");
    mount(&scene, &point).ok();
    signal(pid(&scene, &point), rustix::process::Signal::KILL);
    while std::fs::read_dir(&point).is_ok() {
        std::thread::sleep(Duration::from_millis(1));
    }
    mount(&scene, &point).output().fails(1, &["is in use: fuse.layerfs", "layerfs umount"]);
    assert!(!scene.layerfs(["ps"]).ok().text().contains(point.to_str().unwrap()));
    scene.layerfs(["umount"]).arg(&point).ok();
    assert!(scene.mounts().is_empty());
}

/// A stopped server answers nobody: what it has is taken away all the same.
#[test]
fn regression_a_mount_that_hangs_is_taken_away_by_force() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    load(&scene, Who::Me);
    let point = scene.dir("mnt");
    mount(&scene, &point).ok();
    let server = pid(&scene, &point);
    signal(server, rustix::process::Signal::STOP);
    let forced = scene.layerfs(["umount", "-f"]).arg(&point).output();
    signal(server, rustix::process::Signal::KILL);
    forced.ok();
    assert!(scene.mounts().is_empty());

    scene.layerfs(["mount", "--rw", "--name", "hung", "thing"]).arg(&point).ok();
    let server = pid(&scene, &point);
    signal(server, rustix::process::Signal::STOP);
    let removed = scene.layerfs(["rm", "-f", "hung"]).output();
    if !removed.status.success() {
        signal(server, rustix::process::Signal::KILL);
    }
    removed.ok();
    assert!(scene.mounts().is_empty() && !scene.layerfs(["ps", "-a"]).ok().text().contains("hung"));
}

#[test]
fn a_used_mount_is_detached_only_when_told_to() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    load(&scene, Who::Me);
    let point = scene.dir("mnt");
    mount(&scene, &point).ok();
    let file = std::fs::File::open(point.join("etc/name")).unwrap();
    scene.layerfs(["umount"]).arg(&point).output().fails(1, &["is busy", "hint:", "--lazy"]);
    scene.layerfs(["umount", "--lazy"]).arg(&point).ok();
    assert_eq!(std::io::read_to_string(&file).unwrap(), "hello");
}

#[test]
fn single_layers_and_all_of_them() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    load(&scene, Who::Me);
    let one = scene.mount(["mount", "--layer", "1", "thing"], "one");
    let whiteout = std::fs::symlink_metadata(one.join("gone")).unwrap();
    assert!(whiteout.file_type().is_char_device());
    assert_eq!(whiteout.rdev(), 0);
    assert!(!one.join("etc/name").exists());
    one.unmount();
    let all = scene.mount(["mount", "--layers", "thing"], "all");
    assert_eq!(std::fs::read(all.join("merged/etc/name")).unwrap(), b"hello");
    assert!(!all.join("merged/gone").exists());
    assert!(all.join("0/gone").exists());
    assert_eq!(std::fs::metadata(all.join("merged/etc")).unwrap().mode() & 0o7777, 0o700);
    all.unmount();
}

#[test]
fn regression_a_single_layer_shows_further_names_of_what_is_below() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let links = {
        let mut layer = Vec::new();
        for (name, target) in [("second", "first"), ("dangling", "nothing")] {
            let mut header = tar::Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_link_name(target).unwrap();
            header.set_entry_type(tar::EntryType::Link);
            header.set_mode(0o644);
            header.set_size(0);
            header.set_cksum();
            layer.extend_from_slice(header.as_bytes());
        }
        layer.resize(layer.len() + 1024, 0);
        layer
    };
    let image = Image::new().layer("file first =one\nfile other =x").layer_tar(links).layer("file first =changed");
    image.write_oci(&scene.path("linked"), "linked:1");
    scene.layerfs(["load", "linked"]).ok();
    let read = |at: &Path| std::fs::read_to_string(at).unwrap();
    let names = |at: &Path| std::fs::read_dir(at).unwrap().count();
    let one = scene.mount(["mount", "--layer", "1", "linked:1"], "one");
    assert_eq!(read(&one.join("second")), "one");
    assert_eq!((names(one.path()), std::fs::metadata(one.join("second")).unwrap().nlink()), (1, 2));
    one.unmount();
    let all = scene.mount(["mount", "--layers", "linked:1"], "all");
    assert_eq!(read(&all.join("1/second")), "one");
    assert_eq!(read(&all.join("merged/second")), "one");
    assert_eq!(read(&all.join("merged/first")), "changed");
    assert_eq!((names(&all.join("1")), names(&all.join("0")), names(all.path())), (1, 2, 4));
    all.unmount();
}

#[test]
fn a_look_into_an_image_needs_no_mount() {
    let Some(scene) = Scene::begin(&[]) else { return };
    load(&scene, Who::Me);
    assert_eq!(scene.layerfs(["ls", "thing:/"]).ok().text(), "etc\n");
    assert_eq!(scene.layerfs(["ls", "thing:latest:/etc"]).ok().text(), "more\nname\n");
    let listed = scene.layerfs(["ls", "-R", "--format", "json", "thing"]).ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    assert_eq!(scene.layerfs(["cat", "thing:/etc/name", "thing:/etc/more"]).ok().text(), "hello1");
    scene.layerfs(["cat", "thing:/etc"]).output().fails(1, &["is a directory"]);
    scene.layerfs(["ls", "thing:/gone"]).output().fails(1, &["no such file"]);
}

#[test]
fn a_plain_user_mounts_and_reads_everything() {
    let Some(scene) = Scene::begin(&[Need::PlainUser]) else { return };
    load(&scene, Who::Plain);
    let mount = scene.mount_as(Who::Plain, ["mount", "thing"], "mnt");
    // 0700 and root's: the owner of the mount sees it all the same.
    let name = scene.run("cat").arg(mount.join("etc/name")).who(Who::Plain).ok();
    assert_eq!(name.text(), "hello");
    mount.unmount();
}

/// A lock that a script holds ends with the script, and what reads from a pipe sees its end.
#[test]
fn regression_a_server_keeps_nothing_that_was_left_open_to_it() {
    let Some(scene) = Scene::begin(&[Need::Fuse, Need::Program("flock")]) else { return };
    load(&scene, Who::Me);
    let point = scene.dir("mnt");
    let script = format!(
        "exec 7>lock; flock -n 7 || exit 3; {} mount thing {} && exec 7>&- && exec 8>lock && flock -n 8 && echo free",
        scene.program().display(),
        point.display()
    );
    assert_eq!(scene.sh(script).ok().text(), "free\n");
    scene.layerfs(["umount"]).arg(&point).ok();
}

#[test]
fn regression_whoever_tries_to_unmount_in_vain_costs_the_server_nothing() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    load(&scene, Who::Me);
    let point = scene.dir("mnt");
    mount(&scene, &point).ok();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", pid(&scene, &point))).expect("descriptors").count();
    let used = std::fs::File::open(point.join("etc/name")).unwrap();
    let try_it = || scene.layerfs(["umount"]).arg(&point).output().fails(1, &["is busy"]);
    try_it();
    let before = open();
    (0..5).for_each(|_| drop(try_it()));
    assert!(open() <= before + 1, "{} descriptors after {before}", open());
    drop(used);
    scene.layerfs(["umount"]).arg(&point).ok();
}
