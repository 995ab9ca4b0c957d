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
    /// Device (0 for the root's) and inode, to the number that stands for them, and back.
    substitutes: HashMap<(u64, u64), LocalIno>,
    substituted: HashMap<LocalIno, (u64, u64)>,
}

/// Inode numbers of other devices than the root's, and those too large for a [`LocalIno`], are replaced by numbers
/// from here on.
const FIRST_SUBSTITUTE: u64 = 1 << 47;

/// The substitute to try first. The same in each mount, whatever is met first: an upper has numbers of lower objects written down, and
/// they must not lead to others later. (The numbers of a layerfs mount are large; those of file systems mounted inside a layer, of
/// subvolumes, and of a kernel overlayfs over several file systems are of other devices.)
fn substitute(device: u64, ino: u64) -> u64 {
    // The finalizer of SplitMix64, over both: numbers that lie close together get numbers far apart.
    let mut mixed = ino ^ device.rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    FIRST_SUBSTITUTE | (mixed ^ (mixed >> 31)) & (FIRST_SUBSTITUTE - 1)
}

impl Places {
    /// The number of the object `ino` on `device`, in a tree whose root is on `root_device`.
    pub(super) fn identify(&mut self, device: u64, ino: u64, root_device: u64) -> LocalIno {
        if device == root_device && ino < FIRST_SUBSTITUTE {
            return LocalIno(ino);
        }
        let key = (if device == root_device { 0 } else { device }, ino);
        if let Some(known) = self.substitutes.get(&key) {
            return *known;
        }
        let mut number = substitute(key.0, ino);
        while self.substituted.contains_key(&LocalIno(number)) {
            number = FIRST_SUBSTITUTE | (number + 1) & (FIRST_SUBSTITUTE - 1);
        }
        self.substitutes.insert(key, LocalIno(number));
        self.substituted.insert(LocalIno(number), key);
        LocalIno(number)
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

    #[test]
    fn regression_substitutes_do_not_depend_on_what_is_met_first() {
        let large = |count: u64| (1..=count).map(|layer| layer << 48 | 5);
        let (mut one, mut two) = (Places::default(), Places::default());
        let forward: Vec<_> = large(500).map(|ino| one.identify(1, ino, 1)).collect();
        let mut backward: Vec<_> = large(500).rev().map(|ino| two.identify(9, ino, 9)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(forward.iter().collect::<std::collections::HashSet<_>>().len(), 500);
    }
}
