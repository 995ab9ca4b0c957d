//! Names: links, renames, whiteouts, and what becomes of what is unlinked.

use super::attributes::{SetTime, set_times};
use super::probe::{exchange, remove};
use super::{Over, Upper};
use crate::layer::dir::object::is_whiteout;
use crate::layer::dir::{Access, Object, Record};
use crate::layer::staging;
use crate::model::Meta;
use crate::sys::remove_tree_at;
use crate::union::mutation::{InUpper, Move};
use crate::union::{Layer, LayerResult, LocalIno};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A name in a directory of the upper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The directory.
    pub dir: LocalIno,
    /// The name.
    pub name: &'a [u8],
}

impl Upper {
    /// Gives the object `ino` a further name.
    pub fn link(&self, ino: LocalIno, place: Place<'_>, over: Over) -> LayerResult<()> {
        let object = self.tree.object(ino)?;
        let target = self.tree.child(place.dir, place.name)?;
        if self.recorded_ino(ino)?.is_some() {
            self.mark_impure(place.dir)?;
        }
        let link = || match over {
            Over::Nothing => link(&object, &target),
            Over::Whiteout { .. } => {
                let staged = self.staging.fresh();
                link(&object, &staged)?;
                Self::take_place_of_whiteout(&staged, &target, false)
            }
        };
        link().map_err(|source| self.failed(&format!("link {}", place.name.escape_ascii()), source))?;
        self.tree.remember(ino, place.dir, place.name);
        Ok(())
    }

    /// Makes a whiteout where the upper has nothing.
    pub fn whiteout(&self, place: Place<'_>) -> LayerResult<()> {
        let target = self.tree.child(place.dir, place.name)?;
        self.make_whiteout(&target).map_err(|source| self.failed("make whiteout", source))
    }

    /// Removes the whiteout at `place`.
    pub fn remove_whiteout(&self, place: Place<'_>) -> LayerResult<()> {
        let target = self.tree.child(place.dir, place.name)?;
        remove(&target, AtFlags::empty()).map_err(|source| self.failed("remove whiteout", source))
    }

    /// Removes the name `place` of the object `ino`, leaving a whiteout or nothing. The object goes to the stage until it is
    /// [released](Upper::release), unless it has further names by which it is found.
    pub fn detach(&self, ino: LocalIno, place: Place<'_>, leave_whiteout: bool) -> LayerResult<()> {
        let target = self.tree.child(place.dir, place.name)?;
        let elsewhere = self.tree.has_other_place(ino, place.dir, place.name);
        let staged = self.staging.fresh();
        let detach = || -> io::Result<bool> {
            if leave_whiteout {
                self.make_whiteout(&staged)?;
                if let Err(error) = exchange(&staged, &target) {
                    // Already failing; the next mount removes it.
                    let _ = remove(&staged, AtFlags::empty());
                    return Err(error);
                }
                if elsewhere {
                    remove(&staged, AtFlags::empty())?;
                }
            } else if elsewhere {
                remove(&target, AtFlags::empty())?;
            } else {
                rename(&target, &staged, RenameFlags::NOREPLACE)?;
            }
            Ok(!elsewhere)
        };
        let staged_away =
            detach().map_err(|source| self.failed(&format!("remove {}", place.name.escape_ascii()), source))?;
        if staged_away {
            self.now_detached(ino, &staged);
        }
        self.tree.forget_name(ino, place.dir, place.name);
        Ok(())
    }

    /// Gives the file `ino`, about to be replaced at `place`, a name in the stage, unless it has others.
    pub fn keep_aside(&self, ino: LocalIno, place: Place<'_>) -> LayerResult<()> {
        if self.tree.has_other_place(ino, place.dir, place.name) {
            return Ok(());
        }
        let object = self.tree.child(place.dir, place.name)?;
        let staged = self.staging.fresh();
        link(&object, &staged).map_err(|source| self.failed("keep a replaced file", source))?;
        self.now_detached(ino, &staged);
        Ok(())
    }

    /// Undoes [`Upper::keep_aside`] after the replacing failed.
    pub fn put_back(&self, ino: LocalIno) -> LayerResult<()> {
        if !self.state.lock().detached.contains(&ino) {
            return Ok(());
        }
        self.discard_staged(ino)?;
        self.state.lock().detached.remove(&ino);
        Ok(())
    }

    /// Puts an empty opaque directory in the place of the directory `ino`, which is empty in the union, with its owner and mode.
    pub fn replace_by_empty(&self, ino: LocalIno, place: Place<'_>) -> LayerResult<()> {
        let target = self.tree.child(place.dir, place.name)?;
        let staged = self.staging.fresh();
        let replace = || -> io::Result<()> {
            rustix::fs::mkdirat(&staged.dir, &*staged.name, Mode::RWXU)?;
            self.set_record(&staged, Record::Opaque, b"y")?;
            exchange(&staged, &target)
        };
        replace().map_err(|source| self.failed("replace a directory", source))?;
        self.now_detached(ino, &staged);
        self.tree.forget_name(ino, place.dir, place.name);
        Ok(())
    }

    /// Undoes [`Upper::replace_by_empty`] after the replacing failed.
    pub fn undo_replace_by_empty(&self, ino: LocalIno, place: Place<'_>) -> LayerResult<()> {
        let Some(name) = self.tree.name_in(ino, self.stage_ino) else { return Ok(()) };
        let target = self.tree.child(place.dir, place.name)?;
        let staged = Object::new(self.staging.stage(), &name);
        let undo = || {
            exchange(&staged, &target)?;
            remove(&staged, AtFlags::REMOVEDIR)
        };
        undo().map_err(|source| self.failed("put a directory back", source))?;
        self.state.lock().detached.remove(&ino);
        self.tree.remember(ino, place.dir, place.name);
        self.tree.forget_name(ino, self.stage_ino, &name);
        Ok(())
    }

    /// What the upper has at `place`.
    pub fn peek(&self, place: Place<'_>) -> LayerResult<InUpper> {
        match self.tree.child(place.dir, place.name)?.stat() {
            Ok(stat) if is_whiteout(&stat) => Ok(InUpper::Whiteout),
            Ok(_) => Ok(InUpper::Object),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENAMETOOLONG)) => {
                Ok(InUpper::Nothing)
            }
            Err(error) => Err(self.failed("look at a name", error)),
        }
    }

    /// Gives a copy one more of the names that its original has in lower layers: nothing that anyone sees changes.
    pub fn link_as_copy(&self, ino: LocalIno, place: Place<'_>) -> LayerResult<()> {
        let times = self.tree.meta(place.dir)?;
        self.link(ino, place, Over::Nothing)?;
        self.restore_times(place.dir, &times)
    }

    /// Gives a directory back the times that it had before something in it was copied up.
    pub(super) fn restore_times(&self, dir: LocalIno, before: &Meta) -> LayerResult<()> {
        let (atime, mtime) = (SetTime::At(before.atime), SetTime::At(before.mtime));
        set_times(&self.tree.object(dir)?, Some(atime), Some(mtime))
            .map_err(|source| self.failed("restore times", source))
    }

    fn now_detached(&self, ino: LocalIno, staged: &Object) {
        self.tree.remember(ino, self.stage_ino, &staged.name);
        self.state.lock().detached.insert(ino);
    }

    /// Moves the object `ino` from `source` to `target`; `other` is what is exchanged with it, when that is an object.
    pub fn rename(
        &self,
        ino: LocalIno,
        source: Place<'_>,
        target: Place<'_>,
        how: Move,
        other: Option<LocalIno>,
    ) -> LayerResult<()> {
        if source.dir != target.dir && self.recorded_ino(ino)?.is_some() {
            self.mark_impure(target.dir)?;
        }
        if let Some(other) = other
            && source.dir != target.dir
            && self.recorded_ino(other)?.is_some()
        {
            self.mark_impure(source.dir)?;
        }
        let from = self.tree.child(source.dir, source.name)?;
        let to = self.tree.child(target.dir, target.name)?;
        let rename = || match how {
            Move::Replace => rename(&from, &to, RenameFlags::empty()),
            Move::Exchange => exchange(&from, &to),
            Move::LeaveWhiteout if self.abilities.rename_whiteout => rename(&from, &to, RenameFlags::WHITEOUT),
            Move::LeaveWhiteout => {
                rename(&from, &to, RenameFlags::empty())?;
                self.make_whiteout(&from)
            }
        };
        rename().map_err(|error| self.failed(&format!("rename {}", source.name.escape_ascii()), error))?;
        self.tree.remember(ino, target.dir, target.name);
        self.tree.forget_name(ino, source.dir, source.name);
        if let Some(other) = other {
            match how {
                Move::Exchange => self.tree.remember(other, source.dir, source.name),
                Move::Replace | Move::LeaveWhiteout => {}
            }
            self.tree.forget_name(other, target.dir, target.name);
        }
        Ok(())
    }

    /// Whether `ino` is unlinked and waits in the stage.
    pub fn is_detached(&self, ino: LocalIno) -> bool {
        self.state.lock().detached.contains(&ino)
    }

    /// The kernel has forgotten the unlinked object `ino`: it goes now, and its number may be used again. So all that is known
    /// of it goes first: the number may be that of another thread's new object before this returns.
    pub fn release(&self, ino: LocalIno) -> LayerResult<()> {
        let name = self.tree.name_in(ino, self.stage_ino);
        self.tree.close(ino);
        self.tree.forget_all_names(ino);
        let mut state = self.state.lock();
        state.detached.remove(&ino);
        state.impure.remove(&ino);
        drop(state);
        if let Some(side) = &self.side {
            side.remove(ino).map_err(|source| self.failed("write the side table", source))?;
        }
        match name {
            Some(name) => self.discard(&name),
            None => Ok(()),
        }
    }

    /// Removes the name that `ino` has in the stage.
    fn discard_staged(&self, ino: LocalIno) -> LayerResult<()> {
        let Some(name) = self.tree.name_in(ino, self.stage_ino) else { return Ok(()) };
        self.tree.forget_name(ino, self.stage_ino, &name);
        self.discard(&name)
    }

    fn discard(&self, name: &[u8]) -> LayerResult<()> {
        let staged = Object::new(self.staging.stage(), name);
        let discard = || match remove(&staged, AtFlags::empty()) {
            Err(error) if error.raw_os_error() == Some(libc::EISDIR) => remove_tree_at(staged.dir(), &staged.name),
            result => result,
        };
        discard().map_err(|source| self.failed("remove an unlinked object", source))
    }

    /// Whether the directory `ino` holds nothing but whiteouts, these removed: it is about to be removed or replaced.
    pub fn clear_whiteouts(&self, ino: LocalIno) -> LayerResult<()> {
        let dir = self.tree.directory(ino)?;
        let clear = || -> io::Result<()> {
            for (name, _) in staging::names(&dir)? {
                let object = Object::new(&dir, &name);
                if is_whiteout(&object.stat()?) {
                    remove(&object, AtFlags::empty())?;
                }
            }
            Ok(())
        };
        clear().map_err(|source| self.failed("remove whiteouts", source))
    }

    /// What to [sync](Self::sync) of the directory or file `ino`.
    pub fn to_sync(&self, ino: LocalIno, is_directory: bool) -> LayerResult<Arc<OwnedFd>> {
        if !is_directory {
            return self.tree.file(ino, Access::Write);
        }
        let fd = self.tree.object(ino)?.open(OFlags::RDONLY | OFlags::DIRECTORY);
        fd.map(Arc::new).map_err(|source| self.failed("sync", source))
    }

    /// Writes what is open as `file` to the disk; of a file only what is needed to read its data when `data_only`.
    pub fn sync(&self, file: &OwnedFd, data_only: bool) -> LayerResult<()> {
        if self.volatile {
            return Ok(());
        }
        if let Some(side) = &self.side {
            side.sync().map_err(|source| self.failed("sync the side table", source))?;
        }
        let synced = if data_only { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) };
        synced.map_err(|error| self.failed("sync", error.into()))
    }
}

fn rename(from: &Object, to: &Object, flags: RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(&from.dir, &*from.name, &to.dir, &*to.name, flags)?)
}

/// Gives an object a further name; a symlink itself, not its target.
pub(super) fn link(from: &Object, to: &Object) -> io::Result<()> {
    Ok(rustix::fs::linkat(&from.dir, &*from.name, &to.dir, &*to.name, AtFlags::empty())?)
}
