//! Helpers of tests that live beside the code: reproducible noise, archives to damage.

use crate::archive::tar::{Entry, EntryKind, EntryPath, Limits, Writer};
use crate::model::{DeviceNumber, Timestamp};

/// Numbers that look random and follow from the seed (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Noise(u64);

impl Noise {
    /// A sequence of its own for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 for 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    /// Changes `bytes` in one to four places: bits, bytes, numbers, whole blocks, the end.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let block = at / 512 * 512;
            match self.below(8) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => bytes[at] = [0, 0xff, 0x7f, 0x80, b'/', b'.', b'0', b'9'][self.below(8)],
                3 => {
                    let end = (at + 1 + self.below(12)).min(bytes.len());
                    let value = [0, 0xff, b'7', self.next() as u8][self.below(4)];
                    bytes[at..end].fill(value);
                }
                4 => bytes.truncate(at.max(1)),
                5 => {
                    let end = (block + 512).min(bytes.len());
                    let copy = bytes[block..end].to_vec();
                    let to = self.below(bytes.len()) / 512 * 512;
                    bytes.splice(to..to, copy);
                }
                6 => {
                    let end = (block + 512).min(bytes.len());
                    bytes.drain(block..end);
                    bytes.extend((bytes.is_empty()).then_some(0));
                }
                _ => {
                    // The fields of a header: type, size, name.
                    let field = [156, 124, 135, 0, 345, 257, 482, 386][self.below(8)];
                    if let Some(byte) = bytes.get_mut(block + field) {
                        *byte = [b'x', b'L', b'S', b'1', b'5', b'7', 0x80, 0xff][self.below(8)];
                    }
                }
            }
        }
    }
}

/// Seeds of a test: `count` of them from `LAYERFS_SEED` on, or from 0. A failure names its seed.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let first = std::env::var("LAYERFS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    first..first + count
}

/// Gives every block that may be a header the checksum it should have.
pub(crate) fn mend_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        // Data that happen to look like a header are mended too; it does no harm.
        if !block[148..156].iter().all(|byte| matches!(byte, b'0'..=b'7' | b' ' | 0)) || block[148] == 0 {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes(), &Limits::default()).unwrap()
}

/// One entry of each kind, with names, links, marks and numbers that need extended headers.
pub(crate) fn entries() -> Vec<(Entry, Vec<u8>)> {
    let plain = |text: &str, kind| (Entry::new(path(text), kind), Vec::new());
    let file = |text: &str, data: &[u8]| {
        (Entry::new(path(text), EntryKind::File { size: data.len() as u64, extents: Vec::new() }), data.to_vec())
    };
    let mut odd = file(&("deep/".repeat(40) + "leaf"), &[7; 700]);
    odd.0.uid = 3_000_000;
    odd.0.mtime = Timestamp::from_seconds(-5);
    odd.0.xattrs = vec![(b"security.capability".to_vec(), vec![1; 20]), (b"user.x".to_vec(), b"\n=\0".to_vec())];
    vec![
        plain("./", EntryKind::Directory),
        plain("dir", EntryKind::Directory),
        file("dir/file", b"content"),
        plain("dir/hard", EntryKind::HardLink { target: path("dir/file") }),
        plain("forward", EntryKind::HardLink { target: path("later") }),
        plain("below", EntryKind::HardLink { target: path("usr/bin/tool") }),
        plain("link", EntryKind::Symlink { target: b"dir".to_vec() }),
        file("link/through", &[1; 1000]),
        plain("long", EntryKind::Symlink { target: b"x/".repeat(100) }),
        plain("null", EntryKind::CharDevice { device: DeviceNumber { major: 1, minor: 3 } }),
        plain("disk", EntryKind::BlockDevice { device: DeviceNumber { major: 8, minor: 1 } }),
        plain("pipe", EntryKind::Fifo),
        file("dir/.wh.gone", b""),
        file("dir/.wh..wh..opq", b""),
        file(".wh..wh.plnk/1.2", b"aufs"),
        file("implied/only/.wh.x", b""),
        file("later", b"later"),
        file("dir/file", b"again"),
        odd,
    ]
}

/// Archives in several dialects that hold much of what archives can.
pub(crate) fn archives() -> Vec<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries() {
        writer.append(&entry, &mut data.as_slice()).unwrap();
    }
    vec![writer.finish().unwrap(), gnu_archive(), pax_sparse_archive()]
}

fn header(name: &[u8], type_flag: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [type_flag];
    header.set_mode(0o644);
    header.set_uid(1 << 22);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    header
}

fn member(name: &[u8], type_flag: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, type_flag, data.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Long names, a volume label, an old sparse file with a block of map.
fn gnu_archive() -> Vec<u8> {
    let long = "component/".repeat(20) + "end\0";
    let mut sparse = header(b"sparse", b'S', 500);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(10_000);
    for (at, piece) in gnu.sparse.iter_mut().enumerate() {
        piece.set_offset(at as u64 * 1000);
        piece.set_length(100);
    }
    gnu.set_is_extended(true);
    sparse.set_cksum();
    let mut map = tar::GnuExtSparseHeader::new();
    map.sparse_mut()[0].set_offset(5000);
    map.sparse_mut()[0].set_length(100);
    let mut data = vec![b'd'; 500];
    data.resize(512, 0);
    [
        member(b"label", b'V', b""),
        member(b"././@LongLink", b'L', long.as_bytes()),
        member(b"short", b'0', b"named long"),
        member(b"././@LongLink", b'K', long.as_bytes()),
        member(b"link", b'2', b""),
        sparse.as_bytes().to_vec(),
        map.as_bytes().to_vec(),
        data,
        member(b"dump", b'D', b"Yfile\0\0"),
        vec![0; 1024],
    ]
    .concat()
}

/// Records of an extended header.
fn records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let record = |(key, value): &(&str, &[u8])| {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let digits = (1..9).find(|digits| (body.len() + digits).to_string().len() == *digits).unwrap();
        [(body.len() + digits).to_string().into_bytes(), body].concat()
    };
    records.iter().flat_map(record).collect()
}

/// A global header, and sparse files in the three formats of extended headers.
fn pax_sparse_archive() -> Vec<u8> {
    let size = ("GNU.sparse.size", &b"100"[..]);
    let zero = records(&[size, ("GNU.sparse.offset", b"5"), ("GNU.sparse.numbytes", b"4")]);
    let one = records(&[size, ("GNU.sparse.map", b"5,4"), ("GNU.sparse.name", b"real")]);
    let version = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0")];
    let major = records(&[version[0], version[1], ("GNU.sparse.realsize", b"100")]);
    let mut with_map = b"1\n5\n4\n".to_vec();
    with_map.resize(512, 0);
    with_map.extend_from_slice(b"four");
    [
        member(b"g", b'g', &records(&[("comment", b"nothing")])),
        member(b"x", b'x', &zero),
        member(b"zero", b'0', b"four"),
        member(b"x", b'x', &one),
        member(b"one", b'0', b"four"),
        member(b"x", b'x', &major),
        member(b"major", b'0', &with_map),
        member(b"x", b'x', &records(&[("mtime", b"-12.345"), ("SCHILY.xattr.user.a", b"binary\0\xff\n")])),
        member(b"after", b'0', b"x"),
        vec![0; 1024],
    ]
    .concat()
}

mod tests {
    use super::*;
    use crate::archive::tar::Reader;

    #[test]
    fn the_archives_are_sound_before_they_are_damaged() {
        let mut sparse = 0;
        for bytes in archives() {
            let mut reader = Reader::new(bytes.as_slice(), Limits::default());
            while let Some(entry) = reader.next_entry().unwrap() {
                let size = reader.read_data(&entry, 1 << 20).unwrap().len() as u64;
                assert_eq!(size, entry.size());
                if let EntryKind::File { size, extents } = &entry.kind {
                    sparse += usize::from(extents.iter().map(|extent| extent.length).sum::<u64>() < *size);
                }
            }
        }
        assert_eq!(sparse, 4);
    }
}
