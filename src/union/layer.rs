//! The one interface behind which every kind of layer stands.

use crate::model::{FileKind, Meta};
use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// An inode number inside one layer. The layer decides what it is: an index of its table of contents, a backing
/// `st_ino`. Two names with the same number in one layer are hard links to one object. Below 2^48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalIno(pub u64);

/// What one name of a directory of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Hides the name in every layer below.
    Whiteout,
    /// An object.
    Node {
        /// Its inode in this layer.
        ino: LocalIno,
        /// Its type.
        kind: FileKind,
        /// Whether a whiteout of the same name stands beside it in this layer, or the directory is opaque: what
        /// lower layers have under this name does not show through. Always true for what is no directory.
        opaque: bool,
        /// A directory that the layer does not mention itself, only entries below it: its metadata are those of the
        /// layers below where these have the directory.
        implied: bool,
    },
    /// A further name of an object of the layers below: a hard link whose target the layer does not hold itself.
    ///
    /// The merge asks [`Layer::link_target`] for the path and resolves it in the layers strictly below this one, whiteouts and
    /// opaque directories of this layer disregarded, symlinks on the way followed inside the root, the last component not
    /// followed. The name then is that very object: same source, same inode number, one name more. What lower layers
    /// have under this name itself is hidden. Where the target is missing or a directory, the name does not exist.
    LinkBelow {
        /// The record that holds the target.
        ino: LocalIno,
    },
}

/// One name of a directory of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name, 1 to 255 bytes.
    pub name: Cow<'a, [u8]>,
    /// What stands there.
    pub kind: EntryKind,
}

/// Overlay's own records on an object (the `overlay.*` xattrs of
/// Documentation/filesystems/overlayfs.rst). Layers of images have none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// `overlay.redirect`: where the layers below have this object; absolute when it begins with `/`, otherwise a
    /// single name in the same directory.
    pub redirect: Option<Vec<u8>>,
    /// `overlay.metacopy`: the data are those of the next layer below.
    pub metacopy: bool,
}

/// The size of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes it takes.
    pub bytes: u64,
    /// Objects it has.
    pub inodes: u64,
}

/// Why a record of overlay's is not followed. The kernel has a number for each (fs/overlayfs/namei.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Such records are not followed in this mount.
    Forbidden,
    /// The record is none that overlayfs writes.
    Malformed,
    /// It leads through `.` or `..`.
    Dots,
}

/// Why a layer could not answer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The inode is none of this layer, or not of the type that the call needs.
    #[error("layer {layer}: no such inode {ino} for this operation")]
    NoSuchInode {
        /// The layer.
        layer: String,
        /// The number.
        ino: u64,
    },
    /// What the layer is kept in contradicts itself.
    #[error("layer {layer} is damaged: {detail}")]
    Damaged {
        /// The layer.
        layer: String,
        /// What is wrong.
        detail: String,
    },
    /// A record of overlay's on an object that is not followed.
    #[error("layer {layer}: {detail}")]
    Refused {
        /// The layer.
        layer: String,
        /// What is not followed, and why.
        detail: &'static str,
        /// The reason, for those who have to answer by a number.
        refusal: Refusal,
    },
    /// The system refused.
    #[error("layer {layer}: {context}: {source}")]
    Io {
        /// The layer.
        layer: String,
        /// The path or action.
        context: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// What a layer answers.
pub type LayerResult<T> = Result<T, LayerError>;

/// A layer: a tree of objects, some names of which say that lower layers have nothing there.
///
/// Immutable while it is mounted. All calls may come from several threads at once.
pub trait Layer: fmt::Debug + Send + Sync {
    /// What the layer is called in messages: a diffID, a path.
    fn label(&self) -> &str;

    /// The inode of the root directory.
    fn root(&self) -> LocalIno;

    /// Whether the root hides the roots of all layers below.
    fn root_is_opaque(&self) -> LayerResult<bool>;

    /// Whether the root's metadata are those of this layer, or left to the layers below (no root entry in the tar).
    fn root_is_implied(&self) -> bool {
        false
    }

    /// The size of the layer; zero where that would have to be counted.
    fn totals(&self) -> Totals {
        Totals::default()
    }

    /// Calls `visit` for every entry of the directory `dir`, ordered by the bytes of the names, each name once.
    /// Names that only mark something (`.wh.…`) do not occur. Of directories in a layer that [keeps marks](Layer::keeps_marks) only
    /// [`Layer::lookup`] says whether they are opaque.
    fn entries(&self, dir: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()>;

    /// The entry `name` of the directory `dir`.
    fn lookup(&self, dir: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>>;

    /// Where the layers below have the object of the entry [`EntryKind::LinkBelow`] `ino`: a path relative to the root, its
    /// components joined by `/`, none of them empty, `.` or `..`.
    fn link_target(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        Err(LayerError::NoSuchInode { layer: self.label().to_owned(), ino: ino.0 })
    }

    /// Whether any entry is a [`EntryKind::LinkBelow`].
    fn has_links_below(&self) -> bool {
        false
    }

    /// Calls `visit` with the path (relative to the root, components joined by `/`) of every [`EntryKind::LinkBelow`].
    fn links_below(&self, _visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        Ok(())
    }

    /// Calls `visit` with the path (relative to the root, components joined by `/`) and the inode of every implied
    /// directory but the root, parents before their children. Where layers below have a symlink at such a path, the entries
    /// land at its target.
    fn implied_directories(&self, _visit: &mut dyn FnMut(&[u8], LocalIno)) -> LayerResult<()> {
        Ok(())
    }

    /// Whether the implied directory `dir` and everything below it hold nothing but whiteouts. Such a directory is no
    /// object of its own: where the layers below have no directory there, it changes nothing at all.
    fn only_whiteouts(&self, dir: LocalIno) -> LayerResult<bool> {
        let mut empty = true;
        let mut implied = Vec::new();
        self.entries(dir, &mut |entry| match entry.kind {
            EntryKind::Whiteout => {}
            EntryKind::Node { ino, implied: true, .. } => implied.push(ino),
            EntryKind::Node { .. } | EntryKind::LinkBelow { .. } => empty = false,
        })?;
        for dir in implied {
            empty = empty && self.only_whiteouts(dir)?;
        }
        Ok(empty)
    }

    /// The metadata of `ino`.
    fn meta(&self, ino: LocalIno) -> LayerResult<Meta>;

    /// The same with owner and group as the layer holds them, where [`Layer::meta`] shows others: what a copy has to be given.
    fn stored_meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        self.meta(ino)
    }

    /// The target of the symlink `ino`.
    fn read_link(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>>;

    /// Reads up to `buffer.len()` bytes of the file `ino` at `offset`; fewer only at the end of the file.
    fn read_at(&self, ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize>;

    /// The first offset from `offset` on that lies in data (`hole` false) or in a hole (`hole` true), as
    /// `lseek(2)` defines `SEEK_DATA` and `SEEK_HOLE`; none where lseek says ENXIO.
    fn seek(&self, ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>>;

    /// A file that holds the data of `ino` in one piece as they are, and the offset at which they begin in it: what is needed
    /// to let the kernel copy them. None when there is no such file.
    fn backing_file(&self, _ino: LocalIno) -> LayerResult<Option<(Arc<OwnedFd>, u64)>> {
        Ok(None)
    }

    /// The value of an extended attribute; none when the object has none of that name. Overlay's own are not seen.
    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>>;

    /// Calls `visit` with the name of every extended attribute but overlay's own.
    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()>;

    /// A descriptor of the directory `dir` by which its tree can be read as it lies on disk; none where nothing has to be read from one.
    fn directory_on_disk(&self, _dir: LocalIno) -> Option<Arc<OwnedFd>> {
        None
    }

    /// Whether any object may have an extended attribute whose name begins with `prefix`. Asked once, when a mount begins.
    fn may_have_xattrs(&self, _prefix: &[u8]) -> bool {
        true
    }

    /// Whether [`Layer::marks`] can answer anything but the default. Layers of images cannot.
    fn keeps_marks(&self) -> bool {
        false
    }

    /// Overlay's records on `ino`.
    fn marks(&self, _ino: LocalIno) -> LayerResult<Marks> {
        Ok(Marks::default())
    }

    /// The kernel has forgotten `ino` and the directory `dir`; what was remembered to find it under `name` there may go.
    fn forget(&self, _ino: LocalIno, _dir: LocalIno, _name: &[u8]) {}

    /// Much was forgotten; the room that it took may be given back.
    fn tidy(&self) {}
}
