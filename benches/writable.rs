//! How fast is a writable union of directories, against kernel overlayfs and fuse-overlayfs over the same lower layers?

use crate::harness::{Bench, OURS, Report, Row, drop_caches, fresh, seconds};
use crate::peers::{FUSE2, KERNEL, Peer};
use crate::support::tree::noise;
use crate::work;
use rustix::fs::IFlags;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const NAMES: [&str; 3] = [OURS, KERNEL, FUSE2];
/// Files of the rows about names.
const FILES: usize = 2000;
/// Every peer is the first as often as the others: what it brings to the page cache of the lower layers is there for those.
const ROUNDS: usize = 2 * NAMES.len();
/// Random writes of 4 KiB.
const WRITES: u64 = 20_000;
/// The tree of the warm and cold rows, in the lower layers.
const SMALL_FILES: &str = "usr/src";

/// The lower directories, and what they have in them for these rows.
struct Lower {
    directories: String,
    large_bytes: u64,
}

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let lower = lower(bench);
    reading(bench, report, &lower);
    names(bench, report, &lower);
    data(bench, report, &lower);
    programs(bench, report, &lower);
    for name in NAMES {
        std::fs::remove_dir_all(bench.scene.path(directory_of(name))).expect("remove an upper");
    }
    std::fs::remove_dir_all(bench.scene.path("writable-lower")).expect("remove the lower");
}

/// The layers of the real image, and above them one with a large file and a repository.
fn lower(bench: &Bench) -> Lower {
    let large_bytes = if bench.quick { 128 << 20 } else { 1 << 30 };
    let own = bench.scene.dir("writable-lower");
    let mut file = File::create(own.join("large")).expect("the large file");
    let part = noise(b"large", 1 << 20);
    for _ in 0..large_bytes / part.len() as u64 {
        file.write_all(&part).expect("the large file");
    }
    let script = "git init -q -b main repository && cd repository && for i in $(seq 400); do mkdir -p d$((i % 20)); seq $i $((i + 200)) >d$((i % 20))/f$i; done && git add -A && \
                  git -c user.name=bench -c user.email=bench@example.org commit -q -m all";
    bench.scene.run("sh").args(["-euc", script]).in_dir(&own).ok();
    let layers = std::fs::read_to_string(bench.image.directory.join("layers/lowerdir")).expect("the layers' list");
    Lower { directories: format!("{}:{}", own.display(), layers.trim()), large_bytes }
}

fn directory_of(name: &str) -> PathBuf {
    Path::new("upper").join(name.replace(' ', "-"))
}

/// A new, empty directory of a peer, where no other run leaves its traces: ext4 makes an inode slowly where others were removed in the
/// last minute (`recently_deleted` in fs/ext4/ialloc.c, up to twenty times as slow), and looks for a place by the name of a directory
/// that is at the top of a hierarchy.
fn apart(bench: &Bench, name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let top = fresh(bench, &directory_of(name).to_string_lossy());
    let set_top = |file: &File| -> rustix::io::Result<()> {
        let flags = rustix::fs::ioctl_getflags(file)?;
        rustix::fs::ioctl_setflags(file, flags | IFlags::TOPDIR)
    };
    // Other file systems have no such flag, nor the trouble.
    let _ = File::open(&top).map(|file| set_top(&file));
    let directory = top.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    std::fs::create_dir(&directory).expect("a directory for an upper");
    // What the run before has written is not to be written during this one.
    rustix::fs::sync();
    directory
}

/// Mounts a peer with a new, empty upper; `ours` are options for layerfs only.
fn mounted(bench: &Bench, lower: &Lower, name: &'static str, ours: &str) -> Peer {
    let directory = apart(bench, name);
    let [upper, work] = ["upper", "work"].map(|part| directory.join(part));
    std::fs::create_dir(&upper).and_then(|()| std::fs::create_dir(&work)).expect("upper and work");
    let ours = if name == OURS { ours } else { "" };
    let options =
        format!("lowerdir={},upperdir={},workdir={}{ours}", lower.directories, upper.display(), work.display());
    let peer = Peer::overlay(bench, name, &options).expect("the peer's program");
    peer.mount(bench);
    peer
}

fn known(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).expect("a peer")
}

/// A row whose every run is on a new upper, after `prepare`.
fn row<R, S>(
    bench: &Bench,
    lower: &Lower,
    workload: &str,
    options: &str,
    prepare: impl Fn(&Path) -> R,
    run: impl Fn(&Path) -> S,
) -> Row {
    Row::measure(workload, &NAMES, bench.rounds(ROUNDS), |name| {
        let peer = mounted(bench, lower, known(name), options);
        drop(prepare(&peer.point));
        let elapsed = seconds(|| run(&peer.point));
        peer.unmount();
        elapsed
    })
}

fn reading(bench: &Bench, report: &mut Report, lower: &Lower) {
    let scene = &bench.scene;
    let cold = |_: &Path| drop_caches();
    let small = |tree: &Path| work::read_all(&tree.join(SMALL_FILES));
    let walk = |tree: &Path| work::find(scene, tree);
    report.add(&row(bench, lower, "writable: cold walk", "", cold, walk).target(KERNEL, 1.0).target(FUSE2, 2.0));
    report
        .add(&row(bench, lower, "writable: cold small files", "", cold, small).target(KERNEL, 1.0).target(FUSE2, 2.0));
    report.add(&row(bench, lower, "writable: warm walk", "", walk, walk).target(KERNEL, 1.0).target(FUSE2, 3.0));
    let below = |tree: &Path| -> Vec<PathBuf> {
        let tree = tree.join(SMALL_FILES);
        work::some_files(&tree, FILES).into_iter().map(|path| tree.join(path)).collect()
    };
    let timed = |workload: &str, passes: usize, operation: fn(&Path, &mut [u8])| {
        Row::measure(workload, &NAMES, bench.rounds(5), |name| {
            let peer = mounted(bench, lower, known(name), "");
            let paths = below(&peer.point);
            work::repeat(&paths, 1, 1, operation);
            let elapsed = seconds(|| work::repeat(&paths, passes, 1, operation));
            peer.unmount();
            elapsed
        })
        .operations((FILES * passes) as u64)
    };
    let open = timed("writable: warm open+read+close", 5, |path, buffer| {
        std::hint::black_box(work::read(path, buffer));
    });
    report.add(&open.target(KERNEL, 1.0).target(FUSE2, 3.0));
    let stat = timed("writable: warm stat", 10, |path, _| {
        std::hint::black_box(std::fs::symlink_metadata(path).expect("stat"));
    });
    report.add(&stat.target(KERNEL, 1.2).target(FUSE2, 1.0));
    let absent = timed("writable: repeated ENOENT", 10, |path, _| {
        drop(std::fs::symlink_metadata(path.with_extension("nothing")).expect_err("nothing is there"));
    });
    report.add(&absent.target(KERNEL, 1.0).target(FUSE2, 3.0));
}

fn create(tree: &Path) {
    let directory = tree.join("new");
    std::fs::create_dir(&directory).expect("mkdir");
    let content = [b'x'; 4096];
    for number in 0..FILES {
        std::fs::write(directory.join(format!("file-{number}")), content).expect("create");
    }
}

fn names(bench: &Bench, report: &mut Report, lower: &Lower) {
    let each = |tree: &Path, operation: &dyn Fn(PathBuf)| {
        (0..FILES).for_each(|number| operation(tree.join(format!("new/file-{number}"))));
    };
    let unlink = |tree: &Path| each(tree, &|path| std::fs::remove_file(path).expect("unlink"));
    let rename =
        |tree: &Path| each(tree, &|path| std::fs::rename(&path, path.with_extension("moved")).expect("rename"));
    let remove = |tree: &Path| std::fs::remove_dir_all(tree.join("usr/include")).expect("rm -rf");
    let with_goals = |row: Row| row.target(KERNEL, 0.3).target(FUSE2, 3.0);
    let files = FILES as u64;
    report.add(&with_goals(row(bench, lower, "create + write 4 KiB", "", |_| (), create).operations(files)));
    report.add(&with_goals(row(bench, lower, "unlink", "", create, unlink).operations(files)));
    report.add(&with_goals(row(bench, lower, "rename", "", create, rename).operations(files)));
    report.add(&with_goals(row(bench, lower, "rm -rf of a lower tree", "", |_| (), remove)));
}

fn data(bench: &Bench, report: &mut Report, lower: &Lower) {
    let bytes = lower.large_bytes;
    let size = format!("{} MiB", bytes >> 20);
    let part = noise(b"write", 1 << 20);
    let sequential = |tree: &Path| {
        let mut file = File::create(tree.join("sequential")).expect("create");
        for _ in 0..bytes / part.len() as u64 {
            file.write_all(&part).expect("write");
        }
        file.sync_all().expect("fsync");
    };
    let name = format!("sequential write of {size} with fsync");
    report.add(&row(bench, lower, &name, "", |_| (), sequential).target(KERNEL, 0.8).target(FUSE2, 2.0));
    let prepare = |tree: &Path| {
        let file = File::create(tree.join("random")).expect("create");
        (0..64).for_each(|mebibyte| file.write_all_at(&part, mebibyte << 20).expect("write"));
        file.sync_all().expect("fsync");
    };
    let random = |tree: &Path, sync: bool| {
        let file = OpenOptions::new().write(true).open(tree.join("random")).expect("open");
        let mut state = 88_172_645_463_325_252_u64;
        for _ in 0..WRITES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file.write_all_at(&part[..4096], (state % (64 << 8)) << 12).expect("write");
        }
        if sync {
            file.sync_all().expect("fsync");
        }
    };
    let plain = row(bench, lower, "random 4 KiB writes", "", prepare, |tree| random(tree, false)).operations(WRITES);
    report.add(&plain.target(KERNEL, 0.5).target(FUSE2, 8.0));
    let synced =
        row(bench, lower, "random 4 KiB writes with fsync", "", prepare, |tree| random(tree, true)).operations(WRITES);
    report.add(&synced.target(KERNEL, 1.0).target(FUSE2, 5.0));
    let chmod =
        |tree: &Path| std::fs::set_permissions(tree.join("large"), PermissionsExt::from_mode(0o600)).expect("chmod");
    let name = format!("chmod of a lower file of {size} (metacopy=on)");
    report.add(&row(bench, lower, &name, ",metacopy=on", |_| (), chmod).target(KERNEL, 10.0).target(FUSE2, 10.0));
    let truncate = |tree: &Path| {
        OpenOptions::new().write(true).truncate(true).open(tree.join("large")).expect("open with O_TRUNC")
    };
    let name = format!("open with O_TRUNC of a lower file of {size}");
    report.add(&row(bench, lower, &name, "", |_| (), truncate).target(KERNEL, 10.0).target(FUSE2, 10.0));
}

fn programs(bench: &Bench, report: &mut Report, lower: &Lower) {
    let shell = |tree: &Path, script: &str| {
        let mut command = bench.scene.run("sh").args(["-euc", script]).in_dir(tree).command();
        assert!(command.status().expect("a shell").success(), "{script} in {}", tree.display());
    };
    let rows = [
        ("git clone inside", "git clone -q --no-hardlinks ./repository clone"),
        (
            "compile inside",
            "printf '#include <stdio.h>\\nint main(void) { return printf(\"\"); }' >a.c; for i in 1 2 3 4 5 6 7 8; do cp a.c b$i.c; gcc -O1 -o b$i b$i.c; done",
        ),
        (
            "interpreter start-up inside",
            "for i in 1 2 3 4 5; do chroot . /usr/bin/python3 -c 'import json, subprocess, asyncio'; done",
        ),
    ];
    for (workload, script) in rows {
        let row = row(bench, lower, workload, "", |_| (), |tree| shell(tree, script));
        report.add(&row.target(KERNEL, 0.8).target(FUSE2, 1.5));
    }
}
