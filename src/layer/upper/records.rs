//! What is written down about objects of the upper: their number in the mount, their names in lower layers, overlay's
//! marks.

use super::Upper;
use super::probe::remove;
use crate::layer::dir::{Object, Record, SideRecord};
use crate::layer::staging;
use crate::union::{Ino, LayerResult, LocalIno};
use rustix::fs::{AtFlags, XattrFlags};
use rustix::io::Errno;
use std::io;

/// The mark of a directory that holds copied-up or moved objects. Not the kernel's own `impure`: it removes that one where it
/// finds no origins of its own.
const IMPURE: &[u8] = b"layerfs.impure";

impl Upper {
    /// Sets one of overlay's records on `object`.
    pub(super) fn set_record(&self, object: &Object, record: Record, value: &[u8]) -> io::Result<()> {
        let name = self.record_name(record);
        Ok(object.set_xattr(name, value, XattrFlags::empty())?)
    }

    fn remove_record(&self, object: &Object, record: Record) -> io::Result<()> {
        match object.remove_xattr(self.record_name(record)) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Says that lower layers do not show through the directory `ino`.
    pub fn mark_opaque(&self, ino: LocalIno) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        self.set_record(&object, Record::Opaque, b"y").map_err(|source| self.failed("mark opaque", source))
    }

    /// Says where lower layers have `ino`.
    pub fn mark_redirect(&self, ino: LocalIno, target: &[u8]) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        self.set_record(&object, Record::Redirect, target).map_err(|source| self.failed("mark redirect", source))
    }

    /// Says that `ino` has data of its own.
    pub fn clear_metacopy(&self, ino: LocalIno) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        let clear = || {
            self.remove_record(&object, Record::Metacopy)?;
            self.remove_record(&object, Record::Redirect)
        };
        clear().map_err(|source| self.failed("complete a metadata-only copy", source))
    }

    /// Marks the directory `dir`: it holds objects whose number in the mount is not theirs.
    pub(super) fn mark_impure(&self, dir: LocalIno) -> LayerResult<()> {
        if dir == self.stage_ino || dir == self.index_ino || self.state.lock().impure.contains(&dir) {
            return Ok(());
        }
        let object = self.tree.object(dir)?;
        let name = [self.prefix().as_bytes(), IMPURE].concat();
        object.set_xattr(&name, b"y", XattrFlags::empty()).map_err(|error| self.failed("mark impure", error.into()))?;
        self.state.lock().impure.insert(dir);
        Ok(())
    }

    /// Whether objects in the directory `dir` may have another number in the mount than their own.
    pub fn is_impure(&self, dir: LocalIno) -> LayerResult<bool> {
        if self.state.lock().impure.contains(&dir) {
            return Ok(true);
        }
        let name = [self.prefix().as_bytes(), IMPURE].concat();
        let mark = self.tree.object(dir)?.xattr(&name).map_err(|source| self.failed("read impure", source))?;
        if mark.is_some() {
            self.state.lock().impure.insert(dir);
        }
        Ok(mark.is_some())
    }

    /// Writes down that `object`, numbered `local` here, is `ino` in the mount.
    pub(super) fn record_ino(&self, object: &Object, local: LocalIno, ino: Ino) -> io::Result<()> {
        match (self.set_record(object, Record::Ino, format!("{:x}", ino.0).as_bytes()), &self.side) {
            (Err(error), Some(side)) if lacks_user_xattrs(&error) => {
                let record = side.get(local).unwrap_or_default();
                side.set(local, SideRecord { ino: Some(ino.0), ..record })
            }
            (result, _) => result,
        }
    }

    /// The number that `local` has in the mount, where it is not its own.
    pub fn recorded_ino(&self, local: LocalIno) -> LayerResult<Option<Ino>> {
        if let Some(ino) = self.state.lock().indexed.get(&local) {
            return Ok(Some(*ino));
        }
        let object = self.tree.object(local)?;
        let text = match object.xattr(self.record_name(Record::Ino)) {
            // On a symlink or a special file a `user.` attribute is EPERM.
            Err(error) if lacks_user_xattrs(&error) => None,
            result => result.map_err(|source| self.failed("read inode number", source))?,
        };
        let number = match text {
            Some(text) => std::str::from_utf8(&text).ok().and_then(|text| u64::from_str_radix(text, 16).ok()),
            None => self.side.as_ref().and_then(|side| side.get(local)?.ino),
        };
        Ok(number.map(Ino))
    }

    /// Reads the index: which objects of lower layers with several names have been copied up.
    pub(super) fn load_index(&self) -> LayerResult<()> {
        let dir = self.staging.index();
        let names = staging::names(dir).map_err(|source| self.failed("read index", source))?;
        for (name, _) in names {
            let Some(ino) = super::view::index_entry(&name) else { continue };
            let object = Object::new(dir, &name);
            let stat = object.stat().map_err(|source| self.failed("read index", source))?;
            let local = self.tree.identify(&stat);
            self.tree.remember(local, self.index_ino, &name);
            self.state.lock().indexed.insert(local, ino);
        }
        Ok(())
    }

    /// Takes `local` out of the index, when making it failed.
    pub(super) fn unindex(&self, local: LocalIno) {
        let Some(ino) = self.state.lock().indexed.remove(&local) else { return };
        let name = format!("{:x}", ino.0);
        // Already failing; what stays is a copy of what is there anyway.
        let _ = remove(&Object::new(self.staging.index(), name.as_bytes()), AtFlags::empty());
        self.tree.forget_name(local, self.index_ino, name.as_bytes());
    }

    /// The objects in the index, with their numbers in the mount.
    pub fn indexed(&self) -> Vec<(Ino, LocalIno)> {
        self.state.lock().indexed.iter().map(|(local, ino)| (*ino, *local)).collect()
    }

    /// Whether `local` is in the index: then it stands for other names than its own.
    pub fn is_indexed(&self, local: LocalIno) -> bool {
        self.state.lock().indexed.contains_key(&local)
    }

    /// How many links of `local` lie in the workdir.
    pub fn hidden_links(&self, local: LocalIno) -> u32 {
        let state = self.state.lock();
        u32::from(state.indexed.contains_key(&local)) + u32::from(state.detached.contains(&local))
    }

    /// How many names of the object `ino` of lower layers are seen and not in the upper; none when nobody counted.
    pub fn lower_names(&self, ino: Ino) -> Option<u32> {
        self.lower_names.get(LocalIno(ino.0))?.lower_names
    }

    /// Writes down how many names of `ino` are seen and not in the upper.
    pub fn set_lower_names(&self, ino: Ino, count: u32) -> LayerResult<()> {
        let record = SideRecord { lower_names: Some(count), ..SideRecord::default() };
        self.lower_names.set(LocalIno(ino.0), record).map_err(|source| self.failed("count links", source))
    }
}

/// Whether the object has no `user.` attributes at all, by its type.
pub(super) fn lacks_user_xattrs(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP))
}
