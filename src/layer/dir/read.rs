//! The directory as [`Layer`].

use super::listing::{has_whiteout_file, is_absent};
use super::notation::{NameMeaning, Record, meaning};
use super::object::meta_of;
use super::{Access, DirLayer};
use crate::model::{FileKind, Meta};
use crate::union::{Entry, EntryKind, Layer, LayerResult, LocalIno, Marks};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl Layer for DirLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn root(&self) -> LocalIno {
        self.root_ino
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        self.is_opaque(&self.root_object()).map_err(|source| self.io_error("read root", source))
    }

    fn entries(&self, dir: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        for (name, kind) in self.list(dir)? {
            visit(Entry { name: Cow::Borrowed(&name), kind });
        }
        Ok(())
    }

    fn lookup(&self, dir: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>> {
        if meaning(name) != NameMeaning::Object {
            return Ok(None);
        }
        let fd = self.directory(dir)?;
        let look = || -> io::Result<Option<EntryKind>> {
            let object = super::Object::new(&fd, name);
            let mut found = self.examine(&object, true)?;
            // Only what looks like a whiteout is worth asking whether this directory marks them so.
            if found == Some(EntryKind::Whiteout) && !self.marks_whiteouts(&super::Object::new(&fd, b"."))? {
                found = self.examine(&object, false)?;
            }
            if has_whiteout_file(&fd, name)? {
                found.get_or_insert(EntryKind::Whiteout).hide_lower();
            }
            Ok(found)
        };
        let found = look().map_err(|source| self.io_error(&format!("look up {}", name.escape_ascii()), source))?;
        if let Some(EntryKind::Node { ino, .. }) = found {
            self.remember(ino, dir, name);
        }
        Ok(found)
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        let mut meta = self.stored_meta(ino)?;
        (meta.uid, meta.gid) = self.options.owners.to_mount(meta.uid, meta.gid);
        Ok(meta)
    }

    fn stored_meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        let object = self.object(ino)?;
        let read = || -> io::Result<Meta> {
            let mut meta = meta_of(&object.stat()?);
            self.apply_override(&object, ino, &mut meta)?;
            Ok(meta)
        };
        read().map_err(|source| self.io_error(&format!("stat {}", object.name.escape_ascii()), source))
    }

    fn read_link(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        let object = self.object(ino)?;
        let target = object.read_link().map_err(|source| self.io_error("read link", source))?;
        Ok(Cow::Owned(target))
    }

    fn read_at(&self, ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize> {
        let fd = self.file(ino, Access::Read)?;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&fd, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.io_error("read", error.into())),
            }
        }
        Ok(done)
    }

    fn seek(&self, ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>> {
        let fd = self.file(ino, Access::Read)?;
        let whence = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        match rustix::fs::seek(&fd, whence) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(self.io_error("seek", error.into())),
        }
    }

    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        let prefix = self.options.prefix;
        let stored = prefix.stored(name);
        if prefix.shown(&stored).is_none() {
            return Ok(None);
        }
        let value = self.object(ino)?.xattr(&stored).map_err(|source| self.io_error("read xattr", source))?;
        Ok(value.map(Cow::Owned))
    }

    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        let names = self.object(ino)?.xattr_names().map_err(|source| self.io_error("list xattrs", source))?;
        for name in &names {
            if let Some(shown) = self.options.prefix.shown(name) {
                visit(&shown);
            }
        }
        Ok(())
    }

    fn backing_file(&self, ino: LocalIno) -> LayerResult<Option<(Arc<OwnedFd>, u64)>> {
        Ok(Some((self.file(ino, Access::Read)?, 0)))
    }

    fn directory_on_disk(&self, dir: LocalIno) -> Option<Arc<OwnedFd>> {
        self.directory(dir).ok()
    }

    fn keeps_marks(&self) -> bool {
        true
    }

    fn marks(&self, ino: LocalIno) -> LayerResult<Marks> {
        let object = self.object(ino)?;
        let prefix = self.options.prefix;
        let read = || -> io::Result<Marks> {
            let names = object.xattr_names()?;
            let has = |record| names.iter().any(|name| name == prefix.record(record));
            let redirect = prefix.record(Record::Redirect);
            Ok(Marks {
                redirect: if has(Record::Redirect) { object.xattr(redirect)? } else { None },
                metacopy: has(Record::Metacopy),
            })
        };
        match read() {
            Err(error) if is_absent(&error) => Ok(Marks::default()),
            result => result.map_err(|source| self.io_error("read overlay's xattrs", source)),
        }
    }

    fn forget(&self, ino: LocalIno, dir: LocalIno, name: &[u8]) {
        let mut places = self.places.lock();
        places.remove(ino, dir, name);
        let is_lost = places.get(ino).is_none();
        drop(places);
        if is_lost {
            self.close(ino);
        }
    }

    fn tidy(&self) {
        self.places.lock().shrink();
    }
}

impl EntryKind {
    /// Says that a whiteout stands beside the object.
    pub(super) fn hide_lower(&mut self) {
        if let Self::Node { opaque, kind, .. } = self {
            *opaque = *opaque || *kind == FileKind::Directory;
        }
    }
}
