//! Read-only mounts of stacks in memory: what the protocol carries, and what it costs.

use crate::support::{Need, Scene};
use layerfs::fs::LayerFs;
use layerfs::mount::{
    ControlRequest, ControlResponse, MountOptions, MountPlan, Registry, Unmount, ask, serve, unmount,
};
use layerfs::union::{Follow, Layer, MemLayer, Stack};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tells the process that serves where it finds what to serve: a file with the mount point, the options, and the layers,
/// with a line `---` between them.
const PLAN: &str = "LAYERFS_TEST_SERVE";

/// Not a test: what the other tests start as a process of its own, since a process must not serve what it uses.
#[test]
fn server_process() {
    let Some(plan) = std::env::var_os(PLAN) else { return };
    let plan = std::fs::read_to_string(plan).expect("the plan");
    let mut parts = plan.split("\n---\n");
    let (point, options) = (parts.next().expect("a mount point"), parts.next().expect("options"));
    let parse = |text: &str| -> Arc<dyn Layer> { Arc::new(MemLayer::parse("layer", text).expect("a layer")) };
    let stack = Stack::new(parts.map(parse).collect(), None, Follow::default()).expect("a stack");
    let mut mount_options = MountOptions::default();
    mount_options.apply(options).expect("options");
    let plan = MountPlan {
        source: "memory".to_owned(),
        mount_point: point.into(),
        name: None,
        container: None,
        options: mount_options,
    };
    serve(LayerFs::new(stack), &plan).expect("serve");
}

/// A stack in memory that another process serves.
struct Served {
    point: PathBuf,
    server: Child,
}

impl Served {
    fn start(scene: &Scene, layers: &[&str], options: &str) -> Self {
        let point = scene.dir("mnt");
        let plan = scene.path("plan");
        let parts = [&[point.to_str().expect("UTF-8"), options], layers].concat();
        std::fs::write(&plan, parts.join("\n---\n")).expect("write the plan");
        let program = scene.run(std::env::current_exe().expect("this program"));
        let mut server = program.args(["--exact", "mount_ro::server_process"]).env(PLAN, &plan).spawn();
        let registry = Registry::open().expect("a registry");
        // Not before it is recorded: who takes away a mount whose server is still agreeing with the kernel makes that fail.
        while registry.find(&point).expect("the records").is_none() {
            assert!(server.try_wait().expect("a state").is_none(), "the server ended at once");
            std::thread::yield_now();
        }
        Self { point, server }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.point.join(path)
    }

    fn read(&self, path: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.path(path)).expect("readable")
    }

    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    }

    fn requests(&self) -> BTreeMap<String, u64> {
        let registry = Registry::open().expect("a registry");
        let record = registry.find(&self.point).expect("the records").expect("a record");
        match ask(&registry, &record, &ControlRequest::Stats).expect("an answer") {
            (ControlResponse::Stats(counts), _) => counts,
            (other, _) => panic!("{other:?}"),
        }
    }

    fn end(mut self) {
        let registry = Registry::open().expect("a registry");
        unmount(&registry, &self.point, Unmount::Plain).expect("unmounted");
        assert!(self.server.wait().expect("the server").success());
    }
}

const LAYERS: [&str; 2] = [
    "dir . 750 3:4\ndir d 700 1:2\nfile d/a 640 5:6 one\nfile gone 1\nlink d/b d/a\nsymlink s d/a\nchar null 666 1:3\nfifo p 600\nxattr d/a user.key value",
    "whiteout gone\nfile d/c 644 0:0 three\ndir empty",
];

#[test]
fn everything_that_layers_say_arrives() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    for mode in ["opens=zero-message", "opens=answered"] {
        let mount = Served::start(&scene, &LAYERS, mode);
        let mut names = mount.names("");
        names.sort();
        assert_eq!(names, ["d", "empty", "null", "p", "s"]);
        assert_eq!(mount.names("d"), ["a", "b", "c"]);
        assert_eq!(mount.read("d/a"), "one");
        assert_eq!(mount.read("s"), "one");
        assert_eq!(mount.read("d/c"), "three");
        assert!(!mount.path("gone").exists());
        let a = std::fs::metadata(mount.path("d/a")).unwrap();
        assert_eq!((a.mode(), a.uid(), a.gid(), a.nlink(), a.size()), (0o100_640, 5, 6, 2, 3));
        assert_eq!(a.mtime(), 1_000_000_000);
        assert_eq!(std::fs::metadata(mount.path("d/b")).unwrap().ino(), a.ino());
        let root = std::fs::metadata(&mount.point).unwrap();
        assert_eq!((root.mode(), root.uid(), root.gid(), root.ino()), (0o40_750, 3, 4, 1));
        let null = std::fs::symlink_metadata(mount.path("null")).unwrap();
        assert_eq!((null.mode(), null.rdev()), (0o20_666, libc::makedev(1, 3)));
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(mount.path("d/a"), "user.key", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"value");
        let error = rustix::fs::getxattr(mount.path("d/c"), "user.key", &mut value[..]).unwrap_err();
        assert_eq!(error, rustix::io::Errno::NODATA);
        assert_eq!(rustix::fs::access(mount.path("d/a"), rustix::fs::Access::WRITE_OK), Err(rustix::io::Errno::ROFS));
        assert!(rustix::fs::statvfs(&mount.point).unwrap().f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        let counts = mount.requests();
        let opens = counts.get("open").copied().unwrap_or(0);
        assert!(if mode == "opens=answered" { opens >= 3 } else { opens <= 1 }, "{mode}: {counts:?}");
        mount.end();
    }
}

#[test]
fn the_source_and_the_type_are_shown() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let mount = Served::start(&scene, &["file a 1"], "noexec");
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.contains(mount.point.to_str().unwrap())).unwrap().to_owned();
    assert!(line.starts_with("memory "), "{line}");
    assert!(line.contains(" fuse.layerfs ro,nosuid,nodev,noexec,"), "{line}");
    mount.end();
}

/// The cost of what the kernel has cached is no request at all.
#[test]
fn warm_accesses_send_no_request() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let mount = Served::start(&scene, &LAYERS, "opens=zero-message");
    let touch = || {
        mount.names("d");
        mount.names("");
        mount.read("d/a");
        mount.read("s");
        assert!(!mount.path("d/nothing").exists());
        std::fs::metadata(mount.path("d/c")).unwrap();
        std::fs::read_link(mount.path("s")).unwrap();
    };
    touch();
    touch();
    let before = mount.requests();
    for _ in 0..100 {
        touch();
    }
    assert_eq!(mount.requests(), before);
    mount.end();
}

/// Cold, a directory and the attributes of all that is in it cost the requests of the listing.
#[test]
fn cold_walks_cost_requests_by_directory_not_by_file() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let text = (0..2000).map(|at| format!("file d/{at:04} {at}")).collect::<Vec<_>>().join("\n");
    let mount = Served::start(&scene, &[&text], "opens=zero-message");
    for entry in std::fs::read_dir(mount.path("d")).unwrap() {
        entry.unwrap().metadata().unwrap();
    }
    let counts = mount.requests();
    let total: u64 = counts.values().sum();
    assert!(total < 200, "{total} requests for 2000 files: {counts:?}");
    mount.end();
}

#[test]
fn a_large_directory_is_listed_completely() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let text = (0..20_000).map(|at| format!("file d/{at:05} {at}")).collect::<Vec<_>>().join("\n");
    let mount = Served::start(&scene, &[&text, "whiteout d/00007\nfile d/x 1"], "opens=zero-message");
    let names = mount.names("d");
    assert_eq!(names.len(), 20_000);
    assert_eq!(mount.names("d"), names);
    mount.end();
}

#[test]
fn reads_at_any_offset_and_seeks() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let content = "0123456789".repeat(50_000);
    let mount = Served::start(&scene, &[&format!("file a 644 0:0 {content}")], "opens=zero-message");
    let mut file = std::fs::File::open(mount.path("a")).unwrap();
    let mut buffer = vec![0; 777];
    for offset in [0, 1, 4095, 4096, 131_071, 499_000, 499_999] {
        let length = file.read_at(&mut buffer, offset).unwrap();
        let expected = &content.as_bytes()[offset as usize..][..length];
        assert_eq!(&buffer[..length], expected, "at {offset}");
        assert_eq!(length, 777.min(500_000 - offset as usize));
    }
    assert_eq!(file.read_at(&mut buffer, 500_000).unwrap(), 0);
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(10)), Ok(500_000));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(10)), Ok(10));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(500_000)), Err(rustix::io::Errno::NXIO));
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut whole = String::new();
    file.read_to_string(&mut whole).unwrap();
    assert_eq!(whole, content);
    drop(file);
    mount.end();
}

#[test]
fn nothing_can_be_changed() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let mount = Served::start(&scene, &LAYERS, "opens=zero-message");
    let errno = |error: std::io::Error| error.raw_os_error();
    assert_eq!(std::fs::write(mount.path("new"), "x").map_err(errno), Err(Some(libc::EROFS)));
    assert_eq!(std::fs::remove_file(mount.path("d/a")).map_err(errno), Err(Some(libc::EROFS)));
    assert_eq!(std::fs::rename(mount.path("d/a"), mount.path("d/z")).map_err(errno), Err(Some(libc::EROFS)));
    mount.end();
}

/// Threads that wait awake must go to sleep.
#[test]
fn an_idle_mount_uses_no_processor() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    let mount = Served::start(&scene, &LAYERS, "threads=4");
    for _ in 0..100 {
        mount.read("d/a");
    }
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", mount.server.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        std::thread::park_timeout(Duration::from_secs(1));
    }
    assert!(ticks() - before <= 3, "{} ticks in an idle second", ticks() - before);
    mount.end();
}
