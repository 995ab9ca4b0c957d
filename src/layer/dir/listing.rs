//! Reading one directory: which names are objects, which are whiteouts, what is opaque.

use super::notation::{self, NameMeaning, Record, XattrPrefix};
use super::object::is_whiteout;
use super::{DirLayer, Object};
use crate::model::{FileKind, Meta};
use crate::sys::read_names;
use crate::union::{EntryKind, LayerResult, LocalIno};
use rustix::fs::{AtFlags, FileType, OFlags};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// One raw entry, before whiteouts are known.
struct RawEntry {
    ino: u64,
    kind: FileType,
}

impl DirLayer {
    /// Whether the directory `object` hides the layers below.
    pub(super) fn is_opaque(&self, object: &Object) -> io::Result<bool> {
        let names = object.xattr_names()?;
        let prefix = self.options.prefix;
        let has = |wanted: &[u8]| names.iter().any(|name| name == wanted);
        let value = |name: &[u8]| if has(name) { object.xattr(name) } else { Ok(None) };
        match value(prefix.record(Record::Opaque))?.as_deref() {
            Some(b"y") => return Ok(true),
            Some(b"x") => return Ok(false),
            _ => {}
        }
        if prefix == XattrPrefix::User && value(b"user.fuseoverlayfs.opaque")?.as_deref() == Some(b"y") {
            return Ok(true);
        }
        object.has_entry(notation::OPAQUE_NAME)
    }

    /// Whether whiteouts in the directory `object` may be files with an attribute.
    pub(super) fn marks_whiteouts(&self, object: &Object) -> io::Result<bool> {
        let opaque = self.options.prefix.record(Record::Opaque);
        let is_marked = object.xattr_names()?.iter().any(|name| name == opaque);
        Ok(is_marked && object.xattr(opaque)?.as_deref() == Some(b"x"))
    }

    /// Every name of the directory with what it stands for, ordered by name.
    pub(super) fn list(&self, dir: LocalIno) -> LayerResult<BTreeMap<Box<[u8]>, EntryKind>> {
        let fd = self.directory(dir)?;
        self.list_open(dir, &fd).map_err(|source| self.io_error("read directory", source))
    }

    fn list_open(&self, dir: LocalIno, fd: &Arc<OwnedFd>) -> io::Result<BTreeMap<Box<[u8]>, EntryKind>> {
        let names = self.read_names(fd)?;
        // Only plain files can be whiteouts by an attribute.
        let may_mark = |kind| matches!(kind, FileType::RegularFile | FileType::Unknown);
        let marks_whiteouts =
            names.iter().any(|(_, raw)| may_mark(raw.kind)) && self.marks_whiteouts(&Object::new(fd, b"."))?;
        let mut entries = BTreeMap::new();
        let mut hidden = Vec::new();
        for (name, raw) in names {
            match notation::meaning(&name) {
                NameMeaning::Whiteout(of) => hidden.push(Box::<[u8]>::from(of)),
                NameMeaning::Opaque | NameMeaning::Ignored => {}
                NameMeaning::Object => {
                    let Some(kind) = self.entry(fd, &name, &raw, marks_whiteouts)? else { continue };
                    entries.insert(name, kind);
                }
            }
        }
        for name in hidden {
            entries.entry(name).and_modify(EntryKind::hide_lower).or_insert(EntryKind::Whiteout);
        }
        let mut places = self.places.lock();
        for (name, kind) in &entries {
            if let EntryKind::Node { ino, .. } = kind {
                places.add(*ino, dir, name);
            }
        }
        Ok(entries)
    }

    fn read_names(&self, fd: &Arc<OwnedFd>) -> io::Result<Vec<(Box<[u8]>, RawEntry)>> {
        let here = Object::new(fd, b".");
        let open = || super::without_atime(|flags| here.open(OFlags::RDONLY | OFlags::DIRECTORY | flags));
        let opened = self.descriptors.open_uncached(open)?;
        let mut names = Vec::new();
        read_names(opened, |entry| {
            let raw = RawEntry { ino: entry.ino(), kind: entry.file_type() };
            names.push((entry.file_name().to_bytes().into(), raw));
            Ok(())
        })?;
        Ok(names)
    }

    /// What one name stands for, with as few system calls as the notation allows: none for a plain file, one for a directory. A
    /// name that vanished meanwhile is none.
    fn entry(
        &self,
        dir: &Arc<OwnedFd>,
        name: &[u8],
        raw: &RawEntry,
        marks_whiteouts: bool,
    ) -> io::Result<Option<EntryKind>> {
        let may_be_whiteout = marks_whiteouts || self.options.override_stat.is_some();
        let kind = match raw.kind {
            FileType::RegularFile if !may_be_whiteout => FileKind::File,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::BlockDevice => FileKind::BlockDevice,
            // Its number is another where a file system is mounted on it, or a subvolume begins. Whether it is opaque is asked later.
            FileType::Directory => {
                let stat = match Object::new(dir, name).stat() {
                    Err(error) if is_absent(&error) => return Ok(None),
                    stat => stat?,
                };
                let ino = self.identify(&stat);
                return Ok(Some(EntryKind::Node { ino, kind: FileKind::Directory, opaque: false, implied: false }));
            }
            _ => return self.examine(&Object::new(dir, name), marks_whiteouts),
        };
        if self.mixed_devices {
            return self.examine(&Object::new(dir, name), marks_whiteouts);
        }
        let ino = self.places.lock().identify(self.root_device, raw.ino, self.root_device);
        Ok(Some(EntryKind::Node { ino, kind, opaque: true, implied: false }))
    }

    /// What `object` is; none when there is nothing.
    pub(super) fn examine(&self, object: &Object, marks_whiteouts: bool) -> io::Result<Option<EntryKind>> {
        let stat = match object.stat() {
            Ok(stat) => stat,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if is_whiteout(&stat) {
            return Ok(Some(EntryKind::Whiteout));
        }
        let mut kind = FileKind::from_mode(stat.st_mode).unwrap_or(FileKind::File);
        if kind == FileKind::File {
            let mark = self.options.prefix.record(Record::Whiteout);
            if marks_whiteouts && stat.st_size == 0 && object.xattr(mark)?.is_some() {
                return Ok(Some(EntryKind::Whiteout));
            }
            kind = self.overridden_kind(object)?.unwrap_or(kind);
        }
        let opaque = !kind.is_directory() || self.is_opaque(object)?;
        Ok(Some(EntryKind::Node { ino: self.identify(&stat), kind, opaque, implied: false }))
    }

    fn overridden_kind(&self, object: &Object) -> io::Result<Option<FileKind>> {
        let Some(name) = self.options.override_stat else { return Ok(None) };
        let Some(value) = object.xattr(name)? else { return Ok(None) };
        let parsed = super::OverrideStat::parse(&value).map_err(io::Error::other)?;
        Ok(parsed.stands_for.map(|(kind, _)| kind))
    }

    /// Owner and mode as they are stored: in the object itself or in what stands for them.
    pub(super) fn apply_override(&self, object: &Object, ino: LocalIno, meta: &mut Meta) -> io::Result<()> {
        if let Some(name) = self.options.override_stat
            && meta.kind != FileKind::Symlink
            && let Some(value) = object.xattr(name)?
        {
            super::OverrideStat::parse(&value).map_err(io::Error::other)?.apply(meta);
        }
        if let Some(owner) = self.options.side.as_ref().and_then(|side| side.get(ino)?.owner) {
            owner.apply(meta);
        }
        Ok(())
    }
}

/// Whether a whiteout of `name` in aufs' notation stands in the directory.
pub(super) fn has_whiteout_file(dir: &Arc<OwnedFd>, name: &[u8]) -> io::Result<bool> {
    let path = [notation::WHITEOUT_PREFIX, name].concat();
    match rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error.into()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error says that there is nothing of that name. A name too long for the file system cannot be there; one
/// longer than the union allows is refused above.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENAMETOOLONG))
}
