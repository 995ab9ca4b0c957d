//! Bringing objects of lower layers to the upper.
//!
//! Data are copied while only the copy-up of this one object is locked. Then, under the stripes of the object and its
//! directory, the copy appears, and only after that the number leads to it: who resolved it a moment earlier reads the
//! same bytes from the lower layer.

use super::lookup::Object;
use super::writable::{Writable, upper_of};
use super::{FsError, FsResult, LayerFs};
use crate::layer::upper::{Content, Copied, Place, Staged};
use crate::model::FileKind;
use crate::union::{Directory, Ino, Layer, LayerIndex, LocalIno, Source};
use std::cell::Cell;

/// What of an object has to be in the upper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Its metadata.
    Metadata,
    /// Its data too.
    Data,
    /// Its data up to this length: the rest is about to be cut off.
    DataUpTo(u64),
}

thread_local! {
    /// This thread has other things to do than to wait for data.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `action`, which fails with [`FsError::WouldWait`] where it would have to copy or to sync the data of a file, or to wait for
/// someone who copies them. Then nothing has been changed, and it can be run again.
pub fn without_waiting<T>(action: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            BUSY.set(self.0);
        }
    }
    let _restore = Restore(BUSY.replace(true));
    action()
}

/// An error where this thread may not wait.
pub(super) fn may_wait() -> FsResult<()> {
    if BUSY.get() { Err(FsError::WouldWait) } else { Ok(()) }
}

impl LayerFs {
    /// Makes sure that what is wanted of `ino` is in the upper, and returns where it is there.
    pub(super) fn ensure_upper(&self, ino: Ino, want: Want) -> FsResult<LocalIno> {
        let writable = self.writable()?;
        let source = match self.object(ino)? {
            Object::Directory(_) => return self.ensure_directory(ino),
            Object::Other(source) => source,
        };
        if source.layer == LayerIndex::UPPER && (want == Want::Metadata || !self.has_data_elsewhere(ino)) {
            return Ok(source.ino);
        }
        let copy = || match writable.local(ino) {
            Some(local) => self.complete(ino, local, want),
            None => self.copy_file(writable, ino, source, want),
        };
        match may_wait() {
            Ok(()) => writable.copies.exclusively(ino, copy),
            Err(busy) => writable.copies.exclusively_now(ino, copy).unwrap_or(Err(busy)),
        }
    }

    fn has_data_elsewhere(&self, ino: Ino) -> bool {
        self.data_elsewhere.read().contains_key(&ino)
    }

    /// Puts the data into a metadata-only copy: all of them, also where the rest is about to be cut off. What is marked as a copy without
    /// data has the size of what it stands for at any instant, or the kernel, which looks at the one and reads the other, would show
    /// neither the old file nor the new one after a crash.
    fn complete(&self, ino: Ino, local: LocalIno, want: Want) -> FsResult<LocalIno> {
        let data = self.data_elsewhere.read().get(&ino).copied();
        let (Some(data), false) = (data, want == Want::Metadata) else { return Ok(local) };
        let upper = &self.writable()?.upper;
        let length = upper.tree().meta(local)?.size;
        if length > 0 {
            may_wait()?;
        }
        upper.complete_data(local, (self.layer(data)?, data.ino), length)?;
        self.data_elsewhere.write().remove(&ino);
        Ok(local)
    }

    fn copy_file(&self, writable: &Writable, ino: Ino, source: Source, want: Want) -> FsResult<LocalIno> {
        let layer = self.layer(source)?;
        let meta = layer.stored_meta(source.ino)?;
        let elsewhere = self.data_elsewhere.read().get(&ino).copied();
        let data = elsewhere.unwrap_or(source);
        let content = match want {
            _ if meta.kind != FileKind::File => Content::First(0),
            Want::Metadata if writable.settings.metacopy && meta.size > 0 => Content::InLower,
            Want::Metadata | Want::Data => Content::First(meta.size),
            Want::DataUpTo(length) => Content::First(meta.size.min(length)),
        };
        if matches!(content, Content::First(1..)) {
            may_wait()?;
        }
        let copied = Copied { layer, local: source.ino, data: (self.layer(data)?, data.ino), meta: &meta, ino };
        let staged = writable.upper.stage(&copied, content)?;
        // Before it appears: whoever finds the copy has to know where its data are.
        if content == Content::InLower {
            self.data_elsewhere.write().insert(ino, data);
        }
        let links = self.stack.links(source, meta.nlink);
        match self.publish(writable, ino, &staged, (links > 1).then_some(links)) {
            Ok(()) => {
                if content != Content::InLower {
                    self.data_elsewhere.write().remove(&ino);
                }
                Ok(staged.local)
            }
            Err(error) => {
                writable.upper.abandon(&staged);
                if elsewhere.is_none() {
                    self.data_elsewhere.write().remove(&ino);
                }
                Err(error)
            }
        }
    }

    /// Lets a copy of `ino` appear under the name that it has now, or in the workdir when it has none any more. `links` is the number
    /// of names in lower layers, when these may be several.
    fn publish(&self, writable: &Writable, ino: Ino, staged: &Staged, links: Option<u32>) -> FsResult<()> {
        loop {
            let place = writable.nodes.lock().whereabouts(ino).cloned();
            let dir = place.as_ref().map(|place| self.ensure_directory(place.parent)).transpose()?;
            let mut held = vec![ino];
            held.extend(place.as_ref().map(|place| place.parent));
            let _guards = writable.stripes.write(&held);
            if !writable.nodes.lock().is_still_at(ino, place.as_ref()) {
                continue;
            }
            let at = place.as_ref().zip(dir).map(|(place, dir)| Place { dir, name: &place.name });
            if let Some(links) = links {
                let names = writable.upper.lower_names(ino).unwrap_or(links);
                writable.upper.set_lower_names(ino, names.saturating_sub(u32::from(at.is_some())))?;
            }
            writable.upper.publish(staged, at, links.is_some().then_some(ino))?;
            writable.claims.write().give(ino, staged.local);
            return Ok(());
        }
    }

    /// Makes sure that the directory `ino` is in the upper, and those above it.
    pub(super) fn ensure_directory(&self, ino: Ino) -> FsResult<LocalIno> {
        let writable = self.writable()?;
        let directory = self.directory(ino)?;
        if let Some(local) = upper_of(&directory.made().sources) {
            return Ok(local);
        }
        writable.copies.exclusively(ino, || {
            let made = directory.made();
            if let Some(local) = upper_of(&made.sources) {
                return Ok(local);
            }
            let layer = self.layer(made.metadata)?;
            let meta = layer.stored_meta(made.metadata.ino)?;
            let local = made.metadata.ino;
            let copied = Copied { layer, local, data: (layer, local), meta: &meta, ino };
            let staged = writable.upper.stage(&copied, Content::First(0))?;
            self.publish(writable, ino, &staged, None).inspect_err(|_| writable.upper.abandon(&staged))?;
            let source = Source { layer: LayerIndex::UPPER, ino: staged.local };
            let sources = std::iter::once(source).chain(made.sources.iter().copied()).collect();
            directory.remake(Directory { sources, metadata: source });
            Ok(staged.local)
        })
    }

    /// Makes sure that the upper has the object `ino`, which is there already, under this name too: another name of a hard
    /// link that lower layers have. The caller holds the stripes of both.
    pub(super) fn ensure_name(&self, ino: Ino, local: LocalIno, place: Place<'_>) -> FsResult<()> {
        let upper = &self.writable()?.upper;
        if upper.tree().has_place(local, place.dir, place.name) {
            return Ok(());
        }
        let names = upper.lower_names(ino).unwrap_or(1);
        upper.set_lower_names(ino, names.saturating_sub(1))?;
        upper.link_as_copy(local, place)?;
        Ok(())
    }
}
