//! The file systems that are measured, and how each is mounted.

use crate::harness::{Bench, OURS};
use crate::support::needs::find_program;
use std::path::{Path, PathBuf};

/// Kernel overlayfs.
pub(crate) const KERNEL: &str = "kernel overlayfs";
/// fuse-overlayfs 2, from crates.io.
pub(crate) const FUSE2: &str = "fuse-overlayfs 2.0";
/// fuse-overlayfs 1, from Debian.
pub(crate) const FUSE1: &str = "fuse-overlayfs 1.x";
/// `layerfs overlay` over directories.
pub(crate) const OURS_DIRECTORIES: &str = "layerfs overlay";

/// How one peer shows the same tree at a mount point of its own.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) point: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Peer {
    /// `layerfs mount` of an image in the bench's store.
    pub(crate) fn image(bench: &Bench, reference: &str) -> Self {
        Self::new(bench, OURS, bench.scene.program(), vec!["mount".into(), reference.into()])
    }

    /// A peer that overlays directories with these options; nothing where its program is missing.
    pub(crate) fn overlay(bench: &Bench, name: &'static str, options: &str) -> Option<Self> {
        let option = vec!["-o".to_owned(), options.to_owned()];
        let (program, arguments) = match name {
            KERNEL => ("mount".into(), [vec!["-t".into(), "overlay".into(), "overlay".into()], option].concat()),
            FUSE2 => (find_program("fuse-overlayfs")?, option),
            FUSE1 => (PathBuf::from("/usr/bin/fuse-overlayfs"), option),
            _ => (bench.scene.program(), [vec!["overlay".to_owned()], option].concat()),
        };
        (!program.is_absolute() || program.exists()).then(|| Self::new(bench, name, program, arguments))
    }

    fn new(bench: &Bench, name: &'static str, program: PathBuf, arguments: Vec<String>) -> Self {
        let point = bench.scene.dir(Path::new("mnt").join(name.replace(' ', "-")));
        Self { name, point, program, arguments }
    }

    /// Mounts it, and waits until it is there: fuse-overlayfs 2 returns earlier.
    pub(crate) fn mount(&self, bench: &Bench) {
        self.mount_in(bench, &bench.scene.path("."));
    }

    /// The same from the directory `base`, to which names of layers may be relative.
    pub(crate) fn mount_in(&self, bench: &Bench, base: &Path) {
        bench.scene.run(&self.program).args(&self.arguments).arg(&self.point).in_dir(base).ok();
        while !bench.scene.mounts().iter().any(|mount| mount.point == self.point) {
            std::thread::yield_now();
        }
    }

    /// Unmounts it. A peer whose server died is told of, and has no mount any more.
    pub(crate) fn unmount(&self) {
        match rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::empty()) {
            Err(rustix::io::Errno::INVAL) if self.name != OURS => {}
            result => result.unwrap_or_else(|error| panic!("unmount {}: {error}", self.point.display())),
        }
    }

    /// The seconds that `run` takes; no number when the peer's server did not survive it.
    pub(crate) fn seconds<R>(&self, bench: &Bench, run: impl FnOnce(&Path) -> R) -> f64 {
        let elapsed = crate::harness::seconds(|| run(&self.point));
        if bench.scene.mounts().iter().any(|mount| mount.point == self.point) {
            return elapsed;
        }
        println!("  {}: its server died", self.name);
        f64::NAN
    }

    /// Mounts it anew with nothing cached.
    pub(crate) fn mount_cold(&self, bench: &Bench) {
        self.unmount();
        crate::harness::drop_caches();
        self.mount(bench);
    }
}
