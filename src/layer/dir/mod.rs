//! A layer that is an unpacked directory, in the notation of kernel overlayfs, fuse-overlayfs or aufs.
//!
//! Owns reading: where the objects are, what their names mean, what their attributes say. Must not know writing
//! ([`super::upper`] does), nor the union.
//!
//! 1. A lower may be hostile: its symlinks must not lead out. Everything is reached from a descriptor of its root, one
//!    component at a time, `O_NOFOLLOW` ([`Object`]).
//! 2. It may be deeper than `PATH_MAX` and larger than `RLIMIT_NOFILE`: by components, through a bounded cache
//!    ([`Descriptors`]).
//! 3. The kernel asks by number, the backing file system answers by name ([`places`]).
//! 4. There are five ways to write "deleted" ([`notation`]), and two to write down an owner that a plain user cannot
//!    give a file ([`owners`], [`side`]).

mod descriptors;
mod listing;
pub mod notation;
pub mod object;
pub mod owners;
mod places;
mod read;
pub mod side;

pub use descriptors::{Access, Descriptors};
pub use notation::{Record, XattrPrefix};
pub use object::Object;
pub use owners::{IdMap, OverrideStat, Owners};
pub use side::{SideRecord, SideTable};

use crate::union::{LayerError, LayerResult, LocalIno};
use parking_lot::{Mutex, RwLock};
use places::Places;
use rustix::fs::{CWD, OFlags, Stat};
use rustix::mount::OpenTreeFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// How a directory is read as a layer.
#[derive(Debug, Clone)]
pub struct DirOptions {
    /// Which extended attributes are overlay's.
    pub prefix: XattrPrefix,
    /// The attribute that holds owner and mode of every object; none when the objects have them themselves.
    pub override_stat: Option<&'static [u8]>,
    /// How stored owners are shown.
    pub owners: Owners,
    /// What symlinks and special files cannot carry in `user.` attributes.
    pub side: Option<Arc<SideTable>>,
}

impl DirOptions {
    /// Reads overlay's records under `prefix`, and owners as they are stored.
    pub fn new(prefix: XattrPrefix) -> Self {
        Self { prefix, override_stat: None, owners: Owners::default(), side: None }
    }
}

/// A directory as a layer.
pub struct DirLayer {
    label: String,
    options: DirOptions,
    root: Arc<OwnedFd>,
    root_ino: LocalIno,
    root_device: u64,
    /// Directories beside the root in which objects of the tree may lie.
    attached: RwLock<Vec<(LocalIno, Arc<OwnedFd>)>>,
    /// Whether the entries of one directory may come from several devices, so that readdir's numbers are not enough.
    mixed_devices: bool,
    layer: u32,
    descriptors: Arc<Descriptors>,
    /// A leaf lock: nothing else is locked, and no system call made, under it.
    places: Mutex<Places>,
}

impl std::fmt::Debug for DirLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.places.lock().len();
        f.debug_struct("DirLayer").field("label", &self.label).field("known", &known).finish_non_exhaustive()
    }
}

/// File systems that give objects of one directory different devices.
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

impl DirLayer {
    /// Opens the directory at `path`, whose last component may be a symlink.
    pub fn open(path: &Path, options: DirOptions, descriptors: &Arc<Descriptors>) -> LayerResult<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::opened(rustix::fs::open(path, flags, rustix::fs::Mode::empty()), path, options, descriptors)
    }

    /// The same without what is mounted in the directory, now or later (`clone_private_mount` in fs/namespace.c). For that one has to be
    /// allowed to mount.
    pub fn open_bare(path: &Path, options: DirOptions, descriptors: &Arc<Descriptors>) -> LayerResult<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Self::opened(rustix::mount::open_tree(CWD, path, flags), path, options, descriptors)
    }

    fn opened(
        root: rustix::io::Result<OwnedFd>,
        path: &Path,
        options: DirOptions,
        descriptors: &Arc<Descriptors>,
    ) -> LayerResult<Self> {
        let label = path.display().to_string();
        let look = |root: OwnedFd| -> rustix::io::Result<(OwnedFd, Stat, i64)> {
            let stat = rustix::fs::fstat(&root)?;
            let magic = rustix::fs::fstatfs(&root)?.f_type as i64;
            Ok((root, stat, magic))
        };
        let (root, stat, magic) = root.and_then(look).map_err(|source| io_error(&label, "open", source.into()))?;
        let root_device = stat.st_dev;
        let mut places = Places::default();
        let root_ino = places.identify(root_device, stat.st_ino, root_device);
        let mut layer = Self {
            label,
            options,
            root: Arc::new(root),
            root_ino,
            root_device,
            attached: RwLock::default(),
            mixed_devices: magic == OVERLAYFS_MAGIC,
            layer: descriptors.register(),
            descriptors: Arc::clone(descriptors),
            places: Mutex::new(places),
        };
        if layer.options.override_stat.is_none() {
            layer.options.override_stat = layer.detect_override()?;
        }
        Ok(layer)
    }

    /// Whether the root carries an override of its owner: then everything in the tree does.
    fn detect_override(&self) -> LayerResult<Option<&'static [u8]>> {
        let root = self.root_object();
        for name in [owners::PRIVILEGED_OVERRIDE, owners::CONTAINERS_OVERRIDE, owners::FUSE_OVERLAYFS_OVERRIDE] {
            let value = root.xattr(name).map_err(|source| self.io_error("read override_stat", source))?;
            if value.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Says under which attribute owners are kept where the root does not: that of podman and newer versions of fuse-overlayfs, as the
    /// privileged one cannot be written by who needs any.
    pub fn keep_owners(&mut self) {
        if self.options.override_stat != Some(owners::FUSE_OVERLAYFS_OVERRIDE) {
            self.options.override_stat = Some(owners::CONTAINERS_OVERRIDE);
        }
    }

    /// How the directory is read.
    pub fn options(&self) -> &DirOptions {
        &self.options
    }

    /// A descriptor of the root, `O_PATH`.
    pub fn root_fd(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// The root as an object.
    pub fn root_object(&self) -> Object {
        Object::new(&self.root, b".")
    }

    /// The object with the number `ino`.
    pub fn object(&self, ino: LocalIno) -> LayerResult<Object> {
        if ino == self.root_ino {
            return Ok(self.root_object());
        }
        let place = self.places.lock().get(ino).cloned();
        let Some(place) = place else { return Err(self.unknown(ino)) };
        let dir = self.directory(place.parent)?;
        Ok(Object { dir, name: place.name })
    }

    /// The object `name` of the directory `dir`, whether it exists or not.
    pub fn child(&self, dir: LocalIno, name: &[u8]) -> LayerResult<Object> {
        Ok(Object { dir: self.directory(dir)?, name: name.into() })
    }

    /// A descriptor of the directory `ino`, `O_PATH`.
    ///
    /// A rename of a directory on the way, by another thread, may be seen half: the way is then gone once more.
    pub fn directory(&self, ino: LocalIno) -> LayerResult<Arc<OwnedFd>> {
        let mut tries = WALK_TRIES;
        loop {
            match self.walk_to(ino) {
                Err(LayerError::Io { source, .. }) if tries > 0 && is_moved(&source) => tries -= 1,
                result => return result,
            }
        }
    }

    /// Goes up to the nearest directory that is open, then down again by single components, so that no path is ever too
    /// long.
    fn walk_to(&self, ino: LocalIno) -> LayerResult<Arc<OwnedFd>> {
        let mut missing: Vec<(LocalIno, Box<[u8]>)> = Vec::new();
        let mut at = ino;
        let mut fd = loop {
            if let Some(base) = self.base(at) {
                break base;
            }
            let Some(place) = self.places.lock().get(at).cloned() else { return Err(self.unknown(at)) };
            if let Some(open) = self.descriptors.held(self.layer, at, Access::Path) {
                break open;
            }
            missing.push((at, place.name));
            at = place.parent;
        };
        while let Some((ino, name)) = missing.pop() {
            let parent = Object { dir: fd, name };
            fd = self
                .descriptors
                .get((self.layer, ino, Access::Path), || {
                    self.open_exactly(&parent, ino, OFlags::PATH | OFlags::DIRECTORY)
                })
                .map_err(|source| self.io_error(&format!("open directory {}", parent.name.escape_ascii()), source))?;
        }
        Ok(fd)
    }

    /// Opens `object`, which has to be the one with the number `ino`.
    fn open_exactly(&self, object: &Object, ino: LocalIno, flags: OFlags) -> io::Result<OwnedFd> {
        let fd = object.open(flags)?;
        let stat = rustix::fs::fstat(&fd)?;
        // Devices differ between entries of one directory only where numbers came from stat in the first place.
        let same = self.identify(&stat) == ino || !self.mixed_devices && stat.st_ino == ino.0;
        if same { Ok(fd) } else { Err(io::Error::from_raw_os_error(libc::ESTALE)) }
    }

    /// The directory `ino` when it is the root or attached beside it.
    fn base(&self, ino: LocalIno) -> Option<Arc<OwnedFd>> {
        if ino == self.root_ino {
            return Some(Arc::clone(&self.root));
        }
        self.attached.read().iter().find(|(attached, _)| *attached == ino).map(|(_, fd)| Arc::clone(fd))
    }

    /// Makes a directory outside of the tree one in which objects of the tree are found, and returns its number.
    pub fn attach(&self, dir: &Arc<OwnedFd>) -> LayerResult<LocalIno> {
        let stat = rustix::fs::fstat(dir).map_err(|error| self.io_error("stat", error.into()))?;
        let ino = self.identify(&stat);
        self.attached.write().push((ino, Arc::clone(dir)));
        Ok(ino)
    }

    /// A descriptor of the file `ino` for `access`. Reading leaves the time of the last access alone where that is allowed:
    /// nothing is ever written to a lower layer.
    pub fn file(&self, ino: LocalIno, access: Access) -> LayerResult<Arc<OwnedFd>> {
        // One that can write can read as well.
        let also = if access == Access::Direct { access } else { Access::Write };
        let held = [access, also].into_iter().find_map(|access| self.descriptors.held(self.layer, ino, access));
        if let Some(open) = held {
            return Ok(open);
        }
        let object = self.object(ino)?;
        let open = || match access {
            Access::Path => self.open_exactly(&object, ino, OFlags::PATH),
            Access::Write => self.open_exactly(&object, ino, OFlags::RDWR | OFlags::NONBLOCK),
            Access::Direct => self.open_exactly(&object, ino, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::DIRECT),
            Access::Read => {
                without_atime(|flags| self.open_exactly(&object, ino, OFlags::RDONLY | OFlags::NONBLOCK | flags))
            }
        };
        self.descriptors
            .get((self.layer, ino, access), open)
            .map_err(|source| self.io_error(&format!("open {}", object.name.escape_ascii()), source))
    }

    /// The number of what `stat` describes.
    pub fn identify(&self, stat: &Stat) -> LocalIno {
        self.places.lock().identify(stat.st_dev, stat.st_ino, self.root_device)
    }

    /// Remembers that `ino` is at `name` in `dir`.
    pub fn remember(&self, ino: LocalIno, dir: LocalIno, name: &[u8]) {
        self.places.lock().add(ino, dir, name);
    }

    /// Forgets that `ino` was at `name` in `dir`.
    pub fn forget_name(&self, ino: LocalIno, dir: LocalIno, name: &[u8]) {
        self.places.lock().remove(ino, dir, name);
    }

    /// Forgets all names of `ino`.
    pub fn forget_all_names(&self, ino: LocalIno) {
        self.places.lock().forget(ino);
    }

    /// Whether `ino` is known by another name than this one.
    pub fn has_other_place(&self, ino: LocalIno, dir: LocalIno, name: &[u8]) -> bool {
        self.places.lock().of(ino).any(|place| place.parent != dir || *place.name != *name)
    }

    /// Whether `ino` is known by this name.
    pub fn has_place(&self, ino: LocalIno, dir: LocalIno, name: &[u8]) -> bool {
        self.places.lock().of(ino).any(|place| place.parent == dir && *place.name == *name)
    }

    /// The name by which `ino` is known in the directory `dir`.
    pub fn name_in(&self, ino: LocalIno, dir: LocalIno) -> Option<Box<[u8]>> {
        self.places.lock().of(ino).find(|place| place.parent == dir).map(|place| place.name.clone())
    }

    /// Keeps `fd`, which was opened elsewhere for reading and writing the file `ino`.
    pub fn keep_open(&self, ino: LocalIno, fd: OwnedFd) {
        self.descriptors.put((self.layer, ino, Access::Write), fd);
    }

    /// Closes what is open of `ino`.
    pub fn close(&self, ino: LocalIno) {
        self.descriptors.close(self.layer, ino);
    }

    /// An error of the operating system in this layer.
    pub fn io_error(&self, context: &str, source: io::Error) -> LayerError {
        io_error(&self.label, context, source)
    }

    fn unknown(&self, ino: LocalIno) -> LayerError {
        LayerError::NoSuchInode { layer: self.label.clone(), ino: ino.0 }
    }
}

/// How often a walk that met a moved directory is tried.
const WALK_TRIES: u32 = 16;

fn is_moved(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE | libc::ENOTDIR | libc::ELOOP))
}

/// Opens with `O_NOATIME`, which only owners and the privileged may give, or else without.
fn without_atime(open: impl Fn(OFlags) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    match open(OFlags::NOATIME) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(OFlags::empty()),
        result => result,
    }
}

fn io_error(label: &str, context: &str, source: io::Error) -> LayerError {
    LayerError::Io { layer: label.to_owned(), context: context.to_owned(), source }
}

#[cfg(test)]
mod tests;
