//! What a test needs of the machine. What is missing makes it be reported as skipped, and in CI fail.

use super::real;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The plain user that tests run as when they themselves run as root.
pub(crate) const PLAIN_USER: &str = "layerfs-test";

/// One thing that a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The test itself runs as root.
    Root,
    /// `/dev/fuse` can be opened, and as a plain user `fusermount3` is there.
    Fuse,
    /// A plain user: oneself, or [`PLAIN_USER`] for root; with FUSE.
    PlainUser,
    /// A plain user with subordinate ids who may make user namespaces.
    UserNamespace,
    /// Kernel overlayfs may be mounted.
    KernelOverlay,
    /// A program in `PATH` or among the cached tools.
    Program(&'static str),
    /// A real image of this name in the cache.
    Image(&'static str),
    /// A base of the worked examples in the cache.
    Base(&'static str),
}

impl Need {
    /// Why the need is not met, with what to do about it; nothing when it is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!is_root()).then(|| "needs root: run `make test` as root".to_owned()),
            Self::Fuse => fuse_missing(),
            Self::PlainUser => fuse_missing().or_else(plain_user_missing),
            Self::UserNamespace => plain_user_missing().or_else(|| {
                (find_program("newuidmap").is_none()).then(|| "needs newuidmap: install the package uidmap".to_owned())
            }),
            Self::KernelOverlay => {
                let kinds = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                (!kinds.contains("\toverlay\n")).then(|| "needs kernel overlayfs: modprobe overlay".to_owned())
            }
            Self::Program(name) => find_program(name)
                .is_none()
                .then(|| format!("needs the program {name}: `make prepare` as root installs it")),
            Self::Base(name) => {
                (!real::base(name).exists()).then(|| format!("needs the base {name}: `make prepare` as root makes it"))
            }
            Self::Image(name) => (!real::directory(name).join("complete").exists())
                .then(|| format!("needs the real image {name}: `make prepare` as root builds it")),
        }
    }
}

/// Whether all `needs` are met. When not, says so on standard error and in the file named by
/// `LAYERFS_SKIPPED_FILE`, from which `make test` reports.
///
/// # Panics
/// When something is missing and `CI` or `LAYERFS_REQUIRE_ALL` is set: there nothing may be skipped.
pub(crate) fn all_met(needs: &[Need]) -> bool {
    let Some(reason) = needs.iter().find_map(|need| need.missing()) else { return true };
    let required = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    assert!(!(required("CI") || required("LAYERFS_REQUIRE_ALL")), "{reason}");
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("{line}");
    if let Some(path) = std::env::var_os("LAYERFS_SKIPPED_FILE") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of skipped tests");
    }
    false
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where test tools and real images are kept between runs.
pub(crate) fn cache() -> PathBuf {
    if let Some(path) = std::env::var_os("LAYERFS_TEST_CACHE").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let system = PathBuf::from("/var/cache/layerfs");
    if is_root() || system.is_dir() {
        return system;
    }
    std::env::var_os("HOME").map_or(system, |home| Path::new(&home).join(".cache/layerfs"))
}

/// The path of a program, from the cached tools first and then `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(cache().join("tools/bin"))
        .chain(std::env::split_paths(&path))
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn fuse_missing() -> Option<String> {
    if !Path::new("/dev/fuse").exists() {
        return Some("needs /dev/fuse: modprobe fuse".to_owned());
    }
    find_program("fusermount3").is_none().then(|| "needs fusermount3: install the package fuse3".to_owned())
}

fn plain_user_missing() -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let open_to_all = std::fs::metadata("/dev/fuse").is_ok_and(|meta| meta.permissions().mode() & 0o006 == 0o006);
    if !open_to_all {
        return Some("needs /dev/fuse open to all: chmod 666 /dev/fuse".to_owned());
    }
    if !is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = users.lines().any(|line| line.split(':').next() == Some(PLAIN_USER));
    (!known).then(|| format!("needs the user {PLAIN_USER}: `make prepare` as root adds it"))
}
