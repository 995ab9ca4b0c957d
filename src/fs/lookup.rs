//! From names to numbers, and from numbers to objects.

use super::directory::LiveDirectory;
use super::writable::{Writable, upper_of};
use super::{Attr, FsError, FsResult, LayerFs};
use crate::model::{FileKind, NAME_MAX};
use crate::union::{Ino, Layer, LayerError, LayerIndex, Listing, Node, Source};
use parking_lot::MappedRwLockReadGuard;
use std::sync::Arc;

/// What a number stands for now.
#[derive(Debug)]
pub(super) enum Object {
    /// A directory.
    Directory(Arc<LiveDirectory>),
    /// Anything else, and where it lies.
    Other(Source),
}

impl Object {
    /// Where the object's metadata lie.
    pub(super) fn metadata(&self) -> Source {
        match self {
            Self::Directory(directory) => directory.made().metadata,
            Self::Other(source) => *source,
        }
    }
}

impl LayerFs {
    /// What `name` in the directory `parent` is; none when there is no such name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> FsResult<Option<Attr>> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let directory = self.directory(parent)?;
        let Some((ino, kind)) = self.find(&directory, name)? else { return Ok(None) };
        self.look_up(parent, &directory, name, ino, kind).map(Some)
    }

    /// The kernel is about to be told of `ino`, which is listed under this name.
    ///
    /// It counts as known before anything about it is looked at, because the kernel may at the same time forget what it was told
    /// earlier: what is found here would be dropped again.
    pub(super) fn look_up(
        &self,
        parent: Ino,
        directory: &LiveDirectory,
        name: &[u8],
        ino: Ino,
        kind: FileKind,
    ) -> FsResult<Attr> {
        if let Some(writable) = &self.writable {
            writable.nodes.lock().looked_up(ino, parent, name);
        }
        let known = || -> FsResult<Attr> {
            self.learn(parent, directory, name, ino, kind)?;
            self.getattr(ino)
        };
        let found = match known() {
            // The kernel had forgotten it, and where it lies went with it.
            Err(FsError::Layer(LayerError::NoSuchInode { .. })) if self.is_writable() => {
                self.stack.child(&directory.made().sources, name).map_err(FsError::from).and_then(|_| known())
            }
            result => result,
        };
        found.inspect_err(|_| self.forget(ino, 1))
    }

    /// Whether it matters by which name the kernel reaches an object: it is a hard link of a lower layer, and the name that is
    /// looked up last is the one that a change brings to the upper. The kernel says no name with a change, only with a lookup.
    pub fn name_matters(&self, attr: &Attr) -> bool {
        let Some(writable) = &self.writable else { return false };
        attr.meta.nlink > 1 && !attr.meta.kind.is_directory() && writable.local(attr.ino).is_none()
    }

    /// The merged names of a directory. What the upper has may have a number of its own in the mount: that of the lower
    /// object it was copied from.
    pub(super) fn listing<'a>(&self, directory: &'a LiveDirectory) -> FsResult<MappedRwLockReadGuard<'a, Listing>> {
        directory.listing(|made| {
            let mut listing = self.stack.list(&made.sources)?;
            if let Some(writable) = &self.writable {
                self.renumber(writable, directory.generation(), made, &mut listing)?;
            }
            Ok(listing)
        })
    }

    /// What is called `name` in a directory: looked for alone while that costs less than merging all names, else in the listing.
    pub(super) fn named(&self, directory: &LiveDirectory, name: &[u8]) -> FsResult<Option<(Ino, FileKind)>> {
        if self.takes_a_single_look(directory)?
            // What is wrong with an entry is told to whoever looks at it more closely: its name is listed.
            && let Ok(found) = self.stack.child(&directory.made().sources, name)
        {
            let found = found.and_then(|node| Some((node.ino()?, node.kind())));
            if let (Some((ino, _)), true) = (found, self.is_writable()) {
                directory.found_singly(name, ino);
            }
            return Ok(found);
        }
        Ok(self.listing(directory)?.get(name).map(|listed| (listed.ino, listed.kind)))
    }

    /// Whether a name of the directory can be looked for alone, and is worth it. Not where its entries have other numbers than their
    /// layers give them: the listing knows these.
    fn takes_a_single_look(&self, directory: &LiveDirectory) -> FsResult<bool> {
        if directory.generation() != 0 || !directory.takes_a_single_look(|source| self.bytes_of(source)) {
            return Ok(false);
        }
        match (&self.writable, upper_of(&directory.made().sources)) {
            (Some(writable), Some(dir)) => Ok(!writable.upper.is_impure(dir)?),
            _ => Ok(true),
        }
    }

    fn bytes_of(&self, source: Source) -> u64 {
        self.layer(source).and_then(|layer| Ok(layer.meta(source.ino)?.blocks * 512)).unwrap_or(0)
    }

    /// The kernel drops `lookups` of its references to `ino`. Nothing is kept for objects of images, and their directories
    /// stay; in a writable filesystem what was unlinked goes now.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let Some(writable) = &self.writable else { return };
        let mut nodes = writable.nodes.lock();
        let nameless = nodes.is_nameless(ino);
        let unused = nodes.forget(ino, lookups);
        // While the nodes are locked nobody is told of them again.
        let keeps_directory = |node: &Ino| *node != ino || !nameless;
        let directories: Vec<_> = unused
            .iter()
            .filter(|node| keeps_directory(node))
            .filter_map(|node| self.directories.remove(*node))
            .collect();
        if !unused.is_empty() {
            writable.times.forget(ino);
        }
        let known = nodes.len();
        drop(nodes);
        if nameless && unused.contains(&ino) {
            self.release(writable, ino);
        }
        let entries: usize = directories.iter().map(|directory| self.drop_places(writable, directory)).sum();
        drop(directories);
        self.tidy(writable, unused.len() + entries, known);
    }

    /// What is remembered of an unlinked object goes, and the object with it.
    pub(super) fn release(&self, writable: &Writable, ino: Ino) {
        let local = self.upper_local(writable, ino);
        self.directories.remove(ino);
        self.data_elsewhere.write().remove(&ino);
        let Ok(local) = local else { return };
        if !writable.upper.is_detached(local) {
            return;
        }
        writable.claims.write().release(ino, local);
        if let Err(error) = writable.upper.release(local) {
            log::warn!("an unlinked object stays in the workdir until the next mount: {error}");
        }
    }

    /// A directory is not listed any more: where its entries lie is forgotten, but for those that the kernel knows. Returns how many
    /// entries it had.
    fn drop_places(&self, writable: &Writable, directory: &LiveDirectory) -> usize {
        let made = directory.made();
        let mut entries = 0;
        directory.known_names(|name, ino| {
            entries += 1;
            let Some(source) = ino.source().filter(|source| source.layer != LayerIndex::UPPER) else { return };
            // It may be known by another of its numbers.
            if ino.generation() != 0 || writable.claims.read().any_generation() {
                return;
            }
            let nodes = writable.nodes.lock();
            if nodes.is_known(ino) {
                return;
            }
            self.data_elsewhere.write().remove(&ino);
            let dir = made.sources.iter().find(|one| one.layer == source.layer);
            if let (Some(dir), Ok(layer)) = (dir, self.layer(source)) {
                layer.forget(source.ino, dir.ino, name);
            }
        });
        entries
    }

    /// The object with the number `ino`: the one place that decides this.
    pub(super) fn object(&self, ino: Ino) -> FsResult<Object> {
        if let Some(directory) = self.directories.get(ino) {
            return Ok(Object::Directory(directory));
        }
        if let Some(local) = self.writable.as_ref().and_then(|writable| writable.local(ino)) {
            return Ok(Object::Other(Source { layer: LayerIndex::UPPER, ino: local }));
        }
        ino.source().map(Object::Other).ok_or(FsError::Stale(ino.0))
    }

    /// The directory `ino`.
    pub(super) fn directory(&self, ino: Ino) -> FsResult<Arc<LiveDirectory>> {
        self.directories.get(ino).ok_or(FsError::Stale(ino.0))
    }

    pub(super) fn layer(&self, source: Source) -> FsResult<&dyn Layer> {
        Ok(self.stack.layer(source.layer)?)
    }

    /// Remembers what the number of a listed entry does not tell, before the kernel hears of it: the sources of a
    /// directory, the data of a metadata-only copy.
    pub(super) fn learn(
        &self,
        parent: Ino,
        directory: &LiveDirectory,
        name: &[u8],
        ino: Ino,
        kind: FileKind,
    ) -> FsResult<()> {
        let unknown = match kind {
            FileKind::Directory => self.directories.get(ino).is_none(),
            FileKind::File => match self.object(ino)? {
                Object::Other(source) => self.is_metacopy(ino, source)?,
                Object::Directory(_) => false,
            },
            _ => false,
        };
        if !unknown {
            return Ok(());
        }
        match self.stack.child(&directory.made().sources, name)? {
            Some(Node::Directory(found)) => {
                self.directories.get_or_insert(ino, parent, found, self.generation(ino));
            }
            // Without data of its own it is a further name, in a lower layer, of a hard link that was copied up: those below it.
            Some(Node::Other { source, data, .. }) => {
                self.data_elsewhere.write().insert(ino, data.unwrap_or(source));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the data of a file have to be looked for in another layer. Asked once: they may be completed meanwhile.
    fn is_metacopy(&self, ino: Ino, source: Source) -> FsResult<bool> {
        let layer = self.layer(source)?;
        let known = layer.keeps_marks() && self.data_elsewhere.read().contains_key(&ino);
        Ok(layer.keeps_marks() && !known && layer.marks(source.ino)?.metacopy)
    }
}
