//! The kernel's overlayfs as the judge.
//!
//! A random sequence of operations runs through layerfs and, on a second upper, through kernel overlayfs: every result and
//! every error must be the same, and so must the trees at the end. Then layerfs is unmounted, the kernel mounts the very
//! upper that layerfs wrote, and must see the same tree, times included; and so must layerfs when it mounts it again,
//! inode numbers included. A seed reproduces a failure: `LAYERFS_ORACLE_SEED=N LAYERFS_ORACLE_SEQUENCES=1`.
//!
//! Left out, because the two differ and are meant to (docs/semantics.md): descriptors opened for reading before a copy-up, hard
//! links of lower layers.

mod operations;

use crate::support::tree::{self, Notation};
use crate::support::{Manifest, Need, Rules, Scene};
use operations::{NAMES, Outcome, Random, Subject, random_operation};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Operations of one sequence.
const LENGTH: usize = 200;

/// Sequences where the environment does not say: enough to find what is grossly wrong.
const FEW: u64 = 12;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How both file systems are mounted.
#[derive(Debug, Clone, Copy)]
struct Mode {
    name: &'static str,
    /// For layerfs and for the kernel.
    options: &'static str,
    kernel_options: &'static str,
}

const PLAIN: Mode =
    Mode { name: "plain", options: ",dev", kernel_options: ",index=off,redirect_dir=follow,metacopy=off" };
const REDIRECTING: Mode = Mode {
    name: "redirecting",
    options: ",dev,redirect_dir=on,metacopy=on",
    kernel_options: ",index=off,redirect_dir=on,metacopy=on",
};

/// Random lower layers, each over those before. A whiteout stands only over something: in a directory that no other layer has,
/// the kernel would list it.
#[derive(Debug, Default)]
struct Layers {
    /// What the layers so far show, and whether it is a directory.
    visible: BTreeMap<String, bool>,
    text: String,
}

impl Layers {
    /// The text of one more layer.
    fn next(&mut self, random: &mut Random) -> String {
        for name in NAMES {
            self.object(random, name, true, 2);
        }
        std::mem::take(&mut self.text)
    }

    fn object(&mut self, random: &mut Random, path: &str, merged: bool, depth: u32) {
        let owner = random.below(3) * 1000;
        let time = 1_500_000_000 + random.below(100_000_000);
        let over = merged.then(|| self.visible.get(path).copied()).flatten();
        let line = match random.below(if over.is_some() { 14 } else { 12 }) {
            0..4 => return,
            4..6 => {
                let size = random.below(3) * 3000;
                format!("file {path} #{size} 0644 {owner}:{owner} @{time}.5 +user.one=low")
            }
            6 => format!("link {path} ->a/b 0:{owner} @{time}"),
            7 => format!("fifo {path} 0600 {owner}:0 @{time}"),
            12..14 => format!("whiteout {path}"),
            _ => {
                let opaque = over == Some(true) && random.below(5) == 0;
                let merged = over == Some(true) && !opaque;
                if !merged {
                    self.hide(path);
                }
                self.visible.insert(path.to_owned(), true);
                writeln!(self.text, "dir {path} 0755 {owner}:{owner} @{time}.25").expect("a string");
                if opaque {
                    writeln!(self.text, "opaque {path}").expect("a string");
                }
                if depth > 0 {
                    for name in NAMES {
                        self.object(random, &format!("{path}/{name}"), merged, depth - 1);
                    }
                }
                return;
            }
        };
        self.hide(path);
        if !line.starts_with("whiteout") {
            self.visible.insert(path.to_owned(), false);
        }
        writeln!(self.text, "{line}").expect("a string");
    }

    fn hide(&mut self, path: &str) {
        let below = format!("{path}/");
        self.visible.retain(|name, _| name != path && !name.starts_with(&below));
    }
}

/// The directories of one sequence.
struct Stage {
    base: PathBuf,
    lowers: Vec<PathBuf>,
}

impl Stage {
    fn new(scene: &Scene, name: &str, random: &mut Random) -> Self {
        let base = scene.dir(name);
        let mut lowers = Vec::new();
        let mut layers = Layers::default();
        for layer in 0..3 {
            let path = scene.dir(format!("{name}/lower{layer}"));
            let text = layers.next(random);
            tree::to_directory(&tree::parse(&text), &path, Notation::Trusted);
            lowers.insert(0, path);
        }
        for part in ["upper", "work", "upper2", "work2", "mnt", "kernel"] {
            scene.dir(format!("{name}/{part}"));
        }
        Self { base, lowers }
    }

    fn options(&self, upper: &str, work: &str) -> String {
        let lowers: Vec<_> = self.lowers.iter().map(|path| path.display().to_string()).collect();
        let at = |part: &str| self.base.join(part).display().to_string();
        format!("lowerdir={},upperdir={},workdir={}", lowers.join(":"), at(upper), at(work))
    }

    fn mount_kernel(&self, scene: &Scene, upper: &str, work: &str, options: &str) -> PathBuf {
        let at = self.base.join("kernel");
        let options = format!("{}{options}", self.options(upper, work));
        scene.run("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&at).ok();
        at
    }
}

fn unmount(scene: &Scene, at: &Path) {
    scene.run("umount").arg(at).ok();
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Ok(text) => format!("ok {text}"),
        Err(error) => format!("{error:?}"),
    }
}

/// One sequence; the difference when there is one.
fn sequence(scene: &Scene, mode: Mode, seed: u64, length: usize) -> Result<(), String> {
    let mut random = Random(seed);
    let stage = Stage::new(scene, &format!("{}-{seed}", mode.name), &mut random);
    let options = format!("{}{}", stage.options("upper", "work"), mode.options);
    let at = stage.base.join("mnt");
    let mount = || scene.layerfs(["overlay", "-o", &options]).arg(&at).ok();
    mount();
    let kernel = stage.mount_kernel(scene, "upper2", "work2", mode.kernel_options);
    let (mut ours, mut theirs) = (Subject::new(&at), Subject::new(&kernel));
    let mut told = String::new();
    let mut difference = None;
    for step in 0..length {
        let operation = random_operation(&mut random);
        let (one, two) = (ours.apply(&operation), theirs.apply(&operation));
        writeln!(told, "{step}: {operation} → {}", show(&one)).expect("a string");
        if one != two {
            difference = Some(format!("step {step}: {operation}: layerfs {}, kernel {}", show(&one), show(&two)));
            break;
        }
    }
    ours.close();
    theirs.close();
    if number("LAYERFS_ORACLE_SEED").is_some() {
        eprintln!("{told}");
    }
    let result = match difference {
        Some(difference) => Err(difference),
        None => compare_trees(scene, mode, &stage, &at, &kernel, &mount),
    };
    if let Err(difference) = &result {
        eprintln!("seed {seed} ({}): {difference}", mode.name);
        for path in [&at, &kernel] {
            if scene.mounts().iter().any(|mount| mount.point == *path) {
                unmount(scene, path);
            }
        }
    }
    drop_stage(&stage);
    result
}

fn drop_stage(stage: &Stage) {
    std::fs::remove_dir_all(&stage.base).expect("remove the stage of a sequence");
}

fn compare_trees<T>(
    scene: &Scene,
    mode: Mode,
    stage: &Stage,
    at: &Path,
    kernel: &Path,
    mount: &dyn Fn() -> T,
) -> Result<(), String> {
    let same = |what: &str, one: &Manifest, two: &Manifest, rules: &Rules| {
        let differences = one.differences(two, rules);
        if differences.is_empty() { Ok(()) } else { Err(format!("{what}:\n{}", differences.join("\n"))) }
    };
    let ours = Manifest::of(at);
    let live = Rules { without: vec!["mtime"], ..Rules::default() };
    same("kernel's tree → ours", &Manifest::of(kernel), &ours, &live)?;
    let numbers = inode_numbers(at);
    unmount(scene, kernel);
    scene.layerfs(["umount"]).arg(at).ok();
    stage.mount_kernel(scene, "upper", "work", mode.kernel_options);
    same("ours → the kernel's view of our upper", &ours, &Manifest::of(kernel), &Rules::default())?;
    unmount(scene, kernel);
    mount();
    same("ours → ours after a remount", &ours, &Manifest::of(at), &Rules::default())?;
    let again = inode_numbers(at);
    scene.layerfs(["umount"]).arg(at).ok();
    let changed: Vec<_> = numbers.iter().zip(&again).filter(|(one, two)| one != two).collect();
    if changed.is_empty() { Ok(()) } else { Err(format!("inode numbers after a remount: {changed:?}")) }
}

/// Paths with their numbers, checked against those in listings.
fn inode_numbers(root: &Path) -> Vec<(PathBuf, u64)> {
    use std::os::unix::fs::{DirEntryExt, MetadataExt};
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("metadata");
            assert_eq!(entry.ino(), meta.ino(), "{}", entry.path().display());
            found.push((entry.path(), meta.ino()));
            if meta.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn run(mode: Mode) {
    let needs = [Need::Root, Need::Fuse, Need::KernelOverlay];
    let count = number("LAYERFS_ORACLE_SEQUENCES").unwrap_or(FEW);
    let limit = Duration::from_secs(120 + 2 * count);
    let Some(scene) = Scene::begin_with_limit(&needs, limit) else { return };
    let first = number("LAYERFS_ORACLE_SEED").unwrap_or(1);
    let length = number("LAYERFS_ORACLE_LENGTH").map_or(LENGTH, |length| length as usize);
    let failed: Vec<u64> =
        (first..first + count).filter(|seed| sequence(&scene, mode, *seed, length).is_err()).collect();
    assert!(failed.is_empty(), "{} of {count} sequences differ; seeds {failed:?}", failed.len());
}

#[test]
fn plain_directories() {
    run(PLAIN);
}

#[test]
fn redirects_and_metadata_only_copies() {
    run(REDIRECTING);
}
