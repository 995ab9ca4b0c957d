//! The bytes of an image that no one can see.
//!
//! The problems, and what solves them:
//! 1. Every byte counts once, whoever hides it again: an object is charged to the first layer that hides it ([`Hide`]).
//! 2. Hidden directories hide what is in them: the walk goes on in hidden directories, which carry who hid them.
//! 3. An object with several names is hidden when its last name is: [`Linked`] counts names.
//! 4. Order matters inside one directory: the layers' words on one name are replayed from the bottom up ([`Replay`]).

use super::checked_name;
use crate::model::{FileKind, Name, RelPath};
use crate::union::{EntryKind, Layer, LayerIndex, LayerResult, LocalIno, Node, Source, Stack};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How a layer made something disappear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WasteCause {
    /// A whiteout.
    Deleted,
    /// An opaque directory in the place of a directory.
    Recreated,
    /// Another object in the same place.
    Replaced,
}

/// What one layer hid at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waste {
    /// The path that was deleted, recreated or replaced; what was below it counts here too.
    pub path: RelPath,
    /// How.
    pub cause: WasteCause,
    /// The layer that hid it, counted from the bottom.
    pub hidden_by: usize,
    /// The layers whose bytes these are, with how many of them, bottom layer first.
    pub bytes_of: BTreeMap<usize, u64>,
    /// Objects hidden.
    pub objects: u64,
    /// A replacement by an object with the same type and size in bytes: content may be the same (chmod, chown, touch).
    pub same_size: bool,
}

impl Waste {
    /// Bytes hidden.
    pub fn bytes(&self) -> u64 {
        self.bytes_of.values().sum()
    }
}

/// What one layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSummary {
    /// Bytes of the files in the layer, each object once, whether they are visible or not.
    pub bytes: u64,
    /// Those of them that a later layer hides.
    pub hidden_bytes: u64,
    /// Names of objects that were not there before.
    pub added: u64,
    /// Names where something else was before; directories merely passed through do not count.
    pub changed: u64,
    /// Names that a whiteout of the layer removes, and names in directories that it recreates.
    pub removed: u64,
    /// Whiteouts that hide nothing.
    pub idle_whiteouts: u64,
}

/// The accounting of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WasteReport {
    /// Bottom layer first.
    pub layers: Vec<LayerSummary>,
    /// What is hidden, most bytes first; entries that hide no bytes are left out.
    pub waste: Vec<Waste>,
}

impl WasteReport {
    /// Bytes of all files of all layers.
    pub fn total_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Bytes of them that nobody can see.
    pub fn hidden_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.hidden_bytes).sum()
    }

    /// The share of the bytes that is visible, 0 to 1; 1 for an image without bytes.
    pub fn efficiency(&self) -> f64 {
        match self.total_bytes() {
            0 => 1.0,
            total => 1.0 - self.hidden_bytes() as f64 / total as f64,
        }
    }
}

/// What one layer has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The layer, counted from the bottom.
    pub layer: usize,
    /// The object in that layer.
    pub ino: LocalIno,
    /// Its type.
    pub kind: FileKind,
    /// Its bytes when it is a file, otherwise 0.
    pub size: u64,
    /// The first layer that hides it.
    pub hidden_by: Option<usize>,
}

impl Version {
    /// Whether it is to be seen in the image made of the layers up to `layer`.
    pub fn is_visible_at(&self, layer: usize) -> bool {
        self.layer <= layer && self.hidden_by.is_none_or(|hider| hider > layer)
    }
}

/// The accounting of the lower layers of `stack`.
pub fn waste(stack: &Stack) -> LayerResult<WasteReport> {
    walk(stack, None)
}

/// Is told a path and all versions of it, bottom layer first.
type Visitor<'a> = dyn FnMut(&RelPath, Vec<Version>) + 'a;

/// The accounting of the lower layers of `stack`. Calls `visit` once for every path but the root's at which any layer has an
/// object, parents first and the names of a directory one after the other.
pub fn survey(stack: &Stack, visit: &mut Visitor<'_>) -> LayerResult<WasteReport> {
    walk(stack, Some(visit))
}

fn walk(stack: &Stack, mut visit: Option<&mut Visitor<'_>>) -> LayerResult<WasteReport> {
    let mut account = Account::new(stack);
    let mut work = vec![Place { path: RelPath::root(), directories: account.roots()? }];
    while let Some(place) = work.pop() {
        account.visit(place, &mut work, visit.as_deref_mut())?;
    }
    account.report()
}

/// Index of an event in [`Account::events`].
type EventId = usize;

/// Who hid something: the layer, and the event it counts to.
#[derive(Debug, Clone, Copy)]
struct Hide {
    layer: usize,
    event: EventId,
}

/// A directory of one layer at a path.
#[derive(Debug, Clone, Copy)]
struct PlacedDirectory {
    layer: usize,
    ino: LocalIno,
    hidden: Option<Hide>,
}

/// A path that at least one layer has a directory at; bottom layer first.
struct Place {
    path: RelPath,
    directories: Vec<PlacedDirectory>,
}

/// An object with several names in its layer.
struct Linked {
    size: u64,
    names: u32,
    hidden_names: u32,
    last: Option<Hide>,
}

struct Account<'a> {
    stack: &'a Stack,
    events: Vec<Waste>,
    layers: Vec<LayerSummary>,
    linked: HashMap<(usize, LocalIno), Linked>,
    /// Objects with one name in their layer: the layer, the object, its bytes, who hides it.
    unlinked: Vec<(usize, LocalIno, u64, Option<Hide>)>,
    /// Names that a layer gave to objects of the layers below, which stay visible through them.
    later_links: Vec<RelPath>,
}

/// What a layer says about one name.
type Word = (usize, EntryKind);

/// When what the directories around a name say of it counts.
struct Moments {
    /// The layers that have such a directory or hide one, bottom layer first.
    layers: Vec<usize>,
    /// Directories that are hidden: their layers, and who hides them.
    hides: Vec<(usize, Hide)>,
}

impl Moments {
    fn of(parents: &[PlacedDirectory]) -> Self {
        let hides: Vec<(usize, Hide)> =
            parents.iter().filter_map(|parent| parent.hidden.map(|hide| (parent.layer, hide))).collect();
        let layers: BTreeSet<usize> =
            parents.iter().map(|parent| parent.layer).chain(hides.iter().map(|(_, hide)| hide.layer)).collect();
        Self { layers: layers.into_iter().collect(), hides }
    }
}

impl<'a> Account<'a> {
    fn new(stack: &'a Stack) -> Self {
        let layers = vec![LayerSummary::default(); stack.lowers().len()];
        let (events, linked, unlinked, later_links) = Default::default();
        Self { stack, events, layers, linked, unlinked, later_links }
    }

    fn layer(&self, index: usize) -> LayerResult<&'a dyn Layer> {
        self.stack.layer(LayerIndex::lower(index).unwrap_or(LayerIndex::UPPER))
    }

    fn roots(&mut self) -> LayerResult<Vec<PlacedDirectory>> {
        let mut roots: Vec<PlacedDirectory> = Vec::new();
        for (index, layer) in self.stack.lowers().iter().enumerate() {
            if layer.root_is_opaque()? && !roots.is_empty() {
                let event = self.event(&RelPath::root(), WasteCause::Recreated, index, false);
                for root in roots.iter_mut().filter(|root| root.hidden.is_none()) {
                    root.hidden = Some(Hide { layer: index, event });
                }
            }
            roots.push(PlacedDirectory { layer: index, ino: layer.root(), hidden: None });
        }
        Ok(roots)
    }

    fn event(&mut self, path: &RelPath, cause: WasteCause, hidden_by: usize, same_size: bool) -> EventId {
        let bytes_of = BTreeMap::new();
        self.events.push(Waste { path: path.clone(), cause, hidden_by, bytes_of, objects: 0, same_size });
        self.events.len() - 1
    }

    /// Replays every name of the directories at `place`. An image has very many names: what can be used for the next one again is.
    fn visit(&mut self, place: Place, work: &mut Vec<Place>, mut visit: Option<&mut Visitor<'_>>) -> LayerResult<()> {
        let mut said = self.said(&place.directories)?.into_iter().peekable();
        let moments = Moments::of(&place.directories);
        let (mut path, mut words, mut replay) = (place.path, Vec::new(), Replay::default());
        while let Some((name, word)) = said.next() {
            words.clear();
            words.push(word);
            while let Some((_, word)) = said.next_if(|(next, _)| *next == name) {
                words.push(word);
            }
            path.push(name);
            self.replay(&path, &words, &moments, &mut replay)?;
            if let Some(visit) = visit.as_deref_mut().filter(|_| !replay.is_empty()) {
                visit(&path, replay.versions());
            }
            let directories = self.settle(&mut replay);
            if !directories.is_empty() {
                work.push(Place { path: path.clone(), directories });
            }
            path.pop();
        }
        Ok(())
    }

    /// What the layers say in `directories`, by name, and of each name bottom layer first.
    fn said(&self, directories: &[PlacedDirectory]) -> LayerResult<Vec<(Name, Word)>> {
        let mut said = Vec::new();
        for directory in directories {
            let layer = self.layer(directory.layer)?;
            let mut refused = None;
            layer.entries(directory.ino, &mut |entry| match checked_name(layer, &entry.name) {
                Ok(name) => said.push((name, (directory.layer, entry.kind))),
                Err(error) => refused = Some(error),
            })?;
            if let Some(error) = refused {
                return Err(error);
            }
        }
        // The names of each directory are in order already, and those of one name stay in that of their layers.
        said.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(said)
    }

    /// Goes through what the layers say about `path`, bottom layer first. `replay` is empty at first.
    fn replay(&mut self, path: &RelPath, words: &[Word], moments: &Moments, replay: &mut Replay) -> LayerResult<()> {
        for &moment in &moments.layers {
            // A layer that hides a parent takes what is in it along before its own words count.
            for (layer, hide) in moments.hides.iter().filter(|(_, hide)| hide.layer == moment) {
                self.layer_mut(moment).removed += replay.hide_of_layer(*layer, *hide);
            }
            if let Some((layer, kind)) = words.iter().find(|(layer, _)| *layer == moment) {
                self.hear(path, *layer, *kind, replay)?;
            }
        }
        Ok(())
    }

    fn layer_mut(&mut self, index: usize) -> &mut LayerSummary {
        // Indices come from enumerating the layers.
        #[expect(clippy::indexing_slicing, reason = "one summary for each layer is made in `new`")]
        &mut self.layers[index]
    }

    /// One layer's word on a name.
    fn hear(&mut self, path: &RelPath, layer: usize, kind: EntryKind, replay: &mut Replay) -> LayerResult<()> {
        let visible = replay.visible();
        match kind {
            EntryKind::Whiteout if matches!(visible, Visible::Nothing) => self.layer_mut(layer).idle_whiteouts += 1,
            EntryKind::Whiteout => {
                let event = self.event(path, WasteCause::Deleted, layer, false);
                replay.hide_all(Hide { layer, event });
                self.layer_mut(layer).removed += 1;
            }
            EntryKind::LinkBelow { .. } => {
                self.later_links.push(path.clone());
                match visible {
                    Visible::Nothing => self.layer_mut(layer).added += 1,
                    _ => self.replace(path, layer, None, replay),
                }
            }
            EntryKind::Node { ino, kind: FileKind::Directory, opaque, .. } => {
                match visible {
                    Visible::Nothing => self.layer_mut(layer).added += 1,
                    Visible::Object(_) => self.replace(path, layer, None, replay),
                    Visible::Directory if opaque => {
                        let event = self.event(path, WasteCause::Recreated, layer, false);
                        replay.hide_all(Hide { layer, event });
                        self.layer_mut(layer).changed += 1;
                    }
                    Visible::Directory => {}
                }
                replay.directories.push(PlacedDirectory { layer, ino, hidden: None });
            }
            EntryKind::Node { ino, kind, .. } => {
                let meta = self.layer(layer)?.meta(ino)?;
                let size = if kind == FileKind::File { meta.size } else { 0 };
                let object = PlacedObject { layer, ino, kind, size, nlink: meta.nlink, hidden: None };
                match visible {
                    Visible::Nothing => self.layer_mut(layer).added += 1,
                    _ => self.replace(path, layer, Some(&object), replay),
                }
                replay.objects.push(object);
            }
        }
        Ok(())
    }

    fn replace(&mut self, path: &RelPath, layer: usize, by: Option<&PlacedObject>, replay: &mut Replay) {
        let same = matches!((replay.visible(), by), (Visible::Object((kind, size)), Some(by)) if kind == by.kind && size == by.size);
        let event = self.event(path, WasteCause::Replaced, layer, same);
        replay.hide_all(Hide { layer, event });
        self.layer_mut(layer).changed += 1;
    }

    /// Books the objects of one name. Returns the directories, and leaves `replay` empty.
    fn settle(&mut self, replay: &mut Replay) -> Vec<PlacedDirectory> {
        for object in replay.objects.drain(..) {
            if object.nlink > 1 {
                let linked = self.linked.entry((object.layer, object.ino)).or_insert(Linked {
                    size: object.size,
                    names: 0,
                    hidden_names: 0,
                    last: None,
                });
                linked.names += 1;
                if let Some(hide) = object.hidden {
                    linked.hidden_names += 1;
                    if linked.last.is_none_or(|last| last.layer <= hide.layer) {
                        linked.last = Some(hide);
                    }
                }
                continue;
            }
            self.unlinked.push((object.layer, object.ino, object.size, object.hidden));
        }
        std::mem::take(&mut replay.directories)
    }

    fn book(&mut self, layer: usize, size: u64, hidden: Option<Hide>) {
        let summary = self.layer_mut(layer);
        summary.bytes += size;
        let Some(hide) = hidden else { return };
        summary.hidden_bytes += size;
        if let Some(event) = self.events.get_mut(hide.event) {
            *event.bytes_of.entry(layer).or_default() += size;
            event.objects += 1;
        }
    }

    fn report(mut self) -> LayerResult<WasteReport> {
        let mut kept = HashSet::new();
        for path in &self.later_links {
            kept.extend(self.lower_object(path)?);
        }
        for (layer, ino, size, hidden) in std::mem::take(&mut self.unlinked) {
            self.book(layer, size, hidden.filter(|_| !kept.contains(&(layer, ino))));
        }
        let linked = std::mem::take(&mut self.linked);
        let mut linked: Vec<_> = linked.into_iter().collect();
        linked.sort_by_key(|(key, _)| *key);
        for ((layer, ino), Linked { size, names, hidden_names, last }) in linked {
            let hidden = last.filter(|_| names == hidden_names && !kept.contains(&(layer, ino)));
            self.book(layer, size, hidden);
        }
        let mut waste: Vec<Waste> = self.events.into_iter().filter(|event| event.bytes() > 0).collect();
        waste.sort_by(|a, b| b.bytes().cmp(&a.bytes()).then_with(|| a.path.cmp(&b.path)));
        Ok(WasteReport { layers: self.layers, waste })
    }

    fn lower_object(&self, path: &RelPath) -> LayerResult<Option<(usize, LocalIno)>> {
        Ok(match self.stack.resolve(path)? {
            Some(Node::Other { source: Source { layer, ino }, .. }) => layer.as_lower().map(|layer| (layer, ino)),
            _ => None,
        })
    }
}

/// An object that is no directory, of one layer at one name.
#[derive(Debug, Clone, Copy)]
struct PlacedObject {
    layer: usize,
    ino: LocalIno,
    kind: FileKind,
    size: u64,
    nlink: u32,
    hidden: Option<Hide>,
}

/// What a name shows at some moment of the replay.
enum Visible {
    Nothing,
    Directory,
    Object((FileKind, u64)),
}

/// The objects that one name has stood for so far.
#[derive(Default)]
struct Replay {
    objects: Vec<PlacedObject>,
    directories: Vec<PlacedDirectory>,
}

impl Replay {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.directories.is_empty()
    }

    fn visible(&self) -> Visible {
        if let Some(object) = self.objects.iter().rev().find(|object| object.hidden.is_none()) {
            return Visible::Object((object.kind, object.size));
        }
        if self.directories.iter().any(|directory| directory.hidden.is_none()) {
            return Visible::Directory;
        }
        Visible::Nothing
    }

    /// Everything that stood here, bottom layer first.
    fn versions(&self) -> Vec<Version> {
        let objects = self.objects.iter().map(|object| Version {
            layer: object.layer,
            ino: object.ino,
            kind: object.kind,
            size: object.size,
            hidden_by: object.hidden.map(|hide| hide.layer),
        });
        let directories = self.directories.iter().map(|directory| Version {
            layer: directory.layer,
            ino: directory.ino,
            kind: FileKind::Directory,
            size: 0,
            hidden_by: directory.hidden.map(|hide| hide.layer),
        });
        let mut versions: Vec<Version> = objects.chain(directories).collect();
        versions.sort_by_key(|version| version.layer);
        versions
    }

    fn hide_all(&mut self, hide: Hide) {
        let objects = self.objects.iter_mut().map(|object| &mut object.hidden);
        for hidden in objects.chain(self.directories.iter_mut().map(|directory| &mut directory.hidden)) {
            hidden.get_or_insert(hide);
        }
    }

    /// Hides what `layer` has here. Returns how many names disappear by that: 0 or 1.
    fn hide_of_layer(&mut self, layer: usize, hide: Hide) -> u64 {
        let was_visible = !matches!(self.visible(), Visible::Nothing);
        let objects = self.objects.iter_mut().filter(|object| object.layer == layer).map(|object| &mut object.hidden);
        let directories = self.directories.iter_mut().filter(|directory| directory.layer == layer);
        for hidden in objects.chain(directories.map(|directory| &mut directory.hidden)) {
            hidden.get_or_insert(hide);
        }
        u64::from(was_visible && matches!(self.visible(), Visible::Nothing))
    }
}
