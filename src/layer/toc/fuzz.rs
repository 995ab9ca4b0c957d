//! Damaged archives through the builder, and damaged tables through the layer: errors, never a panic, a read outside of
//! the tar or a walk without end. The pretended tar of [`testing`] asserts that reads lie inside.

use super::format::{self, HEADER_SIZE, Header};
use super::{Builder, TocLayer, testing};
use crate::archive::tar::{Limits, Reader};
use crate::testing::{Noise, archives, entries, mend_checksums, seeds};
use crate::union::{EntryKind, Layer, LocalIno};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

/// Uses everything there is in the layer; errors are answers.
fn exercise(layer: &TocLayer, noise: &mut Noise) {
    // More numbers than there are, to ask for some that are not.
    for ino in (0..layer.inode_count().min(200) + 2).map(LocalIno) {
        let _ = layer.meta(ino);
        let _ = layer.read_link(ino);
        let _ = layer.link_target(ino);
        let _ = layer.only_whiteouts(ino);
        let _ = layer.header_offset(ino);
        let _ = layer.directory_path(ino);
        let _ = layer.backing_file(ino);
        let mut names = Vec::new();
        let _ = layer.xattr_names(ino, &mut |name| names.push(name.to_vec()));
        for name in names.iter().map(Vec::as_slice).chain([&b"user.x"[..]]).take(20) {
            let _ = layer.xattr(ino, name);
        }
        for name in [&b"dir"[..], b"file", b"", b"\xff", &[b'x'; 300]] {
            let _ = layer.lookup(ino, name);
        }
        for offset in [0, 1, noise.next() >> 50, noise.next()] {
            let mut buffer = [0; 300];
            let length = noise.below(buffer.len());
            let _ = layer.read_at(ino, offset, &mut buffer[..length]);
            let _ = layer.seek(ino, offset, noise.below(2) == 0);
        }
    }
    let _ = layer.root_is_opaque();
    let _ = layer.implied_directories(&mut |_, _| {});
    let _ = layer.verify(&testing::DIFF_ID);
    let _ = layer.check_records();
    walk(layer);
}

/// Walks from the root; there cannot be more directories than inodes.
fn walk(layer: &TocLayer) {
    let mut directories = vec![layer.root()];
    let mut visited = 0;
    while let Some(dir) = directories.pop() {
        visited += 1;
        assert!(visited <= layer.inode_count(), "the walk goes on and on");
        let _ = layer.entries(dir, &mut |entry| {
            if let EntryKind::Node { ino, kind, .. } = entry.kind
                && kind.is_directory()
            {
                directories.push(ino);
            }
        });
    }
}

fn sound_toc() -> Vec<u8> {
    let mut entries: Vec<_> = entries().into_iter().map(|(entry, _)| entry).collect();
    let mut archive = 0;
    for entry in &mut entries {
        if let crate::archive::tar::EntryKind::File { size, extents } = &mut entry.kind
            && *size > 0
        {
            // Every second file has a hole in its middle.
            archive += 512;
            let half = *size / 2;
            let extent = |file_offset, length| crate::archive::tar::Extent {
                file_offset,
                archive_offset: archive + file_offset,
                length,
            };
            *extents = if archive % 1024 == 0 { vec![extent(0, *size)] } else { vec![extent(half, *size - half)] };
        }
        entry.atime = Some(crate::model::Timestamp::from_seconds(9));
    }
    testing::toc_of(&entries).unwrap()
}

fn mend_header(bytes: &mut [u8]) {
    let Ok((mut header, _)) = Header::read_from_prefix(bytes) else { return };
    header.header_checksum = U32::new(format::header_checksum(&header));
    bytes[..HEADER_SIZE].copy_from_slice(header.as_bytes());
}

#[test]
fn the_table_is_sound_before_it_is_damaged() {
    let layer = testing::open(&sound_toc()).unwrap();
    layer.verify(&testing::DIFF_ID).unwrap();
    exercise(&layer, &mut Noise::new(0));
}

#[test]
fn damaged_tables_give_errors_not_panics() {
    let sound = sound_toc();
    let mut opened = 0;
    for seed in seeds(3000) {
        let mut noise = Noise::new(seed);
        let mut bytes = sound.clone();
        for _ in 0..=noise.below(6) {
            let at = if noise.below(5) == 0 { noise.below(HEADER_SIZE) } else { noise.below(bytes.len()) };
            match noise.below(4) {
                0 => bytes[at] ^= 1 << noise.below(8),
                1 => bytes[at] = noise.next() as u8,
                2 => {
                    let end = (at + 4).min(bytes.len());
                    bytes[at..end].fill([0, 0xff, 0x7f][noise.below(3)]);
                }
                // Another valid field in the wrong place.
                _ => {
                    let from = noise.below(bytes.len() - 8) / 4 * 4;
                    let to = at.min(bytes.len() - 8) / 4 * 4;
                    bytes.copy_within(from..from + 8, to);
                }
            }
        }
        if noise.below(50) == 0 {
            bytes.truncate(noise.below(bytes.len()));
        }
        mend_header(&mut bytes);
        // A failure in here names no seed by itself.
        let result = std::panic::catch_unwind(|| match testing::open(&bytes) {
            Ok(layer) => {
                exercise(&layer, &mut Noise::new(seed));
                1
            }
            Err(_) => 0,
        });
        opened += result.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(opened > 1000, "only {opened} of the damaged tables could be opened: the others test nothing");
}

#[test]
fn damage_of_any_byte_is_found_by_verify() {
    let sound = sound_toc();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        let Ok(layer) = testing::open(&bytes) else { continue };
        assert!(layer.verify(&testing::DIFF_ID).is_err(), "byte {at}");
    }
}

#[test]
fn headers_are_checked_when_opened() {
    let sound = sound_toc();
    let open = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        testing::open(&bytes).unwrap_err().to_string()
    };
    assert!(open(&|bytes| bytes.truncate(50)).contains("not a table of contents"));
    assert!(open(&Vec::clear).contains("not a table of contents"));
    assert!(open(&|bytes| bytes[0] = b'X').contains("not a table of contents"));
    assert!(open(&|bytes| bytes[8] = 99).contains("version 99"));
    assert!(open(&|bytes| bytes[30] ^= 1).contains("checksum of the header"));
    assert!(open(&|bytes| bytes.truncate(500)).contains("size of the file"));
    assert!(open(&|bytes| bytes.push(0)).contains("size of the file"));
    let with_tar_size = |bytes: &mut Vec<u8>| {
        bytes[32] ^= 1;
        mend_header(bytes);
    };
    assert!(open(&with_tar_size).contains("the tar has"));
}

#[test]
fn damaged_archives_make_sound_tables_or_errors() {
    let corpus = archives();
    let mut built = 0;
    for seed in seeds(3000) {
        let mut noise = Noise::new(seed ^ 0x5555);
        let mut bytes = corpus[noise.below(corpus.len())].clone();
        noise.damage(&mut bytes);
        mend_checksums(&mut bytes);
        let mut builder = Builder::new(Limits::default());
        let mut reader = Reader::new(bytes.as_slice(), Limits::default());
        let mut good = true;
        while let Ok(Some(entry)) = reader.next_entry() {
            if builder.add(&entry).is_err() {
                good = false;
                break;
            }
        }
        if !good {
            continue;
        }
        let Ok(toc) = builder.finish(testing::DIFF_ID, testing::TAR_SIZE) else { continue };
        let layer = testing::open(&toc).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        layer.verify(&testing::DIFF_ID).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        exercise(&layer, &mut noise);
        built += 1;
    }
    assert!(built > 500, "only {built} of the damaged archives made a table");
}
