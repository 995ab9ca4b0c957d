//! Reading directories before whoever walks a tree lists them, and having files read before he opens them.
//!
//! A walk waits for every directory: for its names, and for the inodes of its entries. Where these lie on a disk, another thread can
//! have them read before they are asked for.
//!
//! 1. That somebody walks is told by listings: of a directory, then of one in it or beside it. The walk goes on as find(1), rm(1),
//!    tar(1) and nftw(3) do: depth first, in the order of the listing.
//! 2. Nothing is remembered of what is read: only the caches of the file systems below are filled. A wrong guess costs time of a
//!    thread that has nothing better to do, and no more of it than [`AHEAD`] directories.
//! 3. Layers of images have their directories in memory: nothing is read for them.

use super::LayerFs;
use crate::model::FileKind;
use crate::sys::read_names;
use crate::union::{Ino, Source};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Directories read and not yet listed, at most: enough to keep a disk busy.
const AHEAD: usize = 64;
/// The most entries of one directory that are looked for: who lists more than that takes a while.
const LATER: usize = 64;
/// The most directories of layers that one is read from: a descriptor is held of each, on every level of the walk.
const LAYERS: usize = 32;
/// Where a process may have fewer descriptors than this, they are needed elsewhere.
const DESCRIPTORS: u64 = 4096;
/// The most descriptors held on all levels of the walk.
const HELD: usize = 512;

/// Walks ahead of one walk at a time.
#[derive(Debug)]
pub struct Walker {
    fs: Arc<LayerFs>,
    /// What comes next, the very next one last.
    tasks: Vec<Task>,
    /// Inode numbers of directories that have been read and not yet been listed.
    ahead: HashSet<u64>,
    /// The directory listed last, and the one it lies in.
    last: (Ino, Ino),
}

/// A directory to be read.
#[derive(Debug)]
struct Task {
    /// The directories of layers that the one it lies in is made of.
    parents: Arc<[Parent]>,
    name: Box<[u8]>,
}

/// An open directory, and the device it lies on: what is mounted in it is none of the layer's, and may be slow, or this very mount.
#[derive(Debug)]
struct Parent {
    fd: Arc<OwnedFd>,
    device: u64,
}

impl Walker {
    /// A walker through `fs`; none where no directory lies on a disk, or descriptors are few.
    pub fn new(fs: &Arc<LayerFs>) -> Option<Self> {
        let on_disk = fs.stack.lowers().iter().any(|layer| layer.keeps_marks());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        (on_disk && limit.is_none_or(|limit| limit >= DESCRIPTORS)).then(|| Self::through(fs))
    }

    fn through(fs: &Arc<LayerFs>) -> Self {
        let nowhere = (Ino::ROOT, Ino::ROOT);
        Self { fs: Arc::clone(fs), tasks: Vec::new(), ahead: HashSet::new(), last: nowhere }
    }

    /// Whether there is something to read, and it is time for it.
    pub fn is_due(&self) -> bool {
        !self.tasks.is_empty() && self.ahead.len() < AHEAD
    }

    /// The directory `ino` is being listed.
    pub fn listed(&mut self, ino: Ino) {
        let Ok(directory) = self.fs.directory(ino) else { return };
        let (parent, made) = (directory.parent(), directory.made());
        let walks = parent == self.last.0 || parent == self.last.1;
        self.last = (ino, parent);
        if made.sources.iter().any(|source| self.ahead.remove(&source.ino.0)) {
            return;
        }
        // Elsewhere than was thought, or faster.
        self.tasks.clear();
        self.ahead.clear();
        if walks && ino != Ino::ROOT {
            self.push_listed(parent, Some(ino));
            self.push_listed(ino, None);
        }
    }

    /// Reads the next directory.
    pub fn step(&mut self) {
        let Some(task) = self.tasks.pop() else { return };
        let mut opened: Vec<Parent> = Vec::new();
        let mut below = BTreeSet::new();
        for parent in task.parents.iter() {
            let Ok(fd) = open(&parent.fd, &task.name) else { continue };
            let Ok(stat) = rustix::fs::fstat(&fd) else { continue };
            if stat.st_dev != parent.device {
                continue;
            }
            if opened.is_empty() {
                self.ahead.insert(stat.st_ino);
            }
            // What cannot be read here is told to whoever asks for it.
            let _ = read(&fd, &mut below);
            opened.push(Parent { fd: Arc::new(fd), device: stat.st_dev });
        }
        self.push(&opened.into(), below.into_iter().take(LATER).collect());
        if self.held() > HELD {
            self.tasks.clear();
        }
    }

    /// Descriptors that are held by the tasks; those of one directory lie together.
    fn held(&self) -> usize {
        let others = self.tasks.chunk_by(|one, two| Arc::ptr_eq(&one.parents, &two.parents));
        others.filter_map(<[Task]>::first).map(|task| task.parents.len()).sum()
    }

    /// The file `ino` has been read from its beginning: has the disk bring the ones that follow it.
    pub fn has_read(&self, ino: Ino) {
        // What cannot be read here is told to whoever asks for it.
        for file in self.fs.upcoming(ino).unwrap_or_default() {
            let _ = self.fs.will_need(file);
        }
    }

    /// Plans the directories that are listed in `ino`, behind `after`.
    fn push_listed(&mut self, ino: Ino, after: Option<Ino>) {
        let Ok(directory) = self.fs.directory(ino) else { return };
        let Ok(listing) = self.fs.listing(&directory) else { return };
        let mut entries = listing.iter();
        if let Some(after) = after {
            entries.by_ref().find(|listed| listed.ino == after);
        }
        let directories = entries.filter(|listed| listed.kind == FileKind::Directory);
        let names = directories.take(LATER).map(|listed| listed.name.into()).collect();
        drop(listing);
        let made = directory.made();
        let on_disk = |source: &Source| {
            let fd = self.fs.layer(*source).ok()?.directory_on_disk(source.ino)?;
            let device = rustix::fs::fstat(&fd).ok()?.st_dev;
            Some(Parent { fd, device })
        };
        let parents: Arc<[Parent]> = made.sources.iter().take(LAYERS).filter_map(on_disk).collect();
        self.push(&parents, names);
    }

    fn push(&mut self, parents: &Arc<[Parent]>, names: Vec<Box<[u8]>>) {
        let tasks = names.into_iter().rev().map(|name| Task { parents: Arc::clone(parents), name });
        self.tasks.extend(tasks);
    }
}

/// Opens a directory without a trace in its time of access; where that is not allowed it is not read ahead.
fn open(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Reads the names of a directory and the inodes of its entries, and adds the names of those that are directories to `below`.
fn read(fd: &OwnedFd, below: &mut BTreeSet<Box<[u8]>>) -> io::Result<()> {
    read_names(fd, |entry| {
        let name = entry.file_name();
        rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if entry.file_type() == FileType::Directory {
            below.insert(name.to_bytes().into());
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::dir::{Descriptors, DirLayer, DirOptions, XattrPrefix};
    use crate::union::{Follow, Layer, Stack};
    use std::fs;

    struct Scene {
        dir: tempfile::TempDir,
        fs: Arc<LayerFs>,
    }

    /// The directories `paths` in one layer.
    fn scene(paths: &[String]) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let descriptors = Arc::new(Descriptors::new(1024, 1));
        let layer = DirLayer::open(dir.path(), DirOptions::new(XattrPrefix::User), &descriptors).unwrap();
        let layers: Vec<Arc<dyn Layer>> = vec![Arc::new(layer)];
        let fs = Arc::new(LayerFs::new(Stack::new(layers, None, Follow::default()).unwrap()));
        Scene { dir, fs }
    }

    impl Scene {
        fn ino(&self, path: &str) -> Ino {
            path.split('/').fold(Ino::ROOT, |ino, name| self.fs.lookup(ino, name.as_bytes()).unwrap().unwrap().ino)
        }

        /// What the walker has read ahead, by name.
        fn ahead(&self, walker: &Walker, paths: &[&str]) -> Vec<bool> {
            let inode = |path: &&str| {
                use std::os::unix::fs::MetadataExt;
                fs::metadata(self.dir.path().join(path)).unwrap().ino()
            };
            paths.iter().map(|path| walker.ahead.contains(&inode(path))).collect()
        }
    }

    fn paths(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_walk_is_preceded_depth_first_in_the_order_of_the_listing() {
        let scene = scene(&paths("a/x/deep a/y b c"));
        let mut walker = Walker::through(&scene.fs);
        walker.listed(Ino::ROOT);
        assert!(!walker.is_due(), "one listing is no walk");
        walker.listed(scene.ino("a"));
        let order = ["a/x", "a/x/deep", "a/y", "b", "c"];
        for step in 0..order.len() {
            assert!(walker.is_due());
            walker.step();
            let expected: Vec<bool> = (0..order.len()).map(|at| at <= step).collect();
            assert_eq!(scene.ahead(&walker, &order), expected, "step {step}");
        }
        assert!(!walker.is_due());
        walker.listed(scene.ino("a/x"));
        assert_eq!(scene.ahead(&walker, &order), [false, true, true, true, true], "what is listed is not ahead");
    }

    #[test]
    fn who_jumps_is_not_preceded_until_he_walks_again() {
        let scene = scene(&paths("a/x/deep b/y/deep"));
        let mut walker = Walker::through(&scene.fs);
        walker.listed(Ino::ROOT);
        walker.listed(scene.ino("a"));
        assert!(walker.is_due());
        walker.listed(scene.ino("b/y"));
        assert!(!walker.is_due());
        walker.listed(scene.ino("b/y/deep"));
        walker.listed(scene.ino("b"));
        assert!(!walker.is_due());
    }

    #[test]
    fn no_more_is_read_ahead_than_is_worth_it() {
        let many: Vec<String> = (0..3 * AHEAD).map(|at| format!("first/{at:03}/below")).collect();
        let scene = scene(&many);
        let mut walker = Walker::through(&scene.fs);
        walker.listed(Ino::ROOT);
        walker.listed(scene.ino("first"));
        while walker.is_due() {
            walker.step();
        }
        assert_eq!(walker.ahead.len(), AHEAD);
        walker.listed(scene.ino("first/000"));
        assert!(walker.is_due(), "the walk has come a step nearer");
    }
}
