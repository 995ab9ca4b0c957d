//! Layers shown differently: one layer's own diff as a plain tree, and whole trees below a name.

use super::{Entry, EntryKind, Layer, LayerResult, LocalIno, Marks, Totals};
use crate::model::{DeviceNumber, FileKind, Meta, Timestamp};
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Numbers that a view adds to those of its layer lie above those of any table of contents.
const FIRST_ADDED: u64 = (1 << 47) + (1 << 46);
/// All whiteouts of a layer are one object, as where the kernel makes them.
const WHITEOUT: LocalIno = LocalIno(FIRST_ADDED);
/// The root of a tree that hangs below a name.
const HANGER: LocalIno = LocalIno(FIRST_ADDED + 1);

/// What kernel overlayfs marks an opaque directory with.
const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// Forwards to the layer inside what a view does not change.
macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($argument: $kind),*) -> $result { self.inner.$name($($argument),*) })*
    };
}

/// One layer as kernel overlayfs would have it unpacked: whiteouts are character devices 0/0, opaque directories have an
/// extended attribute.
#[derive(Debug)]
pub struct DiffView {
    inner: Arc<dyn Layer>,
    /// Whether nothing of the layers below is seen.
    alone: bool,
}

/// Directories that are opaque are known by the entry that leads to them; their number says so too.
const OPAQUE_BIT: u64 = 1 << 45;

impl DiffView {
    /// The diff of `layer`.
    pub fn new(layer: Arc<dyn Layer>) -> Self {
        Self { inner: layer, alone: false }
    }

    /// The diff of `layer` above the layers below it, of which nothing is seen but the objects that it gives further names.
    pub fn alone(layer: Arc<dyn Layer>) -> Self {
        Self { inner: layer, alone: true }
    }

    fn shown(kind: EntryKind) -> EntryKind {
        match kind {
            EntryKind::Whiteout => {
                EntryKind::Node { ino: WHITEOUT, kind: FileKind::CharDevice, opaque: true, implied: false }
            }
            EntryKind::Node { ino, kind: FileKind::Directory, opaque: true, .. } => EntryKind::Node {
                ino: LocalIno(ino.0 | OPAQUE_BIT),
                kind: FileKind::Directory,
                opaque: true,
                implied: false,
            },
            other => other,
        }
    }

    fn is_opaque(&self, ino: LocalIno) -> LayerResult<bool> {
        Ok(ino.0 & OPAQUE_BIT != 0 || (ino == self.inner.root() && self.inner.root_is_opaque()?))
    }
}

fn plain(ino: LocalIno) -> LocalIno {
    LocalIno(ino.0 & !OPAQUE_BIT)
}

/// A character device 0/0.
fn whiteout_meta() -> Meta {
    added_meta(FileKind::CharDevice, 0)
}

fn added_meta(kind: FileKind, permissions: u16) -> Meta {
    let time = Timestamp::default();
    let (device, nlink) = (DeviceNumber::default(), 1);
    Meta { kind, permissions, uid: 0, gid: 0, nlink, device, size: 0, blocks: 0, atime: time, mtime: time, ctime: time }
}

impl Layer for DiffView {
    forward! {
        label() -> &str;
        root() -> LocalIno;
        totals() -> Totals;
        may_have_xattrs(prefix: &[u8]) -> bool;
        link_target(ino: LocalIno) -> LayerResult<Cow<'_, [u8]>>;
        has_links_below() -> bool;
        links_below(visit: &mut dyn FnMut(&[u8])) -> LayerResult<()>;
        read_link(ino: LocalIno) -> LayerResult<Cow<'_, [u8]>>;
        read_at(ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize>;
        backing_file(ino: LocalIno) -> LayerResult<Option<(Arc<OwnedFd>, u64)>>;
        seek(ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>>;
        forget(ino: LocalIno, dir: LocalIno, name: &[u8]) -> ();
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        Ok(self.alone)
    }

    fn entries(&self, directory: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        self.inner
            .entries(plain(directory), &mut |entry| visit(Entry { name: entry.name, kind: Self::shown(entry.kind) }))
    }

    fn lookup(&self, directory: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>> {
        Ok(self.inner.lookup(plain(directory), name)?.map(Self::shown))
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        if ino == WHITEOUT { Ok(whiteout_meta()) } else { self.inner.meta(plain(ino)) }
    }

    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        if ino == WHITEOUT {
            return Ok(None);
        }
        if name == OPAQUE.0 && self.is_opaque(ino)? {
            return Ok(Some(Cow::Borrowed(OPAQUE.1)));
        }
        self.inner.xattr(plain(ino), name)
    }

    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        if ino == WHITEOUT {
            return Ok(());
        }
        if self.is_opaque(ino)? {
            visit(OPAQUE.0);
        }
        self.inner.xattr_names(plain(ino), visit)
    }
}

/// A layer whose root hangs below a name, in a root that has nothing else.
#[derive(Debug)]
pub struct Hanging {
    inner: Arc<dyn Layer>,
    name: Vec<u8>,
    /// Below which name its links lead to objects of the layers below.
    links: Vec<u8>,
}

impl Hanging {
    /// `layer` at `/name`.
    pub fn new(layer: Arc<dyn Layer>, name: &str) -> Self {
        Self::linking(layer, name, name)
    }

    /// `layer` at `/name`, with its links to the layers below leading to what is at `/links`.
    pub fn linking(layer: Arc<dyn Layer>, name: &str, links: &str) -> Self {
        Self { inner: layer, name: name.as_bytes().to_vec(), links: links.as_bytes().to_vec() }
    }

    fn hung(&self) -> LayerResult<EntryKind> {
        let (ino, opaque, implied) = (self.inner.root(), self.inner.root_is_opaque()?, self.inner.root_is_implied());
        Ok(EntryKind::Node { ino, kind: FileKind::Directory, opaque, implied })
    }
}

impl Layer for Hanging {
    forward! {
        label() -> &str;
        totals() -> Totals;
        has_links_below() -> bool;
        may_have_xattrs(prefix: &[u8]) -> bool;
        read_link(ino: LocalIno) -> LayerResult<Cow<'_, [u8]>>;
        read_at(ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize>;
        backing_file(ino: LocalIno) -> LayerResult<Option<(Arc<OwnedFd>, u64)>>;
        seek(ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>>;
        keeps_marks() -> bool;
        marks(ino: LocalIno) -> LayerResult<Marks>;
        forget(ino: LocalIno, dir: LocalIno, name: &[u8]) -> ();
    }

    fn root(&self) -> LocalIno {
        HANGER
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        Ok(false)
    }

    fn entries(&self, directory: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        if directory != HANGER {
            return self.inner.entries(directory, visit);
        }
        visit(Entry { name: Cow::Borrowed(&self.name), kind: self.hung()? });
        Ok(())
    }

    fn lookup(&self, directory: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>> {
        if directory != HANGER {
            return self.inner.lookup(directory, name);
        }
        (name == self.name).then(|| self.hung()).transpose()
    }

    fn links_below(&self, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        self.inner.links_below(&mut |path| visit(&[&self.name, &b"/"[..], path].concat()))
    }

    fn link_target(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        let target = self.inner.link_target(ino)?;
        Ok(Cow::Owned([&self.links, &b"/"[..], &target].concat()))
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        if ino == HANGER { Ok(added_meta(FileKind::Directory, 0o755)) } else { self.inner.meta(ino) }
    }

    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        if ino == HANGER { Ok(None) } else { self.inner.xattr(ino, name) }
    }

    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        if ino == HANGER { Ok(()) } else { self.inner.xattr_names(ino, visit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::{Follow, MemLayer, Node, Stack};

    fn layer(text: &str) -> Arc<dyn Layer> {
        Arc::new(MemLayer::parse("layer", text).unwrap())
    }

    fn resolve(stack: &Stack, path: &str) -> Option<Node> {
        stack.resolve(&crate::model::RelPath::parse(path.as_bytes()).unwrap()).unwrap()
    }

    fn meta(stack: &Stack, path: &str) -> Meta {
        let source = match resolve(stack, path).unwrap() {
            Node::Directory(directory) => directory.metadata,
            Node::Other { source, .. } => source,
        };
        stack.layer(source.layer).unwrap().meta(source.ino).unwrap()
    }

    #[test]
    fn a_diff_shows_what_it_hides() {
        let view: Arc<dyn Layer> = Arc::new(DiffView::new(layer("whiteout a\nopaque d\nfile d/b 644 x\nfile c 1")));
        let stack = Stack::new(vec![Arc::clone(&view)], None, Follow::default()).unwrap();
        let whiteout = meta(&stack, "a");
        assert_eq!((whiteout.kind, whiteout.device), (FileKind::CharDevice, DeviceNumber::default()));
        let Some(Node::Directory(directory)) = resolve(&stack, "d") else { panic!("a directory") };
        let ino = directory.metadata.ino;
        assert_eq!(view.xattr(ino, b"trusted.overlay.opaque").unwrap().as_deref(), Some(&b"y"[..]));
        assert_eq!(meta(&stack, "d/b").size, 1);
        assert_eq!(meta(&stack, "c").size, 1);
    }

    #[test]
    fn regression_a_diff_alone_shows_links_to_what_is_below() {
        let layers = [layer("dir d\nfile d/a one\nfile c 1"), layer("whiteout d\nlink e d/a\nlink f nothing")];
        let diff: Arc<dyn Layer> = Arc::new(DiffView::alone(Arc::clone(&layers[1])));
        let stack = Stack::new(vec![Arc::clone(&layers[0]), diff], None, Follow::default()).unwrap();
        assert_eq!(meta(&stack, "e").size, 3);
        assert_eq!(meta(&stack, "d").kind, FileKind::CharDevice);
        assert!(resolve(&stack, "c").is_none() && resolve(&stack, "f").is_none());
        let Some(Node::Other { source, .. }) = resolve(&stack, "e") else { panic!("a file") };
        assert_eq!(stack.links(source, 1), 2);
    }

    #[test]
    fn trees_hang_below_names() {
        let layers = [layer("dir d 700\nfile d/a one"), layer("file d/b 2\nlink e d/a")];
        let hang = |layer: &Arc<dyn Layer>, name| -> Arc<dyn Layer> { Arc::new(Hanging::new(Arc::clone(layer), name)) };
        let diff: Arc<dyn Layer> = Arc::new(DiffView::new(Arc::clone(&layers[1])));
        let diff: Arc<dyn Layer> = Arc::new(Hanging::linking(diff, "1", "merged"));
        let all = vec![hang(&layers[0], "merged"), diff, hang(&layers[1], "merged")];
        let stack = Stack::new(all, None, Follow::default()).unwrap();
        assert_eq!(meta(&stack, "merged/d").permissions, 0o700);
        assert_eq!(meta(&stack, "merged/e").size, 3);
        assert!(resolve(&stack, "merged/d/b").is_some());
        assert!(resolve(&stack, "1/d/b").is_some());
        assert!(resolve(&stack, "1/d/a").is_none());
        assert_eq!(meta(&stack, "1/e").size, 3);
        assert_eq!(stack.list(&stack.root().sources).unwrap().len(), 2);
    }
}
