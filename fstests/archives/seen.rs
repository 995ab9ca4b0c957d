//! What a layer made of an archive shows, as a [`Manifest`].

use crate::support::Manifest;
use crate::support::manifest::{Record, escape};
use layerfs::archive::compression::{Decoder, ExpansionLimit};
use layerfs::archive::tar::{Limits, Reader};
use layerfs::layer::toc::{Builder, TocLayer};
use layerfs::model::FileKind;
use layerfs::union::{EntryKind, Layer, LocalIno};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// The layer of the archive at `path`, whatever it is compressed with.
pub(super) fn layer(path: &Path) -> TocLayer {
    let mut plain = tempfile::tempfile().expect("a temporary file");
    let input = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let decoder = Decoder::new(input, ExpansionLimit::default()).expect("a known compression");
    let mut reader = Reader::new(Keeping(decoder, &mut plain), Limits::default());
    let mut builder = Builder::new(Limits::default());
    while let Some(entry) = reader.next_entry().unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        builder.add(&entry).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let size = reader.drain().expect("the rest of the archive");
    let mut toc = tempfile::tempfile().expect("a temporary file");
    toc.write_all(&builder.finish([0; 32], size).expect("a table of contents")).expect("write it");
    let layer = TocLayer::open(toc, plain, path.display().to_string()).expect("the layer of what was just written");
    layer.verify(&[0; 32]).expect("a sound table of contents");
    layer
}

/// Everything that is to be seen of the archive at `path`.
pub(super) fn seen(path: &Path) -> Manifest {
    let layer = layer(path);
    let mut walk = Walk { layer: &layer, records: BTreeMap::new(), links: BTreeMap::new() };
    let root = walk.record(layer.root(), ".");
    walk.records.insert(".".to_owned(), root);
    walk.directory(layer.root(), "");
    Manifest(walk.records)
}

/// A stream that is written down as it is read.
struct Keeping<'a, R>(R, &'a mut File);

impl<R: Read> Read for Keeping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.write_all(&buffer[..count])?;
        Ok(count)
    }
}

struct Walk<'a> {
    layer: &'a TocLayer,
    records: BTreeMap<String, Record>,
    links: BTreeMap<LocalIno, String>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: LocalIno, prefix: &str) {
        let mut entries = Vec::new();
        self.layer.entries(dir, &mut |entry| entries.push((entry.name.to_vec(), entry.kind))).expect("a listing");
        for (name, kind) in entries {
            let path = format!("{prefix}{}", escape(&name));
            let EntryKind::Node { ino, kind, .. } = kind else { panic!("{path} is {kind:?}") };
            let record = self.record(ino, &path);
            self.records.insert(path.clone(), record);
            if kind == FileKind::Directory {
                self.directory(ino, &format!("{path}/"));
            }
        }
    }

    fn record(&mut self, ino: LocalIno, path: &str) -> Record {
        let meta = self.layer.meta(ino).expect("metadata");
        let mut record = Record {
            kind: match meta.kind {
                FileKind::File => "file",
                FileKind::Directory => "dir",
                FileKind::Symlink => "link",
                FileKind::CharDevice => "char",
                FileKind::BlockDevice => "block",
                FileKind::Fifo => "fifo",
                FileKind::Socket => "socket",
            }
            .to_owned(),
            mode: u32::from(meta.permissions),
            uid: meta.uid,
            gid: meta.gid,
            mtime: (meta.mtime.seconds, meta.mtime.nanoseconds),
            device: (meta.device.major, meta.device.minor),
            ..Record::default()
        };
        match meta.kind {
            FileKind::Symlink => record.target = escape(&self.layer.read_link(ino).expect("a target")),
            FileKind::File => record.sha256 = self.content_hash(ino, meta.size),
            _ => {}
        }
        if meta.kind != FileKind::Directory {
            (record.size, record.nlink) = (meta.size, u64::from(meta.nlink));
            if meta.nlink > 1 {
                record.first_name.clone_from(self.links.entry(ino).or_insert_with(|| path.to_owned()));
            }
        }
        let mut names = Vec::new();
        self.layer.xattr_names(ino, &mut |name| names.push(name.to_vec())).expect("names of xattrs");
        for name in names {
            let value = self.layer.xattr(ino, &name).expect("an xattr").expect("a listed xattr");
            record.xattrs.insert(escape(&name), escape(&value));
        }
        record
    }

    fn content_hash(&self, ino: LocalIno, size: u64) -> String {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 100_000];
        let mut offset = 0;
        loop {
            let count = self.layer.read_at(ino, offset, &mut buffer).expect("data");
            hash.update(&buffer[..count]);
            offset += count as u64;
            if count < buffer.len() {
                break;
            }
        }
        assert_eq!(offset, size, "reading and metadata disagree about the size");
        hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}
