//! Moving names.

use super::copy_up::Want;
use super::directory::LiveDirectory;
use super::namespace::check_new_name;
use super::writable::{Writable, lowers_of};
use super::{FsError, FsResult, LayerFs};
use crate::layer::upper::Place;
use crate::model::FileKind;
use crate::union::mutation::{self, Move, Moved, Replaced, Side, Spot, Step};
use crate::union::{Ino, LayerResult, LocalIno};
use std::sync::Arc;

/// How a rename treats what is at the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// There must be nothing.
    NoReplace,
    /// The two change places.
    Exchange,
}

/// One of the two names of a rename, and what is there.
struct End<'a> {
    parent: Ino,
    directory: Arc<LiveDirectory>,
    place: Place<'a>,
    object: Option<(Ino, FileKind)>,
}

impl LayerFs {
    /// Renames `name` in `parent` to `new_name` in `new_parent`.
    pub fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> FsResult<()> {
        let writable = self.writable()?;
        check_new_name(new_name)?;
        let source = self.end(parent, name)?;
        let target = self.end(new_parent, new_name)?;
        let Some((ino, kind)) = source.object else { return Err(FsError::NotFound) };
        match (mode, target.object) {
            (RenameMode::NoReplace, Some(_)) => return Err(FsError::Exists),
            (RenameMode::Exchange, None) => return Err(FsError::NotFound),
            (_, Some((other, _))) if other == ino => return Ok(()),
            (RenameMode::Replace, Some((_, there))) => check_replaceable(kind, there)?,
            _ => {}
        }
        let moved = self.prepare(&source, ino, kind)?;
        if let (RenameMode::Replace, Some((other, FileKind::Directory))) = (mode, target.object) {
            self.check_empty(&target.directory, target.parent, target.place.name, other)?;
        }
        let exchanged = match (mode, target.object) {
            (RenameMode::Exchange, Some((other, kind))) => Some(self.prepare(&target, other, kind)?),
            _ => None,
        };
        let mut held = vec![parent, new_parent, ino];
        held.extend(target.object.map(|(other, _)| other));
        let guards = writable.stripes.write(&held);
        let done = match (exchanged, target.object) {
            (Some(other_moved), Some((other, _))) => {
                self.exchange(writable, (&source, ino, moved), (&target, other, other_moved))
            }
            _ => self.replace(writable, &source, &target, ino, moved),
        };
        drop(guards);
        done
    }

    fn end<'a>(&self, parent: Ino, name: &'a [u8]) -> FsResult<End<'a>> {
        let directory = self.directory(parent)?;
        let dir = self.ensure_directory(parent)?;
        let object = self.find(&directory, name)?;
        Ok(End { parent, directory, place: Place { dir, name }, object })
    }

    /// Brings what is to be moved to the upper and says what it is there.
    fn prepare(&self, end: &End<'_>, ino: Ino, kind: FileKind) -> FsResult<Moved> {
        if !kind.is_directory() {
            self.ensure_upper(ino, Want::Metadata)?;
            return Ok(Moved::File);
        }
        self.learn(end.parent, &end.directory, end.place.name, ino, kind)?;
        let directory = self.directory(ino)?;
        if lowers_of(&directory.made().sources).is_empty() {
            return Ok(Moved::PureDirectory);
        }
        if !self.writable()?.settings.redirect_dir {
            return Err(FsError::CrossDevice);
        }
        self.ensure_directory(ino)?;
        Ok(Moved::MergedDirectory)
    }

    fn replace(&self, writable: &Writable, source: &End<'_>, target: &End<'_>, ino: Ino, moved: Moved) -> FsResult<()> {
        let local = self.in_upper(writable, source, ino, moved)?;
        let (from, to) = (self.spot(writable, &source.directory, source.place)?, self.target_spot(writable, target)?);
        let replaced = match target.object {
            None => Replaced::Nothing,
            Some((_, FileKind::Directory)) => Replaced::Directory,
            Some(_) => Replaced::File,
        };
        let other = target.object.map(|(other, _)| other);
        let uncounted = match other {
            Some(other) => self.uncount_lower_name(writable, other, to)?,
            None => None,
        };
        let steps = mutation::rename(moved, from, to, replaced);
        let done = self.take_steps(writable, &steps, source, target, (ino, local), other);
        if let (Err(_), Some(other)) = (&done, other) {
            if let Some(count) = uncounted {
                writable.upper.set_lower_names(other, count)?;
            }
            if let Ok(kept) = self.upper_local(writable, other) {
                match target.object {
                    Some((_, FileKind::Directory)) => writable.upper.undo_replace_by_empty(kept, target.place)?,
                    _ => writable.upper.put_back(kept)?,
                }
            }
        }
        done?;
        let kind = source.object.map_or(FileKind::File, |(_, kind)| kind);
        source.directory.update(|listing| listing.remove(source.place.name));
        target.directory.update(|listing| listing.insert(target.place.name, ino, kind));
        self.name_has_moved(writable, ino, source, target);
        if let Some(other) = other {
            self.name_is_gone(writable, other, target.parent, target.place.name);
        }
        Ok(())
    }

    /// What stands at the target; its upper side is looked at even where the union shows nothing.
    fn target_spot(&self, writable: &Writable, target: &End<'_>) -> FsResult<Spot> {
        self.spot(writable, &target.directory, target.place)
    }

    fn exchange(
        &self,
        writable: &Writable,
        (source, ino, moved): (&End<'_>, Ino, Moved),
        (target, other, other_moved): (&End<'_>, Ino, Moved),
    ) -> FsResult<()> {
        let local = self.in_upper(writable, source, ino, moved)?;
        let other_local = self.in_upper(writable, target, other, other_moved)?;
        let (from, to) = (self.spot(writable, &source.directory, source.place)?, self.target_spot(writable, target)?);
        let steps = mutation::exchange((moved, from), (other_moved, to));
        for step in steps {
            match step {
                Step::MarkOpaque(Side::Source) => writable.upper.mark_opaque(local)?,
                Step::MarkOpaque(Side::Target) => writable.upper.mark_opaque(other_local)?,
                Step::MarkRedirect(Side::Source) => self.redirect(ino, local, source, target)?,
                Step::MarkRedirect(Side::Target) => self.redirect(other, other_local, target, source)?,
                Step::Move(how) => {
                    writable.upper.rename(local, source.place, target.place, how, Some(other_local))?;
                }
                // No exchange takes another step.
                _ => {}
            }
        }
        let kind_of = |end: &End<'_>| end.object.map_or(FileKind::File, |(_, kind)| kind);
        source.directory.update(|listing| listing.replace(source.place.name, other, kind_of(target)));
        target.directory.update(|listing| listing.replace(target.place.name, ino, kind_of(source)));
        self.name_has_moved(writable, ino, source, target);
        self.name_has_moved(writable, other, target, source);
        Ok(())
    }

    /// Where the object to be moved is in the upper, under this very name.
    fn in_upper(&self, writable: &Writable, end: &End<'_>, ino: Ino, moved: Moved) -> FsResult<LocalIno> {
        let local = self.upper_local(writable, ino)?;
        if moved == Moved::File {
            self.ensure_name(ino, local, end.place)?;
            self.redirect_metacopy(ino, local)?;
        }
        Ok(local)
    }

    fn take_steps(
        &self,
        writable: &Writable,
        steps: &[Step],
        source: &End<'_>,
        target: &End<'_>,
        (ino, local): (Ino, LocalIno),
        other: Option<Ino>,
    ) -> FsResult<()> {
        let upper = &writable.upper;
        let other = match other {
            Some(other) => self.upper_local(writable, other).ok(),
            None => None,
        };
        let with_other = |action: &dyn Fn(LocalIno) -> LayerResult<()>| other.map_or(Ok(()), action);
        for step in steps {
            match *step {
                Step::MarkOpaque(_) => upper.mark_opaque(local)?,
                Step::MarkRedirect(_) => self.redirect(ino, local, source, target)?,
                Step::KeepAside => with_other(&|other| upper.keep_aside(other, target.place))?,
                Step::ReplaceByEmpty => with_other(&|other| upper.replace_by_empty(other, target.place))?,
                Step::RemoveWhiteout(_) => upper.remove_whiteout(source.place)?,
                Step::Move(how) => {
                    let replaced = other.filter(|_| how != Move::Exchange);
                    upper.rename(local, source.place, target.place, how, replaced)?;
                }
                // No rename takes another step.
                _ => {}
            }
        }
        Ok(())
    }

    fn name_has_moved(&self, writable: &Writable, ino: Ino, from: &End<'_>, to: &End<'_>) {
        let mut nodes = writable.nodes.lock();
        nodes.add_name(ino, to.parent, to.place.name);
        nodes.remove_name(ino, from.parent, from.place.name);
        drop(nodes);
        if let Some(directory) = self.directories.get(ino) {
            directory.set_parent(to.parent);
        }
    }

    /// Writes down where lower layers have the directory `ino` that is about to move.
    fn redirect(&self, ino: Ino, local: LocalIno, from: &End<'_>, to: &End<'_>) -> FsResult<()> {
        let upper = &self.writable()?.upper;
        let same_directory = from.parent == to.parent;
        match upper.redirect(local)? {
            Some(redirect) if same_directory || redirect.starts_with(b"/") => return Ok(()),
            None if same_directory => return Ok(upper.mark_redirect(local, from.place.name)?),
            _ => {}
        }
        Ok(upper.mark_redirect(local, &self.lower_path(ino)?)?)
    }

    /// Writes down where lower layers have the data of a metadata-only copy that is about to get another name.
    pub(super) fn redirect_metacopy(&self, ino: Ino, local: LocalIno) -> FsResult<()> {
        if !self.data_elsewhere.read().contains_key(&ino) {
            return Ok(());
        }
        let upper = &self.writable()?.upper;
        if upper.redirect(local)?.is_some_and(|redirect| redirect.starts_with(b"/")) {
            return Ok(());
        }
        Ok(upper.mark_redirect(local, &self.lower_path(ino)?)?)
    }

    /// The path of `ino` in the lower layers: its own name or that of its redirect, and so on up to the root or an absolute
    /// redirect.
    fn lower_path(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let writable = self.writable()?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let place = writable.nodes.lock().whereabouts(at).cloned().ok_or(FsError::Stale(at.0))?;
            let redirect = match self.upper_local(writable, at) {
                Ok(local) => writable.upper.redirect(local)?,
                Err(_) => None,
            };
            let name = redirect.unwrap_or_else(|| place.name.to_vec());
            if let Some(absolute) = name.strip_prefix(b"/") {
                names.push(absolute.to_vec());
                break;
            }
            names.push(name);
            at = place.parent;
        }
        names.reverse();
        Ok([&b"/"[..], &names.join(&b'/')].concat())
    }
}

fn check_replaceable(moved: FileKind, there: FileKind) -> FsResult<()> {
    match (moved.is_directory(), there.is_directory()) {
        (true, false) => Err(FsError::NotDirectory),
        (false, true) => Err(FsError::IsDirectory),
        _ => Ok(()),
    }
}
