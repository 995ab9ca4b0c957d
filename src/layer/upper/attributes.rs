//! Attributes of objects of the upper.

use super::create::NewKind;
use super::{Ownership, Upper};
use crate::layer::dir::{Object, OverrideStat, Record, owners};
use crate::model::{FileKind, Meta, Timestamp, acl};
use crate::sys::{Caller, chmod_no_follow};
use crate::union::{Layer, LayerResult, LocalIno};
use rustix::fs::{AtFlags, Gid, IFlags, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::io;

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time it is.
    Now,
    /// This one.
    At(Timestamp),
}

/// What is to be changed; none leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Permission bits, `0o7777`.
    pub permissions: Option<u32>,
    /// Owner, as the mount shows it.
    pub uid: Option<u32>,
    /// Group, as the mount shows it.
    pub gid: Option<u32>,
    /// Size of a file in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of content.
    pub mtime: Option<SetTime>,
}

/// Which extended attributes may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Any.
    Set,
    /// It must not be there.
    Create,
    /// It must be there.
    Replace,
}

pub(super) const CAPABILITY: &str = "security.capability";

impl Upper {
    /// Changes attributes of `ino`.
    pub fn set_attributes(&self, ino: LocalIno, kind: FileKind, changes: &Changes) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        if let Some(size) = changes.size {
            let fd = self.data(ino)?;
            rustix::fs::ftruncate(&fd, size).map_err(|error| self.failed("truncate", error.into()))?;
        }
        let set = || -> io::Result<()> {
            let stored = self.stored(changes)?;
            match self.ownership {
                Ownership::Real => Self::set_real(&object, kind, &stored)?,
                Ownership::Override => self.set_override(&object, ino, kind, &stored)?,
            }
            set_times(&object, changes.atime, changes.mtime)
        };
        set().map_err(|source| self.failed(&format!("set attributes of {}", object.name.escape_ascii()), source))
    }

    /// The changes with owner and group as they are stored.
    fn stored(&self, changes: &Changes) -> io::Result<Changes> {
        let owners = &self.tree.options().owners;
        let unmapped = || io::Error::from_raw_os_error(libc::EINVAL);
        let uid = changes.uid.map(|uid| owners.uids.to_disk(uid).ok_or_else(unmapped)).transpose()?;
        let gid = changes.gid.map(|gid| owners.gids.to_disk(gid).ok_or_else(unmapped)).transpose()?;
        Ok(Changes { uid, gid, ..*changes })
    }

    /// Changes owner, group and mode of the object itself; `changes` has them as they are stored.
    fn set_real(object: &Object, kind: FileKind, changes: &Changes) -> io::Result<()> {
        if changes.uid.is_some() || changes.gid.is_some() {
            let (uid, gid) = (changes.uid.map(Uid::from_raw), changes.gid.map(Gid::from_raw));
            rustix::fs::chownat(&object.dir, &*object.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        match changes.permissions {
            Some(permissions) if kind != FileKind::Symlink => {
                chmod_no_follow(object.dir(), &object.name, permissions & 0o7777)
            }
            _ => Ok(()),
        }
    }

    /// Changes owner, group and mode in what stands for them; `changes` has them as they are stored.
    fn set_override(&self, object: &Object, ino: LocalIno, kind: FileKind, changes: &Changes) -> io::Result<()> {
        if changes.uid.is_none() && changes.gid.is_none() && changes.permissions.is_none() {
            return Ok(());
        }
        let meta = self.tree.stored_meta(ino).map_err(io::Error::other)?;
        let mut permissions = u32::from(meta.permissions);
        if (changes.uid.is_some() || changes.gid.is_some()) && !kind.is_directory() {
            permissions = without_privileges(permissions);
        }
        if let Some(new) = changes.permissions {
            permissions = new & 0o7777;
        }
        let (uid, gid) = (changes.uid.unwrap_or(meta.uid), changes.gid.unwrap_or(meta.gid));
        let stat = OverrideStat { uid, gid, permissions: permissions as u16, stands_for: stands_for(&meta) };
        self.write_override(object, &stat, stored_kind(kind))
    }

    /// Takes setuid, setgid and capabilities from the file `ino`, as a write by someone unprivileged does. `caller`, who it is: setgid
    /// of a file that its group may not execute goes unless they are of the group. `group`, which it was before it was given away; none
    /// is the one it has.
    pub fn drop_privileges(&self, ino: LocalIno, caller: Option<Caller>, group: Option<u32>) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        match object.remove_xattr(CAPABILITY.as_bytes()) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(self.failed("remove capabilities", error.into())),
        }
        let meta = self.tree.meta(ino)?;
        let mut permissions = without_privileges(u32::from(meta.permissions));
        if permissions & 0o2000 != 0 && caller.is_some_and(|caller| !caller.is_in_group(group.unwrap_or(meta.gid))) {
            permissions &= !0o2000;
        }
        self.set_permissions(ino, &meta, permissions)
    }

    /// Takes setgid from `ino` unless `caller` is of its group.
    pub fn drop_setgid(&self, ino: LocalIno, caller: Caller) -> LayerResult<()> {
        let meta = self.tree.meta(ino)?;
        let permissions = u32::from(meta.permissions);
        if permissions & 0o2000 == 0 || caller.is_in_group(meta.gid) {
            return Ok(());
        }
        self.set_permissions(ino, &meta, permissions & !0o2000)
    }

    fn set_permissions(&self, ino: LocalIno, meta: &Meta, permissions: u32) -> LayerResult<()> {
        if permissions == u32::from(meta.permissions) {
            return Ok(());
        }
        self.set_attributes(ino, meta.kind, &Changes { permissions: Some(permissions), ..Changes::default() })
    }

    /// Sets the extended attribute that a user calls `name`.
    pub fn set_xattr(&self, ino: LocalIno, name: &[u8], value: &[u8], mode: XattrMode) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        self.check_xattr(name)?;
        let flags = match mode {
            XattrMode::Set => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        object
            .set_xattr(self.prefix().stored(name).as_ref(), value, flags)
            .map_err(|error| self.failed("set xattr", error.into()))
    }

    /// Removes the extended attribute that a user calls `name`.
    pub fn remove_xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        self.check_xattr(name)?;
        object
            .remove_xattr(self.prefix().stored(name).as_ref())
            .map_err(|error| self.failed("remove xattr", error.into()))
    }

    /// Sets the attributes of `FS_IOC_SETFLAGS`. By a descriptor for reading: an immutable file cannot be opened for writing, not even
    /// to make it mutable again.
    pub fn set_inode_flags(&self, ino: LocalIno, flags: u32) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        let set = || -> io::Result<()> {
            let fd = object.open(OFlags::RDONLY | OFlags::NONBLOCK)?;
            Ok(rustix::fs::ioctl_setflags(&fd, IFlags::from_bits_retain(flags as _))?)
        };
        set().map_err(|source| self.failed("set inode flags", source))
    }

    fn check_xattr(&self, name: &[u8]) -> LayerResult<()> {
        if self.prefix().is_refused(name) || acl::is_acl(name) && self.ownership == Ownership::Override {
            return Err(self.failed("set xattr", io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        }
        Ok(())
    }

    /// Gives a staged copy the owner, mode and times of its original; `meta` has the owner as it is stored.
    pub(super) fn copy_meta(&self, staged: &Object, meta: &Meta) -> io::Result<()> {
        match self.ownership {
            Ownership::Real => {
                let changes = Changes {
                    permissions: Some(u32::from(meta.permissions)),
                    uid: Some(meta.uid),
                    gid: Some(meta.gid),
                    ..Changes::default()
                };
                Self::set_real(staged, meta.kind, &changes)?;
            }
            Ownership::Override => {
                let (uid, gid) = (meta.uid, meta.gid);
                let stat = OverrideStat { uid, gid, permissions: meta.permissions, stands_for: stands_for(meta) };
                self.write_override(staged, &stat, stored_kind(meta.kind))?;
            }
        }
        set_times(staged, Some(SetTime::At(meta.atime)), Some(SetTime::At(meta.mtime)))
    }

    /// Sets a record of overlay's on a staged object that is a metadata-only copy.
    pub(super) fn mark_metacopy(&self, staged: &Object) -> io::Result<()> {
        self.set_record(staged, Record::Metacopy, b"")
    }

    /// Whether an attribute of a lower object is written to its copy.
    pub(super) fn copies_xattr(&self, name: &[u8]) -> bool {
        !(self.prefix().is_refused(name)
            || name == owners::CONTAINERS_OVERRIDE
            || self.ownership == Ownership::Override && acl::is_acl(name))
    }
}

/// What a mode is after setuid went, and setgid where it is no mandatory lock.
fn without_privileges(permissions: u32) -> u32 {
    let group_executes = permissions & 0o010 != 0;
    permissions & !0o4000 & if group_executes { !0o2000 } else { !0 }
}

fn stands_for(meta: &Meta) -> Option<(FileKind, crate::model::DeviceNumber)> {
    match meta.kind {
        FileKind::File | FileKind::Directory | FileKind::Symlink => None,
        kind => Some((kind, meta.device)),
    }
}

/// As what an object is stored whose owner is kept in an attribute.
fn stored_kind(kind: FileKind) -> NewKind<'static> {
    match kind {
        FileKind::Directory => NewKind::Directory,
        FileKind::Symlink => NewKind::Symlink(b""),
        _ => NewKind::File,
    }
}

/// Sets times of an object, of a symlink itself.
pub(super) fn set_times(object: &Object, atime: Option<SetTime>, mtime: Option<SetTime>) -> io::Result<()> {
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
    Ok(rustix::fs::utimensat(&object.dir, &*object.name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Some(SetTime::At(time)) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}
