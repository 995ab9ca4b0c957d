//! A file that becomes shorter or longer while it is read: tried again, then an error that leaves nothing.

use super::capture::ATTEMPTS;
use super::{Error, capture};
use crate::diff::{self, Comparison, LayerOptions, Options, compare};
use crate::model::Meta;
use crate::store::{Session, Store};
use crate::union::{Entry, EntryKind, Follow, Layer, LayerResult, LocalIno, MemLayer, Stack};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What happens to the data between the look at the size and the end of a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Truncated,
    Appended,
}

/// A layer whose files have another length than they say, in the first few readings of any of them.
#[derive(Debug)]
struct Restless {
    inner: MemLayer,
    fate: Fate,
    /// Readings from the start that are still to go wrong.
    bad: AtomicU32,
    /// Readings from the start so far.
    readings: AtomicU32,
    /// Whether the reading that goes on now goes wrong: 1, or 0.
    now: AtomicU32,
}

impl Layer for Restless {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn root(&self) -> LocalIno {
        self.inner.root()
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        self.inner.root_is_opaque()
    }

    fn entries(&self, dir: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        self.inner.entries(dir, visit)
    }

    fn lookup(&self, dir: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>> {
        self.inner.lookup(dir, name)
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        self.inner.meta(ino)
    }

    fn read_link(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        self.inner.read_link(ino)
    }

    fn read_at(&self, ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize> {
        if offset == 0 {
            self.readings.fetch_add(1, Ordering::SeqCst);
            let bad = self.bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            self.now.store(u32::from(bad.is_ok()), Ordering::SeqCst);
        }
        let size = self.inner.meta(ino)?.size;
        match self.fate {
            _ if self.now.load(Ordering::SeqCst) == 0 => self.inner.read_at(ino, offset, buffer),
            Fate::Truncated => {
                let left = usize::try_from((size / 2).saturating_sub(offset)).expect("a small file").min(buffer.len());
                self.inner.read_at(ino, offset, &mut buffer[..left])
            }
            Fate::Appended if offset >= size => {
                buffer[0] = b'+';
                Ok(1)
            }
            Fate::Appended => self.inner.read_at(ino, offset, buffer),
        }
    }

    fn seek(&self, ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>> {
        self.inner.seek(ino, offset, hole)
    }

    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        self.inner.xattr(ino, name)
    }

    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        self.inner.xattr_names(ino, visit)
    }
}

fn parse(label: &str, text: &str) -> MemLayer {
    MemLayer::parse(label, text).expect("a layer")
}

/// Captures a change of a file that goes wrong `bad` times; returns what came of it and how often the file was read.
fn captured(session: &Session, fate: Fate, bad: u32) -> (super::Result<super::Captured>, u32) {
    let lower: Arc<dyn Layer> = Arc::new(parse("lower", "dir .\nfile d/calm 644 0:0 calm"));
    let zero = || AtomicU32::new(0);
    let inner = parse("upper", "dir .\ndir d\nfile d/restless 644 0:0 what-is-read-again");
    let upper = Arc::new(Restless { inner, fate, bad: AtomicU32::new(bad), readings: zero(), now: zero() });
    let old = Stack::new(vec![lower], None, Follow::default()).expect("a stack");
    let new = old.with_upper(Arc::clone(&upper) as Arc<dyn Layer>).expect("a stack");
    let changes = compare(&old, &new, Options { comparison: Comparison::Sources, parents: true }).expect("changes");
    let captured = capture(session, &changes, &new, LayerOptions::default());
    (captured, upper.readings.load(Ordering::SeqCst))
}

/// The files of the store but those that say who is busy with it.
fn files(root: &Path) -> Vec<String> {
    let places = ["blobs/sha256", "toc/sha256", "stage"].map(|place| root.join(place));
    let listed = |place: &Path| std::fs::read_dir(place).expect("a directory").flatten().collect::<Vec<_>>();
    let mut all: Vec<_> = places.iter().flat_map(|place| listed(place)).collect();
    let staged: Vec<_> = all.iter().filter(|entry| entry.path().is_dir()).flat_map(|dir| listed(&dir.path())).collect();
    all.retain(|entry| !entry.path().is_dir());
    all.extend(staged);
    all.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name != "lease").collect()
}

#[test]
fn what_changes_while_it_is_read_is_read_again() {
    for fate in [Fate::Truncated, Fate::Appended] {
        let dir = tempfile::tempdir().expect("directory");
        let session = Store::open(dir.path()).expect("store").session().expect("session");
        let (calm, readings) = captured(&session, fate, 0);
        assert_eq!(readings, 1);
        let calm = calm.expect("a calm file");
        for bad in 1..ATTEMPTS {
            let (again, readings) = captured(&session, fate, bad);
            assert_eq!(again.expect("a file that came to rest"), calm, "{fate:?}, {bad} times");
            assert_eq!(readings, bad + 1, "{fate:?}");
        }
        assert_eq!(files(dir.path()).len(), 2, "one tar, one table: {:?}", files(dir.path()));
    }
}

#[test]
fn what_never_rests_is_an_error_and_leaves_nothing() {
    for fate in [Fate::Truncated, Fate::Appended] {
        let dir = tempfile::tempdir().expect("directory");
        let session = Store::open(dir.path()).expect("store").session().expect("session");
        let (never, readings) = captured(&session, fate, u32::MAX);
        match never {
            Err(Error::Diff(diff::Error::Changing { path })) => assert_eq!(path.to_bytes(), b"d/restless"),
            other => panic!("{fate:?}: {other:?}"),
        }
        assert_eq!(readings, ATTEMPTS, "{fate:?}");
        assert_eq!(files(dir.path()), Vec::<String>::new(), "{fate:?}");
    }
}
