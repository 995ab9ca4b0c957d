//! Files of an image written to the file system.

use crate::diff::{NodeReader, meta, xattrs};
use crate::model::{FileKind, Meta, RelPath, Timestamp};
use crate::union::{Node, Source, Stack, Visit, Walk};
use anyhow::{Context, bail};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// How objects are written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CopyOptions {
    /// Owners and extended attributes too, as far as the system lets us.
    pub(super) archive: bool,
    /// What a symlink named by the path leads to, in its place.
    pub(super) follow: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Objects, directories included.
    objects: u64,
    /// Bytes of files.
    bytes: u64,
    /// Devices and the like that this user cannot make.
    skipped: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        write!(f, "{} object{}, {}", self.objects, plural(self.objects), super::human_size(self.bytes))?;
        if self.skipped > 0 {
            write!(f, ", {} special file{} left out", self.skipped, plural(self.skipped))?;
        }
        Ok(())
    }
}

/// Copies `path` of `stack` to `target`: into it where it is a directory, under that name otherwise. What is in the way is
/// replaced, but a directory is only merged with a directory, never replaced by a file or the reverse.
pub(super) fn copy(stack: &Stack, path: &[u8], target: &Path, options: CopyOptions) -> anyhow::Result<Copied> {
    let node = stack.resolve_following(path, options.follow)?;
    let node = node.with_context(|| format!("/{}: no such file or directory", super::printable(path)))?;
    let name = RelPath::parse(path).ok().and_then(|path| path.file_name().cloned());
    // As in cp and docker cp: a directory written with a trailing `/.` gives its content, not itself.
    let content_only = path.ends_with(b"/.") || name.is_none();
    let place = match (target.is_dir(), &name) {
        (true, Some(name)) if !content_only => target.join(OsStr::from_bytes(name)),
        _ => target.to_owned(),
    };
    let mut copier =
        Copier { stack, options, copied: Copied::default(), links: HashMap::new(), directories: Vec::new() };
    // Symlinks followed: /dev/stdout is one.
    if fs::metadata(&place).is_ok_and(|there| is_special(&there)) {
        copier.pour(&node, &place).with_context(|| super::printable(place.as_os_str().as_bytes()))?;
        return Ok(copier.copied);
    }
    copier.tree(node, &place)?;
    copier.finish_directories()?;
    Ok(copier.copied)
}

struct Copier<'a> {
    stack: &'a Stack,
    options: CopyOptions,
    copied: Copied,
    /// Where objects with several names were written first.
    links: HashMap<Source, PathBuf>,
    /// Directories whose modes and times are set at the end, so that what is in them can be written.
    directories: Vec<(PathBuf, Meta)>,
}

impl Copier<'_> {
    fn tree(&mut self, node: Node, place: &Path) -> anyhow::Result<()> {
        let mut walk = Walk::new(self.stack, RelPath::root(), node);
        while let Some(Visit { path, node }) = walk.step()? {
            let below = path.to_bytes();
            let place = if path.is_root() { place.to_owned() } else { place.join(OsStr::from_bytes(&below)) };
            self.object(node, &place).with_context(|| super::printable(place.as_os_str().as_bytes()))?;
        }
        Ok(())
    }

    /// Writes a file into the device or FIFO at `place`, as cp(1) does.
    fn pour(&mut self, node: &Node, place: &Path) -> anyhow::Result<()> {
        if node.kind() != FileKind::File {
            bail!("is a device or FIFO, into which only a file can be written");
        }
        let mut file = fs::OpenOptions::new().write(true).open(place)?;
        self.copied.bytes += io::copy(&mut NodeReader::new(self.stack, node).context("no data")?, &mut file)?;
        self.copied.objects += 1;
        Ok(())
    }

    fn object(&mut self, node: &Node, place: &Path) -> anyhow::Result<()> {
        let meta = meta(self.stack, node)?;
        self.copied.objects += 1;
        if meta.kind.is_directory() {
            match fs::symlink_metadata(place) {
                Ok(there) if there.is_dir() => {}
                Ok(_) => bail!("is there and no directory"),
                Err(_) => fs::create_dir(place)?,
            }
            self.attributes(node, place, &meta)?;
            self.directories.push((place.to_owned(), meta));
            return Ok(());
        }
        match fs::symlink_metadata(place) {
            Ok(there) if there.is_dir() => bail!("is a directory"),
            Ok(there) if is_special(&there) => bail!("is a device, FIFO or socket, which is not replaced"),
            Ok(_) => fs::remove_file(place)?,
            Err(_) => {}
        }
        if self.link(node, place, &meta)? || !self.create(node, place, &meta)? {
            return Ok(());
        }
        self.attributes(node, place, &meta)?;
        if meta.kind != FileKind::Symlink {
            fs::set_permissions(place, fs::Permissions::from_mode(permissions(place, &meta)?))?;
        }
        set_times(place, &meta)
    }

    /// Makes `place` another name of an object that is written already.
    fn link(&mut self, node: &Node, place: &Path, meta: &Meta) -> io::Result<bool> {
        let Node::Other { source, .. } = node else { return Ok(false) };
        if meta.nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.links.get(source) {
            return fs::hard_link(first, place).map(|()| true);
        }
        self.links.insert(*source, place.to_owned());
        Ok(false)
    }

    /// Makes the object itself; false when this user cannot make such objects.
    fn create(&mut self, node: &Node, place: &Path, meta: &Meta) -> anyhow::Result<bool> {
        match meta.kind {
            FileKind::File => {
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
                let mut data = NodeReader::new(self.stack, node).context("no data")?;
                let copied = io::copy(&mut data, &mut file);
                if copied.is_err() {
                    // Half a file is worse than none; why it is half is what there is to tell.
                    let _ = fs::remove_file(place);
                }
                self.copied.bytes += copied?;
            }
            FileKind::Symlink => {
                let Node::Other { source, .. } = node else { return Ok(false) };
                let target = self.stack.layer(source.layer)?.read_link(source.ino)?;
                symlink(OsStr::from_bytes(&target), place)?;
            }
            FileKind::Socket => return Ok(self.skip()),
            FileKind::Directory => return Ok(false),
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo => {
                let kind = rustix::fs::FileType::from_raw_mode(meta.kind.mode_bits());
                match rustix::fs::mknodat(CWD, place, kind, Mode::RUSR | Mode::WUSR, meta.device.to_rdev()) {
                    Err(rustix::io::Errno::PERM) => return Ok(self.skip()),
                    made => made?,
                }
            }
        }
        Ok(true)
    }

    fn skip(&mut self) -> bool {
        self.copied.skipped += 1;
        self.copied.objects -= 1;
        false
    }

    /// Owner and extended attributes, where they were asked for.
    fn attributes(&self, node: &Node, place: &Path, meta: &Meta) -> anyhow::Result<()> {
        if !self.options.archive {
            return Ok(());
        }
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        match rustix::fs::chownat(CWD, place, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::PERM) => {}
            changed => changed?,
        }
        for (name, value) in xattrs(self.stack, node)? {
            let name = OsStr::from_bytes(&name);
            match rustix::fs::lsetxattr(place, name, &value, XattrFlags::empty()) {
                Err(rustix::io::Errno::PERM | rustix::io::Errno::NOTSUP) => {
                    log::debug!(target: "layerfs::cli", "{}: {} cannot be set", place.display(), name.display());
                }
                set => set?,
            }
        }
        Ok(())
    }

    fn finish_directories(&mut self) -> anyhow::Result<()> {
        for (place, meta) in self.directories.drain(..).rev() {
            fs::set_permissions(&place, fs::Permissions::from_mode(u32::from(meta.permissions)))?;
            set_times(&place, &meta)?;
        }
        Ok(())
    }
}

/// The mode of a copy: setuid and setgid only where it belongs to the user or group that it belongs to in the image. To whoever copies
/// it, they would give away his own rights.
fn permissions(place: &Path, meta: &Meta) -> io::Result<u32> {
    let there = fs::symlink_metadata(place)?;
    let mut permissions = u32::from(meta.permissions);
    if there.uid() != meta.uid {
        permissions &= !libc::S_ISUID;
    }
    if there.gid() != meta.gid {
        permissions &= !libc::S_ISGID;
    }
    Ok(permissions)
}

/// Whether something is there that is more than its content: replacing it would take it away from everyone.
fn is_special(there: &fs::Metadata) -> bool {
    let kind = there.file_type();
    kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket()
}

fn set_times(place: &Path, meta: &Meta) -> anyhow::Result<()> {
    let time = |time: Timestamp| Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    let times = Timestamps { last_access: time(meta.atime), last_modification: time(meta.mtime) };
    Ok(rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
