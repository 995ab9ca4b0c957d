//! Requests that wait for a copy-up hold up nobody else.
//!
//! The lower layer is a file system served by the test itself, whose reads are answered only when the test says so: a copy-up takes as
//! long as the test wants, and nothing here depends on time.

use super::ROOT;
use crate::support::{Mounted, Scene};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyEntry, Request, Session, SessionACL,
};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, UNIX_EPOCH};

const THREADS: usize = 2;
/// More than there are threads.
const WAITING: usize = THREADS + 2;
const SIZE: u64 = 1 << 20;
const PAGE: u64 = 4096;
const NAMES: [&str; WAITING] = ["big0", "big1", "big2", "big3"];
const TTL: Duration = Duration::from_secs(1000);

/// Reads wait while it is shut; how many do is counted.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("the gate");
        state.1 += 1;
        self.changed.notify_all();
        while !state.0 {
            state = self.changed.wait(state).expect("the gate");
        }
    }

    fn wait_for(&self, count: usize) {
        let state = self.state.lock().expect("the gate");
        drop(self.changed.wait_while(state, |state| state.1 < count).expect("the gate"));
    }

    fn open(&self) {
        self.state.lock().expect("the gate").0 = true;
        self.changed.notify_all();
    }
}

/// A directory of large files that cannot be read as long as the gate is shut.
#[derive(Debug)]
struct Slow(Arc<Gate>);

fn attributes(ino: u64) -> FileAttr {
    let is_root = ino == 1;
    FileAttr {
        ino: INodeNo(ino),
        size: if is_root { 0 } else { SIZE },
        blocks: if is_root { 0 } else { SIZE / 512 },
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_root { FileType::Directory } else { FileType::RegularFile },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Slow {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match NAMES.iter().position(|one| *one == name) {
            Some(at) => reply.entry(&TTL, &attributes(at as u64 + 2), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attributes(ino.0));
    }

    fn readdir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for (at, name) in NAMES.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(at as u64 + 2), at as u64 + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let gate = Arc::clone(&self.0);
        let length = u64::from(size).min(SIZE.saturating_sub(offset)) as usize;
        std::thread::spawn(move || {
            gate.pass();
            reply.data(&vec![b'l'; length]);
        });
    }
}

/// A mount with few threads over files that cannot be read yet, and one more file.
struct Blocked<'a> {
    scene: &'a Scene,
    gate: Arc<Gate>,
    mount: Mounted<'a>,
    server: std::thread::JoinHandle<()>,
}

impl<'a> Blocked<'a> {
    fn new(scene: &'a Scene) -> Self {
        let gate = Arc::new(Gate::default());
        let (slow, quick) = (scene.dir("slow"), scene.dir("quick"));
        std::fs::write(quick.join("other"), "other").expect("a file");
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("/dev/fuse");
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let data = CString::new(data).expect("options");
        rustix::mount::mount("slow", &slow, "fuse.slow", MountFlags::RDONLY, data.as_c_str()).expect("mount");
        let shared = Arc::clone(&gate);
        let server = std::thread::spawn(move || {
            let session = Session::from_fd(Slow(shared), device, SessionACL::All, Config::default());
            // It ends by being unmounted, or by the watchdog.
            let _ = session.and_then(Session::run);
        });
        let options = format!(
            "lowerdir={}:{},upperdir={},workdir={},threads={THREADS}",
            slow.display(),
            quick.display(),
            scene.dir("upper").display(),
            scene.dir("work").display()
        );
        let mount = scene.mount(["overlay", "-o", &options], "mnt");
        Self { scene, gate, mount, server }
    }

    /// Waits until `count` requests to the mount are unanswered.
    fn wait_for_requests(&self, count: usize) {
        let device = std::fs::metadata(self.mount.path()).expect("the root").dev();
        let waiting = format!("/sys/fs/fuse/connections/{}/waiting", rustix::fs::minor(device));
        let now = || std::fs::read_to_string(&waiting).expect("the connection").trim().parse::<usize>().unwrap_or(0);
        while now() < count {
            std::thread::yield_now();
        }
    }

    /// What has not been asked for yet is told while everything else waits.
    fn others_are_answered(&self) {
        let other = self.mount.join("other");
        assert_eq!(std::fs::metadata(&other).expect("stat").len(), 5);
        std::fs::rename(&other, self.mount.join("renamed")).expect("rename");
        assert_eq!(std::fs::read(self.mount.join("renamed")).expect("read"), b"other");
        assert_eq!(std::fs::read_dir(self.mount.path()).expect("a listing").count(), WAITING + 1);
    }

    fn end(self) {
        self.mount.unmount();
        self.scene.run("umount").arg(self.scene.path("slow")).ok();
        self.server.join().expect("the slow file system");
    }
}

fn change_mode(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}

#[test]
fn copy_ups_of_more_files_than_threads_hold_up_nobody() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let blocked = Blocked::new(&scene);
    let paths = NAMES.map(|name| blocked.mount.join(name));
    std::thread::scope(|scope| {
        let changes: Vec<_> = paths.iter().map(|path| scope.spawn(|| change_mode(path))).collect();
        blocked.gate.wait_for(WAITING);
        blocked.others_are_answered();
        assert!(changes.iter().all(|change| !change.is_finished()), "the gate is shut");
        blocked.gate.open();
    });
    for path in &paths {
        assert_eq!(std::fs::metadata(path).expect("stat").mode() & 0o7777, 0o600);
        assert!(std::fs::read(path).expect("read") == vec![b'l'; SIZE as usize]);
    }
    blocked.end();
}

#[test]
fn more_writes_than_threads_wait_for_one_copy_up_and_hold_up_nobody() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    let blocked = Blocked::new(&scene);
    let path = blocked.mount.join(NAMES[0]);
    let writer = OpenOptions::new().write(true).open(&path).expect("open");
    // Whole pages, or the kernel would read first; apart from each other, so that each is a request of its own.
    for at in 0..WAITING as u64 {
        writer.write_all_at(&vec![b'U'; PAGE as usize], 2 * at * PAGE).expect("write");
    }
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| writer.sync_all().expect("sync"));
        blocked.gate.wait_for(1);
        blocked.wait_for_requests(WAITING);
        blocked.others_are_answered();
        assert!(!sync.is_finished(), "the gate is shut");
        blocked.gate.open();
    });
    drop(writer);
    let expected = (0..SIZE).map(|at| at / PAGE).map(|page| {
        let written = page % 2 == 0 && page / 2 < WAITING as u64;
        if written { b'U' } else { b'l' }
    });
    let mut content = vec![0; SIZE as usize];
    File::open(scene.path("upper").join(NAMES[0])).expect("the copy").read_exact_at(&mut content, 0).expect("read");
    assert!(content == expected.collect::<Vec<_>>());
    blocked.end();
}
