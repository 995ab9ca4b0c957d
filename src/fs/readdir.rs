//! Listing directories.
//!
//! Stateless: the position of an entry is part of the listing, so that a directory needs no handle, and a listing
//! that is taken up again after any time neither loses nor repeats an entry that stayed.

use super::directory::LiveDirectory;
use super::{Attr, FsResult, LayerFs};
use crate::model::FileKind;
use crate::union::Ino;
use std::ops::ControlFlow;

/// Offsets of `.` and `..`; the entries of the listing follow.
const FIRST_ENTRY: u64 = 2;

/// One entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The object.
    pub ino: Ino,
    /// Its type.
    pub kind: FileKind,
    /// The offset at which the listing goes on behind this entry.
    pub next: u64,
}

/// An entry whose number is another object's.
struct Displaced {
    name: Box<[u8]>,
    old: Ino,
    new: Ino,
    kind: FileKind,
}

impl LayerFs {
    /// Calls `visit` with the entries of `ino` from `offset` on, `.` and `..` first, until it breaks.
    pub fn readdir(
        &self,
        ino: Ino,
        offset: u64,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> FsResult<()> {
        let directory = self.directory(ino)?;
        let dots = [(&b"."[..], ino), (&b".."[..], directory.parent())];
        for (at, (name, ino)) in (0..).zip(dots).skip_while(|(at, _)| *at < offset) {
            let entry = DirEntry { name, ino, kind: FileKind::Directory, next: at + 1 };
            if visit(entry).is_break() {
                return Ok(());
            }
        }
        let mut cookie = offset.saturating_sub(FIRST_ENTRY);
        while let Some(displaced) = self.entries_from(&directory, &mut cookie, visit)? {
            directory.renumber(&displaced.name, displaced.old, displaced.new, displaced.kind);
        }
        Ok(())
    }

    /// Calls `visit` with the entries of `directory` from `cookie` on, which it moves on, until it breaks, or there is one whose
    /// number has to be changed first: it is returned.
    fn entries_from(
        &self,
        directory: &LiveDirectory,
        cookie: &mut u64,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> FsResult<Option<Displaced>> {
        let listing = self.listing(directory)?;
        for listed in listing.from_cookie(*cookie) {
            if let Some(new) = self.displaced(directory, listed.name, listed.ino)? {
                return Ok(Some(Displaced { name: listed.name.into(), old: listed.ino, new, kind: listed.kind }));
            }
            *cookie = listed.cookie + 1;
            let next = listed.cookie + FIRST_ENTRY + 1;
            let entry = DirEntry { name: listed.name, ino: listed.ino, kind: listed.kind, next };
            if visit(entry).is_break() {
                break;
            }
        }
        Ok(None)
    }

    /// The same with the attributes of each entry. The kernel takes every entry but `.` and `..` as looked up.
    ///
    /// An entry whose attributes cannot be had is left out, as overlayfs does (`ovl_cache_update` in fs/overlayfs/readdir.c): looking it up
    /// tells why. Where nothing but means are short the listing ends before it, and fails when it begins with it: what is there must not
    /// seem gone to whoever copies or removes the directory.
    pub fn readdirplus(
        &self,
        ino: Ino,
        offset: u64,
        visit: &mut dyn FnMut(DirEntry<'_>, &Attr) -> ControlFlow<()>,
    ) -> FsResult<()> {
        let directory = self.directory(ino)?;
        if offset == 0 {
            self.note_listing(&directory);
        }
        let mut visited = false;
        let mut outcome = Ok(());
        // What did not fit; forgotten when the listing is not locked any more.
        let mut untold = None;
        self.readdir(ino, offset, &mut |entry| {
            let is_dot = entry.next <= FIRST_ENTRY;
            let attr = if is_dot {
                self.getattr(entry.ino)
            } else {
                self.look_up(ino, &directory, entry.name, entry.ino, entry.kind)
            };
            match attr {
                Ok(attr) => {
                    visited = true;
                    let flow = visit(entry, &attr);
                    if flow.is_break() && !is_dot {
                        untold = Some(entry.ino);
                    }
                    flow
                }
                Err(error) if is_dot || error.is_shortage() => {
                    if !visited {
                        outcome = Err(error);
                    }
                    ControlFlow::Break(())
                }
                Err(error) => {
                    log::warn!("{} is left out of a listing: {error}", entry.name.escape_ascii());
                    ControlFlow::Continue(())
                }
            }
        })?;
        if let Some(ino) = untold {
            self.forget(ino, 1);
        }
        outcome
    }
}
