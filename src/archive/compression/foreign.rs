//! bzip2 and xz: formats of archives that come from elsewhere, never of layers.

use super::source::Source;
use super::{Error, ExpansionLimit, MAGIC_LENGTH, detect};
use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

/// The most memory that decoding xz may take, in KiB: the largest preset takes 64 MiB of dictionary, and the header can ask for 4 GiB.
const XZ_MEMORY: u32 = 512 << 10;

/// Whether a stream that begins with `prefix` is compressed by bzip2 or xz.
pub fn is_foreign(prefix: &[u8]) -> bool {
    matches!(detect(prefix), Err(Error::Unsupported("bzip2" | "xz")))
}

/// `input` without bzip2 or xz; as it is when it is compressed by neither.
pub fn plain<'a>(input: impl Read + 'a, limit: ExpansionLimit) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = Source::new(input);
    let Err(Error::Unsupported(format @ ("bzip2" | "xz"))) = detect(source.peek(MAGIC_LENGTH)?) else {
        return Ok(Box::new(source));
    };
    let state = Rc::new(State::default());
    let counted = Counted { source, state: Rc::clone(&state) };
    let decoder: Box<dyn Read + 'a> = match format {
        "xz" => Box::new(lzma_rust2::XzReader::new_mem_limit(counted, true, XZ_MEMORY)),
        _ => Box::new(bzip2::read::MultiBzDecoder::new(counted)),
    };
    Ok(Box::new(Expanding { decoder, state, format, limit, produced: 0 }))
}

/// What is known of the compressed stream.
#[derive(Debug, Default)]
struct State {
    /// Bytes read from it.
    consumed: Cell<u64>,
    /// Whether reading it failed, so that its error is not taken for damage.
    failed: Cell<bool>,
}

struct Counted<R> {
    source: Source<R>,
    state: Rc<State>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let result = self.source.read(out);
        self.state.failed.set(self.state.failed.get() || result.is_err());
        self.state.consumed.set(self.source.count);
        result
    }
}

/// What comes out of a decoder, as much as the limit lets out.
struct Expanding<'a> {
    decoder: Box<dyn Read + 'a>,
    state: Rc<State>,
    format: &'static str,
    limit: ExpansionLimit,
    produced: u64,
}

impl fmt::Debug for Expanding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expanding")
            .field("format", &self.format)
            .field("produced", &self.produced)
            .finish_non_exhaustive()
    }
}

impl Read for Expanding<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let format = self.format;
        let count = self.decoder.read(out).map_err(|error| match error.kind() {
            _ if self.state.failed.get() => error,
            io::ErrorKind::Interrupted => error,
            io::ErrorKind::UnexpectedEof => Error::Truncated(format).into(),
            _ => Error::Damaged { format, detail: error.to_string() }.into(),
        })?;
        self.produced = self.produced.saturating_add(count as u64);
        let ExpansionLimit { ratio, free } = self.limit;
        if self.produced > free && self.produced / ratio.max(1) > self.state.consumed.get() {
            return Err(Error::Expansion { ratio, free }.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn bzip2(data: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// `printf 'hello\n' | xz`.
    const XZ: &[u8] =
        b"\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\
        \x01\x00\x05\x68\x65\x6c\x6c\x6f\x0a\x00\x00\x00\xa5\x60\x97\xf1\x94\xf6\xfd\xe0\x00\x01\x1e\x06\
        \xc1\x2f\xa4\x1d\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a";

    fn read(data: &[u8], limit: ExpansionLimit) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        plain(data, limit)?.read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn regression_bzip2_and_xz_are_taken_off_and_nothing_else() {
        let free = ExpansionLimit::default();
        for data in [&b""[..], b"x", b"BZh9 is a name", b"\x1f\x8bxxxxx", b"\x04\x22\x4d\x18rest"] {
            assert_eq!(read(data, free).unwrap(), data);
        }
        let packed = bzip2(&vec![7; 100_000]);
        assert_eq!(read(&[&packed[..], &packed].concat(), free).unwrap(), vec![7; 200_000]);
        assert_eq!(read(XZ, free).unwrap(), b"hello\n");
        for cut in 6..XZ.len() {
            assert!(read(&XZ[..cut], free).is_err(), "{cut}");
        }
        let of = |error: io::Error| format!("{error}");
        assert!(of(read(&packed[..packed.len() - 1], free).unwrap_err()).contains("bzip2 stream ends too early"));
        assert!(of(read(&packed, ExpansionLimit { ratio: 10, free: 1000 }).unwrap_err()).contains("more than 10:1"));
        assert!(is_foreign(&packed) && is_foreign(XZ) && !is_foreign(b"\x04\x22\x4d\x18rest"));
    }
}
