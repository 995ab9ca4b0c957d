//! Where the objects of a directory tree are: inode → (parent, name).
//!
//! A backing file system finds objects by path, the kernel asks for them by number. An object with several names has
//! a place for each of those that were seen, so that it is still found when one of them goes.

use crate::union::LocalIno;
use std::collections::HashMap;

/// One name of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory.
    pub(super) parent: LocalIno,
    /// The name in it.
    pub(super) name: Box<[u8]>,
}

/// The places of all objects that were seen.
#[derive(Debug, Default)]
pub(super) struct Places {
    first: HashMap<LocalIno, Place>,
    further: HashMap<LocalIno, Vec<Place>>,
    substitutes: HashMap<(u64, u64), LocalIno>,
}

/// Inode numbers of other devices than the root's, and those too large for a [`LocalIno`], are replaced by numbers
/// from here on.
const FIRST_SUBSTITUTE: u64 = 1 << 47;

impl Places {
    /// The number of the object `ino` on `device`, in a tree whose root is on `root_device`.
    pub(super) fn identify(&mut self, device: u64, ino: u64, root_device: u64) -> LocalIno {
        if device == root_device && ino < FIRST_SUBSTITUTE {
            return LocalIno(ino);
        }
        let next = LocalIno(FIRST_SUBSTITUTE + self.substitutes.len() as u64);
        *self.substitutes.entry((device, ino)).or_insert(next)
    }

    /// One place of `ino`.
    pub(super) fn get(&self, ino: LocalIno) -> Option<&Place> {
        self.first.get(&ino)
    }

    /// All places of `ino`.
    pub(super) fn of(&self, ino: LocalIno) -> impl Iterator<Item = &Place> {
        self.first.get(&ino).into_iter().chain(self.further.get(&ino).into_iter().flatten())
    }

    /// Remembers a name of `ino`.
    pub(super) fn add(&mut self, ino: LocalIno, parent: LocalIno, name: &[u8]) {
        let is_here = |place: &Place| place.parent == parent && *place.name == *name;
        match self.first.get(&ino) {
            None => {
                self.first.insert(ino, Place { parent, name: name.into() });
            }
            Some(first) if is_here(first) => {}
            Some(_) => {
                let further = self.further.entry(ino).or_default();
                if !further.iter().any(is_here) {
                    further.push(Place { parent, name: name.into() });
                }
            }
        }
    }

    /// Forgets one name of `ino`.
    pub(super) fn remove(&mut self, ino: LocalIno, parent: LocalIno, name: &[u8]) {
        let is_here = |place: &Place| place.parent == parent && *place.name == *name;
        if let Some(further) = self.further.get_mut(&ino) {
            further.retain(|place| !is_here(place));
        }
        if self.first.get(&ino).is_some_and(is_here) {
            self.first.remove(&ino);
            if let Some(place) = self.further.get_mut(&ino).and_then(Vec::pop) {
                self.first.insert(ino, place);
            }
        }
        if self.further.get(&ino).is_some_and(Vec::is_empty) {
            self.further.remove(&ino);
        }
    }

    /// Forgets every name of `ino`.
    pub(super) fn forget(&mut self, ino: LocalIno) {
        self.first.remove(&ino);
        self.further.remove(&ino);
    }

    /// Gives back the room of what was forgotten.
    pub(super) fn shrink(&mut self) {
        self.first.shrink_to_fit();
        self.further.shrink_to_fit();
    }

    /// How many objects have a place.
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_by_its_other_names() {
        let mut places = Places::default();
        let (file, dir) = (LocalIno(5), LocalIno(2));
        for name in [b"a", b"b", b"a"] {
            places.add(file, dir, name);
        }
        places.remove(file, dir, b"a");
        assert_eq!(places.get(file).map(|place| &*place.name), Some(&b"b"[..]));
        places.remove(file, dir, b"b");
        assert_eq!(places.get(file), None);
        assert!(places.further.is_empty());
    }

    #[test]
    fn numbers_of_other_devices_are_replaced_and_remembered() {
        let mut places = Places::default();
        assert_eq!(places.identify(1, 9, 1), LocalIno(9));
        let other = places.identify(2, 9, 1);
        assert_ne!(other, LocalIno(9));
        assert_eq!(places.identify(2, 9, 1), other);
        assert_ne!(places.identify(1, 1 << 60, 1), other);
        assert!(other.0 < 1 << 48);
    }
}
