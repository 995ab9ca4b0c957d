//! What requests cost, counted: no noise of a machine can change it.

use super::*;
use crate::archive::tar::{Entry, EntryKind, EntryPath, Limits};
use crate::layer::toc::{Builder, TocLayer};
use crate::sys::allocations;
use crate::union::{Follow, Layer};
use std::io::{Seek, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

const FILES: usize = 1000;
const TAR_SIZE: u64 = 1 << 20;

/// A layer with the directories `d` and `other` and files in `d` whose names end in `mark`.
fn layer(mark: &str) -> Arc<dyn Layer> {
    let path = |text: &str| EntryPath::parse(text.as_bytes(), &Limits::default()).unwrap();
    let mut builder = Builder::new(Limits::default());
    builder.add(&Entry::new(path("d"), EntryKind::Directory)).unwrap();
    builder.add(&Entry::new(path("other"), EntryKind::Directory)).unwrap();
    for at in 0..FILES {
        let kind = EntryKind::File { size: 10, extents: Vec::new() };
        let mut entry = Entry::new(path(&format!("d/{at:04}{mark}")), kind);
        entry.header_offset = at as u64 * 1024;
        builder.add(&entry).unwrap();
    }
    let toc = builder.finish([1; 32], TAR_SIZE).unwrap();
    let file = |bytes: &[u8], size| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(size).unwrap();
        file.rewind().unwrap();
        file
    };
    let layer = TocLayer::open(file(&toc, toc.len() as u64), file(b"", TAR_SIZE), mark.to_owned());
    Arc::new(layer.unwrap())
}

fn image() -> LayerFs {
    LayerFs::new(Stack::new(vec![layer("a"), layer("b")], None, Follow::default()).unwrap())
}

/// The number of entries visited with their attributes.
fn walk(fs: &LayerFs, ino: Ino) -> usize {
    let mut count = 0;
    fs.readdirplus(ino, 0, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    count
}

#[test]
fn requests_to_an_image_allocate_nothing() {
    let fs = image();
    let directory = fs.lookup(Ino::ROOT, b"d").unwrap().unwrap().ino;
    let file = fs.lookup(directory, b"0000a").unwrap().unwrap().ino;
    let mut buffer = [0; 4096];
    let nothing = |what: &str, body: &mut dyn FnMut()| assert_eq!(allocations(body).0, 0, "{what}");
    nothing("getattr of a file", &mut || assert_eq!(fs.getattr(file).unwrap().meta.size, 10));
    nothing("getattr of a directory", &mut || assert!(fs.getattr(directory).unwrap().meta.kind.is_directory()));
    nothing("lookup", &mut || assert!(fs.lookup(directory, b"0500b").unwrap().is_some()));
    nothing("lookup of nothing", &mut || assert!(fs.lookup(directory, b"nothing").unwrap().is_none()));
    nothing("read", &mut || assert_eq!(fs.read(file, 0, &mut buffer).unwrap(), 10));
    nothing("forget", &mut || fs.forget(file, 1));
}

#[test]
fn a_directory_is_merged_with_few_allocations_and_listed_with_none() {
    let fs = image();
    let directory = fs.lookup(Ino::ROOT, b"d").unwrap().unwrap().ino;
    let (merging, count) = allocations(|| walk(&fs, directory));
    assert_eq!(count, 2 * FILES + 2);
    assert!(merging < 100, "{merging} allocations to merge {count} names");
    let (again, _) = allocations(|| walk(&fs, directory));
    assert!(again <= 4, "{again} allocations to list {count} names again");
}
