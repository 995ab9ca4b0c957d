//! What does a build cost beside what its commands do, against buildah with the same Dockerfile, and does it grow with its base?

use crate::harness::{Bench, OURS, Report, Row, fresh, seconds};
use crate::images::PodmanStore;
use crate::support::Run;
use crate::support::needs::find_program;
use std::path::{Path, PathBuf};

const BUILDAH: &str = "buildah bud";
const NAMES: [&str; 2] = [OURS, BUILDAH];
const BUILT: &str = "built:1";
const ROUNDS: usize = 5;
/// Files of the large context, so many in a directory.
const FILES: usize = 20_000;
const FILES_OF_A_DIRECTORY: usize = 100;

const TRUE: &str = "ARG BASE\nFROM ${BASE}\nRUN true\n";
const COPY: &str = "ARG BASE\nFROM ${BASE}\nCOPY . /context/\n";

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    if find_program("buildah").and(find_program("podman")).is_none() {
        println!("left out: there is no buildah or no podman");
        return;
    }
    let yard = Yard::set(bench);
    yard.context(0);
    let row = yard.row("build of RUN true on the large image", TRUE, Cache::None, "/etc");
    report.add(&row.note("to stay under, milliseconds", 60));
    let steps: Vec<String> = (1..=8).map(|step| format!("RUN echo {step} >/made-{step}")).collect();
    let steps = format!("ARG BASE\nFROM ${{BASE}}\n{}\nCOPY . /context/\n", steps.join("\n"));
    yard.context(10);
    let row = yard.row("build of eight RUN and a COPY", &steps, Cache::None, "/context");
    report.add(&row.target(BUILDAH, 3.0));
    let row = yard.row("the same build, all of it cached", &steps, Cache::Full, "/context");
    report.add(&row.note("to stay under, milliseconds", 150));
    yard.context(FILES);
    let row = yard.row(&format!("build of a COPY of {FILES} files"), COPY, Cache::None, "/context");
    report.add(&row.target(BUILDAH, 2.0));
}

/// What a build finds of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    None,
    Full,
}

/// The large image in the stores of both, and a context.
struct Yard<'a> {
    bench: &'a Bench,
    podman: PodmanStore<'a>,
    base: String,
}

impl<'a> Yard<'a> {
    fn set(bench: &'a Bench) -> Self {
        let archive = bench.image.docker_archive();
        bench.scene.layerfs(["load", "-q", "-i"]).arg(&archive).ok();
        let podman = PodmanStore::new(bench);
        podman.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]).ok();
        let base = podman.only_image();
        Self { bench, podman, base }
    }

    fn context_directory(&self) -> PathBuf {
        self.bench.scene.path("build-context")
    }

    /// Makes a context of `count` files.
    fn context(&self, count: usize) {
        let at = fresh(self.bench, "build-context");
        for file in 0..count {
            let directory = at.join((file / FILES_OF_A_DIRECTORY).to_string());
            std::fs::create_dir_all(&directory).expect("mkdir");
            std::fs::write(directory.join(file.to_string()), file.to_string()).expect("a file");
        }
    }

    fn build(&self, peer: &str, dockerfile: &Path, cache: Cache) -> Run {
        let base = if peer == OURS { "BASE=large:latest".to_owned() } else { format!("BASE={}", self.base) };
        let program = match peer {
            OURS => self.bench.scene.layerfs(["build"]),
            _ => self.podman.buildah(&["bud", "--layers", "--isolation", "chroot"]),
        };
        let program = if cache == Cache::None { program.arg("--no-cache") } else { program };
        program.args(["-q", "--build-arg", &base, "-t", BUILT, "-f"]).arg(dockerfile).arg(self.context_directory())
    }

    /// Times `dockerfile`, after what both made at `path` was compared.
    fn row(&self, workload: &str, dockerfile: &str, cache: Cache, path: &str) -> Row {
        let file = self.bench.scene.path("build.Dockerfile");
        std::fs::write(&file, dockerfile).expect("a Dockerfile");
        for peer in NAMES {
            self.build(peer, &file, cache).ok();
        }
        assert_eq!(self.tree(OURS, path), self.tree(BUILDAH, path), "{workload}: the trees differ");
        Row::measure(workload, &NAMES, self.bench.rounds(ROUNDS), |peer| {
            rustix::fs::sync();
            let run = self.build(peer, &file, cache);
            seconds(|| run.ok())
        })
    }

    /// What `peer` built at `path`: names, types, modes, owners and sizes of files.
    fn tree(&self, peer: &str, path: &str) -> String {
        let at = match peer {
            OURS => {
                let at = self.bench.scene.dir("mnt/built");
                self.bench.scene.layerfs(["mount", BUILT]).arg(&at).ok();
                at
            }
            _ => PathBuf::from(self.podman.run(&["image", "mount", BUILT]).ok().text().trim()),
        };
        let look = "find . -type d -printf '%P %y %m %U:%G\\n' -o -printf '%P %y %m %U:%G %s\\n' | LC_ALL=C sort";
        let tree = self.bench.scene.sh(look).in_dir(at.join(path.trim_start_matches('/'))).ok().text();
        match peer {
            OURS => drop(self.bench.scene.layerfs(["umount"]).arg(&at).ok()),
            _ => drop(self.podman.run(&["image", "umount", BUILT]).ok()),
        }
        tree
    }
}
