//! Measures in alternation, and reports medians, spread and ratios.

use crate::support::{Need, Scene, real};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The peer that every ratio speaks of.
pub(crate) const OURS: &str = "layerfs";

/// What all questions share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) scene: Scene,
    pub(crate) image: real::RealImage,
    /// Fewer rounds, smaller workloads.
    pub(crate) quick: bool,
}

impl Bench {
    /// Begins, or says what is missing.
    pub(crate) fn begin(quick: bool) -> Option<Self> {
        let needs =
            [Need::Root, Need::Fuse, Need::KernelOverlay, Need::Image("large"), Need::Program("fuse-overlayfs")];
        let scene = Scene::begin_with_limit(&needs, Duration::from_secs(3600))?;
        Some(Self { scene, image: real::image("large"), quick })
    }

    /// Up to `full` rounds, or a third of it when quick; fewer, but not under three (one when quick), where a row would take too long.
    pub(crate) fn rounds(&self, full: usize) -> Rounds {
        let (most, fewest, patience) = if self.quick { (full.div_ceil(3), 1, 2) } else { (full, full.min(3), 15) };
        Rounds { most, fewest, patience: Duration::from_secs(patience) }
    }

    /// `peers`, without those that take many times as long as the rest when it is to be quick.
    pub(crate) fn peers<'a>(&self, peers: &[&'a str], slow: &[&str]) -> Vec<&'a str> {
        peers.iter().filter(|peer| !self.quick || !slow.contains(peer)).copied().collect()
    }
}

/// How often a row is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    most: usize,
    fewest: usize,
    /// No further round begins after this, preparations included; nor is a peer measured again that has used it up alone.
    patience: Duration,
}

/// The times of one workload.
#[derive(Debug)]
pub(crate) struct Row {
    workload: String,
    /// How many operations one run is, where a rate says more than a time.
    operations: Option<u64>,
    /// Peers in the order measured, with the seconds of each round.
    times: Vec<(String, Vec<f64>)>,
    /// Peer and the ratio to it that is to be reached.
    targets: Vec<(&'static str, f64)>,
    /// Further figures.
    notes: Map<String, Value>,
}

impl Row {
    /// Runs `once` for every peer in each round, the order turned by one each time; it returns the seconds.
    pub(crate) fn measure(workload: &str, peers: &[&str], rounds: Rounds, mut once: impl FnMut(&str) -> f64) -> Self {
        let mut times: Vec<(String, Vec<f64>)> = peers.iter().map(|peer| ((*peer).to_owned(), Vec::new())).collect();
        let begun = Instant::now();
        for round in 0..rounds.most {
            if round >= rounds.fewest && begun.elapsed() > rounds.patience {
                break;
            }
            for turn in 0..peers.len() {
                let (peer, seconds) = &mut times[(round + turn) % peers.len()];
                if peer == OURS || seconds.iter().sum::<f64>() < rounds.patience.as_secs_f64() {
                    seconds.push(once(peer));
                }
            }
        }
        Self { workload: workload.to_owned(), operations: None, times, targets: Vec::new(), notes: Map::new() }
    }

    /// Says how many operations a run is.
    pub(crate) fn operations(mut self, operations: u64) -> Self {
        self.operations = Some(operations);
        self
    }

    /// Says which ratio to a peer is to be reached.
    pub(crate) fn target(mut self, peer: &'static str, ratio: f64) -> Self {
        self.targets.push((peer, ratio));
        self
    }

    /// Adds a figure.
    pub(crate) fn note(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.notes.insert(name.to_owned(), value.into());
        self
    }

    /// The median time of a peer.
    pub(crate) fn median(&self, peer: &str) -> Option<f64> {
        let (_, seconds) = self.times.iter().find(|(name, _)| name == peer)?;
        Some(median(seconds))
    }

    fn json(&self, question: &str) -> Value {
        let ours = self.median(OURS);
        let peers: Vec<Value> = self.times.iter().map(|(name, seconds)| self.peer_json(name, seconds, ours)).collect();
        let targets: Vec<Value> =
            self.targets.iter().map(|(peer, ratio)| json!({"peer": peer, "ratio": ratio})).collect();
        let operations = self.operations;
        json!({"question": question, "workload": self.workload, "operations": operations, "peers": peers, "targets": targets,
               "notes": self.notes})
    }

    fn peer_json(&self, name: &str, seconds: &[f64], ours: Option<f64>) -> Value {
        let middle = median(seconds);
        let mut value = json!({"peer": name, "median_seconds": middle, "seconds": seconds});
        if let Some(operations) = self.operations {
            value["operations_per_second"] = json!(operations as f64 / middle);
        }
        if let Some(ours) = ours.filter(|_| name != OURS) {
            value["ratio"] = json!(middle / ours);
        }
        value
    }

    fn print(&self) {
        let ours = self.median(OURS);
        println!("{}", self.workload);
        for (name, seconds) in &self.times {
            let middle = median(seconds);
            let (low, high) = spread(seconds);
            let rate = self.operations.map_or(String::new(), |count| format!("{:>10.0}/s", count as f64 / middle));
            let ratio = ours
                .filter(|_| name != OURS)
                .map_or(String::new(), |ours| format!("  layerfs is {:.2}×", middle / ours));
            let target = self.targets.iter().find(|(peer, _)| peer == name);
            let verdict = target.zip(ours).map_or(String::new(), |((_, wanted), ours)| {
                format!(" (to reach: {wanted}× {})", if middle / ours >= *wanted { "yes" } else { "NO" })
            });
            println!(
                "  {name:<22} {:>9.1} ms [{:.1}–{:.1}]{rate}{ratio}{verdict}",
                middle * 1e3,
                low * 1e3,
                high * 1e3
            );
        }
        for (name, value) in &self.notes {
            println!("  {name}: {value}");
        }
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

fn spread(seconds: &[f64]) -> (f64, f64) {
    seconds.iter().fold((f64::INFINITY, 0.0), |(low, high), one| (low.min(*one), high.max(*one)))
}

/// Everything measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Value,
    quick: bool,
    question: &'static str,
    rows: Vec<Value>,
}

impl Report {
    pub(crate) fn new(machine: Value, quick: bool) -> Self {
        Self { machine, quick, question: "", rows: Vec::new() }
    }

    pub(crate) fn begin(&mut self, question: &'static str) {
        self.question = question;
    }

    /// Prints a row and keeps it.
    pub(crate) fn add(&mut self, row: &Row) {
        row.print();
        self.rows.push(row.json(self.question));
    }

    pub(crate) fn print_machine(&self) {
        for (name, value) in self.machine.as_object().into_iter().flatten() {
            println!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }

    /// Writes everything as JSON, and beside it a table and a plot.
    pub(crate) fn write(&self, path: &Path) {
        let value = json!({"machine": self.machine, "quick": self.quick, "rows": self.rows});
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory for the report");
        }
        std::fs::write(path, serde_json::to_string_pretty(&value).expect("a report")).expect("write the report");
        render(path);
    }
}

/// Writes the tables and the plot of the report at `path` beside it.
pub(crate) fn render(path: &Path) {
    let value = read(path);
    std::fs::write(path.with_extension("md"), crate::table::markdown(&value)).expect("write the tables");
    std::fs::write(path.with_extension("svg"), crate::table::svg(&value)).expect("write the plot");
}

/// Replaces the tables in `document` by those of the report at `path`.
pub(crate) fn insert(path: &Path, document: &Path) {
    let text = std::fs::read_to_string(document).expect("a document");
    std::fs::write(document, crate::table::insert(&text, &read(path))).expect("write the document");
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a report");
    serde_json::from_str(&text).expect("a report")
}

/// Writes dirty pages and forgets what the kernel has cached: pages, names, inodes.
pub(crate) fn drop_caches() {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop caches");
}

/// The seconds that `body` takes.
pub(crate) fn seconds<R>(body: impl FnOnce() -> R) -> f64 {
    let begun = Instant::now();
    std::hint::black_box(body());
    begun.elapsed().as_secs_f64()
}

/// A new, empty directory of the bench's scene; what was there before is removed.
pub(crate) fn fresh(bench: &Bench, name: &str) -> PathBuf {
    let path = bench.scene.path(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).expect("remove what an earlier round left");
    }
    bench.scene.dir(name)
}
