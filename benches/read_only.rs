//! How fast is an image mounted read-only, against the same layers unpacked under other overlay file systems?

use crate::harness::{Bench, OURS, Report, Row};
use crate::peers::{FUSE1, FUSE2, KERNEL, OURS_DIRECTORIES, Peer};
use crate::support::{Manifest, Rules};
use crate::work;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A tree of some 15,000 small files in the image.
const SMALL_FILES: &str = "usr/src";
/// The size of the file for sequential reads.
const LARGE_BYTES: usize = 512 << 20;

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let peers = mounted(bench);
    check(&peers);
    cold(bench, report, &peers);
    warm(bench, report, &peers);
    for peer in &peers {
        peer.unmount();
    }
    sequential(bench, report);
}

/// The image through `layerfs`, and its layers through the peers.
fn mounted(bench: &Bench) -> Vec<Peer> {
    bench.scene.layerfs(["load", "-i"]).arg(bench.image.docker_archive()).ok();
    let lowers = std::fs::read_to_string(bench.image.directory.join("layers/lowerdir")).expect("the layers' list");
    let options = format!("lowerdir={},ro", lowers.trim());
    let overlays = bench.peers(&[KERNEL, FUSE2, FUSE1, OURS_DIRECTORIES], &[FUSE1, OURS_DIRECTORIES]);
    let mut peers = vec![Peer::image(bench, "large:latest")];
    peers.extend(overlays.iter().filter_map(|name| Peer::overlay(bench, name, &options)));
    peers.retain(|peer| {
        if peer.name == OURS_DIRECTORIES && !bench.scene.layerfs(["overlay", "--help"]).output().status.success() {
            return false;
        }
        peer.mount(bench);
        true
    });
    peers
}

/// Checks that all peers show the same tree.
fn check(peers: &[Peer]) {
    let expected = Manifest::of(&of(peers, KERNEL).point);
    println!("{} objects; every peer shows what kernel overlayfs does:", expected.0.len());
    for peer in peers.iter().filter(|peer| peer.name != KERNEL) {
        // What `umoci` and `tar` make of the root's own time differs; whole-file content and all else must not.
        let rules = Rules { no_mtime_of_path: vec![".".into()], ..Rules::default() };
        let differences = expected.differences(&Manifest::of(&peer.point), &rules);
        let known = peer.name.starts_with("fuse-overlayfs");
        assert!(known || differences.is_empty(), "{}: {:#?}", peer.name, &differences[..differences.len().min(20)]);
        match differences.first() {
            None => println!("  {}: yes", peer.name),
            Some(first) => println!("  {}: {} differences, such as {first}", peer.name, differences.len()),
        }
    }
}

fn names(peers: &[Peer]) -> Vec<&'static str> {
    peers.iter().map(|peer| peer.name).collect()
}

fn of<'a>(peers: &'a [Peer], name: &str) -> &'a Peer {
    peers.iter().find(|peer| peer.name == name).expect("a peer of this name")
}

/// A row whose every run begins on a fresh mount with empty caches.
fn cold_row<R>(bench: &Bench, peers: &[Peer], workload: &str, rounds: usize, run: impl Fn(&Path) -> R) -> Row {
    Row::measure(workload, &names(peers), bench.rounds(rounds), |name| {
        let peer = of(peers, name);
        peer.mount_cold(bench);
        peer.seconds(bench, &run)
    })
}

/// A row whose every run follows one that is not timed.
fn warm_row<R>(bench: &Bench, peers: &[Peer], workload: &str, rounds: usize, run: impl Fn(&Path) -> R) -> Row {
    Row::measure(workload, &names(peers), bench.rounds(rounds), |name| {
        let peer = of(peers, name);
        run(&peer.point);
        peer.seconds(bench, &run)
    })
}

fn cold(bench: &Bench, report: &mut Report, peers: &[Peer]) {
    let scene = &bench.scene;
    report.add(&cold_row(bench, peers, "cold find -printf", 5, |tree| work::find(scene, tree)).target(KERNEL, 2.0));
    let (files, _) = work::read_all(&of(peers, OURS).point.join(SMALL_FILES));
    let small = |tree: &Path| work::read_all(&tree.join(SMALL_FILES));
    report.add(&cold_row(bench, peers, "cold small files", 5, small).operations(files).target(KERNEL, 2.0));
    let grep = cold_row(bench, peers, "cold grep -r", 3, |tree| work::grep(scene, &tree.join("usr/src")));
    report.add(&grep.target(KERNEL, 2.5));
    report.add(&cold_row(bench, peers, "cold tar c", 3, |tree| work::tar(scene, tree)).target(KERNEL, 1.5));
}

fn warm(bench: &Bench, report: &mut Report, peers: &[Peer]) {
    let scene = &bench.scene;
    report.add(&warm_row(bench, peers, "warm find -printf", 7, |tree| work::find(scene, tree)).target(KERNEL, 1.3));
    let paths = work::some_files(&of(peers, OURS).point.join(SMALL_FILES), 2000);
    let below = |tree: &Path| -> Vec<PathBuf> { paths.iter().map(|path| tree.join(SMALL_FILES).join(path)).collect() };
    for threads in [1, 2] {
        let row = warm_row(bench, peers, &format!("warm open+read+close, {threads} thread(s)"), 7, |tree| {
            work::repeat(&below(tree), 10, threads, work::read);
        });
        report.add(&row.operations((paths.len() * 10 * threads) as u64).target(KERNEL, 1.0));
    }
    let row = warm_row(bench, peers, "warm stat", 7, |tree| {
        work::repeat(&below(tree), 20, 1, |path, _| std::fs::symlink_metadata(path).expect("stat"));
    });
    report.add(&row.operations((paths.len() * 20) as u64).target(KERNEL, 1.2));
    let row = warm_row(bench, peers, "repeated ENOENT", 7, |tree| {
        let paths: Vec<PathBuf> = below(tree).iter().map(|path| path.with_extension("nothing")).collect();
        work::repeat(&paths, 20, 1, |path, _| std::fs::symlink_metadata(path).expect_err("nothing is there"));
    });
    report.add(&row.operations((paths.len() * 20) as u64).target(KERNEL, 1.2));
}

/// One large file, through an image of one layer.
fn sequential(bench: &Bench, report: &mut Report) {
    let layer = bench.scene.dir("large-file/layer");
    let mut file = std::fs::File::create(layer.join("large")).expect("the large file");
    let part = crate::support::tree::noise(b"large", 1 << 20);
    for _ in 0..LARGE_BYTES / part.len() {
        file.write_all(&part).expect("the large file");
    }
    drop(file);
    let tar = bench.scene.path("large-file/layer.tar");
    bench.scene.run("tar").arg("-cf").arg(&tar).arg("-C").arg(&layer).arg(".").ok();
    bench.scene.layerfs(["import"]).arg(&tar).arg("large-file:latest").ok();
    std::fs::create_dir_all(bench.scene.path("large-file/empty")).expect("an empty layer");
    let options = format!("lowerdir={}:{},ro", bench.scene.path("large-file/empty").display(), layer.display());
    let mut peers = vec![Peer::image(bench, "large-file:latest")];
    peers.extend([KERNEL, FUSE2].iter().filter_map(|name| Peer::overlay(bench, name, &options)));
    for peer in &peers {
        peer.mount(bench);
    }
    let read = |tree: &Path| work::read(&tree.join("large"), &mut vec![0; 1 << 20]);
    report.add(&cold_row(bench, &peers, "large sequential read, cold (512 MiB)", 5, read).target(KERNEL, 0.9));
    report.add(&warm_row(bench, &peers, "large sequential read, warm (512 MiB)", 7, read).target(KERNEL, 0.6));
    for peer in &peers {
        peer.unmount();
    }
    std::fs::remove_dir_all(bench.scene.path("large-file")).expect("remove the large file");
}
