//! Reader and writer together, and the reader on hand-made headers.

use super::*;
use crate::model::{DeviceNumber, Timestamp};
use std::io::{Cursor, Read};

/// One block with the given name, type and size.
fn block(name: &[u8], type_flag: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [type_flag];
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    header
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A header with data.
fn member(name: &[u8], type_flag: u8, data: &[u8]) -> Vec<u8> {
    [block(name, type_flag, data.len() as u64).as_bytes().as_slice(), &padded(data)].concat()
}

fn record(key: &str, value: &str) -> String {
    let body = key.len() + value.len() + 3;
    let digits = (1..9).find(|digits| (body + digits).to_string().len() == *digits).unwrap();
    format!("{} {key}={value}\n", body + digits)
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let text: String = records.iter().map(|(key, value)| record(key, value)).collect();
    member(b"PaxHeaders/x", b'x', text.as_bytes())
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

fn read_all(bytes: &[u8], limits: &Limits) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(bytes, limits.clone());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let data = reader.read_data(&entry, 1 << 20)?;
        entries.push((entry, data));
    }
    Ok(entries)
}

fn read(parts: &[Vec<u8>]) -> Result<Vec<(Entry, Vec<u8>)>> {
    read_all(&parts.concat(), &Limits::default())
}

fn only(parts: &[Vec<u8>]) -> (Entry, Vec<u8>) {
    let mut entries = read(parts).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn path(text: &[u8]) -> EntryPath {
    EntryPath::parse(text, &Limits::default()).unwrap()
}

fn file(name: &str, size: u64) -> Entry {
    Entry::new(path(name.as_bytes()), EntryKind::File { size, extents: Vec::new() })
}

/// What is read back of what was written, extents and offsets left out.
fn round_trip(entries: &[(Entry, Vec<u8>)]) -> Vec<(Entry, Vec<u8>)> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, &mut data.as_slice()).unwrap();
    }
    let mut read = read_all(&writer.finish().unwrap(), &Limits::default()).unwrap();
    for (entry, _) in &mut read {
        entry.header_offset = 0;
        if let EntryKind::File { extents, .. } = &mut entry.kind {
            extents.clear();
        }
    }
    read
}

#[test]
fn every_type_flag() {
    let kinds = [
        (b'0', EntryKind::File { size: 0, extents: vec![] }),
        (0, EntryKind::File { size: 0, extents: vec![] }),
        (b'7', EntryKind::File { size: 0, extents: vec![] }),
        (b'5', EntryKind::Directory),
        (b'D', EntryKind::Directory),
        (b'6', EntryKind::Fifo),
        (b'3', EntryKind::CharDevice { device: DeviceNumber::default() }),
        (b'4', EntryKind::BlockDevice { device: DeviceNumber::default() }),
    ];
    for (flag, kind) in kinds {
        assert_eq!(only(&[member(b"x", flag, b""), end()]).0.kind, kind, "{}", flag.escape_ascii());
    }
    assert_eq!(only(&[member(b"x/", 0, b""), end()]).0.kind, EntryKind::Directory);
    for flag in [b'M', b'N', b'A', b'E', b'I', b'z', b'8', 0xff] {
        let error = read(&[member(b"dir/name", flag, b""), end()]).unwrap_err();
        assert!(matches!(error, Error::Unsupported { type_flag, .. } if type_flag == flag), "{error}");
        assert!(error.to_string().contains("dir/name"), "{error}");
    }
    assert!(read(&[member(b"label", b'V', b""), end()]).unwrap().is_empty());
}

#[test]
fn links() {
    let link = |flag, target: &[u8]| {
        let mut header = block(b"l", flag, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        vec![header.as_bytes().to_vec(), end()]
    };
    assert_eq!(only(&link(b'1', b"/a//b")).0.kind, EntryKind::HardLink { target: path(b"a/b") });
    assert_eq!(only(&link(b'2', b"../../x/")).0.kind, EntryKind::Symlink { target: b"../../x/".to_vec() });
    for (target, problem) in [("../a", "`..`"), ("", "empty"), ("./", "empty")] {
        let error = read(&link(b'1', target.as_bytes())).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert!(matches!(read(&link(b'2', b"")), Err(Error::Field { .. })));
}

#[test]
fn hostile_names_are_refused_with_the_name() {
    for name in ["../etc/passwd", "a/../../b", ".."] {
        let error = read(&[member(name.as_bytes(), b'0', b""), end()]).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(matches!(read(&[member(b"", b'0', b""), end()]), Err(Error::Name { source: InvalidPath::Empty, .. })));
    let error = read(&[pax(&[("path", "a\0b")]), member(b"x", b'0', b""), end()]).unwrap_err();
    assert!(matches!(&error, Error::Name { source: InvalidPath::Nul, .. }), "{error}");
    let error = read(&[pax(&[("path", &"n".repeat(256))]), member(b"x", b'0', b""), end()]).unwrap_err();
    assert!(matches!(&error, Error::Name { source: InvalidPath::LongName { limit: 255 }, .. }), "{error}");
    let error = read(&[pax(&[("path", &"n/".repeat(16385))]), member(b"x", b'0', b""), end()]).unwrap_err();
    assert!(matches!(&error, Error::Name { source: InvalidPath::LongPath { limit: 32768 }, .. }), "{error}");
}

#[test]
fn long_names_of_gnu_and_pax() {
    let long = "d/".repeat(100) + "file";
    let gnu = [member(b"././@LongLink", b'L', format!("{long}\0").as_bytes()), member(b"d/d", b'0', b"x"), end()];
    let (entry, data) = only(&gnu);
    assert_eq!((entry.path.as_bytes(), data.as_slice()), (long.as_bytes(), &b"x"[..]));
    assert_eq!(entry.header_offset, 0);
    let link = [member(b"././@LongLink", b'K', long.as_bytes()), member(b"l", b'2', b""), end()];
    assert_eq!(only(&link).0.kind, EntryKind::Symlink { target: long.clone().into_bytes() });
    let both = [pax(&[("linkpath", &long), ("path", "p")]), member(b"l", b'1', b""), end()];
    let (entry, _) = only(&both);
    assert_eq!((entry.path, entry.kind), (path(b"p"), EntryKind::HardLink { target: path(long.as_bytes()) }));
}

#[test]
fn the_prefix_of_ustar_and_star() {
    let mut header = block(b"name", b'0', 0);
    header.as_ustar_mut().unwrap().prefix[..5].copy_from_slice(b"a/dir");
    header.set_cksum();
    assert_eq!(only(&[header.as_bytes().to_vec(), end()]).0.path, path(b"a/dir/name"));
    let prefix = &mut header.as_ustar_mut().unwrap().prefix;
    prefix[..131].copy_from_slice(&b"d/".repeat(66)[..131]);
    prefix[131..143].copy_from_slice(b"00000000001 ");
    header.as_mut_bytes()[508..].copy_from_slice(b"tar\0");
    header.set_cksum();
    let (entry, _) = only(&[header.as_bytes().to_vec(), end()]);
    assert_eq!(entry.path.as_bytes().len(), 131 + "/name".len());
}

#[test]
fn numbers_beyond_octal() {
    let records = [("size", "3"), ("uid", "4294967295"), ("gid", "3000000"), ("mtime", "-1.25"), ("atime", "7")];
    let (entry, data) = only(&[pax(&records), block(b"f", b'0', 0).as_bytes().to_vec(), padded(b"abc"), end()]);
    assert_eq!((entry.uid, entry.gid, data.as_slice()), (u32::MAX, 3_000_000, &b"abc"[..]));
    assert_eq!(entry.mtime, Timestamp { seconds: -2, nanoseconds: 750_000_000 });
    assert_eq!((entry.atime, entry.ctime), (Some(Timestamp::from_seconds(7)), None));
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[0] = b'f';
    header.set_uid(0x0012_3456_7890);
    header.set_gid(3_000_000);
    header.as_old_mut().mtime = [0xff; 12];
    header.set_size(0);
    header.set_mode(0o4755);
    header.set_cksum();
    assert!(matches!(read(&[header.as_bytes().to_vec()]), Err(Error::Field { field: "owner", .. })));
    header.set_uid(2_097_152);
    header.set_cksum();
    let (entry, _) = only(&[header.as_bytes().to_vec()]);
    assert_eq!((entry.uid, entry.gid, entry.permissions), (2_097_152, 3_000_000, 0o4755));
    assert_eq!(entry.mtime, Timestamp::from_seconds(-1));
}

#[test]
fn sizes_beyond_8_gib_are_offsets_not_memory() {
    let size = 9 << 30;
    let head = [pax(&[("size", &size.to_string())]), block(b"f", b'0', 0).as_bytes().to_vec()].concat();
    let tail = [member(b"g", b'0', b"z"), end()].concat();
    let mut reader = Reader::seekable(Sparse { head, size, tail, position: 0 }, Limits::default());
    let first = reader.next_entry().unwrap().unwrap();
    assert_eq!(first.size(), size);
    let second = reader.next_entry().unwrap().unwrap();
    assert_eq!(second.header_offset, 1536 + size);
    assert_eq!(reader.read_data(&second, 10).unwrap(), b"z");
    assert!(reader.next_entry().unwrap().is_none());
}

/// `size` bytes of `x` between two buffers.
struct Sparse {
    head: Vec<u8>,
    size: u64,
    tail: Vec<u8>,
    position: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let middle = self.head.len() as u64;
        let count = if self.position < middle {
            (&self.head[self.position as usize..]).read(buffer)?
        } else if self.position < middle + self.size {
            std::io::repeat(b'x').take(middle + self.size - self.position).read(buffer)?
        } else {
            (&self.tail[(self.position - middle - self.size) as usize..]).read(buffer)?
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl std::io::Seek for Sparse {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        let end = (self.head.len() + self.tail.len()) as u64 + self.size;
        self.position = match to {
            std::io::SeekFrom::Start(offset) => offset,
            std::io::SeekFrom::Current(delta) => self.position.checked_add_signed(delta).unwrap(),
            std::io::SeekFrom::End(delta) => end.checked_add_signed(delta).unwrap(),
        };
        Ok(self.position)
    }
}

#[test]
fn global_headers_count_until_taken_back() {
    let global = |records: &[(&str, &str)]| {
        let text: String = records.iter().map(|(key, value)| record(key, value)).collect();
        member(b"g", b'g', text.as_bytes())
    };
    let entries = read(&[
        global(&[("uid", "5"), ("comment", "c"), ("SCHILY.xattr.user.g", "1")]),
        member(b"a", b'0', b""),
        pax(&[("uid", "6")]),
        member(b"b", b'0', b""),
        pax(&[("uid", "")]),
        member(b"c", b'0', b""),
        global(&[("uid", "7")]),
        member(b"d", b'0', b""),
        end(),
    ])
    .unwrap();
    assert_eq!(entries.iter().map(|(entry, _)| entry.uid).collect::<Vec<_>>(), [5, 6, 0, 7]);
    assert!(entries.iter().all(|(entry, _)| entry.xattrs == [(b"user.g".to_vec(), b"1".to_vec())]));
}

fn sparse_data() -> Vec<u8> {
    [vec![0; 10], b"hello".to_vec(), vec![0; 85]].concat()
}

#[test]
fn sparse_files_of_every_pax_format() {
    let zero = [("GNU.sparse.size", "100"), ("GNU.sparse.offset", "10"), ("GNU.sparse.numbytes", "5")];
    let one = [("GNU.sparse.size", "100"), ("GNU.sparse.map", "10,5,100,0"), ("GNU.sparse.name", "real")];
    let major = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "real"),
        ("GNU.sparse.realsize", "100"),
    ];
    let with_map = [padded(b"2\n10\n5\n100\n0\n"), b"hello".to_vec()].concat();
    for (records, name, stored, data_at) in [
        (&zero[..], "x", b"hello".to_vec(), 1536),
        (&one, "real", b"hello".to_vec(), 1536),
        (&major, "real", with_map, 2048),
    ] {
        let (entry, data) = only(&[pax(records), member(b"x", b'0', &stored), end()]);
        let extent = Extent { file_offset: 10, archive_offset: data_at, length: 5 };
        assert_eq!(entry.kind, EntryKind::File { size: 100, extents: vec![extent] });
        assert_eq!(entry.path.as_bytes(), name.as_bytes());
        assert_eq!(data, sparse_data());
    }
    for records in [
        &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")][..],
        &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "100")],
        &[("GNU.sparse.size", "100"), ("GNU.sparse.map", "10,6")],
        &[("GNU.sparse.size", "12"), ("GNU.sparse.map", "10,5")],
        &[("GNU.sparse.map", "10,5")],
    ] {
        let error = read(&[pax(records), member(b"x", b'0', b"hello"), end()]).unwrap_err();
        assert!(matches!(error, Error::Field { .. }), "{records:?}: {error}");
    }
}

#[test]
fn old_gnu_sparse_files_with_extension_blocks() {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[0] = b'f';
    header.as_old_mut().linkflag = *b"S";
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(7);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(100);
    for (at, piece) in gnu.sparse.iter_mut().enumerate() {
        piece.set_offset(at as u64 * 10);
        piece.set_length(1);
    }
    gnu.set_is_extended(true);
    header.set_cksum();
    let mut extension = tar::GnuExtSparseHeader::new();
    extension.sparse_mut()[0].set_offset(50);
    extension.sparse_mut()[0].set_length(3);
    let parts = [
        header.as_bytes().to_vec(),
        extension.as_bytes().to_vec(),
        padded(b"abcdXYZ"),
        member(b"g", b'0', b"z"),
        end(),
    ];
    let entries = read(&parts).unwrap();
    let mut expected = vec![0; 100];
    for (at, byte) in [(0, b'a'), (10, b'b'), (20, b'c'), (30, b'd'), (50, b'X'), (51, b'Y'), (52, b'Z')] {
        expected[at] = byte;
    }
    assert_eq!(entries[0].1, expected);
    assert_eq!(entries[1].1, b"z");
    let limits = Limits { extents: 4, ..Limits::default() };
    assert!(matches!(read_all(&parts.concat(), &limits), Err(Error::Limit { limit: 4, .. })));
    let limits = Limits { extents_total: 4, ..Limits::default() };
    assert!(matches!(read_all(&parts.concat(), &limits), Err(Error::Limit { limit: 4, .. })));
}

#[test]
fn limits_are_errors() {
    let value = "v".repeat(100);
    let two =
        [pax(&[("SCHILY.xattr.user.a", &value), ("SCHILY.xattr.user.b", &value)]), member(b"x", b'0', b"")].concat();
    let archive = [two, member(b"y", b'0', b""), end()].concat();
    assert_eq!(read_all(&archive, &Limits::default()).unwrap().len(), 2);
    for limits in [
        Limits { entries: 1, ..Limits::default() },
        Limits { xattr: 99, ..Limits::default() },
        Limits { xattrs: 199, ..Limits::default() },
        Limits { pax_header: 200, ..Limits::default() },
        Limits { text_total: 213, ..Limits::default() },
    ] {
        let error = read_all(&archive, &limits).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{limits:?}: {error}");
    }
    let global = member(b"g", b'g', record("comment", &value).as_bytes()).repeat(2);
    let limits = Limits { pax_header: 150, ..Limits::default() };
    assert!(matches!(read_all(&global, &limits), Err(Error::Limit { .. })));
    let huge = block(b"././@LongLink", b'L', 1 << 40);
    assert!(matches!(read(&[huge.as_bytes().to_vec()]), Err(Error::Limit { .. })));
    let name = format!("SCHILY.xattr.user.{}", "n".repeat(255));
    let error = read(&[pax(&[(&name, "v")]), member(b"x", b'0', b""), end()]).unwrap_err();
    assert!(matches!(error, Error::Limit { limit: 255, .. }), "{error}");
}

#[test]
fn damage_is_told_where_it_is() {
    let archive = [member(b"a", b'0', &[b'x'; 600]), member(b"b", b'0', b"y"), end()].concat();
    for cut in 1..archive.len() - 1024 {
        let result = read_all(&archive[..cut], &Limits::default());
        match cut {
            1536 => assert_eq!(result.unwrap().len(), 1, "the end of an entry may be the end of the archive"),
            2560 => assert_eq!(result.unwrap().len(), 2),
            _ => assert!(matches!(result, Err(Error::Truncated { .. })), "cut at {cut}: {result:?}"),
        }
    }
    let mut flipped = archive.clone();
    flipped[1536 + 3] ^= 1;
    assert!(matches!(read_all(&flipped, &Limits::default()), Err(Error::Header { offset: 1536 })));
    assert!(matches!(read(&[vec![b'x'; 2000]]), Err(Error::Header { offset: 0 })));
    let orphan = read(&[pax(&[("path", "p")]), end()]).unwrap_err();
    assert!(matches!(orphan, Error::Truncated { .. }), "{orphan}");
    let lone = read(&[vec![0; 512], member(b"a", b'0', b"")]).unwrap_err();
    assert!(matches!(lone, Error::Header { offset: 512 }), "{lone}");
    assert!(read(&[]).unwrap().is_empty());
}

#[test]
fn a_failing_stream_is_an_error_at_its_offset() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    let head = member(b"a", b'0', b"x");
    let mut reader = Reader::new(head.as_slice().chain(Failing), Limits::default());
    reader.next_entry().unwrap();
    assert!(matches!(reader.next_entry(), Err(Error::Read { offset: 1024, .. })));
}

#[test]
fn data_are_counted_and_drained() {
    let archive = [member(b"a", b'0', b"abc"), end(), b"garbage after the end".to_vec()].concat();
    let mut reader = Reader::new(archive.as_slice(), Limits::default());
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(
        entry.kind,
        EntryKind::File { size: 3, extents: vec![Extent { file_offset: 0, archive_offset: 512, length: 3 }] }
    );
    assert!(matches!(reader.read_data(&entry, 2), Err(Error::Limit { limit: 2, .. })));
    assert!(reader.next_entry().unwrap().is_none());
    assert_eq!(reader.drain().unwrap(), archive.len() as u64);
}

#[test]
fn archives_in_files_are_read_in_any_order() {
    use std::io::Write;
    let mut link = block(b"dir/again", b'2', 0);
    link.as_old_mut().linkname[..7].copy_from_slice(b"../one\0");
    link.set_cksum();
    let sparse = [("GNU.sparse.size", "100"), ("GNU.sparse.map", "10,5")];
    let bytes = [
        member(b"one", b'0', &vec![b'1'; 20000]),
        member(b"two", b'0', b"old"),
        link.as_bytes().to_vec(),
        member(b"two", b'0', b"2"),
        [pax(&sparse), member(b"holes", b'0', b"hello")].concat(),
        end(),
    ];
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes.concat()).unwrap();
    let archive = Archive::open(file, Limits::default()).unwrap();
    let content = |name: &str| {
        let mut bytes = Vec::new();
        let entry = archive.find(&path(name.as_bytes())).unwrap();
        archive.data(entry).read_to_end(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(content("two"), b"2");
    assert_eq!(content("dir/again"), vec![b'1'; 20000]);
    assert_eq!(content("holes"), sparse_data());
    assert_eq!(content("one"), vec![b'1'; 20000]);
    assert!(archive.find(&path(b"three")).is_none());
    let mut cut = tempfile::tempfile().unwrap();
    cut.write_all(&bytes.concat()[..9000]).unwrap();
    assert!(matches!(Archive::open(cut, Limits::default()), Err(Error::Truncated { .. })));
}

#[test]
fn what_is_written_is_read_back() {
    let mut odd = file(&("long/".repeat(60) + "\u{fc}"), 5);
    odd.uid = u32::MAX;
    odd.gid = 2_097_152;
    odd.permissions = 0o6755;
    odd.mtime = Timestamp::from_seconds(-12345);
    odd.xattrs =
        vec![(b"security.capability".to_vec(), vec![0, 1, b'\n', 255]), (b"user.a=b".to_vec(), b"\0".to_vec())];
    let entry = |name: &[u8], kind| Entry::new(path(name), kind);
    let device = DeviceNumber { major: 3_000_000, minor: 5 };
    let mut late = entry(b"\xff\xfe", EntryKind::Fifo);
    late.mtime = Timestamp::from_seconds(1 << 40);
    let entries = [
        (entry(b"./", EntryKind::Directory), vec![]),
        (odd, b"hello".to_vec()),
        (entry(&[b"\xff/".repeat(80), b"end".to_vec()].concat(), EntryKind::Directory), vec![]),
        (entry(b"h", EntryKind::HardLink { target: path("t/".repeat(70).as_bytes()) }), vec![]),
        (entry(b"s", EntryKind::Symlink { target: b"/\xc3\xbc".to_vec() }), vec![]),
        (entry(b"c", EntryKind::CharDevice { device }), vec![]),
        (entry(b"b", EntryKind::BlockDevice { device: DeviceNumber { major: 8, minor: 1 } }), vec![]),
        (late, vec![]),
        (file("big", 600_000), vec![7; 600_000]),
        (file("empty", 0), vec![]),
    ];
    assert_eq!(round_trip(&entries), entries);
}

#[test]
fn times_are_written_as_whole_seconds() {
    let mut entry = file("f", 0);
    entry.mtime = Timestamp { seconds: -2, nanoseconds: 750_000_000 };
    entry.atime = Some(Timestamp::from_seconds(9));
    let read = round_trip(&[(entry, vec![])]);
    assert_eq!((read[0].0.mtime, read[0].0.atime), (Timestamp::from_seconds(-2), None));
}

#[test]
fn sources_must_have_the_size_announced() {
    let append = |size, data: &[u8]| Writer::new(Vec::new()).append(&file("f", size), &mut Cursor::new(data));
    assert!(append(3, b"abc").is_ok());
    assert!(matches!(append(4, b"abc"), Err(Error::ShortSource { expected: 4, found: 3, .. })));
    assert!(matches!(append(2, b"abc"), Err(Error::LongSource { expected: 2, .. })));
}
