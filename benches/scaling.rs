//! What grows with what: layers, files of a tree, entries of a directory, threads, the size of a file; and the memory of the server
//! beside each.

use crate::harness::{Bench, OURS, Report, Row, fresh};
use crate::peers::{KERNEL, Peer};
use crate::support::Image;
use crate::support::image::Packing;
use crate::support::tree::{self, Notation, noise};
use crate::work;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const NAMES: [&str; 2] = [OURS, KERNEL];
const ROUNDS: usize = 3;
/// Files of one directory where a tree has many.
const FILES_OF_A_DIRECTORY: usize = 100;
/// What each thread reads.
const FILES_OF_A_THREAD: usize = 2000;

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    for count in points(bench, &[1, 10, 100, 500], &[1, 100]) {
        let subject = Subject::of_layers(bench, count);
        subject.cold(bench, report, &format!("scaling: cold walk of {count} layers"), |tree| walk(bench, tree));
    }
    for count in points(bench, &[10, 1000, 100_000, 1_000_000], &[10, 10_000]) {
        let subject = Subject::of_directory(bench, |at| files(at, count, FILES_OF_A_DIRECTORY));
        subject.cold(bench, report, &format!("scaling: cold walk of {count} files"), |tree| walk(bench, tree));
    }
    for count in points(bench, &[1, 1000, 200_000], &[1, 10_000]) {
        let subject = Subject::of_directory(bench, |at| files(at, count, count));
        subject.cold(bench, report, &format!("scaling: cold listing of {count} entries"), list);
    }
    threads(bench, report);
    for size in points(bench, &[0, 4 << 10, 1 << 20, 128 << 20, 4 << 30], &[4 << 10, 64 << 20]) {
        let subject = Subject::of_directory(bench, |at| large(&at.join("file"), size));
        let read = |tree: &Path| work::read(&tree.join("file"), &mut vec![0; 1 << 20]);
        subject.cold(bench, report, &format!("scaling: cold read of {size} bytes"), read);
    }
    for left in ["scaling", "scaling.tar"] {
        let path = bench.scene.path(left);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.expect("remove what was measured");
    }
}

fn points<T: Copy>(bench: &Bench, full: &[T], quick: &[T]) -> Vec<T> {
    if bench.quick { quick } else { full }.to_vec()
}

fn walk(bench: &Bench, tree: &Path) {
    work::find(&bench.scene, tree);
}

/// Names only.
fn list(tree: &Path) {
    std::hint::black_box(std::fs::read_dir(tree.join("0")).expect("list").count());
}

/// Makes `count` empty files below `at`, so many in a directory.
fn files(at: &Path, count: usize, each: usize) {
    for directory in 0..count.div_ceil(each) {
        let path = at.join(directory.to_string());
        std::fs::create_dir(&path).expect("mkdir");
        for file in directory * each..count.min((directory + 1) * each) {
            File::create(path.join(file.to_string())).expect("create");
        }
    }
}

fn large(path: &Path, size: u64) {
    let mut file = File::create(path).expect("create");
    let part = noise(b"scaling", 1 << 20);
    let mut left = size;
    while left > 0 {
        let length = left.min(part.len() as u64);
        file.write_all(&part[..length as usize]).expect("write");
        left -= length;
    }
}

/// Warm reads by several threads at a time.
fn threads(bench: &Bench, report: &mut Report) {
    let subject = Subject::of_directory(bench, |at| files(at, FILES_OF_A_THREAD, FILES_OF_A_DIRECTORY));
    for count in points(bench, &[1, 2, 4, 8], &[1, 4]) {
        let paths: Vec<PathBuf> = work::some_files(&subject.lower, FILES_OF_A_THREAD);
        let row = Row::measure(&format!("scaling: {count} threads read"), &NAMES, bench.rounds(ROUNDS), |name| {
            let peer = subject.mounted(bench, name);
            let paths: Vec<PathBuf> = paths.iter().map(|path| peer.point.join(path)).collect();
            work::repeat(&paths, 1, 1, work::read);
            let elapsed = peer.seconds(bench, |_| work::repeat(&paths, 5, count, work::read));
            peer.unmount();
            elapsed
        });
        report.add(&row.operations((FILES_OF_A_THREAD * 5 * count) as u64));
    }
}

/// One tree, as an image and as directories.
struct Subject {
    image: String,
    /// For the kernel.
    options: String,
    /// The only or topmost directory.
    lower: PathBuf,
}

impl Subject {
    /// An image of one layer, made of the directory that `fill` fills.
    fn of_directory(bench: &Bench, fill: impl FnOnce(&Path)) -> Self {
        let base = fresh(bench, "scaling");
        let (lower, empty) = (base.join("lower"), base.join("empty"));
        std::fs::create_dir(&lower).and_then(|()| std::fs::create_dir(&empty)).expect("mkdir");
        fill(&lower);
        let tar = bench.scene.path("scaling.tar");
        bench.scene.run("tar").arg("-cf").arg(&tar).arg("-C").arg(&lower).arg(".").ok();
        let image = "scaling:latest".to_owned();
        bench.scene.layerfs(["import"]).arg(&tar).arg(&image).ok();
        let options = format!("lowerdir={}:{},ro", lower.display(), empty.display());
        Self { image, options, lower }
    }

    /// An image of `count` layers with ten files each, all in the same directories.
    fn of_layers(bench: &Bench, count: usize) -> Self {
        let base = fresh(bench, "scaling");
        let mut image = Image::new().packing(Packing::Plain);
        for layer in 0..count {
            let lines: Vec<String> = (0..10).map(|file| format!("file d{file}/l{layer} =x")).collect();
            let text = lines.join("\n");
            let lower = base.join(layer.to_string());
            std::fs::create_dir(&lower).expect("mkdir");
            tree::to_directory(&tree::parse(&text), &lower, Notation::Trusted);
            image = image.layer(&text);
        }
        let archive = image.write_docker_archive(&bench.scene.path("scaling.tar"), "scaling:latest");
        bench.scene.layerfs(["load", "-i"]).arg(archive).ok();
        std::fs::create_dir(base.join("empty")).expect("mkdir");
        // Relative to the directory they lie in, or mount(8) would not take that many.
        let lowers: Vec<String> = (0..count).rev().map(|layer| layer.to_string()).collect();
        // The kernel takes two to five hundred of them.
        let second = if count == 1 { ":empty" } else { "" };
        let options = format!("lowerdir={}{second},ro", lowers.join(":"));
        Self { image: "scaling:latest".to_owned(), options, lower: base.join((count - 1).to_string()) }
    }

    fn mounted(&self, bench: &Bench, name: &str) -> Peer {
        let peer = match name {
            OURS => Peer::image(bench, &self.image),
            _ => Peer::overlay(bench, KERNEL, &self.options).expect("the kernel's overlayfs"),
        };
        let base = self.lower.parent().expect("a directory");
        peer.mount_in(bench, base);
        peer
    }

    /// A row of runs on fresh mounts with empty caches, with the memory that the server has afterwards.
    fn cold<R>(&self, bench: &Bench, report: &mut Report, workload: &str, run: impl Fn(&Path) -> R) {
        let mut memory = 0;
        let row = Row::measure(workload, &NAMES, bench.rounds(ROUNDS), |name| {
            let peer = self.mounted(bench, name);
            crate::harness::drop_caches();
            let elapsed = peer.seconds(bench, &run);
            if name == OURS {
                memory = server_memory(bench, &peer.point);
            }
            peer.unmount();
            elapsed
        });
        report.add(&row.note("memory of the server's own in KiB", memory));
    }
}

/// What the server of the mount on `point` has for itself alone, in KiB.
fn server_memory(bench: &Bench, point: &Path) -> u64 {
    let mounts = bench.scene.layerfs(["ps", "--format", "json"]).ok().json();
    let is_this = |mount: &&serde_json::Value| mount["MountPoint"].as_str().map(Path::new) == Some(point);
    let mount = mounts.as_array().expect("a list").iter().find(is_this).expect("the mount");
    let status = std::fs::read_to_string(format!("/proc/{}/status", mount["Pid"])).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
