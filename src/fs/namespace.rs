//! Making and removing names.

use super::copy_up::Want;
use super::directory::LiveDirectory;
use super::writable::{Writable, lowers_of, upper_of};
use super::{Attr, FsError, FsResult, LayerFs};
use crate::layer::dir::notation;
use crate::layer::upper::{NewKind, NewObject, Over, Place};
use crate::model::{DeviceNumber, FileKind, NAME_MAX};
use crate::union::mutation::{self, Below, InUpper, Spot, Step};
use crate::union::{Directory, Ino, LayerError, LayerIndex, Node, Source};

impl LayerFs {
    /// Makes a new object called `name` in the directory `parent`. The kernel takes it as looked up.
    pub fn create(&self, parent: Ino, name: &[u8], new: &NewObject<'_>) -> FsResult<Attr> {
        let writable = self.writable()?;
        check_new_name(name)?;
        let kind = kind_of(new.kind);
        if new.kind == NewKind::Special(FileKind::CharDevice, DeviceNumber::default()) {
            // That is what a whiteout is.
            return Err(FsError::NotPermitted);
        }
        let directory = self.directory(parent)?;
        let dir = self.ensure_directory(parent)?;
        let place = Place { dir, name };
        let guards = writable.stripes.write(&[parent]);
        if self.find(&directory, name)?.is_some() {
            return Err(FsError::Exists);
        }
        let over = over(writable, &directory, place, kind.is_directory())?;
        let created = match writable.upper.create(place, new, over) {
            // A whiteout where none is needed: left by another program, or by a lower layer that went.
            Err(error) if is_exists(&error) && writable.upper.peek(place)? == InUpper::Whiteout => {
                writable.upper.create(place, new, Over::Whiteout { opaque: kind.is_directory() })
            }
            result => result,
        }?;
        let source = Source { layer: LayerIndex::UPPER, ino: created.ino };
        let ino = Ino::of(source);
        if kind.is_directory() {
            self.directories.insert_new(ino, parent, Directory { sources: [source].into(), metadata: source });
        }
        self.data_elsewhere.write().remove(&ino);
        directory.update(|listing| listing.insert(name, ino, kind));
        writable.nodes.lock().looked_up(ino, parent, name);
        drop(guards);
        self.getattr(ino)
    }

    /// Gives the object `ino` the further name `name` in the directory `parent`.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> FsResult<Attr> {
        let writable = self.writable()?;
        check_new_name(name)?;
        let kind = self.kind(ino)?;
        if kind.is_directory() {
            return Err(FsError::NotPermitted);
        }
        let directory = self.directory(parent)?;
        let dir = self.ensure_directory(parent)?;
        let local = self.ensure_upper(ino, Want::Metadata)?;
        let place = Place { dir, name };
        let guards = writable.stripes.write(&[parent, ino]);
        if self.find(&directory, name)?.is_some() {
            return Err(FsError::Exists);
        }
        self.redirect_metacopy(ino, local)?;
        let over = match writable.upper.peek(place)? {
            InUpper::Whiteout => Over::Whiteout { opaque: false },
            InUpper::Nothing | InUpper::Object => Over::Nothing,
        };
        writable.upper.link(local, place, over)?;
        directory.update(|listing| listing.insert(name, ino, kind));
        writable.nodes.lock().looked_up(ino, parent, name);
        drop(guards);
        self.getattr(ino)
    }

    /// Removes the name of an object that is no directory.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> FsResult<()> {
        let directory = self.directory(parent)?;
        let (ino, kind) = self.find(&directory, name)?.ok_or(FsError::NotFound)?;
        if kind.is_directory() {
            return Err(FsError::IsDirectory);
        }
        self.remove(&directory, parent, name, ino)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> FsResult<()> {
        let directory = self.directory(parent)?;
        let (ino, kind) = self.find(&directory, name)?.ok_or(FsError::NotFound)?;
        if !kind.is_directory() {
            return Err(FsError::NotDirectory);
        }
        self.check_empty(&directory, parent, name, ino)?;
        self.remove(&directory, parent, name, ino)
    }

    /// An error unless the directory called `name` shows no entries.
    pub(super) fn check_empty(&self, directory: &LiveDirectory, parent: Ino, name: &[u8], ino: Ino) -> FsResult<()> {
        self.learn(parent, directory, name, ino, FileKind::Directory)?;
        let inside = self.directory(ino)?;
        if self.listing(&inside)?.is_empty() { Ok(()) } else { Err(FsError::NotEmpty) }
    }

    fn remove(&self, directory: &LiveDirectory, parent: Ino, name: &[u8], ino: Ino) -> FsResult<()> {
        let writable = self.writable()?;
        let dir = self.ensure_directory(parent)?;
        let place = Place { dir, name };
        let guards = writable.stripes.write(&[parent, ino]);
        let spot = self.spot_of(writable, directory, place, ino)?;
        let uncounted = self.uncount_lower_name(writable, ino, spot)?;
        for step in mutation::remove(spot) {
            let done = match step {
                Step::Whiteout => writable.upper.whiteout(place),
                Step::Detach | Step::DetachLeavingWhiteout => {
                    let local = self.upper_local(writable, ino)?;
                    writable.upper.detach(local, place, step == Step::DetachLeavingWhiteout)
                }
                // No removal takes another step.
                _ => Ok(()),
            };
            if let (Err(_), Some(count)) = (&done, uncounted) {
                writable.upper.set_lower_names(ino, count)?;
            }
            done?;
        }
        directory.update(|listing| listing.remove(name));
        self.name_is_gone(writable, ino, parent, name);
        drop(guards);
        Ok(())
    }

    /// Where the object `ino` is in the upper.
    pub(super) fn upper_local(&self, writable: &Writable, ino: Ino) -> FsResult<crate::union::LocalIno> {
        let local = match self.directories.get(ino) {
            Some(directory) => upper_of(&directory.made().sources),
            None => writable.local(ino),
        };
        local.ok_or(FsError::Stale(ino.0))
    }

    /// Counts one name less of a hard link of lower layers, when the name is only there. Returns the count before.
    pub(super) fn uncount_lower_name(&self, writable: &Writable, ino: Ino, spot: Spot) -> FsResult<Option<u32>> {
        if spot.upper == InUpper::Object || self.directories.get(ino).is_some() {
            return Ok(None);
        }
        let count = match (writable.upper.lower_names(ino), ino.source()) {
            (Some(count), _) => count,
            (None, Some(source)) => self.stack.links(source, self.layer(source)?.meta(source.ino)?.nlink),
            (None, None) => return Ok(None),
        };
        if count <= 1 && writable.upper.lower_names(ino).is_none() {
            return Ok(None);
        }
        writable.upper.set_lower_names(ino, count.saturating_sub(1))?;
        Ok(Some(count))
    }

    /// A name of `ino` is gone; what the kernel does not know goes with it.
    pub(super) fn name_is_gone(&self, writable: &Writable, ino: Ino, parent: Ino, name: &[u8]) {
        let mut nodes = writable.nodes.lock();
        nodes.remove_name(ino, parent, name);
        let known = nodes.is_known(ino);
        drop(nodes);
        if !known {
            self.release(writable, ino);
        }
    }

    /// What stands under a name under which the union shows `ino`. What is in lower layers only is seen because the upper has nothing
    /// there: nobody needs to be asked.
    fn spot_of(&self, writable: &Writable, directory: &LiveDirectory, place: Place<'_>, ino: Ino) -> FsResult<Spot> {
        let below = match self.directories.get(ino) {
            Some(shown) if upper_of(&shown.made().sources).is_none() => Below::Directory,
            None if writable.local(ino).is_none() => Below::Other,
            _ => return self.spot(writable, directory, place),
        };
        Ok(Spot { upper: InUpper::Nothing, below })
    }

    /// What stands under a name that the union shows.
    pub(super) fn spot(&self, writable: &Writable, directory: &LiveDirectory, place: Place<'_>) -> FsResult<Spot> {
        let made = directory.made();
        let lowers = lowers_of(&made.sources);
        let below = match self.stack.child(lowers, place.name) {
            _ if lowers.is_empty() => Below::Nothing,
            Ok(None) => Below::Nothing,
            Ok(Some(Node::Directory(_))) => Below::Directory,
            // What cannot be read in a lower layer has to be hidden like anything else there.
            Ok(Some(Node::Other { .. })) | Err(LayerError::Damaged { .. } | LayerError::Refused { .. }) => Below::Other,
            Err(error) => return Err(error.into()),
        };
        Ok(Spot { upper: writable.upper.peek(place)?, below })
    }

    /// What the union shows under `name`.
    pub(super) fn find(&self, directory: &LiveDirectory, name: &[u8]) -> FsResult<Option<(Ino, FileKind)>> {
        let Some((ino, kind)) = self.named(directory, name)? else { return Ok(None) };
        match self.displaced(directory, name, ino)? {
            None => Ok(Some((ino, kind))),
            Some(other) => {
                directory.renumber(name, ino, other, kind);
                Ok(Some((other, kind)))
            }
        }
    }

    pub(super) fn kind(&self, ino: Ino) -> FsResult<FileKind> {
        let source = self.object(ino)?.metadata();
        Ok(self.layer(source)?.meta(source.ino)?.kind)
    }
}

/// What a new object at a free name appears over.
fn over(writable: &Writable, directory: &LiveDirectory, place: Place<'_>, is_directory: bool) -> FsResult<Over> {
    let merged = !lowers_of(&directory.made().sources).is_empty();
    let upper = if merged { writable.upper.peek(place)? } else { InUpper::Nothing };
    let steps = mutation::create(Spot { upper, below: Below::Nothing }, is_directory);
    Ok(match steps.first() {
        Some(&Step::PublishOverWhiteout { opaque }) => Over::Whiteout { opaque },
        _ => Over::Nothing,
    })
}

fn kind_of(kind: NewKind<'_>) -> FileKind {
    match kind {
        NewKind::File => FileKind::File,
        NewKind::Directory => FileKind::Directory,
        NewKind::Symlink(_) => FileKind::Symlink,
        NewKind::Special(kind, _) => kind,
    }
}

/// A name too long is that, and one that would be read as a whiteout is refused.
pub(super) fn check_new_name(name: &[u8]) -> FsResult<()> {
    if name.len() > NAME_MAX {
        return Err(FsError::NameTooLong);
    }
    if name.starts_with(notation::WHITEOUT_PREFIX) {
        return Err(FsError::WhiteoutName);
    }
    Ok(())
}

fn is_exists(error: &LayerError) -> bool {
    matches!(error, LayerError::Io { source, .. } if source.raw_os_error() == Some(libc::EEXIST))
}
