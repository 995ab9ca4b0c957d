//! The merged names of one directory.

use super::Ino;
use crate::model::FileKind;
use std::collections::{BTreeMap, HashMap};

/// What a listing says of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The object's number in the mount.
    pub ino: Ino,
    /// Its type.
    pub kind: FileKind,
    /// The position of the entry: it keeps it as long as it exists, whatever comes and goes around it.
    pub cookie: u64,
}

/// Sixteen bytes an entry; the name lies in the listing's heap.
#[derive(Debug, Clone, Copy)]
struct Slot {
    ino: Ino,
    name_start: u32,
    name_length: u8,
    kind: FileKind,
    removed: bool,
}

/// The names of a directory: a sorted compact table of what was merged, plus what changed since.
///
/// Cookies of merged entries are their index in the table, those of added ones are counted on from there, so that a
/// listing that goes on behind a cookie neither loses nor repeats an entry while others come and go.
#[derive(Debug, Default)]
pub struct Listing {
    heap: Box<[u8]>,
    slots: Box<[Slot]>,
    /// How many of `slots` are not removed.
    live: usize,
    changes: Option<Box<Changes>>,
}

#[derive(Debug, Default)]
struct Changes {
    by_name: HashMap<Box<[u8]>, u64>,
    by_cookie: BTreeMap<u64, (Box<[u8]>, Ino, FileKind)>,
    /// Entries ever added: the next cookie counts on from the table's length.
    added: u64,
}

impl Listing {
    /// The number of names.
    pub fn len(&self) -> usize {
        self.live + self.changes.as_ref().map_or(0, |changes| changes.by_cookie.len())
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry called `name`.
    pub fn get<'a>(&'a self, name: &[u8]) -> Option<Listed<'a>> {
        if let Some(changes) = &self.changes
            && let Some((&cookie, (added, ino, kind))) =
                changes.by_name.get(name).and_then(|cookie| changes.by_cookie.get_key_value(cookie))
        {
            return Some(Listed { name: added, ino: *ino, kind: *kind, cookie });
        }
        let index = self.search(name)?;
        self.slots.get(index).filter(|slot| !slot.removed).map(|slot| self.listed(index, slot))
    }

    /// The entries from `cookie` on, in order of their cookies.
    pub fn from_cookie(&self, cookie: u64) -> impl Iterator<Item = Listed<'_>> {
        let start = usize::try_from(cookie).unwrap_or(usize::MAX).min(self.slots.len());
        let merged = self.slots.iter().enumerate().skip(start).filter(|(_, slot)| !slot.removed);
        let added = self.changes.iter().flat_map(move |changes| changes.by_cookie.range(cookie..));
        merged.map(|(index, slot)| self.listed(index, slot)).chain(added.map(|(&cookie, (name, ino, kind))| Listed {
            name,
            ino: *ino,
            kind: *kind,
            cookie,
        }))
    }

    /// All entries, in order of their cookies.
    pub fn iter(&self) -> impl Iterator<Item = Listed<'_>> {
        self.from_cookie(0)
    }

    /// Adds `name`, or makes it another object, which then has a new cookie.
    pub fn insert(&mut self, name: &[u8], ino: Ino, kind: FileKind) {
        self.remove(name);
        let merged = self.slots.len() as u64;
        let changes = self.changes.get_or_insert_default();
        let cookie = merged + changes.added;
        changes.added += 1;
        changes.by_name.insert(name.into(), cookie);
        changes.by_cookie.insert(cookie, (name.into(), ino, kind));
    }

    /// Makes `name` another object in its place; false when there is no such name.
    pub fn replace(&mut self, name: &[u8], ino: Ino, kind: FileKind) -> bool {
        if let Some(changes) = &mut self.changes
            && let Some(entry) = changes.by_name.get(name).and_then(|cookie| changes.by_cookie.get_mut(cookie))
        {
            (entry.1, entry.2) = (ino, kind);
            return true;
        }
        let Some(slot) = self.search(name).and_then(|index| self.slots.get_mut(index)) else { return false };
        if slot.removed {
            return false;
        }
        (slot.ino, slot.kind) = (ino, kind);
        true
    }

    /// Removes `name`; false when there is no such name.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        if let Some(changes) = &mut self.changes
            && let Some(cookie) = changes.by_name.remove(name)
        {
            changes.by_cookie.remove(&cookie);
            return true;
        }
        let Some(slot) = self.search(name).and_then(|index| self.slots.get_mut(index)) else { return false };
        if slot.removed {
            return false;
        }
        slot.removed = true;
        self.live -= 1;
        true
    }

    fn search(&self, name: &[u8]) -> Option<usize> {
        self.slots.binary_search_by(|slot| self.name(slot).cmp(name)).ok()
    }

    fn name(&self, slot: &Slot) -> &[u8] {
        let start = slot.name_start as usize;
        self.heap.get(start..start + usize::from(slot.name_length)).unwrap_or_default()
    }

    fn listed(&self, index: usize, slot: &Slot) -> Listed<'_> {
        Listed { name: self.name(slot), ino: slot.ino, kind: slot.kind, cookie: index as u64 }
    }
}

/// One name of one source while a listing is built.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    name_start: u32,
    name_length: u8,
    /// None is a whiteout.
    node: Option<(Ino, FileKind)>,
}

/// Merges the sorted names of several sources: the topmost source that has a name decides about it.
#[derive(Debug, Default)]
pub(super) struct ListingBuilder {
    heap: Vec<u8>,
    candidates: Vec<Candidate>,
    runs: usize,
    hidden: bool,
}

impl ListingBuilder {
    /// Begins the names of the next source; topmost source first.
    pub(super) fn begin_source(&mut self) {
        self.runs += 1;
    }

    /// Adds a name of the current source, `node` none for a whiteout. False when the names of the directory exceed 4 GiB or `name` 255 bytes.
    #[must_use]
    pub(super) fn push(&mut self, name: &[u8], node: Option<(Ino, FileKind)>) -> bool {
        let (Ok(name_start), Ok(name_length)) = (u32::try_from(self.heap.len()), u8::try_from(name.len())) else {
            return false;
        };
        self.hidden |= node.is_none();
        self.heap.extend_from_slice(name);
        self.candidates.push(Candidate { name_start, name_length, node });
        true
    }

    /// The merged listing.
    ///
    /// The standard library's stable sort finds the sorted runs, one a source, and merges them; being stable it keeps
    /// candidates of one name in the order of the sources.
    pub(super) fn finish(mut self) -> Listing {
        let heap = &self.heap;
        let name_of = |candidate: &Candidate| {
            let start = candidate.name_start as usize;
            heap.get(start..start + usize::from(candidate.name_length)).unwrap_or_default()
        };
        let sorted = self.candidates.is_sorted_by(|left, right| name_of(left) < name_of(right));
        if !sorted {
            self.candidates.sort_by(|left, right| name_of(left).cmp(name_of(right)));
            self.candidates.dedup_by(|later, kept| name_of(later) == name_of(kept));
        }
        let compact = self.runs <= 1 && sorted && !self.hidden;
        if compact { self.keep_heap() } else { self.copy_names() }
    }

    fn keep_heap(self) -> Listing {
        let slots: Box<[Slot]> = self.candidates.iter().filter_map(|one| one.slot(one.name_start)).collect();
        Listing { live: slots.len(), heap: self.heap.into_boxed_slice(), slots, changes: None }
    }

    fn copy_names(self) -> Listing {
        let mut heap = Vec::with_capacity(self.heap.len());
        let mut slots = Vec::with_capacity(self.candidates.len());
        for candidate in &self.candidates {
            let start = candidate.name_start as usize;
            let name = self.heap.get(start..start + usize::from(candidate.name_length)).unwrap_or_default();
            if let Some(slot) = candidate.slot(heap.len() as u32) {
                heap.extend_from_slice(name);
                slots.push(slot);
            }
        }
        Listing { live: slots.len(), heap: heap.into_boxed_slice(), slots: slots.into_boxed_slice(), changes: None }
    }
}

impl Candidate {
    fn slot(&self, name_start: u32) -> Option<Slot> {
        let (ino, kind) = self.node?;
        Some(Slot { ino, name_start, name_length: self.name_length, kind, removed: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(sources: &[&[(&str, Option<u64>)]]) -> Listing {
        let mut builder = ListingBuilder::default();
        for source in sources {
            builder.begin_source();
            for (name, ino) in *source {
                assert!(builder.push(name.as_bytes(), ino.map(|ino| (Ino(ino), FileKind::File))));
            }
        }
        builder.finish()
    }

    fn names(listing: &Listing) -> Vec<(String, u64)> {
        listing.iter().map(|one| (String::from_utf8_lossy(one.name).into_owned(), one.ino.0)).collect()
    }

    #[test]
    fn the_topmost_source_decides() {
        let merged = listing(&[
            &[("b", Some(10)), ("c", None)],
            &[("a", Some(20)), ("b", Some(21)), ("c", Some(22)), ("d", Some(23))],
            &[("c", Some(30)), ("e", Some(31))],
        ]);
        let expected = [("a", 20), ("b", 10), ("d", 23), ("e", 31)].map(|(name, ino)| (name.to_owned(), ino));
        assert_eq!(names(&merged), expected);
        assert_eq!(merged.len(), 4);
        assert!(merged.get(b"c").is_none());
        assert_eq!(merged.get(b"d").unwrap().ino, Ino(23));
    }

    #[test]
    fn a_slot_takes_sixteen_bytes() {
        assert_eq!(size_of::<Slot>(), 16);
    }

    #[test]
    fn a_listing_goes_on_where_it_stopped_while_names_come_and_go() {
        let mut listing = listing(&[&[("a", Some(1)), ("b", Some(2)), ("c", Some(3))]]);
        let b = listing.get(b"b").unwrap().cookie;
        assert!(listing.remove(b"a"));
        assert!(listing.remove(b"b"));
        listing.insert(b"0", Ino(9), FileKind::File);
        listing.insert(b"a", Ino(8), FileKind::File);
        let rest: Vec<_> = listing.from_cookie(b + 1).map(|one| one.ino.0).collect();
        assert_eq!(rest, [3, 9, 8]);
        assert!(listing.remove(b"0"));
        listing.insert(b"0", Ino(7), FileKind::File);
        let cookies: Vec<_> = listing.iter().map(|one| (one.ino.0, one.cookie)).collect();
        assert_eq!(cookies, [(3, 2), (8, 4), (7, 5)]);
        assert_eq!(listing.len(), 3);
        assert!(!listing.remove(b"nothing"));
    }

    #[test]
    fn a_replaced_name_keeps_its_place() {
        let mut listing = listing(&[&[("a", Some(1)), ("b", Some(2))]]);
        listing.insert(b"c", Ino(3), FileKind::File);
        assert!(listing.replace(b"a", Ino(11), FileKind::Fifo));
        assert!(listing.replace(b"c", Ino(13), FileKind::File));
        assert!(!listing.replace(b"d", Ino(14), FileKind::File));
        assert_eq!(names(&listing), [("a", 11), ("b", 2), ("c", 13)].map(|(name, ino)| (name.to_owned(), ino)));
        assert_eq!(listing.get(b"a").unwrap().kind, FileKind::Fifo);
    }
}
