//! What all questions about images on their way share: stores, peers, and the memory each takes.

use crate::harness::{Bench, OURS, Row, drop_caches, fresh};
use crate::support::Run;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How often a running program's memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The peaks of memory seen, by peer.
#[derive(Debug, Default)]
pub(crate) struct Peaks(RefCell<BTreeMap<String, u64>>);

impl Peaks {
    /// Runs a program, keeps the most memory it had as `peer`'s, and returns the seconds it took.
    pub(crate) fn seconds(&self, peer: &str, run: Run) -> f64 {
        let mut command = run.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut peak = 0;
        let status = loop {
            peak = peak.max(high_water(child.id()));
            match child.try_wait().expect("wait for a program") {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
        };
        let elapsed = begun.elapsed().as_secs_f64();
        assert!(status.success(), "{command:?}: {status}");
        let mut peaks = self.0.borrow_mut();
        let known = peaks.entry(peer.to_owned()).or_default();
        *known = peak.max(*known);
        elapsed
    }

    /// Adds the peaks to a row, in MiB.
    pub(crate) fn note(&self, row: Row) -> Row {
        let peaks: BTreeMap<_, _> = self.0.borrow().iter().map(|(peer, kib)| (peer.clone(), kib >> 10)).collect();
        row.note("peak memory in MiB", json!(peaks))
    }
}

/// The most memory a process has had, in KiB; 0 once it has ended.
fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// A store of `layerfs`, empty at first. Removed when it is dropped.
pub(crate) struct OurStore<'a> {
    bench: &'a Bench,
    root: PathBuf,
}

impl<'a> OurStore<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Self {
        Self { bench, root: fresh(bench, "our-store") }
    }

    /// `layerfs` with this store.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let run = self.bench.scene.layerfs(["--root"]).arg(&self.root).args(arguments);
        let registries = self.bench.scene.path("registries.conf");
        std::fs::write(&registries, "").expect("registries.conf");
        run.env("CONTAINERS_REGISTRIES_CONF", registries)
    }

    /// The diffIDs of the image `name`.
    pub(crate) fn layers(&self, name: &str) -> Vec<String> {
        let found = self.run(&["inspect", name]).ok().json();
        texts(&found[0]["RootFS"]["Layers"])
    }
}

impl Drop for OurStore<'_> {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).expect("remove a store");
    }
}

/// A store of podman's, empty at first. Removed when it is dropped.
pub(crate) struct PodmanStore<'a> {
    bench: &'a Bench,
    root: PathBuf,
    state: PathBuf,
}

impl<'a> PodmanStore<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Self {
        Self { bench, root: fresh(bench, "podman-store"), state: fresh(bench, "podman-run") }
    }

    /// `podman` with this store.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let podman = self.bench.scene.run("podman").arg("--root").arg(&self.root).arg("--runroot").arg(&self.state);
        podman.args(["--storage-driver", "overlay"]).args(arguments)
    }

    /// `buildah` with this store.
    pub(crate) fn buildah(&self, arguments: &[&str]) -> Run {
        let buildah = self.bench.scene.run("buildah").arg("--root").arg(&self.root).arg("--runroot").arg(&self.state);
        buildah.args(["--storage-driver", "overlay"]).args(arguments)
    }

    /// The ID of the only image.
    pub(crate) fn only_image(&self) -> String {
        self.run(&["images", "--quiet"]).ok().text().trim().to_owned()
    }

    /// The diffIDs of the only image.
    pub(crate) fn layers(&self) -> Vec<String> {
        let found = self.run(&["image", "inspect", &self.only_image()]).ok().json();
        texts(&found[0]["RootFS"]["Layers"])
    }
}

impl Drop for PodmanStore<'_> {
    fn drop(&mut self) {
        // Podman leaves its store mounted onto itself.
        let (root, state) = (self.root.display(), self.state.display());
        let script = format!("umount -l '{root}/overlay' 2>/dev/null || true; rm -rf '{root}' '{state}'");
        self.bench.scene.sh(script).ok();
    }
}

fn texts(array: &serde_json::Value) -> Vec<String> {
    let texts = array.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned));
    texts.collect()
}

/// The bench's image as a layout, in the words of `layerfs` and podman.
pub(crate) fn layout(bench: &Bench) -> String {
    format!("oci:{}:latest", bench.image.oci().display())
}

/// Hashes a file in one thread.
pub(crate) fn hash_file(path: &Path) {
    let mut hash = Sha256::new();
    copy(&mut File::open(path).expect("open"), |part| hash.update(part));
    std::hint::black_box(hash.finalize());
}

/// Inflates every layer of the OCI layout, one after the other in one thread.
pub(crate) fn inflate_layers(bench: &Bench) {
    for entry in std::fs::read_dir(bench.image.oci().join("blobs/sha256")).expect("blobs").flatten() {
        let mut file = File::open(entry.path()).expect("a blob");
        let mut magic = [0; 2];
        if file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
            let file = File::open(entry.path()).expect("a blob");
            copy(&mut flate2::read::MultiGzDecoder::new(std::io::BufReader::with_capacity(1 << 17, file)), |part| {
                std::hint::black_box(part);
            });
        }
    }
}

/// Reads to the end, in parts.
pub(crate) fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let length = from.read(&mut buffer).expect("read");
        if length == 0 {
            return;
        }
        to(&buffer[..length]);
    }
}

/// As [`Row::measure`], every run with nothing cached.
pub(crate) fn measure_cold(bench: &Bench, workload: &str, peers: &[&str], mut once: impl FnMut(&str) -> f64) -> Row {
    debug_assert_eq!(peers.first(), Some(&OURS));
    Row::measure(workload, peers, bench.rounds(3), |peer| {
        drop_caches();
        once(peer)
    })
}
