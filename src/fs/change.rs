//! Changing attributes, extended attributes and data.

use super::copy_up::{Want, may_wait};
use super::{Attr, FsError, FsResult, LayerFs};
use crate::layer::upper::{Changes, SetTime, Upper, XattrMode};
use crate::model::{FileKind, Meta, Timestamp, acl};
use crate::sys::Caller;
use crate::union::{Ino, LocalIno};
use rustix::fs::FallocateFlags;
use std::time::Duration;

/// The clock of files advances in ticks, of 10 ms at the most (`CONFIG_HZ`).
const A_TICK: Duration = Duration::from_millis(10);

/// What is known of a write beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Write {
    /// Who makes it without the rights of root: setuid, setgid and capabilities go.
    pub unprivileged: Option<Caller>,
    /// It comes through the kernel's page cache, maybe some time after the system call. The kernel keeps the time of that call, may have
    /// told it already, and sends it when it is another than the one it had: so this changes no time.
    pub cached: bool,
}

impl LayerFs {
    /// Changes attributes of `ino`. `told`, when its status was last changed by what the kernel knows, if it says so. `unprivileged`, who
    /// does so without the rights of root: a change of size or owner takes setuid, setgid and capabilities with it.
    pub fn setattr(
        &self,
        ino: Ino,
        changes: &Changes,
        told: Option<Timestamp>,
        unprivileged: Option<Caller>,
    ) -> FsResult<Attr> {
        let writable = self.writable()?;
        let before = self.getattr(ino)?;
        if self.changes_nothing(ino, &before.meta, changes, told) {
            return Ok(before);
        }
        let kind = before.meta.kind;
        let local = match changes.size {
            Some(_) if kind.is_directory() => return Err(FsError::IsDirectory),
            Some(_) if kind != FileKind::File => return Err(FsError::WrongKind),
            Some(size) => self.ensure_upper(ino, Want::DataUpTo(size))?,
            None => self.ensure_upper(ino, Want::Metadata)?,
        };
        // Before the time is set: a write that is under way either finds it here or is done before.
        match changes.mtime {
            Some(SetTime::At(time)) if kind == FileKind::File => writable.times.tell(ino, time),
            Some(SetTime::Now) => writable.times.forget(ino),
            _ => {}
        }
        let shared = writable.stripes.read(ino);
        let gives_away = !kind.is_directory() && (changes.uid.is_some() || changes.gid.is_some());
        writable.upper.set_attributes(local, kind, changes)?;
        // Not before: what fails takes nothing.
        if let Some(caller) = unprivileged.filter(|_| changes.size.is_some() || gives_away) {
            writable.upper.drop_privileges(local, Some(caller), Some(before.meta.gid))?;
        }
        drop(shared);
        self.getattr(ino)
    }

    /// Whether only times are set, to what they are: so the kernel's own cache flushes them before it links, renames or unlinks, and
    /// after that. Setting them again would change the time of the last change of status, which the object has to keep unless it is
    /// in the upper and that time is told as well.
    pub(super) fn changes_nothing(&self, ino: Ino, meta: &Meta, changes: &Changes, told: Option<Timestamp>) -> bool {
        let Changes { permissions: None, uid: None, gid: None, size: None, atime, mtime } = *changes else {
            return false;
        };
        let same = |wanted: Option<SetTime>, is| wanted.is_none_or(|time| time == SetTime::At(is));
        if !same(atime, meta.atime) || !same(mtime, meta.mtime) {
            return false;
        }
        let Some(writable) = &self.writable else { return true };
        let in_upper = match self.directories.get(ino) {
            Some(directory) => super::writable::upper_of(&directory.made().sources).is_some(),
            None => writable.local(ino).is_some(),
        };
        // The change that the kernel tells of has been made below by now, at about the same time.
        !in_upper || writable.kernel_keeps_times() && told.is_some_and(|told| told.is_soon_after(meta.ctime, A_TICK))
    }

    /// Sets the extended attribute `name` of `ino`. `unprivileged`, who does so without the rights of root: whoever is not in the
    /// group of a setgid object takes setgid from it by giving it an ACL.
    pub fn setxattr(
        &self,
        ino: Ino,
        (name, value): (&[u8], &[u8]),
        mode: XattrMode,
        unprivileged: Option<Caller>,
    ) -> FsResult<()> {
        let writable = self.writable()?;
        if writable.upper.refuses_xattr(name) {
            return Err(FsError::NotSupported);
        }
        if writable.local(ino).is_none() {
            // What fails must not have copied anything up.
            match (self.getxattr(ino, name), mode) {
                (Ok(_), XattrMode::Create) => return Err(FsError::Exists),
                (Err(FsError::NoXattr), XattrMode::Replace) => return Err(FsError::NoXattr),
                (Ok(_) | Err(FsError::NoXattr), _) => {}
                (Err(error), _) => return Err(error),
            }
        }
        let local = self.ensure_upper(ino, Want::Metadata)?;
        let _shared = writable.stripes.read(ino);
        writable.upper.set_xattr(local, name, value, mode)?;
        match unprivileged {
            Some(caller) if name == acl::ACCESS.as_bytes() => Ok(writable.upper.drop_setgid(local, caller)?),
            _ => Ok(()),
        }
    }

    /// Removes the extended attribute `name` of `ino`.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> FsResult<()> {
        let writable = self.writable()?;
        if writable.upper.refuses_xattr(name) {
            return Err(FsError::NotSupported);
        }
        let is_acl = acl::is_acl(name);
        let is_inherited_by_none = name == acl::DEFAULT.as_bytes() && self.directories.get(ino).is_none();
        match self.getxattr(ino, name) {
            // File systems remove an ACL that is not there like one that is; overlayfs asks for it where only lower layers have the object.
            Err(FsError::NoXattr) if is_acl && (is_inherited_by_none || self.upper_local(writable, ino).is_ok()) => {
                return Ok(());
            }
            found => drop(found?),
        }
        let local = self.ensure_upper(ino, Want::Metadata)?;
        let _shared = writable.stripes.read(ino);
        Ok(writable.upper.remove_xattr(local, name)?)
    }

    /// Writes all of `data` to the file `ino` at `offset`.
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8], write: Write) -> FsResult<()> {
        self.change_data(ino, write, |upper, local| Ok(upper.write(local, offset, data)?))
    }

    /// Writes `ino` to the disk; of a file only what is needed to read its data when `data_only`. What is in a lower layer is
    /// there already.
    pub fn fsync(&self, ino: Ino, data_only: bool) -> FsResult<()> {
        let Some(writable) = &self.writable else { return Ok(()) };
        let is_directory = self.directories.get(ino).is_some();
        let Ok(local) = self.upper_local(writable, ino) else { return Ok(()) };
        if writable.upper.is_volatile() {
            return Ok(());
        }
        may_wait()?;
        let shared = writable.stripes.read(ino);
        let file = writable.upper.to_sync(local, is_directory)?;
        drop(shared);
        Ok(writable.upper.sync(&file, data_only)?)
    }

    /// Allocates or frees space of the file `ino`; `mode` as in fallocate(2). `unprivileged`, who does so without the rights of root:
    /// it takes setuid, setgid and capabilities with it.
    pub fn fallocate(
        &self,
        ino: Ino,
        mode: FallocateFlags,
        (offset, length): (u64, u64),
        unprivileged: Option<Caller>,
    ) -> FsResult<()> {
        self.change_data(ino, Write { unprivileged, cached: true }, |upper, local| {
            rustix::fs::fallocate(upper.data(local)?, mode, offset, length)
                .map_err(|error| FsError::System(error.into()))
        })
    }

    /// Takes setuid and setgid from `ino`, which is no directory, if it has them, for `caller`, who is about to write to it or changes nothing
    /// of its owner. With a change of owner the kernel tells when it was, where it keeps the times of files (`trust_local_cmtime` in
    /// fs/fuse/dir.c); elsewhere the two cannot be told apart. A write itself says whether the bits go: for who writes they are gone in the
    /// answer only, but for root, of whom capabilities alone are taken.
    pub fn drop_set_ids(&self, ino: Ino, caller: Caller, told: Option<Timestamp>) -> FsResult<Attr> {
        let writable = self.writable()?;
        let mut before = self.getattr(ino)?;
        let permissions = before.meta.permissions;
        if before.meta.kind.is_directory() || permissions & 0o6000 == 0 {
            return Ok(before);
        }
        let is_file = before.meta.kind == FileKind::File;
        let is_write = is_file && writable.kernel_keeps_times() && told.is_none();
        let stranger = caller.uid != 0 && caller.uid != before.meta.uid;
        if is_write && caller.uid == 0 {
            return Ok(before);
        }
        if is_write || stranger && is_file && !writable.kernel_keeps_times() {
            before.meta.permissions &= !0o6000;
            return Ok(before);
        }
        if stranger {
            let setgid_goes =
                permissions & 0o2010 == 0o2010 || permissions & 0o2000 != 0 && !caller.is_in_group(before.meta.gid);
            return if permissions & 0o4000 != 0 || setgid_goes { Err(FsError::NotPermitted) } else { Ok(before) };
        }
        let local = self.ensure_upper(ino, Want::Metadata)?;
        let shared = writable.stripes.read(ino);
        writable.upper.drop_privileges(local, Some(caller).filter(|caller| caller.uid != 0), None)?;
        drop(shared);
        self.getattr(ino)
    }

    /// Copies data from one file to another without them leaving the kernel; returns how many bytes. `unprivileged`, who
    /// does so without the rights of root: what is written to loses setuid, setgid and capabilities.
    pub fn copy_file_range(
        &self,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        length: usize,
        unprivileged: Option<Caller>,
    ) -> FsResult<usize> {
        // First: the two may be one file.
        self.ensure_upper(to, Want::Data)?;
        let source = self.data_source(from)?;
        let backing = self.layer(source)?.backing_file(source.ino)?;
        let Some((fd, start)) = backing else { return Err(FsError::NotSupported) };
        let size = self.layer(source)?.meta(source.ino)?.size;
        let length = (length as u64).min(size.saturating_sub(from_offset)) as usize;
        let (mut input, mut output) = (start + from_offset, to_offset);
        self.change_data(to, Write { unprivileged, cached: true }, |upper, local| {
            let target = upper.data(local)?;
            rustix::fs::copy_file_range(&fd, Some(&mut input), target, Some(&mut output), length)
                .map_err(|error| FsError::System(error.into()))
        })
    }

    /// The attributes of `FS_IOC_GETFLAGS`; none in a layer that has no such thing.
    pub fn inode_flags(&self, ino: Ino) -> FsResult<u32> {
        let source = self.object(ino)?.metadata();
        let Some((fd, 0)) = self.layer(source)?.backing_file(source.ino)? else { return Ok(0) };
        let flags = rustix::fs::ioctl_getflags(&fd).map_err(|error| FsError::System(error.into()))?;
        Ok(flags.bits() as u32)
    }

    /// Sets the attributes of `FS_IOC_SETFLAGS`.
    pub fn set_inode_flags(&self, ino: Ino, flags: u32) -> FsResult<()> {
        let writable = self.writable()?;
        let local = self.ensure_upper(ino, Want::Data)?;
        let _shared = writable.stripes.read(ino);
        Ok(writable.upper.set_inode_flags(local, flags)?)
    }

    /// Changes the data of the file `ino` in the upper by `change`. A change like a cached write, whose time the kernel has set itself,
    /// leaves the time alone where the kernel keeps times.
    fn change_data<T>(
        &self,
        ino: Ino,
        write: Write,
        change: impl FnOnce(&Upper, LocalIno) -> FsResult<T>,
    ) -> FsResult<T> {
        let writable = self.writable()?;
        let local = self.ensure_upper(ino, Want::Data)?;
        let _shared = writable.stripes.read(ino);
        let change = || {
            let changed = change(&writable.upper, local)?;
            if write.unprivileged.is_some() {
                writable.upper.drop_privileges(local, write.unprivileged, None)?;
            }
            Ok(changed)
        };
        if write.cached && writable.kernel_keeps_times() {
            let set = |time| Ok(writable.upper.restore_mtime(local, time)?);
            return writable.times.keep(ino, || Ok(writable.upper.mtime(local)?), change, set);
        }
        writable.times.forget(ino);
        change()
    }
}
