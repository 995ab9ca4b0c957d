//! How fast the steps of taking in a layer are, each alone. Not a test: run by hand, optimised, with
//! `cargo test --release --test fstests archives::speed -- --ignored --nocapture`. `LAYERFS_SPEED_TREE` names the tree that
//! is measured, `/usr` where it is not set.

use layerfs::archive::compression::{Compression, Decoder, Encoder, ExpansionLimit, Level};
use layerfs::archive::tar::{Entry, EntryKind as TarKind, EntryPath, Extent, Limits, Reader};
use layerfs::layer::toc::{Builder, TocLayer};
use layerfs::model::FileKind;
use layerfs::union::{EntryKind, Layer, LocalIno};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Processor time of this process so far, all threads. Unlike the clock it does not count what others do meanwhile.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs `work` three times and prints the medians of processor time and of time, and what `bytes` come to.
fn measure<T>(what: &str, bytes: u64, mut work: impl FnMut() -> T) -> T {
    let mut times: Vec<(Duration, Duration)> = Vec::new();
    let mut result = None;
    for _ in 0..3 {
        let (start, before) = (Instant::now(), processor_time());
        result = Some(work());
        times.push((processor_time().saturating_sub(before), start.elapsed()));
    }
    times.sort();
    let (processor, elapsed) = times[1];
    let speed = bytes as f64 / processor.as_secs_f64() / 1e6;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    eprintln!(
        "{what:28} {:8.1} ms of processor, {speed:7.0} MB/s   {:8.1} ms elapsed",
        milliseconds(processor),
        milliseconds(elapsed)
    );
    result.expect("it ran three times")
}

/// A stream of the whole file in pieces of 256 KiB, each passed to `seen`.
fn for_each_piece(mut input: impl Read, mut seen: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match input.read(&mut buffer).expect("a stream") {
            0 => break,
            count => seen(&buffer[..count]),
        }
    }
}

fn table(tar: impl Read, size: u64) -> (u64, Vec<u8>) {
    let mut reader = Reader::new(tar, Limits::default());
    let mut builder = Builder::new(Limits::default());
    let mut entries = 0;
    while let Some(entry) = reader.next_entry().expect("an entry") {
        builder.add(&entry).expect("an entry of a layer");
        entries += 1;
    }
    (entries, builder.finish([0; 32], size).expect("a table of contents"))
}

fn walk(layer: &TocLayer, dir: LocalIno, count: &mut u64) {
    let mut below = Vec::new();
    let mut objects = Vec::new();
    layer
        .entries(dir, &mut |entry| {
            if let EntryKind::Node { ino, kind, .. } = entry.kind {
                objects.push(ino);
                below.extend((kind == FileKind::Directory).then_some(ino));
            }
        })
        .expect("a listing");
    for ino in objects {
        *count += u64::from(layer.meta(ino).expect("metadata").nlink > 0);
    }
    for dir in below {
        walk(layer, dir, count);
    }
}

#[test]
#[ignore = "a measurement"]
fn steps_of_taking_in_a_layer() {
    let tree = std::env::var("LAYERFS_SPEED_TREE").unwrap_or_else(|_| "/usr".to_owned());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("tree.tar");
    let made =
        std::process::Command::new("tar").args(["--format=pax", "-C", &tree, "-cf"]).arg(&path).arg(".").status();
    assert!(made.expect("run tar").success());
    steps(&path, &directory.path().join("compressed"));
}

fn steps(path: &Path, compressed: &Path) {
    let open = |path: &Path| File::open(path).expect("the archive");
    let size = std::fs::metadata(path).expect("metadata").len();
    eprintln!("{size} bytes of tar");
    measure("read", size, || for_each_piece(open(path), |_| {}));
    measure("SHA-256", size, || {
        let mut hash = Sha256::new();
        for_each_piece(open(path), |piece| hash.update(piece));
        hash.finalize()
    });
    let (entries, toc) = measure("parse + TOC, streaming", size, || table(open(path), size));
    eprintln!("{entries} entries, {} bytes of TOC", toc.len());
    measure("parse, seeking", size, || {
        let mut reader = Reader::seekable(open(path), Limits::default());
        while reader.next_entry().expect("an entry").is_some() {}
    });
    let mut all = Vec::new();
    let mut reader = Reader::seekable(open(path), Limits::default());
    while let Some(entry) = reader.next_entry().expect("an entry") {
        all.push(entry);
    }
    let mut builder = None;
    measure("TOC: add all entries", size, || {
        let mut fresh = Builder::new(Limits::default());
        for entry in &all {
            fresh.add(entry).expect("an entry of a layer");
        }
        builder = Some(fresh);
    });
    let finish = processor_time();
    let bytes = builder.take().expect("a builder").finish([0; 32], size).expect("a table");
    eprintln!(
        "{:28} {:8.1} ms of processor",
        "TOC: finish",
        processor_time().saturating_sub(finish).as_secs_f64() * 1e3
    );
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&bytes).expect("write the table");
    let layer = TocLayer::open(file, open(path), "speed".to_owned()).expect("a layer");
    let count = measure("list and stat everything", 0, || {
        let mut count = 0;
        walk(&layer, layer.root(), &mut count);
        count
    });
    assert!(count > 0);
    measure("verify the TOC", bytes.len() as u64, || layer.verify(&[0; 32]).expect("a sound table"));
    for (name, compression, level) in [
        ("gzip", Compression::Gzip, Level::Default),
        ("gzip -1", Compression::Gzip, Level::Exactly(1)),
        ("zstd", Compression::Zstd, Level::Default),
    ] {
        measure(&format!("{name}: compress"), size, || {
            let mut encoder =
                Encoder::new(File::create(compressed).expect("a file"), compression, level).expect("an encoder");
            for_each_piece(open(path), |piece| encoder.write_all(piece).expect("compress"));
            encoder.finish().expect("the end");
        });
        eprintln!("{} bytes", std::fs::metadata(compressed).expect("metadata").len());
        measure(&format!("{name}: expand"), size, || {
            for_each_piece(Decoder::new(open(compressed), ExpansionLimit::default()).expect("a decoder"), |_| {});
        });
    }
}

/// The largest resident set of this process so far, in bytes.
fn largest_resident_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the state of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its largest resident set");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
}

#[test]
#[ignore = "a measurement"]
fn a_layer_of_many_entries() {
    let number = std::env::var("LAYERFS_SPEED_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000u64);
    let start = processor_time();
    let before = largest_resident_set();
    let mut builder = Builder::new(Limits::default());
    for at in 0..number {
        let path = format!("srv/data/{:04}/{:03}/object-{at}.bin", at / 50_000, at / 50 % 1000);
        let path = EntryPath::parse(path.as_bytes(), &Limits::default()).expect("a path");
        let extents = vec![Extent { file_offset: 0, archive_offset: at * 1024 + 512, length: 100 }];
        builder.add(&Entry::new(path, TarKind::File { size: 100, extents })).expect("an entry of a layer");
    }
    let added = processor_time();
    let toc = builder.finish([0; 32], number * 1024).expect("a table of contents");
    let finished = processor_time();
    eprintln!(
        "{number} entries: {:.0} ns to add one, {:.0} ns to write one, {} bytes of TOC each, {} bytes of memory each",
        added.saturating_sub(start).as_nanos() as f64 / number as f64,
        finished.saturating_sub(added).as_nanos() as f64 / number as f64,
        toc.len() as u64 / number,
        (largest_resident_set() - before) / number
    );
}
