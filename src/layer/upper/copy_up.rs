//! Copies of lower objects: complete in the workdir before they appear in the upper.
//!
//! Data are cloned where the file system can share them, copied by the kernel where it can, by hand elsewhere; holes stay
//! holes. Copied data are on the disk before the copy appears: after a power loss it must not be an empty file where the
//! lower one was.

use super::attributes::{CAPABILITY, Changes, SetTime, timespec};
use super::create::{NewKind, make};
use super::names::{Place, link};
use super::probe::remove;
use super::{Ownership, Upper};
use crate::layer::dir::object::meta_of;
use crate::layer::dir::{Access, Object, Record};
use crate::model::{FileKind, Meta, Timestamp};
use crate::sys::with_umask;
use crate::union::{Ino, Layer, LayerError, LayerResult, LocalIno};
use rustix::fs::{AtFlags, RenameFlags, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What of a file's data is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The first so many bytes; the copy is that long.
    First(u64),
    /// Nothing: they stay those of the layer below.
    InLower,
}

/// A lower object to be copied.
#[derive(Debug, Clone, Copy)]
pub struct Copied<'a> {
    /// The layer it lies in.
    pub layer: &'a dyn Layer,
    /// Its number there.
    pub local: LocalIno,
    /// Where the data lie, when not there.
    pub data: (&'a dyn Layer, LocalIno),
    /// Its metadata, owner and group as they are to be stored.
    pub meta: &'a Meta,
    /// Its number in the mount, which the copy keeps.
    pub ino: Ino,
}

/// A complete copy that nobody sees yet.
#[derive(Debug)]
pub struct Staged {
    object: Object,
    /// Its number in the upper.
    pub local: LocalIno,
    is_directory: bool,
}

fn discard(object: &Object, is_directory: bool) {
    let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    // Already failing; what stays in the stage is removed by the next mount.
    let _ = remove(object, flags);
}

/// Bytes copied by hand in one piece.
const BUFFER: usize = 1 << 20;

impl Upper {
    /// Makes the complete copy of an object in the stage. It has to be [published](Upper::publish) or [abandoned](Upper::abandon).
    pub fn stage(&self, copied: &Copied<'_>, content: Content) -> LayerResult<Staged> {
        let object = self.staging.fresh();
        let is_directory = copied.meta.kind.is_directory();
        match self.stage_copy(&object, copied, content) {
            Ok(local) => Ok(Staged { object, local, is_directory }),
            Err(error) => {
                discard(&object, is_directory);
                Err(error)
            }
        }
    }

    /// Lets a staged copy appear at `place`, where the upper has nothing, or keeps it in the stage when its original has no
    /// name any more. With `indexed`, the number it has in the mount, it goes to the index first.
    pub fn publish(&self, staged: &Staged, place: Option<Place<'_>>, indexed: Option<Ino>) -> LayerResult<()> {
        let Staged { object, local, .. } = staged;
        let publish = || -> LayerResult<()> {
            if let Some(ino) = indexed {
                self.index(object, ino, *local)?;
            }
            let Some(place) = place else {
                self.tree.remember(*local, self.stage_ino, &object.name);
                self.state.lock().detached.insert(*local);
                return Ok(());
            };
            let times = self.tree.meta(place.dir)?;
            self.mark_impure(place.dir)?;
            let target = self.tree.child(place.dir, place.name)?;
            let flags = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(&object.dir, &*object.name, &target.dir, &*target.name, flags)
                .map_err(|error| self.failed("publish a copy", error.into()))?;
            self.tree.remember(*local, place.dir, place.name);
            // The copy is there, whatever becomes of the times of the directory.
            self.restore_times(place.dir, &times).unwrap_or_else(|error| log::debug!("{error}"));
            Ok(())
        };
        publish().inspect_err(|_| self.unindex(*local))
    }

    /// Removes a staged copy that was not published.
    pub fn abandon(&self, staged: &Staged) {
        self.tree.close(staged.local);
        discard(&staged.object, staged.is_directory);
    }

    /// Makes the complete copy in the stage.
    fn stage_copy(&self, staged: &Object, copied: &Copied<'_>, content: Content) -> LayerResult<LocalIno> {
        let failed = |context: &'static str| move |source| self.failed(context, source);
        let target;
        let kind = match copied.meta.kind {
            FileKind::File => NewKind::File,
            FileKind::Directory => NewKind::Directory,
            FileKind::Symlink => {
                target = copied.layer.read_link(copied.local)?;
                NewKind::Symlink(&target)
            }
            _ if self.ownership == Ownership::Override => NewKind::File,
            kind => NewKind::Special(kind, copied.meta.device),
        };
        let private = if kind == NewKind::Directory { 0o700 } else { 0o600 };
        let fd = with_umask(0, || make(staged, kind, private)).map_err(failed("make a copy"))?;
        let stat = match &fd {
            Some(fd) => rustix::fs::fstat(fd).map_err(|error| self.failed("stat a copy", error.into()))?,
            None => staged.stat().map_err(failed("stat a copy"))?,
        };
        let local = self.tree.identify(&stat);
        if let (Some(fd), FileKind::File, Content::First(length)) = (&fd, copied.meta.kind, content) {
            self.copy_data(copied.data, fd, length)?;
        }
        if let (Some(fd), Content::InLower) = (&fd, content) {
            rustix::fs::ftruncate(fd, copied.meta.size).map_err(|error| self.failed("size a copy", error.into()))?;
            self.mark_metacopy(staged).map_err(failed("mark a metadata-only copy"))?;
        }
        self.copy_meta(staged, copied.meta).map_err(failed("copy owner, mode and times"))?;
        self.copy_xattrs(staged, copied)?;
        self.record_ino(staged, local, copied.ino).map_err(failed("write down an inode number"))?;
        if let (Some(fd), Content::First(1..), false) = (&fd, content, self.volatile) {
            rustix::fs::fsync(fd).map_err(|error| self.failed("sync a copy", error.into()))?;
        }
        if let (Some(fd), FileKind::File) = (fd, copied.meta.kind) {
            self.tree.keep_open(local, fd);
        }
        Ok(local)
    }

    /// Makes the root like the directory `local` of `layer`.
    pub fn adopt_root(&self, layer: &dyn Layer, local: LocalIno) -> LayerResult<()> {
        let meta = layer.stored_meta(local)?;
        let root = self.tree.root_object();
        let copied = Copied { layer, local, data: (layer, local), meta: &meta, ino: Ino::ROOT };
        self.copy_meta(&root, &meta).map_err(|source| self.failed("copy owner, mode and times", source))?;
        self.copy_xattrs(&root, &copied)
    }

    /// After owner and mode: a change of owner takes capabilities away.
    fn copy_xattrs(&self, staged: &Object, copied: &Copied<'_>) -> LayerResult<()> {
        let mut names = Vec::new();
        copied.layer.xattr_names(copied.local, &mut |name| names.push(name.to_vec()))?;
        for name in names.iter().filter(|name| self.copies_xattr(name)) {
            let Some(value) = copied.layer.xattr(copied.local, name)? else { continue };
            let stored = self.prefix().stored(name);
            match staged.set_xattr(stored.as_ref(), &value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::OPNOTSUPP) if self.may_be_lost(name) => {
                    log::debug!("{}: xattr {} is not copied up", self.tree.label(), name.escape_ascii());
                }
                Err(error) => return Err(self.failed("copy xattrs", error.into())),
            }
        }
        Ok(())
    }

    /// Whether an attribute that only the initial user namespace may write can be left out of a copy.
    fn may_be_lost(&self, name: &[u8]) -> bool {
        name == b"security.selinux" || self.ownership == Ownership::Override && !name.starts_with(b"user.")
    }

    /// Links the copy into the index, from where all names that the object has in lower layers lead to it.
    fn index(&self, staged: &Object, ino: Ino, local: LocalIno) -> LayerResult<()> {
        let entry = Object::new(self.staging.index(), format!("{:x}", ino.0).as_bytes());
        link(staged, &entry).map_err(|source| self.failed("index a copy", source))?;
        self.tree.remember(local, self.index_ino, &entry.name);
        self.state.lock().indexed.insert(local, ino);
        Ok(())
    }

    /// Puts the whole data into a metadata-only copy. Writing takes capabilities away, and set-ids too where the server is root of a user
    /// namespace only: they are the copy's, and come back.
    pub fn complete_data(&self, local: LocalIno, data: (&dyn Layer, LocalIno), length: u64) -> LayerResult<()> {
        let fd = self.data(local)?;
        let object = self.tree.object(local)?;
        let before = self.tree.meta(local)?;
        let capability =
            object.xattr(CAPABILITY.as_bytes()).map_err(|source| self.failed("read capabilities", source))?;
        self.copy_data(data, &fd, length)?;
        if before.permissions & 0o6000 != 0 {
            let permissions = Some(u32::from(before.permissions));
            self.set_attributes(local, before.kind, &Changes { permissions, ..Changes::default() })?;
        }
        if let Some(capability) = capability {
            match object.set_xattr(CAPABILITY.as_bytes(), &capability, XattrFlags::empty()) {
                Err(Errno::PERM | Errno::OPNOTSUPP) if self.may_be_lost(CAPABILITY.as_bytes()) => {}
                restored => restored.map_err(|error| self.failed("restore capabilities", error.into()))?,
            }
        }
        if !self.volatile && length > 0 {
            rustix::fs::fsync(&fd).map_err(|error| self.failed("sync a copy", error.into()))?;
        }
        let restored = super::attributes::set_times(
            &object,
            Some(super::SetTime::At(before.atime)),
            Some(super::SetTime::At(before.mtime)),
        );
        restored.map_err(|source| self.failed("restore times", source))?;
        self.clear_metacopy(local)
    }

    fn copy_data(&self, from: (&dyn Layer, LocalIno), to: &OwnedFd, length: u64) -> LayerResult<()> {
        let (layer, local) = from;
        let failed = |context: &'static str| move |error: Errno| self.failed(context, error.into());
        let whole = layer.backing_file(local)?;
        if let Some((fd, 0)) = &whole
            && rustix::fs::ioctl_ficlone(to, fd).is_ok()
        {
            return rustix::fs::ftruncate(to, length).map_err(failed("size a copy"));
        }
        rustix::fs::ftruncate(to, length).map_err(failed("size a copy"))?;
        let mut at = 0;
        while at < length {
            let Some(start) = layer.seek(local, at, false)?.filter(|start| *start < length) else { break };
            let end = layer.seek(local, start, true)?.unwrap_or(length).clamp(start, length);
            if end == start {
                break;
            }
            let by_kernel = match &whole {
                Some((fd, offset)) => copy_by_kernel(fd.as_fd(), offset + start, to, start, end - start)
                    .map_err(|source| self.failed("copy data", source))?,
                None => 0,
            };
            self.copy_by_hand(layer, local, to, start + by_kernel, end)?;
            at = end;
        }
        Ok(())
    }

    fn copy_by_hand(&self, layer: &dyn Layer, local: LocalIno, to: &OwnedFd, start: u64, end: u64) -> LayerResult<()> {
        if start >= end {
            return Ok(());
        }
        let mut buffer = vec![0; BUFFER.min((end - start) as usize)];
        let mut at = start;
        while at < end {
            let length = buffer.len().min((end - at) as usize);
            let Some(piece) = buffer.get_mut(..length) else { break };
            let read = layer.read_at(local, at, piece)?;
            let Some(piece) = piece.get(..read).filter(|piece| !piece.is_empty()) else {
                let detail = "a file ends before its size".to_owned();
                return Err(LayerError::Damaged { layer: layer.label().to_owned(), detail });
            };
            write_all(to.as_fd(), at, piece).map_err(|source| self.failed("copy data", source))?;
            at += read as u64;
        }
        Ok(())
    }
}

/// Copies without the data coming here; returns how much, less than `length` where the kernel cannot.
fn copy_by_kernel(from: BorrowedFd<'_>, offset: u64, to: &OwnedFd, start: u64, length: u64) -> io::Result<u64> {
    let (mut input, mut output) = (offset, start);
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut input), to, Some(&mut output), piece) {
            Ok(copied @ 1..) => done += copied as u64,
            Err(Errno::INTR) => {}
            Ok(0) | Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::BADF) => {
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Writes all of `data` at `offset`.
pub(super) fn write_all(to: BorrowedFd<'_>, offset: u64, data: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(to, rest, offset + done as u64) {
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Upper {
    /// Writes all of `data` to the file `ino` at `offset`.
    pub fn write(&self, ino: LocalIno, offset: u64, data: &[u8]) -> LayerResult<()> {
        let large = data.get(..self.direct.share(offset, data.len())).unwrap_or_default();
        let done = if large.is_empty() { 0 } else { self.write_directly(ino, offset, large)? };
        let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) else { return Ok(()) };
        let fd = self.data(ino)?;
        write_all(fd.as_fd(), offset + done as u64, rest).map_err(|source| self.failed("write", source))
    }

    /// Writes as much of `data` as goes past the page cache.
    fn write_directly(&self, ino: LocalIno, offset: u64, data: &[u8]) -> LayerResult<usize> {
        match self.tree.file(ino, Access::Direct) {
            Ok(file) if self.direct.suits(&file) => {
                self.direct.write(&file, offset, data).map_err(|source| self.failed("write", source))
            }
            Ok(_) => {
                self.direct.refuse();
                Ok(0)
            }
            Err(LayerError::Io { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
                self.direct.refuse();
                Ok(0)
            }
            // Whatever is wrong with the file, writing to it the other way will tell.
            Err(_) => Ok(0),
        }
    }

    /// When the file `ino` was last changed.
    pub fn mtime(&self, ino: LocalIno) -> LayerResult<Timestamp> {
        let stat = rustix::fs::fstat(self.data(ino)?).map_err(|error| self.failed("stat", error.into()))?;
        Ok(meta_of(&stat).mtime)
    }

    /// Says that the file `ino` was last changed at `time`.
    pub fn restore_mtime(&self, ino: LocalIno, time: SetTime) -> LayerResult<()> {
        let times = Timestamps { last_access: timespec(None), last_modification: timespec(Some(time)) };
        rustix::fs::futimens(self.data(ino)?, &times).map_err(|error| self.failed("restore a time", error.into()))
    }

    /// Where lower layers have `ino`, as it is written down.
    pub fn redirect(&self, ino: LocalIno) -> LayerResult<Option<Vec<u8>>> {
        let redirect = self.tree.object(ino)?.xattr(self.record_name(Record::Redirect));
        redirect.map_err(|source| self.failed("read redirect", source))
    }

    /// Whether a user may not set or remove the attribute `name`.
    pub fn refuses_xattr(&self, name: &[u8]) -> bool {
        self.prefix().is_refused(name)
    }
}
