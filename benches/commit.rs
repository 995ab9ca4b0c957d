//! What does a change cost that becomes a layer, and does it grow with anything but the change?

use crate::harness::{Bench, OURS, Report, Row, drop_caches, fresh, seconds};
use crate::images::{OurStore, PodmanStore, copy};
use crate::support::Run;
use crate::support::needs::find_program;
use crate::support::tree::noise;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const PODMAN: &str = "podman commit";
const BUILDAH: &str = "buildah commit";
const UMOCI: &str = "umoci repack";
const WRITE_AND_HASH: &str = "write and SHA-256";
const PODMAN_DIFF: &str = "podman diff";
const ONE_THREAD: &str = "layerfs, 1 thread";
/// What a commit may take of the time of writing and hashing what it writes.
const FLOOR: f64 = 1.0 / 1.3;
/// The file that is changed, and what a commit is called.
const CHANGED: &str = "changed";
const COMMITTED: &str = "committed:1";
/// Files of the larger of the two changes that are told.
const MANY: usize = 1000;

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    for program in ["podman", "buildah", "umoci"] {
        if find_program(program).is_none() {
            println!("left out: there is no {program}");
            return;
        }
    }
    let stage = Stage::set(bench);
    let size = if bench.quick { 64 << 20 } else { 256 << 20 };
    stage.change(&noise(b"changed", size));
    stage.same_results();
    let peers = [OURS, WRITE_AND_HASH, PODMAN, BUILDAH, UMOCI];
    let row =
        Row::measure(&format!("commit of {} MiB", size >> 20), &peers, bench.rounds(5), |peer| stage.commit(peer));
    report.add(&row.target(WRITE_AND_HASH, FLOOR));
    stage.change(b"change\n");
    stage.same_results();
    let peers = [OURS, PODMAN, BUILDAH, UMOCI];
    let row = Row::measure("commit of one small file", &peers, bench.rounds(5), |peer| stage.commit(peer));
    report.add(&row.note("to stay under, milliseconds", 50));
    stage.tell(report);
    stage.strike();
    below(bench, report);
    save(bench, report);
}

/// The same image with the same change in the hands of every peer.
struct Stage<'a> {
    bench: &'a Bench,
    ours: PathBuf,
    podman: PodmanStore<'a>,
    podman_tree: PathBuf,
    buildah_tree: PathBuf,
    layout: PathBuf,
    bundle: PathBuf,
}

impl<'a> Stage<'a> {
    fn set(bench: &'a Bench) -> Self {
        let archive = bench.image.docker_archive();
        bench.scene.layerfs(["load", "-q", "-i"]).arg(&archive).ok();
        let ours = bench.scene.dir("mnt/commit");
        bench.scene.layerfs(["mount", "--rw", "--name", "work", "large:latest"]).arg(&ours).ok();
        let podman = PodmanStore::new(bench);
        podman.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]).ok();
        let image = podman.only_image();
        podman.run(&["create", "--name", "work", "--network", "none", &image, "true"]).ok();
        let podman_tree = PathBuf::from(podman.run(&["mount", "work"]).ok().text().trim());
        podman.buildah(&["from", "--name", "work-too", &image]).ok();
        let buildah_tree = PathBuf::from(podman.buildah(&["mount", "work-too"]).ok().text().trim());
        let (layout, bundle) = (fresh(bench, "umoci-layout"), bench.scene.path("umoci-bundle"));
        bench.scene.run("cp").args(["-rT"]).arg(bench.image.oci()).arg(&layout).ok();
        let source = format!("{}:latest", layout.display());
        bench.scene.run("umoci").args(["unpack", "--image", &source]).arg(&bundle).ok();
        Self { bench, ours, podman, podman_tree, buildah_tree, layout, bundle }
    }

    /// Writes the file into the tree of every peer.
    fn change(&self, bytes: &[u8]) {
        for tree in [&self.ours, &self.podman_tree, &self.buildah_tree, &self.bundle.join("rootfs")] {
            std::fs::write(tree.join(CHANGED), bytes).expect("a change");
        }
    }

    fn command(&self, peer: &str) -> Run {
        match peer {
            OURS => self.bench.scene.layerfs(["commit", "work", COMMITTED]),
            PODMAN => self.podman.run(&["commit", "-q", "work", COMMITTED]),
            BUILDAH => self.podman.buildah(&["commit", "-q", "work-too", COMMITTED]),
            _ => {
                let target = format!("{}:committed", self.layout.display());
                self.bench.scene.run("umoci").args(["repack", "--image", &target]).arg(&self.bundle)
            }
        }
    }

    /// The seconds of one commit; what it made is removed after it.
    fn commit(&self, peer: &str) -> f64 {
        rustix::fs::sync();
        if peer == WRITE_AND_HASH {
            return seconds(|| write_and_hash(&self.ours.join(CHANGED), &self.bench.scene.path("floor")));
        }
        let run = self.command(peer);
        let elapsed = seconds(|| run.ok());
        self.remove(peer);
        elapsed
    }

    fn remove(&self, peer: &str) {
        match peer {
            OURS => drop(self.bench.scene.layerfs(["rmi", COMMITTED]).ok()),
            PODMAN | BUILDAH => drop(self.podman.run(&["rmi", COMMITTED]).ok()),
            _ => {
                let target = format!("{}:committed", self.layout.display());
                self.bench.scene.run("umoci").args(["rm", "--image", &target]).ok();
                self.bench.scene.run("umoci").arg("gc").arg("--layout").arg(&self.layout).ok();
            }
        }
    }

    /// Before anything is timed: every peer's image has the file, and the same bytes in it.
    fn same_results(&self) {
        let expected = hash(&mut File::open(self.ours.join(CHANGED)).expect("the change"));
        for peer in [OURS, PODMAN, BUILDAH, UMOCI] {
            self.command(peer).ok();
            assert_eq!(self.committed(peer), expected, "{peer} committed something else");
            self.remove(peer);
        }
    }

    /// The digest of the file in what `peer` committed.
    fn committed(&self, peer: &str) -> String {
        match peer {
            OURS => hash(&mut &*self.bench.scene.layerfs(["cat", "committed:1:/changed"]).ok().stdout),
            PODMAN | BUILDAH => {
                let tree = self.podman.run(&["image", "mount", COMMITTED]).ok().text();
                let found = hash(&mut File::open(Path::new(tree.trim()).join(CHANGED)).expect("the change"));
                self.podman.run(&["image", "umount", COMMITTED]).ok();
                found
            }
            _ => hash(&mut &*self.in_top_layer()),
        }
    }

    /// The file as it stands in the last layer that umoci made.
    fn in_top_layer(&self) -> Vec<u8> {
        let document =
            |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).expect("a document")).expect("JSON") };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            self.layout.join("blobs").join(digest.replace(':', "/"))
        };
        let index = document(&self.layout.join("index.json"));
        let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == "committed";
        let entry = index["manifests"].as_array().into_iter().flatten().find(named).expect("umoci's image");
        let layers = document(&blob(entry))["layers"].clone();
        let top = blob(layers.as_array().and_then(|layers| layers.last()).expect("a layer"));
        self.bench.scene.run("tar").args(["-xzOf"]).arg(top).arg(CHANGED).ok().stdout
    }

    /// Times how changes are told: of the one file, and of many more. What podman tells is compared first.
    fn tell(&self, report: &mut Report) {
        for (what, count) in [("diff of one small file", 0), ("diff of 1,000 files", MANY)] {
            for tree in [&self.ours, &self.podman_tree] {
                std::fs::create_dir_all(tree.join("many")).expect("a directory");
                (0..count).for_each(|file| std::fs::write(tree.join(format!("many/{file}")), b"x").expect("a file"));
            }
            let told = |run: Run| run.ok().text().lines().map(str::to_owned).collect::<BTreeSet<_>>();
            assert_eq!(told(self.diff(OURS)), told(self.diff(PODMAN_DIFF)), "different changes");
            let row = Row::measure(what, &[OURS, PODMAN_DIFF], self.bench.rounds(9), |peer| {
                let run = self.diff(peer);
                seconds(|| run.ok())
            });
            report.add(&row);
        }
    }

    fn diff(&self, peer: &str) -> Run {
        match peer {
            OURS => self.bench.scene.layerfs(["diff", "work"]),
            _ => self.podman.run(&["diff", "work"]),
        }
    }

    /// Takes down what a store cannot be removed with.
    fn strike(self) {
        self.bench.scene.layerfs(["umount"]).arg(&self.ours).ok();
        self.bench.scene.layerfs(["rm", "work"]).ok();
        self.podman.run(&["rm", "-f", "work"]).ok();
        self.podman.buildah(&["rm", "work-too"]).ok();
        for path in [&self.layout, &self.bundle] {
            std::fs::remove_dir_all(path).expect("remove what umoci had");
        }
    }
}

/// Reads a file, hashes it and writes it, to the disk, in one thread.
fn write_and_hash(from: &Path, to: &Path) {
    let (mut from, mut file) = (File::open(from).expect("the change"), File::create(to).expect("a copy"));
    let mut hash = Sha256::new();
    copy(&mut from, |part| {
        hash.update(part);
        file.write_all(part).expect("write");
    });
    std::hint::black_box(hash.finalize());
    file.sync_all().expect("sync");
    std::fs::remove_file(to).expect("remove the copy");
}

fn hash(from: &mut impl Read) -> String {
    let mut hash = Sha256::new();
    copy(from, |part| hash.update(part));
    format!("{:x?}", hash.finalize())
}

/// The same small change above one small layer, above 200, and above the large image.
fn below(bench: &Bench, report: &mut Report) {
    crate::mounting::load(bench, 1, "bench-1");
    crate::mounting::load(bench, 200, "bench-200");
    for (image, what) in [("bench-1", "one layer"), ("bench-200", "200 layers"), ("large", "the large image")] {
        let point = bench.scene.dir("mnt/commit");
        bench.scene.layerfs(["mount", "--rw", "--name", "below", &format!("{image}:latest")]).arg(&point).ok();
        std::fs::write(point.join(CHANGED), b"change\n").expect("a change");
        let row = Row::measure(&format!("commit of one small file above {what}"), &[OURS], bench.rounds(9), |_| {
            let elapsed = seconds(|| bench.scene.layerfs(["commit", "below", COMMITTED]).ok());
            assert_eq!(bench.scene.layerfs(["cat", "committed:1:/changed"]).ok().text(), "change\n");
            bench.scene.layerfs(["rmi", COMMITTED]).ok();
            elapsed
        });
        report.add(&row.note("to stay under, milliseconds", 50));
        bench.scene.layerfs(["umount"]).arg(&point).ok();
        bench.scene.layerfs(["rm", "below"]).ok();
    }
}

/// Compressing on all cores against one: the same bytes, sooner. A store remembers what it has compressed, so each run has its own.
fn save(bench: &Bench, report: &mut Report) {
    let archive = bench.image.docker_archive();
    let save = |peer: &str, to: &Path| {
        let store = OurStore::new(bench);
        store.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]).ok();
        drop_caches();
        let run = store.run(&["save", "-q", "--compress", "gzip", "-o"]).arg(to);
        let run = if peer == OURS { run } else { run.args(["--threads", "1"]) };
        seconds(|| run.arg("large:latest").ok())
    };
    let (one, other) = (bench.scene.path("all.tar"), bench.scene.path("one.tar"));
    save(OURS, &one);
    save(ONE_THREAD, &other);
    bench.scene.run("cmp").arg(&one).arg(&other).ok();
    let row = Row::measure("save --compress gzip", &[OURS, ONE_THREAD], bench.rounds(3), |peer| save(peer, &one));
    report.add(&row);
    for path in [one, other] {
        std::fs::remove_file(path).expect("remove an archive");
    }
}
