//! Encoders and decoders together, and decoders on streams of other tools' making.

use super::*;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;

const NO_LIMIT: ExpansionLimit = ExpansionLimit { ratio: u64::MAX, free: u64::MAX };
const ALL: [Compression; 3] = [Compression::Plain, Compression::Gzip, Compression::Zstd];

/// `size` bytes that compress somewhat, the same on every run.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491u32;
    (0..size)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            if at % 3 == 0 { state as u8 } else { (at / 100) as u8 }
        })
        .collect()
}

fn encode(data: &[u8], compression: Compression, level: Level, threads: usize, piece: usize) -> Vec<u8> {
    let threads = NonZeroUsize::new(threads).unwrap();
    let mut encoder = Encoder::with_threads(Vec::new(), compression, level, threads).unwrap();
    for piece in data.chunks(piece) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

fn decode(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    Decoder::new(bytes, NO_LIMIT)?.read_to_end(&mut plain)?;
    Ok(plain)
}

/// The error in the middle of an I/O error.
fn cause(error: &io::Error) -> &Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("another error: {error}"))
}

#[test]
fn what_is_encoded_is_decoded() {
    for compression in ALL {
        for size in [0, 1, 5, 1000, 256 << 10, (256 << 10) + 1, 1_500_000] {
            let data = sample(size);
            let bytes = encode(&data, compression, Level::Default, 2, 100_000);
            assert_eq!(decode(&bytes).unwrap(), data, "{compression:?} {size}");
            if compression != Compression::Plain {
                assert_eq!(Decoder::new(bytes.as_slice(), NO_LIMIT).unwrap().compression(), compression);
            }
        }
    }
}

#[test]
fn the_output_depends_on_nothing_but_the_input() {
    let data = sample(1_300_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        for level in [Level::Default, Level::Exactly(1), Level::Exactly(9)] {
            let expected = encode(&data, compression, level, 1, data.len());
            for (threads, piece) in [(1, 1000), (2, 77_777), (5, 300_000)] {
                let found = encode(&data, compression, level, threads, piece);
                assert!(found == expected, "{compression:?} {level:?} {threads} threads, pieces of {piece}");
            }
        }
    }
}

#[test]
fn gzip_has_deterministic_headers_and_other_decoders_read_it() {
    let data = sample(100_000).repeat(10);
    let bytes = encode(&data, Compression::Gzip, Level::Default, 2, data.len());
    assert_eq!(&bytes[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "no name, no time");
    let mut reference = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    reference.write_all(&data).unwrap();
    let reference = reference.finish().unwrap().len();
    assert!(bytes.len() < reference + reference / 10, "{} bytes, a single stream has {reference}", bytes.len());
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
    assert!(plain == data, "another decoder disagrees");
}

#[test]
fn several_members_and_frames_are_one_stream() {
    let (one, two) = (sample(300_000), sample(10));
    for compression in [Compression::Gzip, Compression::Zstd] {
        let encode = |data: &[u8]| encode(data, compression, Level::Default, 1, 1 << 20);
        let joined = [encode(&one), encode(b""), encode(&two)].concat();
        assert_eq!(decode(&joined).unwrap(), [one.clone(), two.clone()].concat(), "{compression:?}");
    }
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frame = encode(&two, Compression::Zstd, Level::Default, 1, 100);
    for joined in [[&skippable[..], &frame].concat(), [&frame[..], &skippable, &frame].concat()] {
        assert!(decode(&joined).unwrap().ends_with(&two));
    }
}

#[test]
fn formats_are_told_by_their_magic() {
    let zero_blocks = [0; 1024];
    for (bytes, expected) in [(&b""[..], ""), (b"x", "x"), (b"BZh9 is a name", "BZh9 is a name")] {
        assert_eq!(decode(bytes).unwrap(), expected.as_bytes());
    }
    assert_eq!(decode(&zero_blocks).unwrap(), zero_blocks);
    for (bytes, name) in [
        (&b"BZh91AY&SY"[..], "bzip2"),
        (b"BZh9\x17\x72\x45\x38\x50\x90", "bzip2"),
        (b"\xfd7zXZ\0rest", "xz"),
        (b"\x04\x22\x4d\x18rest", "lz4"),
    ] {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(cause(&error), Error::Unsupported(found) if *found == name), "{error}");
    }
}

#[test]
fn truncated_streams_are_errors_everywhere() {
    let data = sample(3000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let bytes = encode(&data, compression, Level::Default, 1, 1 << 20);
        for cut in 6..bytes.len() {
            let error = decode(&bytes[..cut]).unwrap_err();
            assert!(matches!(cause(&error), Error::Truncated(_)), "{compression:?} cut at {cut}: {error}");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn damage_is_found() {
    let data = sample(100_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let bytes = encode(&data, compression, Level::Default, 1, 1 << 20);
        for at in (20..bytes.len()).step_by(bytes.len() / 50) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let error = decode(&bytes).unwrap_err();
            assert!(matches!(cause(&error), Error::Damaged { .. } | Error::Truncated(_)), "{compression:?}: {error}");
        }
    }
}

#[test]
fn what_follows_a_gzip_stream() {
    let data = sample(1000);
    let bytes = encode(&data, Compression::Gzip, Level::Default, 1, 1 << 20);
    let with = |tail: &[u8]| decode(&[&bytes[..], tail].concat());
    assert_eq!(with(&vec![0; 300_000]).unwrap(), data, "zeros are padding");
    for tail in [&b"garbage"[..], b"\0\0x", b"\x1f\x8bxxxxxxxxxxxxxxx", b"\x1f"] {
        let error = with(tail).unwrap_err();
        assert!(matches!(cause(&error), Error::Damaged { .. } | Error::Truncated(_)), "{error}");
    }
}

#[test]
fn everything_a_gzip_header_may_have_is_read() {
    let data = sample(1000);
    let mut builder = flate2::GzBuilder::new().filename("name").comment("comment").mtime(7).extra(vec![1, 2, 3, 0, 5]);
    builder = builder.operating_system(3);
    let mut encoder = builder.write(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(&data).unwrap();
    let bytes = encoder.finish().unwrap();
    assert_eq!(decode(&bytes).unwrap(), data);
    // With a checksum of the header, which the encoder does not write.
    let end = 10 + 2 + 5 + "name".len() + 1 + "comment".len() + 1;
    let mut header = bytes[..end].to_vec();
    header[3] |= 2;
    let sum = (crc32fast::hash(&header) as u16).to_le_bytes();
    assert_eq!(decode(&[&header[..], &sum, &bytes[end..]].concat()).unwrap(), data);
    for (at, name) in [(0, "header"), (3, "flag"), (2, "method"), (end + 1, "sum")] {
        let mut damaged = [&header[..], &sum, &bytes[end..]].concat();
        damaged[at] ^= 0x40;
        assert!(
            decode(&damaged).is_err_and(|error| matches!(cause(&error), Error::Damaged { .. })) || at == 0,
            "{name}"
        );
    }
    for back in 1..=8 {
        let mut damaged = bytes.clone();
        damaged[bytes.len() - back] ^= 1;
        assert!(matches!(cause(&decode(&damaged).unwrap_err()), Error::Damaged { .. }), "trailer, {back} from the end");
    }
}

#[test]
fn expansion_is_limited() {
    let zeros = vec![0; 4 << 20];
    for (compression, ratio) in [(Compression::Gzip, 200), (Compression::Zstd, 1000)] {
        let bytes = encode(&zeros, compression, Level::Default, 1, 1 << 20);
        let read = |limit| {
            let mut decoder = Decoder::new(bytes.as_slice(), limit).unwrap();
            io::copy(&mut decoder, &mut io::sink())
        };
        assert_eq!(read(ExpansionLimit { ratio, free: 4 << 20 }).unwrap(), 4 << 20, "what is free is free");
        assert_eq!(read(ExpansionLimit { ratio: 100_000, free: 0 }).unwrap(), 4 << 20);
        let error = read(ExpansionLimit { ratio, free: 1 << 20 }).unwrap_err();
        assert!(matches!(cause(&error), Error::Expansion { .. }), "{compression:?}: {error}");
    }
    let plain = ExpansionLimit { ratio: 1, free: 0 };
    assert_eq!(io::copy(&mut Decoder::new(zeros.as_slice(), plain).unwrap(), &mut io::sink()).unwrap(), 4 << 20);
}

/// Gives a byte at a time, with interruptions, and fails at the end when told to.
struct Slow<'a>(&'a [u8], bool, u32);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.2 += 1;
        if self.2.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.0.is_empty() && self.1 {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "gone"));
        }
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

#[test]
fn slow_and_failing_streams() {
    let data = sample(2000);
    for compression in ALL {
        let bytes = encode(&data, compression, Level::Default, 1, 1 << 20);
        let read = |fails| {
            let mut plain = Vec::new();
            let mut decoder = Decoder::new(Slow(&bytes[..bytes.len() - usize::from(fails)], fails, 0), NO_LIMIT)?;
            decoder.read_to_end(&mut plain)?;
            assert_eq!(decoder.consumed(), bytes.len() as u64);
            Ok::<_, io::Error>(plain)
        };
        assert_eq!(read(false).unwrap(), data, "{compression:?}");
        assert_eq!(read(true).unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{compression:?}");
    }
}
