//! The same Dockerfiles built by buildah: the same files, the same configuration.

use super::LIMIT;
use super::case::{Case, Tree, Workshop, read_tar, tag_of};
use crate::support::{Need, Run, Scene, Who};
use serde_json::Value;

const NEEDS: &[Need] =
    &[Need::Root, Need::Fuse, Need::Program("busybox"), Need::Program("buildah"), Need::Program("skopeo")];

/// The fields of the configuration that both must agree on.
const FIELDS: &[&str] = &[
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "OnBuild",
    "Shell",
    "Labels",
];

/// What only buildah leaves in an image: mount points of its own.
const MOUNT_POINTS: &[&str] =
    &["/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets"];

struct Buildah<'a> {
    workshop: &'a Workshop<'a>,
    root: std::path::PathBuf,
}

impl Buildah<'_> {
    fn run(&self, arguments: &[&str]) -> Run {
        let storage = self.root.join("storage");
        self.workshop
            .scene
            .run("buildah")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(&storage)
            .arg("--runroot")
            .arg(self.root.join("run"))
            .args(arguments)
    }

    /// Gives buildah the base image.
    fn import(&self) {
        let source = format!("oci:{}:base:latest", self.workshop.store().display());
        let storage = self.root.join("storage");
        let target = format!(
            "containers-storage:[vfs@{}+{}]localhost/base:latest",
            storage.display(),
            self.root.join("run").display()
        );
        self.workshop.scene.run("skopeo").args(["copy", "--insecure-policy", "-q", &source, &target]).ok();
    }

    fn build(&self, case: &Case, tag: &str) -> Result<(Tree, Value), String> {
        let context = self.workshop.directory(&format!("context-{tag}"));
        let mut run =
            self.run(&["bud", "-q", "--isolation", "chroot", "--format", "docker", "--layers=false", "-t", tag]);
        for argument in &case.args {
            run = run.arg(argument.replace("CONTEXT", &context.display().to_string()));
        }
        let done = run.arg(&context).output();
        if !done.status.success() {
            return Err(format!("buildah: {}", done.error_text()));
        }
        let image = self.run(&["inspect", "--type", "image", tag]).ok().json();
        let config = image["Docker"]["config"].clone();
        // Looking at an image would run its triggers.
        Ok((if case.has_tree() { self.tree(tag) } else { Tree::new() }, config))
    }

    fn tree(&self, tag: &str) -> Tree {
        let container = self.run(&["from", "--pull-never", tag]).ok().text().trim().to_owned();
        let mount = self.run(&["mount", &container]).ok().text().trim().to_owned();
        let tar = self.workshop.scene.run("tar");
        let tar = tar.args(["--numeric-owner", "--format=pax", "-cf", "-", "-C", &mount, "."]).ok();
        self.run(&["rm", &container]).ok();
        read_tar(&tar.stdout)
    }
}

fn without_mount_points(tree: Tree) -> Tree {
    tree.into_iter().filter(|(path, _)| !MOUNT_POINTS.iter().any(|point| path.starts_with(point))).collect()
}

/// Nothing, an empty list and an empty text say the same; so does the root as a working directory.
fn plain(value: &Value) -> Value {
    let empty = value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_str().is_some_and(|text| text.is_empty() || text == "/");
    if empty { Value::Null } else { value.clone() }
}

fn compare(case: &Case, workshop: &Workshop<'_>, buildah: &Buildah<'_>) -> Result<(), String> {
    let tag = tag_of(&case.name);
    workshop.check(case)?;
    let (peer, config) = buildah.build(case, &tag).map_err(|error| format!("{}: {error}", case.name))?;
    let mut wrong = Vec::new();
    let looked = if case.has_tree() { workshop.tree(&tag) } else { Tree::new() };
    let (ours, peer) = (without_mount_points(looked), without_mount_points(peer));
    for path in ours.keys().chain(peer.keys().filter(|path| !ours.contains_key(*path))) {
        if ours.get(path) != peer.get(path) {
            wrong.push(format!("{path}: {:?}, buildah {:?}", ours.get(path), peer.get(path)));
        }
    }
    let own = workshop.inspect(&tag)["Config"].clone();
    for field in FIELDS {
        let (left, mut right) = (plain(&own[field]), config[field].clone());
        if let Some(labels) = right.as_object_mut().filter(|_| *field == "Labels") {
            labels.remove("io.buildah.version");
        }
        let right = plain(&right);
        if left != right {
            wrong.push(format!("{field}: {left}, buildah {right}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}:\n  {}", case.name, wrong.join("\n  "))) }
}

fn compare_table(text: &str) {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let buildah = Buildah { workshop: &workshop, root: scene.dir("buildah") };
    buildah.import();
    let every = std::env::var_os("LAYERFS_COMPARE_ALL").is_some();
    let cases = Case::parse_all(text);
    let chosen = cases.iter().filter(|case| case.buildah || every);
    let failures: Vec<String> = chosen.filter_map(|case| compare(case, &workshop, &buildah).err()).collect();
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn buildah_copies_the_same() {
    compare_table(include_str!("table/copy.txt"));
}

#[test]
fn buildah_makes_the_same_configuration() {
    compare_table(include_str!("table/config.txt"));
}

#[test]
fn buildah_runs_the_same() {
    compare_table(include_str!("table/run.txt"));
}

#[test]
fn buildah_builds_the_same_stages() {
    compare_table(include_str!("table/stages.txt"));
}

#[test]
fn buildah_understands_the_same() {
    compare_table(include_str!("table/tricky.txt"));
}
