//! Which object of the upper has which number of a lower one.
//!
//! An object keeps the number that it had in a lower layer when it is copied up, and it is written down on the object. Other
//! programs copy and move what is written down while nothing is mounted, so that several objects may say the same number, and
//! the lower object may be seen as well.
//!
//! 1. The first object that is met has the number, as long as it lives; others have that of their own inode.
//! 2. A directory has it only where the lower directory is merged under it.
//! 3. A lower object that is seen although one of the upper has its number is *displaced*: it has a number of another
//!    [generation](Ino::in_generation).
//! 4. What lower layers show in a second directory over the same lower one is of a generation of its own, so that a change in one of
//!    the two is none in the other.

use super::directory::LiveDirectory;
use super::writable::{Writable, lowers_of, upper_of};
use super::{FsResult, LayerFs};
use crate::model::FileKind;
use crate::union::{Directory, Ino, LayerIndex, Listing, LocalIno, Node, Source};
use std::collections::{HashMap, HashSet};

/// The generation of lower objects whose number an object of the upper has.
const DISPLACED: u8 = 1;

/// Numbers of lower objects that objects of the upper have.
#[derive(Debug, Default)]
pub(super) struct Claims {
    holders: HashMap<Ino, LocalIno>,
    /// Objects that were refused the number written down on them: it would be another one's.
    refused: HashSet<LocalIno>,
    /// Directories whose lower objects are of a generation of their own.
    generations: HashMap<Ino, u8>,
    /// The generation given last.
    last: u8,
}

impl Claims {
    /// The object of the upper that has the number `ino` of a lower layer.
    pub(super) fn holder(&self, ino: Ino) -> Option<LocalIno> {
        self.holders.get(&ino).copied()
    }

    /// `local` is the copy of `ino`.
    pub(super) fn give(&mut self, ino: Ino, local: LocalIno) {
        self.refused.remove(&local);
        self.holders.insert(ino, local);
    }

    /// Whether `local`, on which `ino` is written down, has that number; `free` when the kernel knows no lower object by it.
    fn claim(&mut self, ino: Ino, local: LocalIno, free: bool) -> bool {
        if self.refused.contains(&local) {
            return false;
        }
        let has = match self.holders.get(&ino) {
            Some(holder) => *holder == local,
            None => free,
        };
        if has {
            self.holders.insert(ino, local);
        } else {
            self.refused.insert(local);
        }
        has
    }

    /// `local`, which was `ino`, is no more.
    pub(super) fn release(&mut self, ino: Ino, local: LocalIno) {
        if self.holder(ino) == Some(local) {
            self.holders.remove(&ino);
        }
        self.refused.remove(&local);
        self.generations.remove(&ino);
    }

    /// Whether lower objects may have several numbers.
    pub(super) fn any_generation(&self) -> bool {
        self.last != 0
    }

    /// The directory `ino` shows lower objects of `generation`, or of a new one.
    fn set_generation(&mut self, ino: Ino, generation: Option<u8>) {
        if self.generations.contains_key(&ino) {
            return;
        }
        let generation = generation.unwrap_or_else(|| {
            self.last = (self.last.max(DISPLACED) + 1).min(Ino::GENERATIONS - 1);
            self.last
        });
        self.generations.insert(ino, generation);
    }
}

/// An entry of the upper, and what is written down on it.
struct Recorded {
    name: Box<[u8]>,
    kind: FileKind,
    /// Its own number in the mount.
    own: Ino,
    local: LocalIno,
    /// The number written down, where it can be the object's.
    number: Option<Ino>,
}

impl LayerFs {
    /// Gives the entries of a directory the numbers they have in the mount, and remembers where these lead.
    pub(super) fn renumber(
        &self,
        writable: &Writable,
        generation: u8,
        made: &Directory,
        listing: &mut Listing,
    ) -> FsResult<()> {
        if generation != 0 {
            let lower = |ino: Ino| ino.source().is_some_and(|source| source.layer != LayerIndex::UPPER);
            let entries = listing.iter().filter(|listed| lower(listed.ino));
            let entries: Vec<_> = entries.map(|one| (one.name.to_vec(), one.ino, one.kind)).collect();
            for (name, ino, kind) in entries {
                listing.replace(&name, ino.in_generation(generation), kind);
            }
        }
        let Some(dir) = upper_of(&made.sources) else { return Ok(()) };
        if generation == 0 && !writable.upper.is_impure(dir)? {
            return Ok(());
        }
        for entry in self.recorded(writable, generation, made, listing)? {
            if let Some(ino) = settle(writable, generation, &entry) {
                listing.replace(&entry.name, ino, entry.kind);
            }
        }
        Ok(())
    }

    /// The entries of the upper on which a number is written down, and where a generation is to be passed on all directories.
    fn recorded(
        &self,
        writable: &Writable,
        generation: u8,
        made: &Directory,
        listing: &Listing,
    ) -> FsResult<Vec<Recorded>> {
        let mut found = Vec::new();
        for listed in listing.iter() {
            let Some(Source { layer: LayerIndex::UPPER, ino: local }) = listed.ino.source() else { continue };
            let (own, kind) = (listed.ino, listed.kind);
            let number = match writable.upper.recorded_ino(local)? {
                Some(ino) if self.can_be(made, generation, listed.name, kind, ino) => Some(ino),
                Some(_) | None if generation == 0 || !kind.is_directory() => continue,
                _ => None,
            };
            found.push(Recorded { name: listed.name.into(), kind, own, local, number });
        }
        Ok(found)
    }

    /// Whether the number `ino`, written down on an entry of the upper, can be that of its lower object. Of a file nobody knows where
    /// that is.
    fn can_be(&self, made: &Directory, generation: u8, name: &[u8], kind: FileKind, ino: Ino) -> bool {
        if ino.source().is_none_or(|source| source.layer == LayerIndex::UPPER) {
            return false;
        }
        if !kind.is_directory() {
            return true;
        }
        let is_it = |source: &Source| Ino::of(*source).in_generation(generation) == ino;
        match self.stack.child(&made.sources, name) {
            Ok(Some(Node::Directory(found))) => lowers_of(&found.sources).iter().any(is_it),
            // What cannot be merged is told to whoever looks it up.
            _ => false,
        }
    }

    /// The number that the entry `name`, listed as `ino`, has instead, because it is a lower object and an object of the upper that
    /// is somewhere else has its number.
    pub(super) fn displaced(&self, directory: &LiveDirectory, name: &[u8], ino: Ino) -> FsResult<Option<Ino>> {
        let Some(writable) = &self.writable else { return Ok(None) };
        let Some(source) = ino.source().filter(|source| source.layer != LayerIndex::UPPER) else { return Ok(None) };
        let Some(holder) = writable.claims.read().holder(ino) else { return Ok(None) };
        if writable.upper.is_indexed(holder) || ino.generation() == DISPLACED {
            return Ok(None);
        }
        let made = directory.made();
        if upper_of(&made.sources).is_some_and(|dir| writable.upper.tree().has_place(holder, dir, name)) {
            return Ok(None);
        }
        // Looked at after the number was taken: a copy of this very entry would be found here, or a whiteout where it was.
        let shows_it = match self.stack.child(&made.sources, name)? {
            Some(Node::Other { source: found, .. }) => found == source,
            Some(Node::Directory(found)) => found.sources.first() == Some(&source),
            None => false,
        };
        Ok(shows_it.then(|| ino.in_generation(DISPLACED)))
    }

    /// The generation of what the directory `ino` shows of lower layers.
    pub(super) fn generation(&self, ino: Ino) -> u8 {
        let Some(writable) = &self.writable else { return 0 };
        writable.claims.read().generations.get(&ino).copied().unwrap_or(ino.generation())
    }
}

/// The number that an entry has instead of its own, if any.
fn settle(writable: &Writable, generation: u8, entry: &Recorded) -> Option<Ino> {
    let Recorded { own, local, number, .. } = *entry;
    let has = number.filter(|ino| {
        let free = writable.upper.is_indexed(local) || !writable.nodes.lock().is_known(*ino);
        writable.claims.write().claim(*ino, local, free)
    });
    if has.is_none() && entry.kind.is_directory() {
        let inherited = number.is_none().then_some(generation);
        writable.claims.write().set_generation(own, inherited);
    }
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_holder_and_who_was_refused_stays_so() {
        let mut claims = Claims::default();
        let (ino, first, second) = (Ino(1 << 48 | 5), LocalIno(10), LocalIno(11));
        assert!(claims.claim(ino, first, true) && claims.claim(ino, first, false));
        assert!(!claims.claim(ino, second, true));
        claims.release(ino, second);
        assert_eq!(claims.holder(ino), Some(first));
        assert!(!claims.claim(ino, second, true));
        claims.release(ino, first);
        assert!(!claims.claim(ino, second, true), "the kernel may know it by its own number");
        assert!(claims.claim(ino, first, true));
    }

    #[test]
    fn a_number_known_as_that_of_a_lower_object_is_not_free() {
        let mut claims = Claims::default();
        assert!(!claims.claim(Ino(1 << 48 | 5), LocalIno(10), false));
        claims.give(Ino(1 << 48 | 5), LocalIno(10));
        assert!(claims.claim(Ino(1 << 48 | 5), LocalIno(10), false));
    }

    #[test]
    fn generations_are_new_inherited_and_kept() {
        let mut claims = Claims::default();
        claims.set_generation(Ino(5), None);
        claims.set_generation(Ino(6), None);
        claims.set_generation(Ino(7), Some(2));
        claims.set_generation(Ino(5), None);
        let given = [5, 6, 7].map(|ino| claims.generations.get(&Ino(ino)).copied());
        assert_eq!(given, [Some(2), Some(3), Some(2)]);
        assert!(claims.any_generation());
    }
}
