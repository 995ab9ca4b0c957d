//! Everything that is to be seen of a tree, and how two trees differ.

use super::run::Who;
use super::scene::Scene;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One object of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// `file`, `dir`, `link`, `char`, `block`, `fifo` or `socket`.
    pub(crate) kind: String,
    /// The permission bits, set-id and sticky bits among them.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Size in bytes; 0 for directories, whose size means nothing.
    pub(crate) size: u64,
    /// Modification time, seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Number of names; 0 for directories.
    pub(crate) nlink: u64,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// The target of a symlink, escaped.
    pub(crate) target: String,
    /// Extended attributes: names to values, escaped.
    pub(crate) xattrs: BTreeMap<String, String>,
    /// Of a file with several names in this tree the first one, escaped.
    pub(crate) first_name: String,
    /// SHA-256 of a file's content in hexadecimal.
    pub(crate) sha256: String,
}

/// A whole tree: escaped paths to records. The root is `.`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Manifest(pub(crate) BTreeMap<String, Record>);

/// What a comparison leaves out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Paths (escaped) that are not compared at all, with everything below.
    pub(crate) except: Vec<String>,
    /// Fields that are not compared, anywhere: `mode`, `uid`, `gid`, `size`, `mtime`, `nlink`, `xattrs`, `first_name`,
    /// `sha256`.
    pub(crate) without: Vec<&'static str>,
    /// Modification times of these kinds (`dir`, `link`, …) are not compared.
    pub(crate) no_mtime_of_kind: Vec<&'static str>,
    /// Modification times of these paths (escaped) are not compared.
    pub(crate) no_mtime_of_path: Vec<String>,
    /// Of these paths (escaped) only the kind is compared.
    pub(crate) only_existence: Vec<String>,
    /// Extended attributes that begin with one of these are not compared.
    pub(crate) no_xattrs: Vec<&'static str>,
    /// Modification times are compared in whole seconds.
    pub(crate) whole_seconds: bool,
}

/// `bytes` as text: what is no printable ASCII, and the backslash, as `\xNN`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'[' | b']'..=b'~' => text.push(char::from(*byte)),
            _ => write!(text, "\\x{byte:02x}").expect("write to a string"),
        }
    }
    text
}

impl Manifest {
    /// Walks the tree at `root` as the user who runs the test.
    pub(crate) fn of(root: impl AsRef<Path>) -> Self {
        let root = root.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty()).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        let mut walk = Walk { manifest: Self::default(), links: BTreeMap::new() };
        let stat = rustix::fs::fstat(&fd).expect("stat of a root");
        let mut record = walk.record(&stat, ".");
        record.xattrs = xattrs(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        walk.manifest.0.insert(".".to_owned(), record);
        walk.directory(&fd, "");
        walk.forget_lonely_names();
        walk.manifest
    }

    /// Walks the tree at `root` as someone else, in a process of its own.
    pub(crate) fn of_as(scene: &Scene, who: Who, root: impl AsRef<Path>) -> Self {
        let itself = scene.reachable(&std::env::current_exe().expect("the test's own program"), "walker");
        let done = scene
            .run(itself)
            .args(["--exact", "support::tests::walker_for_other_users", "--ignored", "--nocapture", "--test-threads=1"])
            .env("LAYERFS_WALK", root.as_ref())
            .who(who)
            .ok();
        let text = done.text();
        let line = text.lines().find_map(|line| line.split_once(WALKED)).expect("a manifest from the walker").1;
        serde_json::from_str(line).expect("a manifest in JSON")
    }

    /// The record at an escaped path.
    #[track_caller]
    pub(crate) fn at(&self, path: &str) -> &Record {
        self.0.get(path).unwrap_or_else(|| panic!("{path} is not in the tree"))
    }

    /// How `other` differs from this one, one line a difference.
    pub(crate) fn differences(&self, other: &Self, rules: &Rules) -> Vec<String> {
        let mut lines = Vec::new();
        let paths: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        for path in paths {
            if rules.excepts(path) {
                continue;
            }
            match (self.0.get(path), other.0.get(path)) {
                (Some(one), Some(two)) => rules.compare(path, one, two, &mut lines),
                (Some(one), None) => lines.push(format!("{path}: is missing (a {})", one.kind)),
                (None, Some(two)) => lines.push(format!("{path}: is too much (a {})", two.kind)),
                (None, None) => {}
            }
        }
        lines
    }

    /// Checks that `other` is the same tree as this, which is taken for right.
    ///
    /// # Panics
    /// With the differences.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self, rules: &Rules) {
        let lines = self.differences(other, rules);
        let shown = lines.iter().take(60).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            lines.is_empty(),
            "{} differences in {} objects (expected → found):\n{shown}",
            lines.len(),
            self.0.len()
        );
    }
}

/// What stands before the manifest in the walker's output.
pub(super) const WALKED: &str = "walked: ";

struct Walk {
    manifest: Manifest,
    /// Device and inode of files with several names, to the first name met.
    links: BTreeMap<(u64, u64), String>,
}

impl Walk {
    /// Walks by descriptors, so that a path of any length is reached.
    fn directory(&mut self, fd: &OwnedFd, prefix: &str) {
        for name in sorted_names(fd, prefix) {
            let path = format!("{prefix}{}", escape(&name));
            let name = std::ffi::OsStr::from_bytes(&name);
            let stat =
                rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).unwrap_or_else(|e| panic!("{path}: {e}"));
            let mut record = self.record(&stat, &path);
            let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name);
            record.xattrs = xattrs(&by_descriptor);
            match record.kind.as_str() {
                "link" => {
                    let target = rustix::fs::readlinkat(fd, name, Vec::new()).unwrap_or_else(|e| panic!("{path}: {e}"));
                    record.target = escape(target.as_bytes());
                }
                "file" => record.sha256 = content_hash(fd, name, &path, record.size),
                _ => {}
            }
            let is_directory = record.kind == "dir";
            self.manifest.0.insert(path.clone(), record);
            if is_directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let child = rustix::fs::openat(fd, name, flags, Mode::empty());
                self.directory(&child.unwrap_or_else(|e| panic!("{path}: {e}")), &format!("{path}/"));
            }
        }
    }

    /// Takes the mark of a group off files of which only one name is in the tree.
    fn forget_lonely_names(&mut self) {
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        for record in self.manifest.0.values() {
            *names.entry(record.first_name.clone()).or_default() += 1;
        }
        for record in self.manifest.0.values_mut().filter(|record| names[&record.first_name] == 1) {
            record.first_name.clear();
        }
    }

    fn record(&mut self, stat: &rustix::fs::Stat, path: &str) -> Record {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => "file",
            FileType::Directory => "dir",
            FileType::Symlink => "link",
            FileType::CharacterDevice => "char",
            FileType::BlockDevice => "block",
            FileType::Fifo => "fifo",
            FileType::Socket => "socket",
            FileType::Unknown => "unknown",
        };
        let mut record = Record {
            kind: kind.to_owned(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ..Record::default()
        };
        if kind == "char" || kind == "block" {
            record.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        if kind != "dir" {
            record.size = stat.st_size as u64;
            record.nlink = stat.st_nlink;
            if record.nlink > 1 {
                let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned());
                record.first_name.clone_from(first);
            }
        }
        record
    }
}

fn sorted_names(fd: &OwnedFd, prefix: &str) -> Vec<Vec<u8>> {
    let directory = rustix::fs::Dir::read_from(fd).unwrap_or_else(|e| panic!("{prefix}: {e}"));
    let mut names: Vec<Vec<u8>> = directory
        .map(|entry| entry.unwrap_or_else(|e| panic!("listing {prefix}: {e}")).file_name().to_bytes().to_owned())
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(all, names.len(), "listing {prefix}: a name came twice");
    names
}

fn content_hash(fd: &OwnedFd, name: &std::ffi::OsStr, path: &str, size: u64) -> String {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(fd, name, flags, Mode::empty()).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut file = std::fs::File::from(opened);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let length = file.read(&mut buffer).unwrap_or_else(|e| panic!("reading {path}: {e}"));
        if length == 0 {
            break;
        }
        total += length as u64;
        hash.update(&buffer[..length]);
    }
    assert_eq!(total, size, "{path}: read and stat disagree about the size");
    hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The extended attributes of `path`, not following a symlink at its end, unless it is one of `/proc/self/fd`.
fn xattrs(path: impl AsRef<Path>) -> BTreeMap<String, String> {
    let path = path.as_ref();
    let follow = path.parent() == Some(Path::new("/proc/self/fd"));
    let mut names = vec![0; 64 * 1024];
    let listed =
        if follow { rustix::fs::listxattr(path, &mut names[..]) } else { rustix::fs::llistxattr(path, &mut names[..]) };
    let length = match listed {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => panic!("xattrs of {}: {error}", path.display()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        let read = if follow {
            rustix::fs::getxattr(path, name, &mut value[..])
        } else {
            rustix::fs::lgetxattr(path, name, &mut value[..])
        };
        let size = read.unwrap_or_else(|e| panic!("xattr {} of {}: {e}", escape(name), path.display()));
        found.insert(escape(name), escape(&value[..size]));
    }
    found
}

impl Rules {
    fn excepts(&self, path: &str) -> bool {
        self.except.iter().any(|except| {
            path.strip_prefix(except.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn compare(&self, path: &str, one: &Record, two: &Record, lines: &mut Vec<String>) {
        let mut field = |name: &str, one: String, two: String| {
            if one != two && !self.without.contains(&name) {
                lines.push(format!("{path}: {name} {one} → {two}"));
            }
        };
        field("kind", one.kind.clone(), two.kind.clone());
        if self.only_existence.iter().any(|only| only == path) {
            return;
        }
        field("mode", format!("{:04o}", one.mode), format!("{:04o}", two.mode));
        field("uid", one.uid.to_string(), two.uid.to_string());
        field("gid", one.gid.to_string(), two.gid.to_string());
        field("size", one.size.to_string(), two.size.to_string());
        field("nlink", one.nlink.to_string(), two.nlink.to_string());
        field("device", format!("{:?}", one.device), format!("{:?}", two.device));
        field("target", one.target.clone(), two.target.clone());
        field("first_name", one.first_name.clone(), two.first_name.clone());
        field("sha256", one.sha256.clone(), two.sha256.clone());
        let timeless = self.no_mtime_of_kind.contains(&one.kind.as_str())
            || self.no_mtime_of_path.iter().any(|timeless| timeless == path);
        if !timeless {
            field("mtime", self.time(one), self.time(two));
        }
        field("xattrs", self.xattrs(one), self.xattrs(two));
    }

    fn time(&self, record: &Record) -> String {
        let (seconds, nanoseconds) = record.mtime;
        if self.whole_seconds { seconds.to_string() } else { format!("{seconds}.{nanoseconds:09}") }
    }

    fn xattrs(&self, record: &Record) -> String {
        let ignored = |name: &str| self.no_xattrs.iter().any(|prefix| name.starts_with(prefix));
        let kept: Vec<_> = record.xattrs.iter().filter(|(name, _)| !ignored(name)).collect();
        format!("{kept:?}")
    }
}
