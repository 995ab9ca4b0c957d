//! The kernel's overlayfs as the judge.
//!
//! A random sequence of operations runs through layerfs and, on a second upper, through kernel overlayfs: every result and
//! every error must be the same, and so must the trees at the end. Then layerfs is unmounted, the kernel mounts the very
//! upper that layerfs wrote, and must see the same tree, times included; and so must layerfs when it mounts it again,
//! inode numbers included. A seed reproduces a failure: `LAYERFS_ORACLE_SEED=N LAYERFS_ORACLE_SEQUENCES=1`.
//!
//! Hard links of lower layers are compared with the kernel's where it has its index; of these, what the kernel sees of our upper
//! afterwards is left out, for it does not read our index. Left out as well, because the two differ and are meant to
//! (docs/semantics.md): descriptors opened for reading before a copy-up.

mod layers;
mod live;
pub(crate) mod operations;

use crate::support::manifest::escape;
use crate::support::tree::{self, Notation};
use crate::support::{Image, Manifest, Need, Rules, Scene};
use layers::{Contents, Layers};
use operations::{NAMES, Operation, Outcome, Random, Subject, random_operation};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Operations of one sequence.
const LENGTH: usize = 200;

/// Sequences where the environment does not say: enough to find what is grossly wrong.
const FEW: u64 = 12;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What layerfs has below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lowers {
    Directories,
    Image,
}

/// How both file systems are mounted, and who works on them.
#[derive(Debug, Clone, Copy)]
struct Mode {
    name: &'static str,
    lowers: Lowers,
    /// For layerfs and for the kernel.
    options: &'static str,
    kernel_options: &'static str,
    notation: Notation,
    /// Threads that work at the same time, each on names of its own.
    threads: usize,
    /// Of the layers; hard links in them the kernel keeps whole with its index.
    contents: Contents,
}

const PLAIN: Mode = Mode {
    name: "plain",
    lowers: Lowers::Directories,
    options: ",dev",
    kernel_options: ",index=off,redirect_dir=follow,metacopy=off",
    notation: Notation::Trusted,
    threads: 1,
    contents: Contents::Plain,
};
const REDIRECTING: Mode = Mode {
    name: "redirecting",
    options: ",dev,redirect_dir=on,metacopy=on",
    kernel_options: ",index=off,redirect_dir=on,metacopy=on",
    ..PLAIN
};
const INDEXED: Mode = Mode {
    name: "indexed",
    options: ",dev,redirect_dir=on,metacopy=on,index=on",
    kernel_options: ",index=on,redirect_dir=on,metacopy=on",
    contents: Contents::Linked,
    ..PLAIN
};
const INDEXED_IMAGE: Mode = Mode { name: "indexed-image", lowers: Lowers::Image, options: "dev", ..INDEXED };
const IMAGE: Mode = Mode { name: "image", lowers: Lowers::Image, options: "dev", ..REDIRECTING };
const TWO: Mode = Mode { name: "two", threads: 2, ..REDIRECTING };
const NAMESPACE: Mode =
    Mode { name: "namespace", options: "", kernel_options: ",userxattr", notation: Notation::User, ..PLAIN };

/// The directories of one sequence.
pub(crate) struct Stage<'a> {
    scene: &'a Scene,
    mode: Mode,
    name: String,
    base: PathBuf,
    lowers: Vec<PathBuf>,
}

impl<'a> Stage<'a> {
    fn new(scene: &'a Scene, mode: Mode, name: &str, random: &mut Random) -> Self {
        let base = scene.dir(name);
        let mut lowers = Vec::new();
        let mut layers = Layers::new(mode.contents);
        let mut image = Image::new();
        for layer in 0..3 {
            let path = scene.dir(format!("{name}/lower{layer}"));
            let text = layers.next(random);
            image = image.layer(&text);
            tree::to_directory(&tree::parse(&text), &path, mode.notation);
            lowers.insert(0, path);
        }
        // Paths that lead out of a mount find the same there: directories of their own.
        for part in ["upper", "work", "upper2", "work2", "mnt/x/x/x/y", "kernel/x/x/x/y"] {
            scene.dir(format!("{name}/{part}"));
        }
        if mode.lowers == Lowers::Image {
            let layout = image.write_oci(&base.join("layout"), "latest");
            scene.layerfs(["load", "-i"]).arg(layout).args(["--tag", name]).ok();
        }
        Self { scene, mode, name: name.to_owned(), base, lowers }
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.base.join("mnt/x/x/x/y")
    }

    /// Where the kernel's is mounted.
    fn kernel_point(&self) -> PathBuf {
        self.base.join("kernel/x/x/x/y")
    }

    /// The upper and the workdir of layerfs.
    fn changes(&self) -> (PathBuf, PathBuf) {
        let base = match self.mode.lowers {
            Lowers::Directories => self.base.clone(),
            Lowers::Image => self.scene.path("me/store/containers").join(&self.name),
        };
        (base.join("upper"), base.join("work"))
    }

    fn options(&self, (upper, work): (PathBuf, PathBuf)) -> String {
        let lowers: Vec<_> = self.lowers.iter().map(|path| path.display().to_string()).collect();
        format!("lowerdir={},upperdir={},workdir={}", lowers.join(":"), upper.display(), work.display())
    }

    pub(crate) fn mount(&self) {
        let run = match self.mode.lowers {
            Lowers::Directories => {
                let options = format!("{}{}", self.options(self.changes()), self.mode.options);
                self.scene.layerfs(["overlay", "-o", &options])
            }
            Lowers::Image => {
                let arguments =
                    ["mount", "--rw", "--allow-other", "-o", self.mode.options, "--name", &self.name, &self.name];
                self.scene.layerfs(arguments)
            }
        };
        run.arg(self.mount_point()).ok();
    }

    /// Mounts the kernel's overlayfs over the lowers: with the upper of layerfs, or another.
    pub(crate) fn mount_kernel(&self, ours: bool) -> PathBuf {
        let at = self.kernel_point();
        let own = (self.base.join("upper2"), self.base.join("work2"));
        let changes = if ours { self.changes() } else { own };
        let options = format!("{}{}", self.options(changes), self.mode.kernel_options);
        self.scene.run("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&at).ok();
        at
    }

    pub(crate) fn unmount_kernel(&self) {
        unmount(self.scene, &self.kernel_point());
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if self.mode.lowers == Lowers::Image {
            self.scene.layerfs(["rm", &self.name]).ok();
            self.scene.layerfs(["rmi", "-f", &self.name]).ok();
        }
        std::fs::remove_dir_all(&self.base).expect("remove the stage of a sequence");
    }
}

/// A stage with directories below, for other tests: plain, with redirects and metadata-only copies, or with hard links and the index as
/// well, by the number.
pub(crate) fn stage_of_directories<'a>(scene: &'a Scene, name: &str, number: u64, random: &mut Random) -> Stage<'a> {
    const MODES: [Mode; 3] = [PLAIN, REDIRECTING, INDEXED];
    Stage::new(scene, MODES[(number % MODES.len() as u64) as usize], name, random)
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

/// What one thread does.
fn work(subject: &mut Subject, operations: &[Operation]) -> Vec<Outcome> {
    operations.iter().map(|operation| subject.apply(operation)).collect()
}

/// One sequence; the difference when there is one.
fn sequence(scene: &Scene, mode: Mode, seed: u64, length: usize) -> Result<(), String> {
    let mut random = Random(seed);
    let stage = Stage::new(scene, mode, &format!("{}-{seed}", mode.name), &mut random);
    stage.mount();
    let (at, kernel) = (stage.mount_point(), stage.mount_kernel(false));
    let linked = linked_numbers(&at);
    // Threads meet in the root only, so that what each is told does not depend on the others.
    let share = NAMES.len() / mode.threads;
    let plans: Vec<Vec<Operation>> = NAMES
        .chunks(share)
        .map(|first| (0..length / mode.threads).map(|_| random_operation(&mut random, first)).collect())
        .collect();
    let (ours, theirs) = std::thread::scope(|scope| {
        let threads: Vec<_> = plans.iter().map(|plan| scope.spawn(|| work(&mut Subject::new(&at), plan))).collect();
        let ours: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a worker")).collect();
        let theirs: Vec<_> = plans.iter().map(|plan| work(&mut Subject::new(&kernel), plan)).collect();
        (ours, theirs)
    });
    let mut result = Ok(());
    for ((plan, ours), theirs) in plans.iter().zip(&ours).zip(&theirs) {
        for (step, ((operation, one), two)) in plan.iter().zip(ours).zip(theirs).enumerate() {
            if number("LAYERFS_ORACLE_SEED").is_some() {
                eprintln!("{step}: {operation} → {}", show(one));
            }
            if one != two && result.is_ok() {
                result = Err(format!("step {step}: {operation}: layerfs {}, kernel {}", show(one), show(two)));
            }
        }
    }
    let result = result.and_then(|()| compare_trees(scene, &stage, &linked));
    if let Err(difference) = &result {
        eprintln!("seed {seed} ({}): {difference}", mode.name);
        for path in [&at, &kernel] {
            if scene.mounts().iter().any(|mount| mount.point == *path) {
                unmount(scene, path);
            }
        }
    }
    result
}

pub(crate) fn same(what: &str, one: &Manifest, two: &Manifest, rules: &Rules) -> Result<(), String> {
    let differences = one.differences(two, rules);
    let Some(first) = differences.first() else { return Ok(()) };
    let path = first.split(": ").next().unwrap_or_default();
    let (one, two) = (one.0.get(path), two.0.get(path));
    Err(format!("{what}:\n{}\n{one:?}\n{two:?}", differences.join("\n")))
}

fn compare_trees(scene: &Scene, stage: &Stage<'_>, linked: &BTreeSet<u64>) -> Result<(), String> {
    let (at, kernel) = (stage.mount_point(), stage.kernel_point());
    let ours = Manifest::of(&at);
    let mut live = Rules { without: vec!["mtime"], ..Rules::default() };
    // Writes to setuid files bypass the page cache, and the kernel shows its own time of them until it forgets the file.
    let privileged = ours.0.iter().filter(|(_, record)| record.kind == "file" && record.mode & 0o6000 != 0);
    let mut after = Rules { no_mtime_of_path: privileged.map(|(path, _)| path.clone()).collect(), ..Rules::default() };
    if stage.mode.notation == Notation::User {
        // In a user namespace the kernel cannot follow its own origins, and shows names of one file under two numbers.
        live.without.push("first_name");
        after.without.push("first_name");
    }
    same("kernel's tree → ours", &Manifest::of(&kernel), &ours, &live)?;
    let numbers = inode_numbers(&at);
    let theirs = Rules { only_existence: names_of(&numbers, linked, &at), ..after.clone() };
    stage.unmount_kernel();
    scene.layerfs(["umount"]).arg(&at).ok();
    stage.mount_kernel(true);
    same("ours → the kernel's view of our upper", &ours, &Manifest::of(&kernel), &theirs)?;
    stage.unmount_kernel();
    stage.mount();
    same("ours → ours after a remount", &ours, &Manifest::of(&at), &after)?;
    let again = inode_numbers(&at);
    scene.layerfs(["umount"]).arg(&at).ok();
    let changed: Vec<_> = numbers.iter().zip(&again).filter(|(one, two)| one != two).collect();
    if changed.is_empty() { Ok(()) } else { Err(format!("inode numbers after a remount: {changed:?}")) }
}

/// Names of objects that lower layers have several names of: the kernel does not read our index, and shows the lower one.
pub(crate) fn names_of(numbers: &[(PathBuf, u64)], linked: &BTreeSet<u64>, root: &Path) -> Vec<String> {
    let links = numbers.iter().filter(|(_, number)| linked.contains(number));
    let paths = links.filter_map(|(path, _)| path.strip_prefix(root).ok());
    paths.map(|path| escape(path.as_os_str().as_bytes())).collect()
}

/// The numbers of objects that have further names.
pub(crate) fn linked_numbers(root: &Path) -> BTreeSet<u64> {
    use std::os::unix::fs::MetadataExt;
    let numbers = inode_numbers(root).into_iter();
    let metas = numbers.filter_map(|(path, _)| std::fs::symlink_metadata(path).ok());
    metas.filter(|meta| !meta.is_dir() && meta.nlink() > 1).map(|meta| meta.ino()).collect()
}

/// Paths with their numbers, checked against those in listings.
pub(crate) fn inode_numbers(root: &Path) -> Vec<(PathBuf, u64)> {
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

#[test]
fn layers_of_an_image() {
    run(IMAGE);
}

#[test]
fn hard_links_and_the_index() {
    run(INDEXED);
}

#[test]
fn hard_links_of_an_image_and_the_index() {
    run(INDEXED_IMAGE);
}

#[test]
fn two_threads() {
    run(TWO);
}

#[test]
fn user_namespace() {
    let Some(scene) = Scene::begin_with_limit(&[Need::UserNamespace, Need::KernelOverlay], Duration::from_secs(3600))
    else {
        return;
    };
    let itself = scene.reachable(&std::env::current_exe().expect("the test's own program"), "oracle");
    let temporary = scene.plain_dir("tmp");
    let mut run = scene
        .run(itself)
        .args(["--exact", "oracle::inside_a_user_namespace", "--ignored", "--nocapture", "--test-threads=1"])
        .env("TMPDIR", temporary);
    for name in ["LAYERFS_ORACLE_SEQUENCES", "LAYERFS_ORACLE_SEED"] {
        if let Some(value) = std::env::var_os(name) {
            run = run.env(name, value);
        }
    }
    let done = run.who(scene.namespace()).output();
    eprintln!("{}{}", done.text(), done.error_text());
    assert!(done.status.success() && done.text().contains("1 passed"), "the sequences in the namespace failed");
}

/// Run by the test above in a user namespace.
#[test]
#[ignore = "runs inside a user namespace only"]
fn inside_a_user_namespace() {
    run(NAMESPACE);
}
