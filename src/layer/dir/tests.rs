use super::*;
use crate::model::FileKind;
use crate::union::{EntryKind, Layer};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

struct Tree {
    dir: tempfile::TempDir,
    descriptors: Arc<Descriptors>,
}

impl Tree {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), descriptors: Arc::new(Descriptors::new(1024, 0)) }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn file(&self, below: &str, content: &str) {
        fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        fs::write(self.path(below), content).unwrap();
    }

    fn layer(&self) -> DirLayer {
        DirLayer::open(self.dir.path(), DirOptions::new(XattrPrefix::User), &self.descriptors).unwrap()
    }
}

fn set_xattr(path: &Path, name: &str, value: &str) {
    rustix::fs::lsetxattr(path, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
}

fn listing(layer: &DirLayer, dir: LocalIno) -> Vec<String> {
    let mut lines = Vec::new();
    layer
        .entries(dir, &mut |entry| {
            let name = entry.name.escape_ascii();
            // Whether a directory is opaque is told when somebody goes into it.
            let kind = match entry.kind {
                EntryKind::Node { kind: FileKind::Directory, opaque: false, .. } => {
                    layer.lookup(dir, &entry.name).unwrap().unwrap()
                }
                kind => kind,
            };
            lines.push(match kind {
                EntryKind::Whiteout => format!("{name} whiteout"),
                EntryKind::LinkBelow { .. } => format!("{name} link"),
                EntryKind::Node { kind: FileKind::Directory, opaque: true, .. } => format!("{name} opaque"),
                EntryKind::Node { kind, .. } => format!("{name} {kind:?}"),
            });
        })
        .unwrap();
    lines
}

fn child(layer: &DirLayer, dir: LocalIno, name: &str) -> LocalIno {
    match layer.lookup(dir, name.as_bytes()).unwrap() {
        Some(EntryKind::Node { ino, .. }) => ino,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn aufs_notation_is_understood() {
    let tree = Tree::new();
    for name in ["both", "kept", ".wh.gone", ".wh.both", ".wh..wh.plnk", "sub/.wh..wh..opq", "plain/x"] {
        tree.file(name, "");
    }
    fs::create_dir(tree.path("over")).unwrap();
    tree.file(".wh.over", "");
    let layer = tree.layer();
    let expected = ["both File", "gone whiteout", "kept File", "over opaque", "plain Directory", "sub opaque"];
    assert_eq!(listing(&layer, layer.root()), expected);
    for line in expected {
        let name = line.split(' ').next().unwrap().as_bytes();
        let listed = layer.list(layer.root()).unwrap().get(name).copied();
        match (layer.lookup(layer.root(), name).unwrap(), listed) {
            (
                Some(EntryKind::Node { ino, kind: FileKind::Directory, .. }),
                Some(EntryKind::Node { ino: listed, kind, .. }),
            ) => assert_eq!((listed, kind), (ino, FileKind::Directory), "{line}"),
            (found, listed) => assert_eq!(found, listed, "{line}"),
        }
    }
    assert_eq!(layer.lookup(layer.root(), b".wh.gone").unwrap(), None);
    assert_eq!(layer.lookup(layer.root(), b"nothing").unwrap(), None);
}

#[test]
fn overlay_notation_is_understood() {
    let tree = Tree::new();
    tree.file("marked/gone", "");
    tree.file("marked/empty", "");
    tree.file("marked/full", "text");
    set_xattr(&tree.path("marked"), "user.overlay.opaque", "x");
    set_xattr(&tree.path("marked/gone"), "user.overlay.whiteout", "");
    set_xattr(&tree.path("marked/full"), "user.overlay.whiteout", "");
    for (name, xattr) in [("kernel", "user.overlay.opaque"), ("fuse", "user.fuseoverlayfs.opaque")] {
        fs::create_dir(tree.path(name)).unwrap();
        set_xattr(&tree.path(name), xattr, "y");
    }
    let whiteout =
        rustix::fs::mknodat(rustix::fs::CWD, tree.path("dev"), rustix::fs::FileType::CharacterDevice, 0.into(), 0);
    let layer = tree.layer();
    let mut expected = vec!["fuse opaque", "kernel opaque", "marked Directory"];
    if whiteout.is_ok() {
        expected.insert(0, "dev whiteout");
    }
    assert_eq!(listing(&layer, layer.root()), expected);
    let marked = child(&layer, layer.root(), "marked");
    assert_eq!(listing(&layer, marked), ["empty File", "full File", "gone whiteout"]);
}

#[test]
fn one_prefix_counts() {
    let tree = Tree::new();
    fs::create_dir(tree.path("d")).unwrap();
    set_xattr(&tree.path("d"), "user.overlay.opaque", "y");
    set_xattr(&tree.path("d"), "user.fuseoverlayfs.opaque", "y");
    let options = DirOptions::new(XattrPrefix::Trusted);
    let layer = DirLayer::open(tree.dir.path(), options, &tree.descriptors).unwrap();
    assert_eq!(listing(&layer, layer.root()), ["d Directory"]);
}

#[test]
fn symlinks_are_never_followed() {
    let tree = Tree::new();
    let outside = Tree::new();
    outside.file("secret", "secret");
    symlink(outside.dir.path(), tree.path("out")).unwrap();
    symlink(outside.path("secret"), tree.path("file")).unwrap();
    let layer = tree.layer();
    let out = child(&layer, layer.root(), "out");
    assert_eq!(layer.meta(out).unwrap().kind, FileKind::Symlink);
    assert!(layer.lookup(out, b"secret").is_err());
    assert!(layer.list(out).is_err());
    let file = child(&layer, layer.root(), "file");
    assert!(layer.read_at(file, 0, &mut [0; 8]).is_err());
    assert_eq!(layer.read_link(file).unwrap().as_ref(), outside.path("secret").as_os_str().as_encoded_bytes());
}

#[test]
fn hard_links_have_one_number_and_content_is_read() {
    let tree = Tree::new();
    tree.file("a/b/c", "0123456789");
    fs::hard_link(tree.path("a/b/c"), tree.path("link")).unwrap();
    let layer = tree.layer();
    let link = child(&layer, layer.root(), "link");
    let a = child(&layer, layer.root(), "a");
    let b = child(&layer, a, "b");
    assert_eq!(child(&layer, b, "c"), link);
    assert_eq!(layer.meta(link).unwrap().nlink, 2);
    let mut buffer = [0; 20];
    assert_eq!(layer.read_at(link, 4, &mut buffer).unwrap(), 6);
    assert_eq!(&buffer[..6], b"456789");
    assert_eq!(layer.read_at(link, 10, &mut buffer).unwrap(), 0);
}

#[test]
fn override_stat_gives_owner_mode_and_type() {
    let tree = Tree::new();
    tree.file("null", "");
    tree.file("plain", "x");
    set_xattr(tree.dir.path(), "user.containers.override_stat", "0:0:0755");
    set_xattr(&tree.path("null"), "user.containers.override_stat", "0:5:0666:char-1-3");
    set_xattr(&tree.path("plain"), "user.containers.override_stat", "7:8:4711");
    let layer = tree.layer();
    assert_eq!(listing(&layer, layer.root()), ["null CharDevice", "plain File"]);
    let meta = layer.meta(child(&layer, layer.root(), "null")).unwrap();
    assert_eq!((meta.mode(), meta.gid, meta.device.to_rdev()), (libc::S_IFCHR | 0o666, 5, libc::makedev(1, 3)));
    let plain = child(&layer, layer.root(), "plain");
    let meta = layer.meta(plain).unwrap();
    assert_eq!((meta.uid, meta.gid, meta.permissions, meta.size), (7, 8, 0o4711, 1));
    let mut names = Vec::new();
    layer.xattr_names(plain, &mut |name| names.push(name.to_vec())).unwrap();
    assert!(names.iter().all(|name| !name.starts_with(b"user.containers")), "{names:?}");
}

#[test]
fn deep_trees_are_reached_with_few_descriptors() {
    let tree = Tree::new();
    let layer =
        DirLayer::open(tree.dir.path(), DirOptions::new(XattrPrefix::User), &Arc::new(Descriptors::new(0, 0))).unwrap();
    let name = "d".repeat(200);
    let mut fd = Arc::clone(layer.root_fd());
    for _ in 0..50 {
        rustix::fs::mkdirat(&fd, &*name, 0o755.into()).unwrap();
        fd = Arc::new(Object::new(&fd, name.as_bytes()).open(OFlags::PATH).unwrap());
    }
    let mut at = layer.root();
    let mut above = at;
    for _ in 0..50 {
        (above, at) = (at, child(&layer, at, &name));
    }
    assert_eq!(layer.meta(at).unwrap().kind, FileKind::Directory);
    assert!(listing(&layer, at).is_empty());
    let known = layer.places.lock().len();
    layer.forget(at, above, name.as_bytes());
    assert_eq!(layer.places.lock().len(), known - 1);
    assert!(layer.meta(at).is_err());
}

#[test]
fn users_attributes_are_escaped() {
    let tree = Tree::new();
    tree.file("f", "");
    set_xattr(&tree.path("f"), "user.overlay.origin", "own");
    set_xattr(&tree.path("f"), "user.overlay.overlay.opaque", "user's");
    set_xattr(&tree.path("f"), "user.other", "value");
    let layer = tree.layer();
    let file = child(&layer, layer.root(), "f");
    let mut names = Vec::new();
    layer.xattr_names(file, &mut |name| names.push(name.to_vec())).unwrap();
    names.retain(|name| name.starts_with(b"user."));
    names.sort();
    assert_eq!(names, [&b"user.other"[..], b"user.overlay.opaque"]);
    assert_eq!(layer.xattr(file, b"user.overlay.opaque").unwrap().as_deref(), Some(&b"user's"[..]));
    assert_eq!(layer.xattr(file, b"user.overlay.origin").unwrap(), None);
}
