//! New objects.

use super::names::Place;
use super::probe::{exchange, remove};
use super::{Ownership, Upper};
use crate::layer::dir::{Object, OverrideStat, Record, SideRecord, owners};
use crate::model::{DeviceNumber, FileKind, acl};
use crate::sys::{Creator, as_creator, with_umask};
use crate::union::{Layer, LayerResult, LocalIno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use std::io;
use std::os::fd::OwnedFd;

/// What is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKind<'a> {
    /// An empty file.
    File,
    /// A directory.
    Directory,
    /// A symlink to this target.
    Symlink(&'a [u8]),
    /// A FIFO, socket or device.
    Special(FileKind, DeviceNumber),
}

/// A new object as its creator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewObject<'a> {
    /// What it is.
    pub kind: NewKind<'a>,
    /// Its permission bits, `0o7777`, before umask and default ACL.
    pub permissions: u32,
    /// Who makes it; IDs as the mount shows them.
    pub creator: Creator,
}

/// What is at the name of a new object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    Nothing,
    /// A whiteout.
    Whiteout {
        /// The new object is a directory that hides what lies below.
        opaque: bool,
    },
}

/// An object that has been made.
#[derive(Debug)]
pub struct Created {
    /// Its number.
    pub ino: LocalIno,
}

impl Upper {
    /// Makes `new` at `place`, in one instant.
    pub fn create(&self, place: Place<'_>, new: &NewObject<'_>, over: Over) -> LayerResult<Created> {
        let target = self.tree.child(place.dir, place.name)?;
        let make = || match (self.ownership, over) {
            (Ownership::Real, Over::Nothing) => {
                let fd = self.make_as_creator(&target, new)?;
                self.arrived(&target, place, fd)
            }
            (Ownership::Real, Over::Whiteout { opaque }) => self.create_over_whiteout(place, &target, new, opaque),
            (Ownership::Override, _) => self.create_with_override(place, &target, new, over),
        };
        make().map_err(|source| self.failed(&format!("create {}", place.name.escape_ascii()), source))
    }

    /// Makes the object with the IDs and the umask of its creator: the file system does the rest.
    fn make_as_creator(&self, target: &Object, new: &NewObject<'_>) -> io::Result<Option<OwnedFd>> {
        as_creator(self.stored_creator(new.creator), || make(target, new.kind, new.permissions))
    }

    /// The creator with the IDs that are stored.
    fn stored_creator(&self, creator: Creator) -> Creator {
        let (uid, gid) = self.tree.options().owners.of_creator(creator.uid, creator.gid);
        Creator { uid, gid, ..creator }
    }

    /// Remembers a new object, and keeps the descriptor it was made with.
    fn arrived(&self, object: &Object, place: Place<'_>, fd: Option<OwnedFd>) -> io::Result<Created> {
        let stat = match &fd {
            Some(fd) => rustix::fs::fstat(fd)?,
            None => object.stat()?,
        };
        let ino = self.tree.identify(&stat);
        self.tree.remember(ino, place.dir, place.name);
        if let Some(fd) = fd {
            self.tree.keep_open(ino, fd);
        }
        Ok(Created { ino })
    }

    /// Makes the object in a directory of the stage that is like its future one (setgid bit, group, default ACL), then puts
    /// it in the place of the whiteout.
    fn create_over_whiteout(
        &self,
        place: Place<'_>,
        target: &Object,
        new: &NewObject<'_>,
        opaque: bool,
    ) -> io::Result<Created> {
        let nursery = self.nursery(target)?;
        let object = Object::new(&std::sync::Arc::new(nursery.open(OFlags::PATH | OFlags::DIRECTORY)?), place.name);
        let result = (|| {
            let fd = self.make_as_creator(&object, new)?;
            if opaque {
                self.set_record(&object, Record::Opaque, b"y")?;
            }
            Self::take_place_of_whiteout(&object, target, new.kind == NewKind::Directory)?;
            self.arrived(target, place, fd)
        })();
        if result.is_err() {
            // Already failing; what stays in the stage is removed by the next mount.
            let _ = remove(&object, AtFlags::empty()).or_else(|_| remove(&object, AtFlags::REMOVEDIR));
        }
        remove(&nursery, AtFlags::REMOVEDIR)?;
        result
    }

    fn nursery(&self, target: &Object) -> io::Result<Object> {
        let parent = Object::new(&target.dir, b".");
        let stat = parent.stat()?;
        let nursery = self.staging.fresh();
        with_umask(0, || Ok(rustix::fs::mkdirat(&nursery.dir, &*nursery.name, Mode::RWXU)?))?;
        if stat.st_mode & libc::S_ISGID != 0 {
            let group = rustix::fs::Gid::from_raw(stat.st_gid);
            rustix::fs::chownat(&nursery.dir, &*nursery.name, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
            crate::sys::chmod_no_follow(nursery.dir(), &nursery.name, 0o2700)?;
        }
        if let Some(acl) = parent.xattr(acl::DEFAULT.as_bytes())? {
            nursery.set_xattr(acl::DEFAULT.as_bytes(), &acl, XattrFlags::empty())?;
        }
        Ok(nursery)
    }

    /// Puts `object` in the place of the whiteout at `target`. A directory cannot replace it: it changes places with it.
    pub(super) fn take_place_of_whiteout(object: &Object, target: &Object, is_directory: bool) -> io::Result<()> {
        if is_directory {
            exchange(object, target)?;
            return remove(object, AtFlags::empty());
        }
        Ok(rustix::fs::renameat(&object.dir, &*object.name, &target.dir, &*target.name)?)
    }

    /// Makes the object as a plain user can: its owner, mode and type in an attribute, written before it appears.
    fn create_with_override(
        &self,
        place: Place<'_>,
        target: &Object,
        new: &NewObject<'_>,
        over: Over,
    ) -> io::Result<Created> {
        let parent = self.tree.stored_meta(place.dir).map_err(io::Error::other)?;
        let is_directory = new.kind == NewKind::Directory;
        let inherits = parent.permissions & 0o2000 != 0;
        let mut permissions = new.permissions & !new.creator.umask;
        if inherits && is_directory {
            permissions |= 0o2000;
        }
        let creator = self.stored_creator(new.creator);
        let gid = if inherits { parent.gid } else { creator.gid };
        let (kind, stands_for) = match new.kind {
            NewKind::Special(kind, device) => (NewKind::File, Some((kind, device))),
            other => (other, None),
        };
        let stat = OverrideStat { uid: creator.uid, gid, permissions: permissions as u16, stands_for };
        let staged = self.staging.fresh();
        let fd = with_umask(0, || make(&staged, kind, if is_directory { 0o700 } else { 0o600 }))?;
        let result = (|| {
            self.write_override(&staged, &stat, kind)?;
            match over {
                Over::Nothing => rustix::fs::renameat_with(
                    &staged.dir,
                    &*staged.name,
                    &target.dir,
                    &*target.name,
                    RenameFlags::NOREPLACE,
                )?,
                Over::Whiteout { opaque } => {
                    if opaque {
                        self.set_record(&staged, Record::Opaque, b"y")?;
                    }
                    Self::take_place_of_whiteout(&staged, target, is_directory)?;
                }
            }
            self.arrived(target, place, fd)
        })();
        if result.is_err() {
            let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // Already failing; what stays in the stage is removed by the next mount.
            let _ = remove(&staged, flags);
        }
        result
    }

    /// Writes down owner, mode and type of an object, in an attribute or, for a symlink, in the side table.
    pub(super) fn write_override(&self, object: &Object, stat: &OverrideStat, kind: NewKind<'_>) -> io::Result<()> {
        let stored_as = match kind {
            NewKind::Directory => FileKind::Directory,
            NewKind::Symlink(_) => FileKind::Symlink,
            NewKind::File | NewKind::Special(..) => FileKind::File,
        };
        if stored_as == FileKind::Symlink {
            let Some(side) = &self.side else { return Ok(()) };
            let local = self.tree.identify(&object.stat()?);
            let record = side.get(local).unwrap_or_default();
            return side.set(local, SideRecord { owner: Some(*stat), ..record });
        }
        let name = self.tree.options().override_stat.unwrap_or(owners::CONTAINERS_OVERRIDE);
        let text = if name == owners::FUSE_OVERLAYFS_OVERRIDE {
            stat.to_mode_text(stored_as)
        } else {
            stat.to_text(stored_as)
        };
        Ok(object.set_xattr(name, text.as_bytes(), XattrFlags::empty())?)
    }
}

/// Makes an object with the IDs and the umask of this thread; a file comes open for reading and writing.
pub(super) fn make(target: &Object, kind: NewKind<'_>, permissions: u32) -> io::Result<Option<OwnedFd>> {
    let (dir, name, mode) = (&target.dir, &*target.name, Mode::from_raw_mode(permissions));
    match kind {
        NewKind::File => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return Ok(Some(rustix::fs::openat(dir, name, flags, mode)?));
        }
        NewKind::Directory => rustix::fs::mkdirat(dir, name, mode)?,
        NewKind::Symlink(to) => rustix::fs::symlinkat(to, dir, name)?,
        NewKind::Special(kind, device) => {
            let file_type = FileType::from_raw_mode(kind.mode_bits());
            rustix::fs::mknodat(dir, name, file_type, mode, device.to_rdev())?;
        }
    }
    Ok(None)
}
