//! A stack of layers and what it shows: resolution of names, merged listings.

use super::links::{self, Links};
use super::listing::ListingBuilder;
use super::redirect::Redirect;
use super::{EntryKind, Ino, Layer, LayerError, LayerIndex, LayerResult, Listing, LocalIno, Refusal, Source, graft};
use crate::model::{FileKind, RelPath};
use std::sync::{Arc, OnceLock};

/// The most lower layers of a stack, as in the kernel (`OVL_MAX_STACK`, fs/overlayfs/params.h).
pub const MAX_LOWERS: usize = 500;

/// How many symlinks [`Stack::resolve_following`] follows, as the kernel does (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// Which of overlay's records on objects are followed; an object that has a record that is not is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// `overlay.redirect` on directories.
    pub redirects: bool,
    /// `overlay.metacopy` on files.
    pub metacopy: bool,
}

impl Default for Follow {
    fn default() -> Self {
        Self { redirects: true, metacopy: true }
    }
}

/// A merged directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The directories of layers that make it up, topmost first, never empty, cut where lower layers do not show through.
    pub sources: Box<[Source]>,
    /// The one whose metadata it has: the topmost that is not implied.
    pub metadata: Source,
}

/// What a path of a stack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory(Directory),
    /// Anything else.
    Other {
        /// The object.
        source: Source,
        /// Its type.
        kind: FileKind,
        /// Where its data lie when they do not lie in `source` (a metadata-only copy).
        data: Option<Source>,
    },
}

impl Node {
    /// The object's number, unless it is the root.
    pub fn ino(&self) -> Option<Ino> {
        match self {
            Self::Directory(directory) => directory.sources.first().map(|first| Ino::of(*first)),
            Self::Other { source, .. } => Some(Ino::of(*source)),
        }
    }

    /// The type.
    pub fn kind(&self) -> FileKind {
        match self {
            Self::Directory(_) => FileKind::Directory,
            Self::Other { kind, .. } => *kind,
        }
    }
}

/// Why layers make no stack.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No layer at all.
    #[error("no layers")]
    Empty,
    /// More than [`MAX_LOWERS`].
    #[error("{0} layers are more than the {MAX_LOWERS} that one mount can have")]
    TooMany(usize),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Layers on top of each other. Immutable: what changes above it is the business of whoever changes it.
#[derive(Debug)]
pub struct Stack {
    lowers: Vec<Arc<dyn Layer>>,
    upper: Option<Arc<dyn Layer>>,
    root: Directory,
    follow: Follow,
    /// Names that layers add to objects of others; found out when they are first asked for.
    links: OnceLock<Links>,
}

impl Stack {
    /// The stack of `lowers`, bottom layer first, and an optional writable layer on top.
    pub fn new(lowers: Vec<Arc<dyn Layer>>, upper: Option<Arc<dyn Layer>>, follow: Follow) -> Result<Self, StackError> {
        if lowers.is_empty() && upper.is_none() {
            return Err(StackError::Empty);
        }
        if lowers.len() > MAX_LOWERS {
            return Err(StackError::TooMany(lowers.len()));
        }
        let nowhere = Source { layer: LayerIndex::UPPER, ino: LocalIno(0) };
        let root = Directory { sources: Box::default(), metadata: nowhere };
        let lowers_made = Vec::with_capacity(lowers.len());
        let mut stack = Self { lowers: lowers_made, upper: None, root, follow, links: OnceLock::new() };
        for layer in lowers {
            let layer = graft::onto(&stack, layer)?;
            stack.lowers.push(layer);
            stack.root = stack.root_directory()?;
        }
        match upper {
            Some(upper) => Ok(stack.with_upper(upper)?),
            None => Ok(stack),
        }
    }

    /// The same lower layers with `upper` on top. Costs less than [`Self::new`], which has to look where implied directories of
    /// each layer belong.
    pub fn with_upper(&self, upper: Arc<dyn Layer>) -> LayerResult<Self> {
        let (lowers, root) = (self.lowers.clone(), self.root.clone());
        let mut stack = Self { lowers, upper: Some(upper), root, follow: self.follow, links: OnceLock::new() };
        stack.root = stack.root_directory()?;
        Ok(stack)
    }

    fn root_directory(&self) -> LayerResult<Directory> {
        let lowers = self.lowers.iter().enumerate().filter_map(|(at, layer)| Some((LayerIndex::lower(at)?, layer)));
        let upper = self.upper.iter().map(|layer| (LayerIndex::UPPER, layer));
        let (mut sources, mut metadata, mut opaque) = (Vec::new(), None, false);
        for (index, layer) in lowers.chain(upper).rev() {
            let source = Source { layer: index, ino: layer.root() };
            if !opaque {
                sources.push(source);
            }
            if metadata.is_none() && !layer.root_is_implied() {
                metadata = Some(source);
            }
            opaque = opaque || layer.root_is_opaque()?;
        }
        let metadata = metadata.or(sources.first().copied()).unwrap_or(self.root.metadata);
        Ok(Directory { sources: sources.into_boxed_slice(), metadata })
    }

    /// The root directory.
    pub fn root(&self) -> &Directory {
        &self.root
    }

    /// The lower layers, bottom layer first.
    pub fn lowers(&self) -> &[Arc<dyn Layer>] {
        &self.lowers
    }

    /// The names of the object `source`, which is no directory and of which its own layer counts `counted`: hard links of other
    /// layers are added.
    pub fn links(&self, source: Source, counted: u32) -> u32 {
        if source.layer == LayerIndex::UPPER || !self.lowers.iter().any(|layer| layer.has_links_below()) {
            return counted;
        }
        let links = self.links.get_or_init(|| links::count(self));
        links.get(&source).map_or(counted, |added| counted.saturating_add(*added))
    }

    /// What `path` is in the lower layers.
    pub(super) fn resolve_in_lowers(&self, path: &RelPath) -> LayerResult<Option<Node>> {
        self.resolve_from(self.root_below(LayerIndex::UPPER), path)
    }

    /// Whether any object may have an extended attribute whose name begins with `prefix`.
    pub fn may_have_xattrs(&self, prefix: &[u8]) -> bool {
        self.lowers.iter().chain(&self.upper).any(|layer| layer.may_have_xattrs(prefix))
    }

    /// The layer at `index`.
    pub fn layer(&self, index: LayerIndex) -> LayerResult<&dyn Layer> {
        let layer = match index.as_lower() {
            Some(lower) => self.lowers.get(lower),
            None => self.upper.as_ref(),
        };
        layer
            .map(|layer| &**layer)
            .ok_or_else(|| no_such_inode("(none)", LocalIno(Ino::of(Source { layer: index, ino: LocalIno(0) }).0)))
    }

    /// What `name` in the directory made of `parent` is.
    pub fn child(&self, parent: &[Source], name: &[u8]) -> LayerResult<Option<Node>> {
        let mut found = Gathered::default();
        for (at, above) in parent.iter().enumerate() {
            let layer = self.layer(above.layer)?;
            let below = parent.get(at + 1..).unwrap_or_default();
            let (ino, kind, opaque, implied) = match layer.lookup(above.ino, name)? {
                None => continue,
                Some(EntryKind::LinkBelow { ino }) if found.is_empty() => return self.linked(layer, above.layer, ino),
                Some(EntryKind::Whiteout | EntryKind::LinkBelow { .. }) => break,
                Some(EntryKind::Node { ino, kind, opaque, implied }) => (ino, kind, opaque, implied),
            };
            let source = Source { layer: above.layer, ino };
            if kind != FileKind::Directory {
                if found.is_empty() {
                    let data = self.data_below(layer, source, kind, below, name)?;
                    return Ok(Some(Node::Other { source, kind, data }));
                }
                break;
            }
            found.push(source, implied);
            let target = if opaque || self.is_lowest(source.layer, below) { None } else { redirect(layer, ino)? };
            let rest = match target {
                Some(target) => self.redirected(source.layer, below, &target)?,
                None if !opaque => continue,
                None if found.metadata.is_none() => self.child(below, name)?,
                None => None,
            };
            found.finish(rest, opaque);
            break;
        }
        Ok(found.into_node())
    }

    /// The merged names of the directory made of `sources`.
    pub fn list(&self, sources: &[Source]) -> LayerResult<Listing> {
        let mut builder = ListingBuilder::default();
        for source in sources {
            let layer = self.layer(source.layer)?;
            let mut fits = true;
            let mut failed = None;
            builder.begin_source();
            layer.entries(source.ino, &mut |entry| {
                let node = match entry.kind {
                    EntryKind::Whiteout => None,
                    EntryKind::LinkBelow { ino } => match self.linked(layer, source.layer, ino) {
                        Ok(node) => node.and_then(|node| Some((node.ino()?, node.kind()))),
                        Err(error) => {
                            failed = Some(error);
                            None
                        }
                    },
                    EntryKind::Node { ino, kind, .. } => Some((Ino::of(Source { layer: source.layer, ino }), kind)),
                };
                fits &= builder.push(&entry.name, node);
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            if !fits {
                let detail = "a directory with a name over 255 bytes, or over 4 GiB of names".to_owned();
                return Err(LayerError::Damaged { layer: layer.label().to_owned(), detail });
            }
        }
        Ok(builder.finish())
    }

    /// What `path` is; symlinks on the way are not followed.
    pub fn resolve(&self, path: &RelPath) -> LayerResult<Option<Node>> {
        self.resolve_from(&self.root.sources, path)
    }

    fn resolve_from(&self, root: &[Source], path: &RelPath) -> LayerResult<Option<Node>> {
        let Some((last, parents)) = path.names().split_last() else {
            let metadata =
                if root.len() == self.root.sources.len() { Some(self.root.metadata) } else { root.first().copied() };
            return Ok(metadata.map(|metadata| Node::Directory(Directory { sources: root.into(), metadata })));
        };
        let mut sources: Box<[Source]> = root.into();
        for name in parents {
            match self.child(&sources, name)? {
                Some(Node::Directory(directory)) => sources = directory.sources,
                _ => return Ok(None),
            }
        }
        self.child(&sources, last)
    }

    /// What `path` is, symlinks followed inside the root (`..` never leaves it), the last component's only when `follow_last`.
    pub fn resolve_following(&self, path: &[u8], follow_last: bool) -> LayerResult<Option<Node>> {
        self.resolve_following_from(&self.root.sources, path, follow_last)
    }

    fn resolve_following_from(&self, root: &[Source], path: &[u8], follow_last: bool) -> LayerResult<Option<Node>> {
        let mut walk = Walk::new(path);
        while let Some(component) = walk.next_component() {
            let Some(Node::Directory(parent)) = self.resolve_from(root, &walk.real_path())? else { return Ok(None) };
            let child = self.child(&parent.sources, &component)?;
            let last = walk.is_done();
            match child {
                Some(Node::Other { source, kind: FileKind::Symlink, .. }) if follow_last || !last => {
                    let target = self.layer(source.layer)?.read_link(source.ino)?;
                    if !walk.follow(&target) {
                        return Ok(None);
                    }
                }
                other if last => return Ok(other),
                Some(Node::Directory(_)) => walk.enter(component),
                _ => return Ok(None),
            }
        }
        self.resolve_from(root, &walk.real_path())
    }

    /// The path without symlinks on the way: each parent's is followed inside the root, the last component's is not, and need not
    /// be there. None where a parent is missing or no directory.
    pub fn real_path(&self, path: &RelPath) -> LayerResult<Option<RelPath>> {
        let mut walk = Walk::new(&path.to_bytes());
        while let Some(component) = walk.next_component() {
            if walk.is_done() {
                walk.enter(component);
                break;
            }
            let Some(Node::Directory(parent)) = self.resolve(&walk.real_path())? else { return Ok(None) };
            match self.child(&parent.sources, &component)? {
                Some(Node::Directory(_)) => walk.enter(component),
                Some(Node::Other { source, kind: FileKind::Symlink, .. }) => {
                    if !walk.follow(&self.layer(source.layer)?.read_link(source.ino)?) {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(walk.real_path()))
    }

    /// The roots of the layers below `layer`.
    fn root_below(&self, layer: LayerIndex) -> &[Source] {
        let sources = &self.root.sources;
        let from = sources.iter().position(|root| root.layer < layer).unwrap_or(sources.len());
        sources.get(from..).unwrap_or_default()
    }

    /// The roots of the layers below `layer`, whose own root is opaque.
    fn covered_root(&self, layer: LayerIndex) -> LayerResult<Vec<Source>> {
        let lowers = self.lowers.iter().enumerate().filter_map(|(at, layer)| Some((LayerIndex::lower(at)?, layer)));
        let mut sources = Vec::new();
        for (index, below) in lowers.rev().filter(|(index, _)| *index < layer) {
            sources.push(Source { layer: index, ino: below.root() });
            if below.root_is_opaque()? {
                break;
            }
        }
        Ok(sources)
    }

    /// The object that the link `ino` of `layer` names in the layers below; none where that is missing or a directory.
    fn linked(&self, layer: &dyn Layer, index: LayerIndex, ino: LocalIno) -> LayerResult<Option<Node>> {
        let target = layer.link_target(ino)?;
        // An opaque root takes everything from the tree, but not from links, as any opaque directory.
        let node = match self.root_below(index) {
            [] => self.resolve_following_from(&self.covered_root(index)?, &target, false)?,
            root => self.resolve_following_from(root, &target, false)?,
        };
        Ok(node.filter(|node| !node.kind().is_directory()))
    }

    /// Whether nothing can lie below an object of `layer` in a directory that has `below` underneath: its records are not looked at, as in
    /// the kernel (`d.last` of `ovl_lookup` in fs/overlayfs/namei.c). A redirect may lead out of the directory.
    fn is_lowest(&self, layer: LayerIndex, below: &[Source]) -> bool {
        if self.follow.redirects { layer.as_lower() == Some(0) } else { below.is_empty() }
    }

    /// What stands at `target` below `layer`: an absolute path from the root, or a name beside the redirected object.
    fn redirected(&self, layer: LayerIndex, below: &[Source], target: &[u8]) -> LayerResult<Option<Node>> {
        let refused = |detail, refusal| Err(not_followed(self.layer(layer)?, detail, refusal));
        match Redirect::parse(target) {
            Err(refusal) => refused("a redirect that is neither a name nor an absolute path", refusal),
            Ok(_) if !self.follow.redirects => {
                refused("a redirected object, and redirects are not followed", Refusal::Forbidden)
            }
            Ok(Redirect::Beside(name)) => self.child(below, name),
            Ok(Redirect::At(path)) => self.resolve_from(self.root_below(layer), &path),
        }
    }

    /// Where the data of the file `source` lie when it is a metadata-only copy. `below` are the sources of its
    /// directory under its own layer.
    fn data_below(
        &self,
        layer: &dyn Layer,
        source: Source,
        kind: FileKind,
        below: &[Source],
        name: &[u8],
    ) -> LayerResult<Option<Source>> {
        if kind != FileKind::File || !layer.keeps_marks() {
            return Ok(None);
        }
        let marks = layer.marks(source.ino)?;
        if !marks.metacopy {
            return Ok(None);
        }
        if !self.follow.metacopy {
            return Err(not_followed(layer, "a metadata-only copy, and metacopy is off", Refusal::Forbidden));
        }
        let original = match &marks.redirect {
            Some(target) => self.redirected(source.layer, below, target)?,
            None => self.child(below, name)?,
        };
        match original {
            Some(Node::Other { source, kind: FileKind::File, data }) => Ok(Some(data.unwrap_or(source))),
            _ => Err(refused(layer, "a metadata-only copy whose data no lower layer has")),
        }
    }
}

/// The directories found under one name so far, topmost first.
#[derive(Debug, Default)]
struct Gathered {
    sources: Vec<Source>,
    metadata: Option<Source>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn push(&mut self, source: Source, implied: bool) {
        self.sources.push(source);
        if self.metadata.is_none() && !implied {
            self.metadata = Some(source);
        }
    }

    /// Adds what the layers below have, of an opaque directory only the metadata.
    fn finish(&mut self, rest: Option<Node>, opaque: bool) {
        let Some(Node::Directory(rest)) = rest else { return };
        self.metadata = self.metadata.or(Some(rest.metadata));
        if !opaque {
            self.sources.extend(rest.sources);
        }
    }

    fn into_node(self) -> Option<Node> {
        let metadata = self.metadata.or(self.sources.first().copied())?;
        Some(Node::Directory(Directory { sources: self.sources.into_boxed_slice(), metadata }))
    }
}

fn no_such_inode(layer: &str, ino: LocalIno) -> LayerError {
    LayerError::NoSuchInode { layer: layer.to_owned(), ino: ino.0 }
}

fn refused(layer: &dyn Layer, detail: &str) -> LayerError {
    LayerError::Damaged { layer: layer.label().to_owned(), detail: detail.to_owned() }
}

/// Where the layers below have the directory `ino`, when they have it elsewhere.
fn redirect(layer: &dyn Layer, ino: LocalIno) -> LayerResult<Option<Vec<u8>>> {
    Ok(if layer.keeps_marks() { layer.marks(ino)?.redirect } else { None })
}

fn not_followed(layer: &dyn Layer, detail: &'static str, refusal: Refusal) -> LayerError {
    LayerError::Refused { layer: layer.label().to_owned(), detail, refusal }
}

/// A walk along a path that may lead through symlinks: what is still to be walked, last component first, and the
/// directories entered, none of them a symlink.
pub(super) struct Walk {
    rest: Vec<Vec<u8>>,
    pub(super) real: Vec<Vec<u8>>,
    symlinks: usize,
}

impl Walk {
    pub(super) fn new(path: &[u8]) -> Self {
        let mut walk = Self { rest: Vec::new(), real: Vec::new(), symlinks: 0 };
        walk.prepend(path);
        walk
    }

    fn prepend(&mut self, path: &[u8]) {
        let components = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        self.rest.extend(components.rev().map(<[u8]>::to_vec));
    }

    /// The next component that is no `..`; these are walked here.
    pub(super) fn next_component(&mut self) -> Option<Vec<u8>> {
        loop {
            let component = self.rest.pop()?;
            if component != b".." {
                return Some(component);
            }
            self.real.pop();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn enter(&mut self, component: Vec<u8>) {
        self.real.push(component);
    }

    /// Goes on at `target` instead of the symlink just met; false when these have been too many.
    pub(super) fn follow(&mut self, target: &[u8]) -> bool {
        self.symlinks += 1;
        if target.starts_with(b"/") {
            self.real.clear();
        }
        self.prepend(target);
        self.symlinks <= MAX_SYMLINKS
    }

    pub(super) fn real_path(&self) -> RelPath {
        self.real.iter().filter_map(|name| crate::model::Name::new(name).ok()).collect()
    }
}
