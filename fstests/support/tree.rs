//! Trees as text, one line an object, and what can be made of them: a layer's tar, a directory.
//!
//! ```text
//! # kind path attributes, in any order after the path; \xNN stands for a byte, \x20 for a blank
//! dir      etc 0755 0:0 @1700000000
//! file     etc/name =hello 0644 1000:1000 @-5.25 +user.colour=red
//! file     big #1000000                 a million bytes, the same for the same path each time
//! link     etc/alias ->name
//! hard     etc/second =>etc/name
//! char     dev/null dev=1:3 0666
//! block    dev/disk dev=8:0 0660 0:6
//! fifo     run/pipe
//! whiteout etc/gone
//! opaque   etc
//! ```
//! Without attributes: 0755 for directories, 0777 for symlinks, 0644 for the rest, 0:0, the time [`TIME`].

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The modification time of objects whose line names none, in seconds since the epoch.
pub(crate) const TIME: i64 = 1_600_000_000;

/// What an object of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File(Vec<u8>),
    Link(Vec<u8>),
    Hard(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Whiteout,
    Opaque,
}

/// One object of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How whiteouts and opaque directories are written into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// Character devices 0/0 and `trusted.overlay.opaque`, as kernel overlayfs under root.
    Trusted,
    /// Character devices 0/0 and `user.overlay.opaque`, as kernel overlayfs with `userxattr`.
    User,
    /// `.wh.NAME` and `.wh..wh..opq`, as in tars.
    Aufs,
}

/// Reads a tree's text.
///
/// # Panics
/// When a line cannot be understood; it is named.
pub(crate) fn parse(text: &str) -> Vec<Node> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse_line(line).unwrap_or_else(|| panic!("not a line of a tree: {line}"))).collect()
}

fn parse_line(line: &str) -> Option<Node> {
    let mut tokens = line.split_whitespace();
    let word = tokens.next()?;
    let path = unescape(tokens.next()?)?;
    let (kind, mode) = match word {
        "dir" => (Kind::Dir, 0o755),
        "file" => (Kind::File(Vec::new()), 0o644),
        "link" => (Kind::Link(Vec::new()), 0o777),
        "hard" => (Kind::Hard(Vec::new()), 0o644),
        "char" => (Kind::Char(0, 0), 0o644),
        "block" => (Kind::Block(0, 0), 0o644),
        "fifo" => (Kind::Fifo, 0o644),
        "whiteout" => (Kind::Whiteout, 0o644),
        "opaque" => (Kind::Opaque, 0o644),
        _ => return None,
    };
    let mut node = Node { path, kind, mode, uid: 0, gid: 0, mtime: (TIME, 0), xattrs: Vec::new() };
    for token in tokens {
        node.attribute(token)?;
    }
    Some(node)
}

impl Node {
    fn attribute(&mut self, token: &str) -> Option<()> {
        if let Some(device) = token.strip_prefix("dev=") {
            let (major, minor) = device.split_once(':')?;
            let numbers = (major.parse().ok()?, minor.parse().ok()?);
            match &mut self.kind {
                Kind::Char(major, minor) | Kind::Block(major, minor) => (*major, *minor) = numbers,
                _ => return None,
            }
        } else if let Some(target) = token.strip_prefix("->") {
            self.kind = Kind::Link(unescape(target)?);
        } else if let Some(target) = token.strip_prefix("=>") {
            self.kind = Kind::Hard(unescape(target)?);
        } else if let Some(content) = token.strip_prefix('=') {
            self.kind = Kind::File(unescape(content)?);
        } else if let Some(size) = token.strip_prefix('#') {
            self.kind = Kind::File(noise(&self.path, size.parse().ok()?));
        } else if let Some(time) = token.strip_prefix('@') {
            self.mtime = parse_time(time)?;
        } else if let Some(xattr) = token.strip_prefix('+') {
            let (name, value) = xattr.split_once('=')?;
            self.xattrs.push((unescape(name)?, unescape(value)?));
        } else if let Some((uid, gid)) = token.split_once(':') {
            (self.uid, self.gid) = (uid.parse().ok()?, gid.parse().ok()?);
        } else {
            self.mode = u32::from_str_radix(token, 8).ok()?;
        }
        Some(())
    }

    /// The path as the system has it.
    pub(crate) fn os_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// The path in a tar: whiteouts and opaque marks get their names.
    fn marked_path(&self) -> PathBuf {
        let path = self.os_path();
        match self.kind {
            Kind::Whiteout => {
                let name = path.file_name().expect("the name of a whiteout");
                path.with_file_name(OsStr::from_bytes(&[b".wh.", name.as_bytes()].concat()))
            }
            Kind::Opaque => path.join(".wh..wh..opq"),
            _ => path.to_owned(),
        }
    }
}

/// Seconds with an optional fraction; the fraction counts forward, `-5.25` is 4.75 seconds before the epoch.
fn parse_time(text: &str) -> Option<(i64, u32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    Some((seconds.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}

/// Undoes `\xNN`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// `size` bytes that look random, and are the same for the same `seed` (a xorshift generator).
pub(crate) fn noise(seed: &[u8], size: usize) -> Vec<u8> {
    let start = seed
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let mut state = start | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// The tree as an uncompressed layer tar, written by the `tar` package, in the order of the nodes.
pub(crate) fn to_tar(nodes: &[Node]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for node in nodes {
        append(&mut builder, node).unwrap_or_else(|error| panic!("{}: {error}", node.os_path().display()));
    }
    builder.into_inner().expect("the end of a tar")
}

fn append(builder: &mut tar::Builder<Vec<u8>>, node: &Node) -> std::io::Result<()> {
    let mut pax: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in &node.xattrs {
        pax.push((format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.clone()));
    }
    let (seconds, nanoseconds) = node.mtime;
    if nanoseconds != 0 || seconds < 0 {
        pax.push(("mtime".to_owned(), pax_time(seconds, nanoseconds).into_bytes()));
    }
    if !pax.is_empty() {
        builder.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    header.set_mtime(u64::try_from(seconds).unwrap_or(0));
    header.set_size(0);
    header.set_entry_type(match &node.kind {
        Kind::Dir => tar::EntryType::Directory,
        Kind::File(_) | Kind::Whiteout | Kind::Opaque => tar::EntryType::Regular,
        Kind::Link(_) => tar::EntryType::Symlink,
        Kind::Hard(_) => tar::EntryType::Link,
        Kind::Char(..) => tar::EntryType::Char,
        Kind::Block(..) => tar::EntryType::Block,
        Kind::Fifo => tar::EntryType::Fifo,
    });
    let path = node.marked_path();
    match &node.kind {
        Kind::File(content) => {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_slice())
        }
        Kind::Link(target) | Kind::Hard(target) => {
            builder.append_link(&mut header, path, Path::new(OsStr::from_bytes(target)))
        }
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            builder.append_data(&mut header, path, std::io::empty())
        }
        Kind::Dir | Kind::Fifo | Kind::Whiteout | Kind::Opaque => {
            builder.append_data(&mut header, path, std::io::empty())
        }
    }
}

/// A time as PAX writes it: a decimal number, negative times counted towards the past.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds != 0 {
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

/// Makes the tree in `directory`; missing parents are made, with the time [`TIME`]; owners only as root.
pub(crate) fn to_directory(nodes: &[Node], directory: &Path, notation: Notation) {
    std::fs::create_dir_all(directory).expect("the root of a tree");
    for node in nodes {
        make(node, directory, notation).unwrap_or_else(|error| panic!("{}: {error}", node.os_path().display()));
    }
    // Children move the times of their directories: the last word on these comes at the end.
    for parent in nodes.iter().flat_map(|node| node.os_path().ancestors().skip(1)) {
        set_time(&directory.join(parent), (TIME, 0)).expect("the time of a directory");
    }
    for node in nodes.iter().rev().filter(|node| node.kind == Kind::Dir) {
        set_time(&directory.join(node.os_path()), node.mtime).expect("the time of a directory");
    }
}

fn make(node: &Node, directory: &Path, notation: Notation) -> std::io::Result<()> {
    let marked = if notation == Notation::Aufs { node.marked_path() } else { node.os_path().to_owned() };
    let path = directory.join(&marked);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mknod = |kind, device| rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(node.mode), device);
    match &node.kind {
        Kind::Opaque if notation != Notation::Aufs => {
            let name = if notation == Notation::Trusted { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
            return Ok(rustix::fs::setxattr(&path, name, b"y", XattrFlags::empty())?);
        }
        Kind::Whiteout if notation != Notation::Aufs => return Ok(mknod(FileType::CharacterDevice, 0)?),
        Kind::Dir => std::fs::create_dir_all(&path)?,
        Kind::File(content) => std::fs::File::create(&path)?.write_all(content)?,
        Kind::Whiteout | Kind::Opaque => drop(std::fs::File::create(&path)?),
        Kind::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), &path)?,
        Kind::Hard(target) => return std::fs::hard_link(directory.join(OsStr::from_bytes(target)), &path),
        Kind::Char(major, minor) => mknod(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))?,
        Kind::Block(major, minor) => mknod(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))?,
        Kind::Fifo => mknod(FileType::Fifo, 0)?,
    }
    if super::needs::is_root() {
        let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
        rustix::fs::chownat(CWD, &path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if !matches!(node.kind, Kind::Link(_)) {
        rustix::fs::chmod(&path, Mode::from_raw_mode(node.mode))?;
    }
    for (name, value) in &node.xattrs {
        rustix::fs::lsetxattr(&path, name.as_slice(), value, XattrFlags::empty())?;
    }
    set_time(&path, node.mtime)
}

fn set_time(path: &Path, (seconds, nanoseconds): (i64, u32)) -> std::io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
