//! The rules of a writable union that the oracle does not reach: identity, descriptors, notation, options, ends.

mod beside;
mod copied;
mod inside;
mod large;
mod limits;
mod links;
mod options;
mod records;
mod stacked;
mod waiting;

use crate::support::tree::{self, Notation};
use crate::support::{Manifest, Need, Rules, Scene, Who};
use layerfs::mount::{ControlRequest, ControlResponse, Registry, ask};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A mount over lower layers given as text, bottom layer first.
struct Overlay<'a> {
    scene: &'a Scene,
    options: String,
    at: PathBuf,
}

impl<'a> Overlay<'a> {
    fn new(scene: &'a Scene, layers: &[&str], options: &str) -> Self {
        let mut lowers = Vec::new();
        for (index, text) in layers.iter().enumerate() {
            let path = scene.dir(format!("lower{index}"));
            tree::to_directory(&tree::parse(text), &path, Notation::Trusted);
            lowers.insert(0, path.display().to_string());
        }
        let at = |part: &str| scene.dir(part).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}{options}", lowers.join(":"), at("upper"), at("work"));
        let overlay = Self { scene, options, at: scene.dir("mnt") };
        overlay.mount();
        overlay
    }

    fn mount(&self) {
        self.scene.layerfs(["overlay", "-o", &self.options]).arg(&self.at).ok();
    }

    fn unmount(&self) {
        self.scene.layerfs(["umount"]).arg(&self.at).ok();
    }

    fn remount(&self) {
        self.unmount();
        self.mount();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    /// How many requests of each kind the server has answered.
    fn requests(&self) -> BTreeMap<String, u64> {
        let registry = Registry::open().expect("a registry");
        let record = registry.find(&self.at).expect("the records").expect("the mount's record");
        match ask(&registry, &record, &ControlRequest::Stats).expect("an answer") {
            (ControlResponse::Stats(counts), _) => counts,
            (other, _) => panic!("{other:?}"),
        }
    }
}

fn ino(path: impl AsRef<Path>) -> u64 {
    fs::symlink_metadata(path).expect("metadata").ino()
}

const ROOT: &[Need] = &[Need::Root, Need::Fuse];

#[test]
fn rules_3_to_5_what_was_deleted_stays_deleted() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let layers = ["dir d\nfile d/a =low\nfile d/b =low\ndir e\nfile e/x =low", "dir d\nwhiteout d/a"];
    let overlay = Overlay::new(&scene, &layers, "");
    assert!(!overlay.path("d/a").exists());
    fs::remove_dir_all(overlay.path("e")).expect("remove");
    fs::create_dir(overlay.path("e")).expect("make again");
    fs::remove_file(overlay.path("d/b")).expect("remove");
    File::create(overlay.path("d/b")).expect("make again");
    fs::remove_file(overlay.path("d/b")).expect("remove again");
    File::create(overlay.path("pure")).expect("a file");
    fs::remove_file(overlay.path("pure")).expect("remove");
    for _ in 0..2 {
        assert_eq!(fs::read_dir(overlay.path("e")).expect("e").count(), 0);
        assert_eq!(fs::read_dir(overlay.path("d")).expect("d").count(), 0);
        overlay.remount();
    }
    assert!(!scene.path("upper/pure").exists() && fs::symlink_metadata(scene.path("upper/pure")).is_err());
    overlay.unmount();
}

#[test]
fn rule_8_overlays_own_attributes_are_hidden_and_refused() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["dir d\nfile f =x"], "");
    let file = overlay.path("f");
    fs::write(&file, "changed").expect("a copy-up");
    let set = |name: &str| rustix::fs::lsetxattr(&file, name, b"y", XattrFlags::empty());
    assert!(set("trusted.overlay.opaque").is_err());
    set("user.overlay.opaque").expect("a user's own attribute");
    let mut names = [0; 4096];
    let length = rustix::fs::llistxattr(&file, &mut names[..]).expect("a list");
    assert_eq!(&names[..length], b"user.overlay.opaque\0");
    overlay.unmount();
}

#[test]
fn rules_9_and_10_numbers_and_hard_links_survive() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["dir d\nfile d/one =low\nhard d/two =>d/one\nhard three =>d/one"], "");
    let names = ["d/one", "d/two", "three"];
    let numbers = names.map(|name| ino(overlay.path(name)));
    assert!(numbers.iter().all(|number| *number == numbers[0]));
    let held = File::open(overlay.path("three")).expect("a lower file");
    fs::write(overlay.path("d/two"), "changed through one name").expect("a change");
    let mut content = [0; 64];
    let length = held.read_at(&mut content, 0).expect("read");
    assert_eq!(&content[..length], b"changed through one name", "rule 12: an old descriptor reads the new data");
    let check = |links: u64| {
        for name in names.iter().filter(|name| overlay.path(name).exists()) {
            let meta = fs::metadata(overlay.path(name)).expect("metadata");
            assert_eq!((meta.ino(), meta.nlink()), (numbers[0], links), "{name}");
            assert_eq!(fs::read(overlay.path(name)).expect("read"), b"changed through one name", "{name}");
        }
    };
    check(3);
    drop(held);
    overlay.remount();
    check(3);
    fs::remove_file(overlay.path("three")).expect("remove");
    check(2);
    fs::rename(overlay.path("d/one"), overlay.path("moved")).expect("rename");
    assert_eq!(ino(overlay.path("moved")), numbers[0]);
    overlay.remount();
    check(2);
    assert_eq!(fs::metadata(overlay.path("moved")).expect("metadata").nlink(), 2);
    overlay.unmount();
}

#[test]
fn regression_hard_links_of_a_metadata_only_copy_have_data_after_a_remount() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["file a =low\nhard b =>a\nhard c =>a"], ",redirect_dir=on,metacopy=on");
    fs::set_permissions(overlay.path("a"), fs::Permissions::from_mode(0o600)).expect("chmod");
    overlay.remount();
    let all = |expected: &[u8]| {
        for name in ["c", "b", "a"] {
            assert_eq!(fs::read(overlay.path(name)).expect("read"), expected, "{name}");
        }
    };
    all(b"low");
    let writer = OpenOptions::new().write(true).open(overlay.path("b")).expect("open");
    writer.write_all_at(b"L", 0).expect("write");
    drop(writer);
    all(b"Low");
    overlay.remount();
    all(b"Low");
    overlay.unmount();
}

#[test]
fn rule_13_nothing_is_written_to_a_lower_layer() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let text = "dir d 0777\nfile d/f #100000 0666 @5\nfile g =g 0666 @6\nlink l ->g";
    let overlay = Overlay::new(&scene, &[text], ",redirect_dir=on,metacopy=on");
    let lower = scene.path("lower0");
    let before = Manifest::of(&lower);
    let atime = fs::metadata(lower.join("d/f")).expect("metadata").atime_nsec();
    let reader = File::open(overlay.path("d/f")).expect("open for reading");
    let writer = OpenOptions::new().read(true).write(true).open(overlay.path("d/f")).expect("open for writing");
    writer.write_all_at(b"new", 50_000).expect("write");
    let mut three = [0; 3];
    reader.read_exact_at(&mut three, 50_000).expect("read");
    assert_eq!(&three, b"new");
    fs::set_permissions(overlay.path("g"), fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::rename(overlay.path("d"), overlay.path("e")).expect("rename a lower directory");
    fs::remove_file(overlay.path("l")).expect("remove");
    OpenOptions::new().write(true).truncate(true).open(overlay.path("g")).expect("truncate");
    drop((reader, writer));
    overlay.unmount();
    before.assert_same(&Manifest::of(&lower), &Rules::default());
    assert_eq!(fs::metadata(lower.join("d/f")).expect("metadata").atime_nsec(), atime);
}

#[test]
fn rule_15_an_unlinked_file_lives_on() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["file low =low"], "");
    fs::write(overlay.path("up"), "up").expect("a file");
    for name in ["low", "up"] {
        let file = OpenOptions::new().read(true).write(true).open(overlay.path(name)).expect("open");
        fs::remove_file(overlay.path(name)).expect("remove");
        file.write_all_at(b"still", 0).expect("write");
        file.set_len(4).expect("truncate");
        file.set_permissions(fs::Permissions::from_mode(0o611)).expect("chmod");
        let meta = file.metadata().expect("stat");
        assert_eq!((meta.nlink(), meta.len(), meta.mode() & 0o777), (0, 4, 0o611), "{name}");
        let mut content = [0; 4];
        file.read_exact_at(&mut content, 0).expect("read");
        assert_eq!(&content, b"stil");
        file.sync_all().expect("sync");
    }
    assert_eq!(fs::read_dir(&overlay.at).expect("root").count(), 0);
    overlay.unmount();
    assert_eq!(fs::read_dir(scene.path("work/layerfs/stage")).expect("stage").count(), 0);
}

#[test]
fn rule_18_writing_clears_setuid() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::PlainUser]) else { return };
    let overlay = Overlay::new(&scene, &["file low =low 04777\nfile other =other 06777"], "");
    for (name, script) in [("low", "echo x >> low"), ("other", ": > other")] {
        scene.sh(script).in_dir(&overlay.at).who(Who::Plain).ok();
        let mode = fs::metadata(overlay.path(name)).expect("metadata").mode();
        assert_eq!(mode & 0o7777, 0o777, "{name} {mode:o}");
    }
    overlay.unmount();
}

#[test]
fn rule_19_renames_links_and_nodes() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["dir a\nfile a/x =x\ndir b\nfile b/y =y\nfile f =f"], ",redirect_dir=on,dev");
    let rename =
        |from: &str, to: &str, flags| rustix::fs::renameat_with(CWD, overlay.path(from), CWD, overlay.path(to), flags);
    rename("a", "b", RenameFlags::EXCHANGE).expect("exchange lower directories");
    assert!(overlay.path("b/x").exists() && overlay.path("a/y").exists());
    assert_eq!(rename("f", "a/y", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    assert_eq!(rename("f", "g", RenameFlags::WHITEOUT), Err(Errno::INVAL));
    rename("a", "c", RenameFlags::empty()).expect("rename a lower directory");
    overlay.remount();
    assert!(overlay.path("b/x").exists() && overlay.path("c/y").exists() && !overlay.path("a").exists());
    for kind in [FileType::Fifo, FileType::Socket] {
        let path = overlay.path(&format!("{kind:?}"));
        rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), 0).expect("mknod");
    }
    let device = |name: &str, number| {
        rustix::fs::mknodat(CWD, overlay.path(name), FileType::CharacterDevice, Mode::from_raw_mode(0o600), number)
    };
    device("null", rustix::fs::makedev(1, 3)).expect("a device");
    assert_eq!(device("whiteout", 0), Err(Errno::PERM), "rule 25");
    assert_eq!(
        File::create(overlay.path(".wh.x")).map_err(|error| error.kind()).err(),
        Some(std::io::ErrorKind::InvalidInput)
    );
    let long = "n".repeat(256);
    assert_eq!(
        File::open(overlay.path(&long)).err().and_then(|error| error.raw_os_error()),
        Some(Errno::NAMETOOLONG.raw_os_error())
    );
    overlay.unmount();
}

#[test]
fn rule_20_names_times_and_large_directories() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let overlay = Overlay::new(&scene, &["dir d"], "");
    let name = std::ffi::OsStr::from_bytes(&[0xff; 255]);
    File::create(overlay.at.join(name)).expect("a name that is no text");
    for seconds in [-1_000_000_000, -1, 5_000_000_000_i64] {
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, overlay.path("d"), &times, AtFlags::empty()).expect("utimensat");
        let meta = fs::metadata(overlay.path("d")).expect("metadata");
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (seconds, 123_456_789));
    }
    let many = 3000;
    for number in 0..many {
        File::create(overlay.path(&format!("d/{number}"))).expect("a file");
    }
    let mut seen = std::collections::HashSet::new();
    for (at, entry) in fs::read_dir(overlay.path("d")).expect("a directory").enumerate() {
        let entry = entry.expect("an entry");
        assert!(seen.insert(entry.file_name()), "{:?} came twice", entry.file_name());
        if at % 3 == 0 {
            fs::remove_file(entry.path()).expect("remove what was listed");
            File::create(overlay.path(&format!("d/new{at}"))).expect("a file");
        }
    }
    assert!((0..many).all(|number| seen.contains(std::ffi::OsStr::new(&number.to_string()))));
    overlay.unmount();
}

#[test]
fn rule_22_a_used_upper_and_paths_with_separators() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let odd = scene.dir("o:d,d\\");
    fs::write(odd.join("f"), "odd").expect("a file");
    for part in ["upper", "work", "mnt", "other"] {
        scene.dir(part);
    }
    let at = |part: &str| scene.path(part).display().to_string();
    let escaped = at("o:d,d\\").replace('\\', r"\\").replace(':', r"\:").replace(',', r"\,");
    let options = format!("lowerdir={escaped},upperdir={},workdir={}", at("upper"), at("work"));
    scene.layerfs(["overlay", "-o", &options]).arg(scene.path("mnt")).ok();
    assert_eq!(fs::read(scene.path("mnt/f")).expect("a file"), b"odd");
    let second = scene.layerfs(["overlay", "-o", &options]).arg(scene.path("other")).output();
    second.fails(1, &["is in use by another mount", "hint:"]);
    scene.layerfs(["umount"]).arg(scene.path("mnt")).ok();
}

#[test]
fn bad_input_is_one_clear_line() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    for part in ["lower/inside", "upper", "work", "mnt"] {
        scene.dir(part);
    }
    let at = |part: &str| scene.path(part).display().to_string();
    let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
    let many: Vec<String> = (0..501).map(|at| scene.dir(format!("many/{at}")).display().to_string()).collect();
    let many = many.join(":");
    for (options, part) in [
        (format!("lowerdir={lower}/none,upperdir={upper},workdir={work}"), "No such file"),
        (format!("lowerdir={lower}/inside,upperdir={lower},workdir={work}"), "overlap"),
        (format!("lowerdir={lower},upperdir={upper},workdir=/dev/shm"), "not on one file system"),
        (format!("lowerdir={lower},upperdir={upper},workdir={work},colour=red"), "unknown mount option `colour=red`"),
        (format!("lowerdir={many}"), "501 layers"),
        (format!("lowerdir={lower},upperdir={upper}"), "needs a workdir"),
    ] {
        scene.layerfs(["overlay", "-o", &options]).arg(at("mnt")).output().fails(1, &[part]);
        assert_eq!(fs::read_dir(scene.path("upper")).expect("upper").count(), 0, "{part}");
    }
}

#[test]
fn the_program_behaves_as_the_peers_by_their_names() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    for part in ["lower", "mnt"] {
        scene.dir(part);
    }
    let option = format!("lowerdir={}", scene.path("lower").display());
    for (name, kind) in [("fuse-overlayfs", "fuse.fuse-overlayfs"), ("mount.layerfs", "fuse.layerfs")] {
        let program = scene.path("bin").join(name);
        std::os::unix::fs::symlink(scene.program(), &program).expect("a link");
        let mut run = scene.run(&program);
        if name == "fuse-overlayfs" {
            let version = scene.run(&program).arg("--version").ok().text();
            assert!(version.starts_with("fuse-overlayfs: version "), "{version}");
            run = run.arg(scene.path("mnt")).args(["-o", &option, "-o", "allow_other"]);
        } else {
            run = run.arg("none").arg(scene.path("mnt")).args(["-o", &option]);
        }
        run.ok();
        assert_eq!(scene.mounts()[0].kind, kind);
        scene.layerfs(["umount"]).arg(scene.path("mnt")).ok();
    }
}

#[test]
fn a_plain_user_keeps_owners_in_attributes() {
    let Some(scene) = Scene::begin(&[Need::PlainUser, Need::Root]) else { return };
    let base = scene.plain_dir("own");
    let script = "mkdir lower upper work mnt; echo low > lower/f; \
        \"$1\" overlay -o lowerdir=lower,upperdir=upper,workdir=work mnt; cd mnt; \
        chown 5:6 f; chmod 4711 f; mkdir d; chown 77:88 d; ln -s t l; chown -h 9:9 l; mkfifo p; cd ..; \
        \"$1\" umount mnt; \"$1\" overlay -o lowerdir=lower,upperdir=upper,workdir=work mnt; \
        stat -c '%n %u:%g %a %F' mnt/*; \"$1\" umount mnt";
    let program = scene.program();
    let done = scene.sh(script).arg("sh").arg(program).in_dir(&base).who(Who::Plain).ok();
    let text = done.text();
    for line in ["mnt/d 77:88 755 directory", "mnt/f 5:6 4711 regular file", "mnt/l 9:9 777 symbolic link"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("fifo"), "{text}");
}

/// fuse-overlayfs 1.x has an attribute of its own, with the type in the mode: read, and written again where it is found.
#[test]
fn regression_owners_kept_by_older_peers_are_read_and_kept_alike() {
    let Some(scene) = Scene::begin(&[Need::PlainUser, Need::Root, Need::Program("setfattr")]) else { return };
    let script = "mkdir lower upper work mnt; echo x > upper/f; : > upper/p; mkdir upper/d
        name=user.fuseoverlayfs.override_stat; set_to() { setfattr -n $name -v \"$2\" \"upper/$1\"; }
        set_to . 7:7:40711; set_to f 5:6:104755; set_to d 8:9:42770; set_to p 3:4:10640
        \"$1\" overlay -o lowerdir=lower,upperdir=upper,workdir=work mnt
        echo new > mnt/new; chmod 2755 mnt/new; chmod 700 mnt/d; stat -c '%n %u:%g %a %F' mnt mnt/*; \"$1\" umount mnt
        cd upper; getfattr -d -m - --absolute-names new d";
    let done = scene.sh(script).arg("sh").arg(scene.program()).in_dir(scene.plain_dir("own")).who(Who::Plain).ok();
    let text = done.text();
    for line in [
        "mnt 7:7 711 directory",
        "mnt/f 5:6 4755 regular file",
        "mnt/d 8:9 2700 directory",
        "mnt/p 3:4 640 fifo",
        "user.fuseoverlayfs.override_stat=\"8:9:42700\"",
        ":102755\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("user.containers"), "{text}");
}

#[test]
fn named_mounts_keep_their_changes() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let image = crate::support::Image::new().layer("dir etc 0750\nfile etc/f =low 0640 3:4\nhard etc/g =>etc/f");
    scene.layerfs(["load", "-i"]).arg(image.write_oci(&scene.path("image"), "latest")).args(["--tag", "thing"]).ok();
    let at = scene.dir("mnt");
    let name = scene.layerfs(["mount", "--rw", "thing"]).arg(&at).ok().text().trim().to_owned();
    fs::rename(at.join("etc"), at.join("moved")).expect("rename a directory of the image");
    fs::write(at.join("moved/f"), "changed").expect("a change");
    scene.layerfs(["rm", &name]).output().fails(1, &["hint:"]);
    scene.layerfs(["umount", &name]).ok();
    assert!(scene.layerfs(["ps", "-a"]).ok().text().contains(&name));
    scene.layerfs(["rename", &name, "kept"]).ok();
    scene.layerfs(["mount", "-w", "--name", "kept", "thing"]).arg(&at).ok();
    assert_eq!(fs::read(at.join("moved/g")).expect("the other name"), b"changed");
    let inspected = scene.layerfs(["inspect", "kept"]).ok().json();
    for key in ["LowerDir", "UpperDir", "WorkDir", "MergedDir"] {
        assert!(inspected[0][key].is_string(), "{key}: {inspected}");
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(at.join("moved/f"), flags, Mode::empty()).expect("open");
    assert!(rustix::fs::ioctl_getflags(&fd).is_ok(), "FS_IOC_GETFLAGS");
    drop(fd);
    scene.layerfs(["umount", "kept"]).ok();
    scene.layerfs(["rm", "kept"]).ok();
}
