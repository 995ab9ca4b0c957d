//! Properties of reader and writer, and the reader on damaged archives.

use super::*;
use crate::model::{DeviceNumber, Timestamp};
use crate::testing::Noise;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no name has these", |byte| *byte != 0 && *byte != b'/');
    let short = vec(byte.clone(), 1..6);
    let long = vec(byte, 90..=255);
    prop_oneof![4 => short, 1 => long].prop_filter("not a name", |name| name != b"." && name != b"..")
}

fn path() -> impl Strategy<Value = EntryPath> {
    vec(name(), 1..6).prop_map(|names| EntryPath::parse(&names.join(&b'/'), &Limits::default()).unwrap())
}

fn kind() -> impl Strategy<Value = EntryKind> {
    let device = any::<(u32, u32)>().prop_map(|(major, minor)| DeviceNumber { major, minor });
    let target = vec(any::<u8>().prop_filter("no target has it", |byte| *byte != 0), 1..300);
    prop_oneof![
        (0u64..2000).prop_map(|size| EntryKind::File { size, extents: Vec::new() }),
        path().prop_map(|target| EntryKind::HardLink { target }),
        target.prop_map(|target| EntryKind::Symlink { target }),
        Just(EntryKind::Directory),
        device.clone().prop_map(|device| EntryKind::CharDevice { device }),
        device.prop_map(|device| EntryKind::BlockDevice { device }),
        Just(EntryKind::Fifo),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let xattr_name = "[a-z=%.\u{fc}]{1,20}".prop_map(|name| format!("user.{name}").into_bytes());
    let xattrs = btree_map(xattr_name, vec(any::<u8>(), 0..50), 0..4);
    let seconds = prop_oneof![any::<i32>().prop_map(i64::from), -(1i64 << 55)..(1 << 55)];
    (path(), kind(), 0u16..0o10000, any::<(u32, u32)>(), seconds, xattrs).prop_map(
        |(path, kind, permissions, (uid, gid), seconds, xattrs)| Entry {
            permissions,
            uid,
            gid,
            mtime: Timestamp::from_seconds(seconds),
            // Names that overlays use are left out of archives.
            xattrs: xattrs.into_iter().filter(|(name, _)| !name.starts_with(b"user.overlay.")).collect(),
            ..Entry::new(path, kind)
        },
    )
}

/// The data of the file number `at` in an archive.
fn data(entry: &Entry, at: usize) -> Vec<u8> {
    (0..entry.size()).map(|offset| (offset as usize * 7 + at) as u8).collect()
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (at, entry) in entries.iter().enumerate() {
        writer.append(entry, &mut data(entry, at).as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in vec(entry(), 0..12)) {
        let bytes = written(&entries);
        prop_assert_eq!(bytes.len() % 512, 0);
        let mut reader = Reader::new(bytes.as_slice(), Limits::default());
        for (at, expected) in entries.iter().enumerate() {
            let mut found = reader.next_entry().unwrap().unwrap();
            prop_assert_eq!(reader.read_data(&found, 1 << 20).unwrap(), data(expected, at));
            if let EntryKind::File { extents, .. } = &mut found.kind {
                for extent in extents.drain(..) {
                    let start = extent.archive_offset as usize;
                    prop_assert_eq!(&bytes[start..start + extent.length as usize], data(expected, at));
                }
            }
            found.header_offset = 0;
            prop_assert_eq!(&found, expected);
        }
        prop_assert!(reader.next_entry().unwrap().is_none());
        prop_assert_eq!(reader.drain().unwrap(), bytes.len() as u64);
    }

    #[test]
    fn skipping_and_seeking_see_what_reading_sees(entries in vec(entry(), 0..12)) {
        let bytes = written(&entries);
        let mut skipping = Reader::new(bytes.as_slice(), Limits::default());
        let mut seeking = Reader::seekable(std::io::Cursor::new(&bytes), Limits::default());
        let mut reading = Reader::new(bytes.as_slice(), Limits::default());
        loop {
            let entry = reading.next_entry().unwrap();
            prop_assert_eq!(&entry, &skipping.next_entry().unwrap());
            prop_assert_eq!(&entry, &seeking.next_entry().unwrap());
            let Some(entry) = entry else { break };
            reading.read_data(&entry, 1 << 20).unwrap();
        }
    }

    #[test]
    fn any_bytes_are_an_archive_or_an_error(bytes in vec(any::<u8>(), 0..3000)) {
        let mut reader = Reader::new(bytes.as_slice(), Limits::default());
        while let Ok(Some(_)) = reader.next_entry() {}
    }
}

/// Damaged archives, the checksums of their headers mended so that the damage is not found at once.
#[test]
fn damaged_archives_give_errors_not_panics() {
    let corpus = crate::testing::archives();
    for seed in crate::testing::seeds(6000) {
        let mut noise = Noise::new(seed);
        let mut bytes = corpus[noise.below(corpus.len())].clone();
        noise.damage(&mut bytes);
        if noise.below(4) > 0 {
            crate::testing::mend_checksums(&mut bytes);
        }
        let mut reader = Reader::new(bytes.as_slice(), Limits::default());
        while let Ok(Some(entry)) = reader.next_entry() {
            check_extents(&entry, bytes.len() as u64, seed);
            // Sparse files may claim any size.
            if reader.read_data(&entry, 1 << 16).is_err() {
                break;
            }
        }
    }
}

fn check_extents(entry: &Entry, archive_size: u64, seed: u64) {
    let EntryKind::File { size, extents } = &entry.kind else { return };
    let mut end = 0;
    for extent in extents {
        assert!(extent.length > 0 && extent.file_offset >= end, "seed {seed}: {entry:?}");
        end = extent.file_offset + extent.length;
    }
    // Data may be cut off by the end of the archive, but begin after a header that is there.
    let begins = extents.first().map_or(512, |extent| extent.archive_offset);
    assert!(begins >= 512 && begins <= archive_size, "seed {seed}: {entry:?}");
    assert!(end <= *size, "seed {seed}: {entry:?}");
}
