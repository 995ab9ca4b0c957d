use super::*;
use crate::model::FileKind;
use crate::sys::Creator;
use crate::union::mutation::Move;
use crate::union::{EntryKind, MemLayer};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

struct Scene {
    dir: tempfile::TempDir,
    upper: Upper,
}

fn creator() -> Creator {
    Creator { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), umask: 0o022 }
}

fn prefix() -> XattrPrefix {
    if rustix::process::geteuid().is_root() { XattrPrefix::Trusted } else { XattrPrefix::User }
}

impl Scene {
    fn new(ownership: Ownership) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("upper")).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let upper = Self::mount(dir.path(), ownership);
        Self { dir, upper }
    }

    fn mount(dir: &Path, ownership: Ownership) -> Upper {
        let prefix = if ownership == Ownership::Override { XattrPrefix::User } else { prefix() };
        let options = UpperOptions { prefix, ownership, owners: Owners::default(), volatile: false };
        let descriptors = Arc::new(Descriptors::new(1024, 1));
        Upper::open(&dir.join("upper"), &dir.join("work"), options, &descriptors).unwrap()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("upper").join(below)
    }

    fn at<'a>(&self, name: &'a str) -> Place<'a> {
        Place { dir: self.upper.root(), name: name.as_bytes() }
    }

    fn create(&self, name: &str, kind: NewKind<'_>, over: Over) -> LocalIno {
        let new = NewObject { kind, permissions: 0o777, creator: creator() };
        self.upper.create(self.at(name), &new, over).unwrap().ino
    }

    fn stage(&self) -> usize {
        crate::layer::staging::names(self.upper.staging.stage()).unwrap().len()
    }
}

#[test]
fn objects_are_made_in_place_and_over_whiteouts() {
    let scene = Scene::new(Ownership::Real);
    scene.create("file", NewKind::File, Over::Nothing);
    assert_eq!(fs::metadata(scene.path("file")).unwrap().mode() & 0o7777, 0o755);
    for (name, kind) in [("f", NewKind::File), ("d", NewKind::Directory), ("l", NewKind::Symlink(b"to"))] {
        scene.upper.whiteout(scene.at(name)).unwrap();
        assert!(fs::symlink_metadata(scene.path(name)).unwrap().file_type().is_char_device());
        scene.create(name, kind, Over::Whiteout { opaque: kind == NewKind::Directory });
    }
    let root = scene.upper.root();
    let opaque = scene.upper.tree().lookup(root, b"d").unwrap();
    assert!(matches!(opaque, Some(EntryKind::Node { kind: FileKind::Directory, opaque: true, .. })), "{opaque:?}");
    assert_eq!(fs::read_link(scene.path("l")).unwrap(), Path::new("to"));
    assert_eq!(scene.stage(), 0);
}

#[test]
fn what_is_unlinked_lives_until_it_is_released() {
    let scene = Scene::new(Ownership::Real);
    let ino = scene.create("file", NewKind::File, Over::Nothing);
    scene.upper.write(ino, 0, b"content").unwrap();
    scene.upper.detach(ino, scene.at("file"), true).unwrap();
    assert!(fs::symlink_metadata(scene.path("file")).unwrap().file_type().is_char_device());
    assert_eq!(scene.upper.hidden_links(ino), 1);
    scene.upper.tree().close(ino);
    let mut buffer = [0; 16];
    assert_eq!(scene.upper.tree().read_at(ino, 0, &mut buffer).unwrap(), 7);
    assert_eq!(scene.stage(), 1);
    scene.upper.release(ino).unwrap();
    assert_eq!(scene.stage(), 0);
    assert!(scene.upper.tree().meta(ino).is_err());
}

#[test]
fn a_further_name_spares_the_stage() {
    let scene = Scene::new(Ownership::Real);
    let ino = scene.create("a", NewKind::File, Over::Nothing);
    scene.upper.link(ino, scene.at("b"), Over::Nothing).unwrap();
    scene.upper.detach(ino, scene.at("a"), false).unwrap();
    assert_eq!(scene.stage(), 0);
    assert_eq!(scene.upper.tree().meta(ino).unwrap().nlink, 1);
    let other = scene.create("c", NewKind::File, Over::Nothing);
    scene.upper.keep_aside(other, scene.at("c")).unwrap();
    scene.upper.rename(ino, scene.at("b"), scene.at("c"), Move::Replace, Some(other)).unwrap();
    assert!(scene.upper.tree().meta(other).is_ok());
    assert_eq!(fs::metadata(scene.path("c")).unwrap().ino(), ino.0);
    scene.upper.release(other).unwrap();
    assert_eq!(scene.stage(), 0);
}

#[test]
fn copies_are_complete_and_keep_their_number() {
    let scene = Scene::new(Ownership::Real);
    let own = creator();
    let text = format!("file file 4711 {}:{} hello\nxattr file user.key value", own.uid, own.gid);
    let lower = MemLayer::parse("lower", &text).unwrap();
    let Some(EntryKind::Node { ino: local, .. }) = lower.lookup(lower.root(), b"file").unwrap() else { panic!() };
    let meta = lower.meta(local).unwrap();
    let copied = Copied { layer: &lower, local, data: (&lower, local), meta: &meta, ino: Ino(1 << 48 | 7) };
    let staged = scene.upper.stage(&copied, Content::First(meta.size)).unwrap();
    scene.upper.publish(&staged, Some(scene.at("file")), Some(copied.ino)).unwrap();
    let copy = staged.local;
    let copied_meta = scene.upper.tree().meta(copy).unwrap();
    assert_eq!(
        (copied_meta.size, copied_meta.mtime, copied_meta.permissions),
        (meta.size, meta.mtime, meta.permissions)
    );
    assert_eq!(fs::read(scene.path("file")).unwrap(), b"hello");
    assert_eq!(scene.upper.tree().xattr(copy, b"user.key").unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(scene.upper.recorded_ino(copy).unwrap(), Some(Ino(1 << 48 | 7)));
    assert!(scene.upper.is_impure(scene.upper.root()).unwrap());
    let Scene { dir, upper } = scene;
    drop(upper);
    let again = Scene::mount(dir.path(), Ownership::Real);
    assert_eq!(again.indexed(), [(Ino(1 << 48 | 7), copy)]);
}

#[test]
fn a_plain_user_keeps_owners_in_attributes() {
    let scene = Scene::new(Ownership::Override);
    let creator = Creator { uid: 12, gid: 34, umask: 0o027 };
    let device = crate::model::DeviceNumber { major: 1, minor: 3 };
    let kinds = [
        ("file", NewKind::File, FileKind::File),
        ("link", NewKind::Symlink(b"x"), FileKind::Symlink),
        ("dir", NewKind::Directory, FileKind::Directory),
        ("null", NewKind::Special(FileKind::CharDevice, device), FileKind::CharDevice),
    ];
    for (name, kind, shown) in kinds {
        let new = NewObject { kind, permissions: 0o777, creator };
        let ino = scene.upper.create(scene.at(name), &new, Over::Nothing).unwrap().ino;
        let changes = Changes { uid: Some(56), ..Changes::default() };
        scene.upper.set_attributes(ino, shown, &changes).unwrap();
        let meta = scene.upper.tree().meta(ino).unwrap();
        assert_eq!((meta.kind, meta.uid, meta.gid, meta.permissions), (shown, 56, 34, 0o750), "{name}");
    }
    let Scene { dir, upper } = scene;
    drop(upper);
    let again = Scene::mount(dir.path(), Ownership::Override);
    let Some(EntryKind::Node { ino, .. }) = again.tree().lookup(again.root(), b"link").unwrap() else { panic!() };
    assert_eq!(again.tree().meta(ino).unwrap().uid, 56);
}

#[test]
fn whiteouts_share_an_inode_and_replace_it_when_it_is_gone() {
    let scene = Scene::new(Ownership::Real);
    scene.upper.whiteout(scene.at("a")).unwrap();
    scene.upper.whiteout(scene.at("b")).unwrap();
    let inode = |name: &str| fs::symlink_metadata(scene.path(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    assert!(fs::symlink_metadata(scene.path("a")).unwrap().file_type().is_char_device());
    let error = scene.upper.whiteout(scene.at("b")).unwrap_err();
    assert!(error.to_string().contains("File exists"), "{error}");
    fs::remove_file(scene.dir.path().join("work/layerfs/whiteout")).unwrap();
    scene.upper.whiteout(scene.at("c")).unwrap();
    scene.upper.whiteout(scene.at("d")).unwrap();
    assert_ne!(inode("c"), inode("a"));
    assert_eq!(inode("c"), inode("d"));
}

#[test]
fn the_next_mount_goes_on_with_the_same_whiteout_and_with_no_other_file() {
    let scene = Scene::new(Ownership::Real);
    scene.upper.whiteout(scene.at("a")).unwrap();
    let Scene { dir, upper } = scene;
    drop(upper);
    let upper = Scene::mount(dir.path(), Ownership::Real);
    upper.whiteout(Place { dir: upper.root(), name: b"b" }).unwrap();
    let shared = dir.path().join("work/layerfs/whiteout");
    let inode = |path: PathBuf| fs::symlink_metadata(path).unwrap().ino();
    assert_eq!(inode(dir.path().join("upper/b")), inode(dir.path().join("upper/a")));
    drop(upper);
    fs::remove_file(&shared).unwrap();
    fs::write(&shared, "no whiteout").unwrap();
    let upper = Scene::mount(dir.path(), Ownership::Real);
    upper.whiteout(Place { dir: upper.root(), name: b"c" }).unwrap();
    assert!(fs::symlink_metadata(dir.path().join("upper/c")).unwrap().file_type().is_char_device());
}
