//! What things cost, counted instead of timed: requests, system calls, memory, bytes written. No noise of a machine can make
//! these tests fail, and no fast one can make them pass.

use crate::support::image::Packing;
use crate::support::tree::{self, Notation, noise};
use crate::support::{Image, Need, Scene};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

/// System calls by which a server gets requests and gives answers, and its threads wait. And fcntl, by which a program that is
/// not optimised checks every descriptor before it closes it.
const TRANSPORT: [&str; 9] =
    ["read", "write", "writev", "ppoll", "futex", "clock_nanosleep", "restart_syscall", "rt_sigreturn", "fcntl"];

/// What other threads do that may still be on their way: one that begins, and the answer to the question for the server's number.
const ASIDE: [&str; 11] = [
    "accept4",
    "close",
    "gettid",
    "prctl",
    "recvfrom",
    "rseq",
    "rt_sigprocmask",
    "sched_getaffinity",
    "set_robust_list",
    "setsockopt",
    "sigaltstack",
];

/// What `ps` says of the mount on `point`.
fn mount_of(scene: &Scene, point: &Path) -> serde_json::Value {
    let all = scene.layerfs(["ps", "--stats", "--format", "json"]).ok().json();
    let all = all.as_array().expect("a list");
    let found = all.iter().find(|mount| mount["MountPoint"].as_str().map(Path::new) == Some(point));
    found.unwrap_or_else(|| panic!("no mount on {}: {all:?}", point.display())).clone()
}

fn server(scene: &Scene, point: &Path) -> u32 {
    mount_of(scene, point)["Pid"].as_u64().expect("a number") as u32
}

fn requests(scene: &Scene, point: &Path) -> BTreeMap<String, u64> {
    serde_json::from_value(mount_of(scene, point)["Requests"].clone()).expect("counts")
}

/// The requests of each kind that `body` causes.
fn requests_of(scene: &Scene, point: &Path, body: impl FnOnce()) -> BTreeMap<String, u64> {
    let before = requests(scene, point);
    body();
    let after = requests(scene, point);
    let new = after.into_iter().map(|(name, count)| {
        let old = before.get(&name).copied().unwrap_or(0);
        (name, count - old)
    });
    new.filter(|(_, count)| *count > 0).collect()
}

/// Waits until the server `pid` has started every thread that listens: the first one answers when the others are still being made.
fn wait_for_threads(pid: u32) {
    let wanted = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
    let listens =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("fuser-"));
    let listening = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
        tasks.filter(|task| task.as_ref().is_ok_and(listens)).count()
    };
    while listening() < wanted {
        std::thread::yield_now();
    }
}

/// The system calls of the server `pid` while `body` runs, but for its transport.
fn system_calls(scene: &Scene, pid: u32, body: impl FnOnce()) -> BTreeMap<String, u64> {
    wait_for_threads(pid);
    let report = scene.path("strace");
    let mut tracer = scene
        .run("strace")
        .args(["-f", "-qq", "-c", "-U", "calls,name", "-o"])
        .arg(&report)
        .args(["-p", &pid.to_string()])
        .spawn();
    let is_traced = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.lines().any(|line| line.starts_with("TracerPid:") && line.ends_with("\t0"))
    };
    while !fs::read_dir(format!("/proc/{pid}/task")).expect("threads").all(|task| is_traced(task.expect("a thread"))) {
        assert!(tracer.try_wait().expect("a state").is_none(), "strace ended at once");
        std::thread::yield_now();
    }
    body();
    let number = Pid::from_child(&tracer);
    rustix::process::kill_process(number, Signal::INT).expect("end strace");
    tracer.wait().expect("strace");
    let text = fs::read_to_string(&report).expect("strace's report");
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let count = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), count))
    });
    let counts = |name: &str| name != "total" && !TRANSPORT.contains(&name) && !ASIDE.contains(&name);
    lines.filter(|(name, _)| counts(name)).collect()
}

const LAYERS: usize = 100;
const FILES: usize = 10;

/// 100 layers with ten files each, all in one directory; bottom first.
fn layers() -> Vec<String> {
    let line = |layer: usize, file: usize| format!("file d/{layer:03}-{file} =x");
    (0..LAYERS).map(|layer| (0..FILES).map(|file| line(layer, file)).collect::<Vec<_>>().join("\n")).collect()
}

/// The system calls of the server for a stat of each of the thousand files, none of them listed or looked up before.
fn calls_of_cold_stats(scene: &Scene, point: &Path) -> BTreeMap<String, u64> {
    let all = (0..LAYERS).flat_map(|layer| (0..FILES).map(move |file| format!("d/{layer:03}-{file}")));
    system_calls(scene, server(scene, point), || {
        for path in all {
            assert_eq!(fs::symlink_metadata(point.join(path)).expect("stat").len(), 1);
        }
    })
}

#[test]
fn a_cold_stat_over_a_hundred_tables_of_contents_makes_no_system_call() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("strace")]) else { return };
    let image = layers().iter().fold(Image::new().packing(Packing::Plain), |image, layer| image.layer(layer));
    let layout = image.write_oci(&scene.path("layout"), "hundred");
    let name = scene.load(&format!("oci:{}:hundred", layout.display()));
    let mount = scene.mount(["mount", &name], "mnt");
    let calls = calls_of_cold_stats(&scene, mount.path());
    let total: u64 = calls.values().sum();
    // What memory the merged names of the directory take.
    assert!(total <= 20, "{total} system calls for {} stats: {calls:?}", LAYERS * FILES);
    mount.unmount().ok();
}

#[test]
fn a_cold_stat_over_a_hundred_directories_makes_at_most_four_system_calls() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("strace")]) else { return };
    let mut lowers = Vec::new();
    for (index, text) in layers().iter().enumerate() {
        let path = scene.dir(format!("l/{index}"));
        tree::to_directory(&tree::parse(text), &path, Notation::Trusted);
        lowers.insert(0, path.display().to_string());
    }
    let mount = scene.mount(["overlay", "-o", &format!("lowerdir={},ro", lowers.join(":"))], "mnt");
    let calls = calls_of_cold_stats(&scene, mount.path());
    let total: u64 = calls.values().sum();
    assert!(total <= 4 * (LAYERS * FILES) as u64, "{total} system calls for {} stats: {calls:?}", LAYERS * FILES);
    mount.unmount().ok();
}

/// Looked up, made, asked for capabilities, written; and the directory's own attributes are asked for again, since making something
/// in it changes them. Beside these the kernel hands over the times of files of which it writes pages back.
#[test]
fn a_new_file_costs_each_request_once() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    fs::write(mount.join("first"), "what is asked once is asked for this").expect("write");
    let mut new = requests_of(&scene, mount.path(), || {
        for at in 0..100 {
            fs::write(mount.join(format!("{at}")), [b'x'; 4096]).expect("write");
        }
    });
    assert!(!new.contains_key("create"), "the first file has shown that they are made by mknod");
    let times = new.remove("setattr").unwrap_or(0);
    assert!(times <= 100, "{times} times handed over for 100 new files");
    for request in ["lookup", "mknod", "getxattr", "write", "getattr"] {
        let count = new.remove(request).unwrap_or(0);
        assert!(count <= 101, "{count} {request} for 100 new files");
    }
    assert!(new.is_empty(), "{new:?}");
    mount.unmount().ok();
}

/// Made, written and closed where nothing has changed since the directory was looked at: four requests. The fifth above is what the next
/// path through the directory costs.
#[test]
fn the_first_file_of_a_directory_costs_four_requests() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    fs::write(mount.join("first"), "what is asked once is asked for this").expect("write");
    let directories: Vec<_> = (0..100).map(|at| mount.join(format!("{at}"))).collect();
    for directory in &directories {
        fs::create_dir(directory).expect("mkdir");
    }
    fs::symlink_metadata(mount.path()).expect("stat");
    let mut new = requests_of(&scene, mount.path(), || {
        for directory in &directories {
            fs::write(directory.join("file"), [b'x'; 4096]).expect("write");
        }
    });
    let times = new.remove("setattr").unwrap_or(0);
    assert!(times <= 100, "{times} times handed over for 100 new files");
    let total: u64 = new.values().sum();
    assert!(total <= 401, "{new:?}");
    mount.unmount().ok();
}

/// A few names of a large directory are looked for where they are, as the kernel does it; whoever wants many is served from a listing.
#[test]
fn a_name_of_a_large_directory_does_not_cost_a_listing() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("strace")]) else { return };
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    fs::create_dir(scene.path("lower/large")).expect("mkdir");
    for at in 0..5000 {
        fs::write(scene.path(format!("lower/large/a-file-of-this-number-{at}")), "x").expect("write");
    }
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    let large = mount.join("large");
    let stat = |at: usize| {
        let length = fs::symlink_metadata(large.join(format!("a-file-of-this-number-{at}"))).map(|stat| stat.len());
        assert_eq!(length.ok(), (at < 5000).then_some(1), "{at}");
    };
    let calls = system_calls(&scene, server(&scene, mount.path()), || {
        (4990..5010).for_each(stat);
        fs::write(large.join("new"), "x").expect("write");
        fs::remove_file(large.join("a-file-of-this-number-3")).expect("unlink");
    });
    assert_eq!(calls.get("getdents64"), None, "{calls:?}");
    let calls = system_calls(&scene, server(&scene, mount.path()), || (0..5000).filter(|at| *at != 3).for_each(stat));
    assert!(calls.get("getdents64").is_some_and(|count| *count < 50), "{calls:?}");
    assert_eq!(fs::read_dir(&large).expect("list").count(), 5000);
    mount.unmount().ok();
}

/// That a new directory is empty need not be read from it.
#[test]
fn a_new_directory_is_not_read() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("strace")]) else { return };
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    fs::create_dir(scene.path("lower/merged")).expect("mkdir");
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    fs::write(mount.join("merged/copied-up"), "x").expect("write");
    // So that what is in the one above is known.
    for at in 0..10 {
        fs::symlink_metadata(mount.join(format!("merged/nothing-{at}"))).expect_err("nothing is there");
    }
    let calls = system_calls(&scene, server(&scene, mount.path()), || {
        for at in 0..100 {
            let directory = mount.join(format!("merged/{at}"));
            fs::create_dir(&directory).expect("mkdir");
            fs::write(directory.join("file"), "x").expect("write");
        }
    });
    assert_eq!(calls.get("mkdirat"), Some(&100), "{calls:?}");
    assert_eq!(calls.get("getdents64"), None, "{calls:?}");
    assert_eq!(fs::read_dir(mount.join("merged/99")).expect("list").count(), 1);
    mount.unmount().ok();
}

#[test]
fn a_cached_file_of_a_writable_mount_costs_no_request() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    fs::write(scene.path("lower/file"), "lower").expect("write");
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    let touch = || {
        // Without a stat: closing a file makes the kernel doubt how many blocks it has, and ask with the next one.
        let mut content = [0; 100];
        let mut file = fs::File::open(mount.join("file")).expect("open");
        assert_eq!(file.read(&mut content).expect("read"), 5);
        fs::symlink_metadata(mount.join("nothing")).expect_err("nothing is there");
        assert_eq!(fs::read_dir(mount.path()).expect("list").count(), 1);
    };
    touch();
    touch();
    let new = requests_of(&scene, mount.path(), || (0..100).for_each(|_| touch()));
    assert!(new.is_empty(), "{new:?}");
    mount.unmount().ok();
}

/// Attributes come with the listings: nothing is asked for one by one.
#[test]
fn a_walk_of_a_writable_mount_costs_its_listings() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    for at in 0..2000 {
        let directory = scene.path(format!("lower/{}", at / 400));
        fs::create_dir_all(&directory).expect("mkdir");
        fs::write(directory.join(format!("file-{at}")), "x").expect("write");
    }
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    let mut new = requests_of(&scene, mount.path(), || {
        let mut files = 0;
        for directory in fs::read_dir(mount.path()).expect("list") {
            for file in fs::read_dir(directory.expect("an entry").path()).expect("list") {
                files += file.expect("an entry").metadata().expect("a stat").len();
            }
        }
        assert_eq!(files, 2000);
    });
    let listings = ["opendir", "readdir", "readdirplus"].into_iter().filter_map(|name| new.remove(name)).sum::<u64>();
    // Twenty-five entries fit into the smallest answer; it is asked once more whether that was all.
    assert!(listings <= 2000 / 25 + 2 * 6 + 1, "{listings} requests for 2000 files");
    let others: u64 = new.values().sum();
    assert!(others <= 8, "{new:?}");
    mount.unmount().ok();
}

/// A deletion in a lower layer is a link to the one whiteout there is; no inode is made, no layer is asked again.
#[test]
fn a_removed_lower_file_costs_a_link() {
    const FILES: u64 = 200;
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse, Need::Program("strace")]) else { return };
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    for at in 0..=FILES {
        fs::write(scene.path(format!("lower/{at}")), "x").expect("write");
    }
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    fs::remove_file(mount.join("0")).expect("unlink");
    let calls = system_calls(&scene, server(&scene, mount.path()), || {
        (1..=FILES).for_each(|at| fs::remove_file(mount.join(at.to_string())).expect("unlink"));
    });
    assert_eq!(calls.get("linkat"), Some(&FILES), "{calls:?}");
    assert_eq!(calls.get("mknodat"), None, "{calls:?}");
    let total: u64 = calls.values().sum();
    // The link, and looks at the file, and at the directory, whose attributes have changed.
    assert!(total <= 6 * FILES, "{total} system calls for {FILES} files: {calls:?}");
    mount.unmount().ok();
}

/// Bytes that the server has for itself alone, in memory.
fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its own memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_mount_takes_less_than_64_bytes_for_a_file() {
    const DIRECTORIES: u64 = 1000;
    const EACH: u64 = 25;
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    // Every directory is merged of two layers, so none is read from its table alone.
    let layer = |mark: &str| {
        let files = (0..DIRECTORIES).flat_map(|dir| (0..EACH).map(move |file| format!("file d{dir}/{file}{mark} =x")));
        files.collect::<Vec<_>>().join("\n")
    };
    let image = Image::new().packing(Packing::Plain).layer(&layer("a")).layer(&layer("b"));
    let layout = image.write_oci(&scene.path("layout"), "many");
    let name = scene.load(&format!("oci:{}:many", layout.display()));
    let mount = scene.mount(["mount", &name], "mnt");
    let pid = server(&scene, mount.path());
    let before = own_memory(pid);
    let mut files = 0;
    for directory in fs::read_dir(mount.path()).expect("list") {
        let directory = directory.expect("an entry").path();
        for entry in fs::read_dir(directory).expect("list") {
            entry.expect("an entry").metadata().expect("metadata");
            files += 1;
        }
    }
    assert_eq!(files, 2 * DIRECTORIES * EACH);
    let taken = own_memory(pid).saturating_sub(before);
    eprintln!("{} bytes for a file", taken / files);
    assert!(taken < 64 * files, "{taken} bytes for {files} files");
    mount.unmount().ok();
}

/// Bytes that a program wrote: handed to write calls, and made dirty on disk.
fn bytes_written(mut program: std::process::Child) -> u64 {
    let pid = Pid::from_child(&program);
    // It has ended, and what is known of it stays until it is waited for.
    rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("its end");
    let io = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).expect("what it wrote");
    assert!(program.wait().expect("its state").success());
    let counts = io.lines().filter_map(|line| line.split_once(": "));
    let written = counts.filter(|(name, _)| matches!(*name, "wchar" | "write_bytes"));
    written.map(|(_, count)| count.parse::<u64>().expect("a number")).max().expect("counts")
}

#[test]
fn a_commit_writes_what_changed_and_little_else() {
    const PARENT: usize = 48 << 20;
    const CHANGE: usize = 4 << 20;
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let layer = scene.dir("layer");
    fs::write(layer.join("large"), noise(b"parent", PARENT)).expect("write");
    scene.run("tar").args(["-cf", "layer.tar", "-C", "layer", "."]).ok();
    scene.layerfs(["import", "layer.tar", "parent:1"]).ok();
    let mount = scene.mount(["mount", "--rw", "--name", "changed", "parent:1"], "mnt");
    let mut file = fs::File::create(mount.join("new")).expect("create");
    file.write_all(&noise(b"change", CHANGE)).expect("write");
    drop(file);
    let written = bytes_written(scene.layerfs(["commit", "changed", "child:1"]).spawn());
    let limit = (CHANGE + CHANGE / 10 + (256 << 10)) as u64;
    assert!(written >= CHANGE as u64 && written < limit, "{written} bytes written for a change of {CHANGE}");
    mount.unmount().ok();
}
