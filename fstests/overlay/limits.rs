//! What goes wrong below, and what is large: errors in time, nothing lost, memory that comes back, nobody held up.

use super::{Overlay, ROOT};
use crate::crash::shut_down;
use crate::support::{Need, Scene};
use layerfs::mount::Registry;
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) const DISK: &[Need] = &[Need::Root, Need::Fuse, Need::Program("mkfs.ext4"), Need::Program("losetup")];

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A new ext4 of 64 MiB on a loop device, mounted at `name`.
fn disk(scene: &Scene, name: &str) -> PathBuf {
    disk_of(scene, name, 64 << 20)
}

/// A new ext4 of `bytes`.
pub(super) fn disk_of(scene: &Scene, name: &str, bytes: u64) -> PathBuf {
    let (image, at) = (scene.path(format!("{name}.image")), scene.dir(name));
    File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image of a disk");
    scene.run("mkfs.ext4").args(["-q", "-F"]).arg(&image).ok();
    scene.run("mount").args(["-o", "loop"]).arg(&image).arg(&at).ok();
    at
}

/// Mounts `lower` under an upper in `changes`.
pub(super) fn mount_over(scene: &Scene, lower: &Path, changes: &Path) -> PathBuf {
    for part in ["upper", "work"] {
        fs::create_dir_all(changes.join(part)).expect("a directory");
    }
    let at = |part: &str| changes.join(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), at("upper"), at("work"));
    let point = scene.dir("mnt");
    scene.layerfs(["overlay", "-o", &options]).arg(&point).ok();
    point
}

/// Runs each command by itself, and returns those that did not fail. None may take longer than five seconds.
fn succeeding(scene: &Scene, at: &Path, commands: &[&str]) -> Vec<String> {
    let done = |command: &&&str| {
        let run = scene.run("timeout").args(["--signal=KILL", "5", "sh", "-c", command]).in_dir(at).output();
        assert!(run.status.code().is_some_and(|code| code < 124), "{command} took too long: {}", run.status);
        run.status.success()
    };
    commands.iter().filter(done).map(|command| (*command).to_owned()).collect()
}

#[test]
fn rule_27_a_lower_that_fails_is_an_error_of_each_request() {
    let Some(scene) = Scene::begin(DISK) else { return };
    let lower = disk(&scene, "low");
    fs::create_dir(lower.join("d")).expect("a directory");
    for name in ["known", "unknown", "d/deep"] {
        fs::write(lower.join(name), vec![3; 100_000]).expect("a lower file");
    }
    let at = mount_over(&scene, &lower, &scene.dir("changes"));
    fs::write(at.join("new"), "of the upper").expect("a new file");
    assert_eq!(fs::metadata(at.join("known")).expect("a lower file").len(), 100_000);
    shut_down(&lower);
    let failing =
        ["cat unknown", "cat d/deep", "echo x >>known && sync -d known", "mv known moved", "ln unknown linked"];
    assert_eq!(succeeding(&scene, &at, &failing), [""; 0]);
    let working = ["cat new", "echo more >>new", "mkdir made", "touch made/file", "rm -r made", "ls", "stat known"];
    assert_eq!(succeeding(&scene, &at, &working), working);
    for name in ["known", "moved", "linked"] {
        assert!(!scene.path("changes/upper").join(name).exists(), "half a copy of {name} has appeared");
    }
    scene.layerfs(["umount"]).arg(&at).ok();
    assert_eq!(fs::read_dir(scene.path("changes/work/layerfs/stage")).expect("the stage").count(), 0);
    scene.run("umount").arg(&lower).ok();
}

#[test]
fn rule_27_an_upper_that_fails_is_an_error_of_each_request() {
    let Some(scene) = Scene::begin(DISK) else { return };
    let lower = scene.dir("lower/d");
    fs::write(lower.join("f"), "low").expect("a lower file");
    let changes = disk(&scene, "changes");
    let at = mount_over(&scene, &scene.path("lower"), &changes);
    fs::write(at.join("new"), "new").expect("a new file");
    // What has been seen is shown further on.
    for (directory, count) in [("", 2), ("d", 1)] {
        assert_eq!(fs::read_dir(at.join(directory)).expect("a directory").count(), count);
    }
    shut_down(&changes);
    let failing = [
        "echo x >other",
        "mkdir dir",
        "rm new",
        "rm d/f",
        "mv new newer",
        "ln new linked",
        "ln -s to sym",
        "chmod 600 d/f",
        "truncate -s 1 d/f",
        "truncate -s 1 new",
        "echo x >>d/f && sync d/f",
        "setfattr -n user.x -v 1 d",
        "mkfifo pipe",
    ];
    assert_eq!(succeeding(&scene, &at, &failing), [""; 0]);
    let working = ["cat d/f", "ls", "ls d", "stat new", "stat d/f", "test ! -e none"];
    assert_eq!(succeeding(&scene, &at, &working), working);
    scene.layerfs(["umount"]).arg(&at).output();
    scene.run("umount").args(["-l"]).arg(&at).output();
    scene.run("umount").arg("-l").arg(&changes).ok();
}

/// Removed behind the back of the server, which nobody is to do; and detached while it is in use, which changes nothing.
#[test]
fn rule_27_directories_that_vanish_are_errors() {
    let Some(scene) = Scene::begin(DISK) else { return };
    let lower = disk(&scene, "low");
    for name in ["one", "two"] {
        fs::write(lower.join(name), "low").expect("a lower file");
    }
    let changes = disk(&scene, "changes");
    let at = mount_over(&scene, &lower, &changes);
    fs::create_dir(at.join("dir")).expect("a directory");
    fs::write(at.join("dir/file"), "new").expect("a file");
    for part in [&lower, &changes] {
        scene.run("umount").arg("-l").arg(part).ok();
    }
    let working = ["cat one", "echo x >>one && sync one", "cat dir/file", "mv dir moved", "rm two", "touch new"];
    assert_eq!(succeeding(&scene, &at, &working), working);
    scene.layerfs(["umount"]).arg(&at).ok();
    let plain = [scene.dir("plain-low"), scene.dir("plain-changes")];
    fs::write(plain[0].join("one"), "low").expect("a lower file");
    let at = mount_over(&scene, &plain[0], &plain[1]);
    fs::create_dir(at.join("dir")).expect("a directory");
    fs::write(at.join("dir/file"), "new").expect("a file");
    assert_eq!(fs::read(at.join("one")).expect("a lower file"), b"low");
    fs::remove_dir_all(plain[1].join("upper/dir")).expect("remove a directory of the upper");
    fs::remove_dir_all(plain[1].join("work/layerfs")).expect("remove the workdir");
    fs::remove_file(plain[0].join("one")).expect("remove a lower file");
    let failing =
        ["touch dir/other", "rm dir/file", "mv dir/file x", "mkdir dir/sub", "echo x >>one && sync one", "mv one two"];
    assert_eq!(succeeding(&scene, &at, &failing), [""; 0]);
    assert_eq!(succeeding(&scene, &at, &["ls", "touch fresh", "cat fresh"]).len(), 3);
    scene.layerfs(["umount"]).arg(&at).ok();
}

#[test]
fn rule_20_a_very_large_directory_is_listed_while_it_shrinks() {
    let Some(scene) = Scene::begin_with_limit(ROOT, Duration::from_secs(400)) else { return };
    let count = number("LAYERFS_LARGE_DIRECTORY", 200_000);
    let overlay = Overlay::new(&scene, &["dir d"], "");
    overlay.unmount();
    fs::create_dir_all(scene.path("upper/d")).expect("a directory of the upper");
    for number in 0..count {
        // Half of them in the lower layer, half in the upper.
        let layer = if number % 2 == 0 { "lower0" } else { "upper" };
        File::create(scene.path(format!("{layer}/d/a-name-as-they-come-{number}"))).expect("a file");
    }
    overlay.mount();
    let mut seen = HashSet::with_capacity(count);
    for (at, entry) in fs::read_dir(overlay.path("d")).expect("a directory").enumerate() {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let number = name.rsplit('-').next().and_then(|number| number.parse::<usize>().ok()).expect("a number");
        assert!(seen.insert(number), "{name} came twice");
        if at % 8 < 2 {
            fs::remove_file(entry.path()).expect("remove what was listed");
        }
    }
    assert_eq!(seen.len(), count, "entries are lost");
    assert_eq!(fs::read_dir(overlay.path("d")).expect("a directory").count(), count - count / 4);
    scene.run("rm").arg("-rf").arg(overlay.path("d")).ok();
    assert!(!overlay.path("d").exists());
    overlay.remount();
    assert!(!overlay.path("d").exists());
    overlay.unmount();
}

/// Resident bytes of the server of the mount at `point` (proc_pid_status(5)).
fn resident(point: &Path) -> u64 {
    let record = Registry::open().and_then(|registry| registry.find(point)).expect("the records").expect("a record");
    let text = fs::read_to_string(format!("/proc/{}/status", record.pid)).expect("the server's memory");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

/// The bound that is promised, and that what the kernel has forgotten leaves less.
#[test]
fn memory_of_a_known_entry_is_bounded_and_comes_back() {
    let Some(scene) = Scene::begin_with_limit(ROOT, Duration::from_secs(240)) else { return };
    let (directories, files) = (200, 250);
    let entries = directories * (files + 1);
    for directory in 0..directories {
        let path = scene.dir(format!("lower0/d{directory}"));
        for file in 0..files {
            File::create(path.join(format!("file-of-a-usual-name-{file}"))).expect("a file");
        }
    }
    let overlay = Overlay::new(&scene, &["dir d0"], "");
    let before = resident(&overlay.at);
    let walk = || scene.sh("find \"$1\" -printf '%s %p\n' | wc -l").arg("sh").arg(&overlay.at).ok().text();
    assert_eq!(walk().trim(), (entries + 1).to_string());
    let each = resident(&overlay.at).saturating_sub(before) / entries;
    assert!(each < 400, "{each} bytes for each entry");
    // The kernel forgets entries only when it has to, or is told to.
    fs::write("/proc/sys/vm/drop_caches", "2").expect("drop entries");
    while overlay.requests().get("forget").copied().unwrap_or(0) < entries * 9 / 10 {
        std::thread::yield_now();
    }
    // Directories go after what is in them, at the next time of asking.
    let left = || resident(&overlay.at).saturating_sub(before) / entries;
    let patience = Instant::now() + Duration::from_secs(30);
    // How much that is depends on how the heap has been cut up.
    let bound = each * 4 / 5;
    while left() >= bound && Instant::now() < patience {
        fs::write("/proc/sys/vm/drop_caches", "2").expect("drop entries");
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = left();
    assert!(left < bound, "{left} bytes for each entry stay after it was forgotten, of {each}");
    overlay.unmount();
}

/// Owners of symlinks are in a table that is a log. On a full disk a line is written to the end of the page, and the rest is not.
#[test]
fn regression_a_full_disk_tears_no_line_of_the_side_table() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let (lower, changes) = (scene.dir("lower"), scene.dir("changes"));
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=256k,nr_inodes=4096", "small"]).arg(&changes).ok();
    for part in ["upper", "work"] {
        fs::create_dir(changes.join(part)).expect("a directory");
    }
    let at = |part: &str| changes.join(part).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr,xattr_permissions=2",
        lower.display(),
        at("upper"),
        at("work")
    );
    let point = scene.dir("mnt");
    let mount = || scene.layerfs(["overlay", "-o", &options]).arg(&point).ok();
    mount();
    let link = |at: u32| point.join(format!("link-{at}"));
    // A symlink of a short target takes no block of a tmpfs, so that the disk is full in the middle of a line.
    let make = |at: u32| {
        std::os::unix::fs::symlink("short", link(at))?;
        std::os::unix::fs::lchown(link(at), Some(1000 + at), Some(2000 + at))
    };
    make(0).expect("a symlink with an owner");
    let filler = changes.join("filler");
    let mut file = File::create(&filler).expect("a filler");
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    drop(file);
    let failed = (1..2000).find(|&at| make(at).is_err()).expect("the disk is full");
    fs::remove_file(&filler).expect("room again");
    // The one that failed, and those after it.
    let _ = fs::remove_file(link(failed));
    (failed..failed + 50).for_each(|at| make(at).expect("a symlink with an owner"));
    let check = || {
        for at in 0..failed + 50 {
            let found = fs::symlink_metadata(link(at)).expect("the symlink");
            let owner = (std::os::unix::fs::MetadataExt::uid(&found), std::os::unix::fs::MetadataExt::gid(&found));
            assert_eq!(owner, (1000 + at, 2000 + at), "link-{at} of {failed}");
        }
    };
    check();
    scene.layerfs(["umount"]).arg(&point).ok();
    let log = fs::read_to_string(changes.join("work/layerfs/side")).expect("the table");
    let torn: Vec<&str> = log.lines().filter(|line| !line.ends_with(" ;")).collect();
    assert!(torn.is_empty() && log.ends_with('\n'), "{torn:?}");
    // A full disk keeps nobody from mounting what is there.
    let mut file = File::create(&filler).expect("a filler");
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    drop(file);
    mount();
    check();
    scene.layerfs(["umount"]).arg(&point).ok();
    scene.run("umount").arg(&changes).ok();
}

/// Without it the program would write into the page cache for ever.
#[test]
fn regression_who_only_writes_hears_of_a_full_disk() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let (lower, changes) = (scene.dir("lower"), scene.dir("changes"));
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=4m", "full"]).arg(&changes).ok();
    let point = mount_over(&scene, &lower, &changes);
    let file = point.join("fill");
    // 8 GiB: more than any cache holds back.
    let write = scene.run("dd").args(["if=/dev/zero", "bs=64k", "count=131072"]).arg(format!("of={}", file.display()));
    write.output().fails(1, &["No space left on device"]);
    fs::metadata(&file).expect("stat goes on");
    fs::remove_file(&file).expect("remove");
    // The space comes back as soon as the kernel has forgotten the file.
    let small = || fs::write(point.join("small"), "fits").and_then(|()| File::open(point.join("small"))?.sync_all());
    while small().is_err() || fs::read(changes.join("upper/small")).expect("the upper") != b"fits" {
        std::thread::yield_now();
    }
    scene.layerfs(["umount"]).arg(&point).ok();
    scene.run("umount").arg(&changes).ok();
}
