//! gzip (RFC 1952) to plain: members one after the other.
//!
//! Header and checksum are read here, not by the inflater: its own CRC-32 takes a tenth of the time of inflating, the one with
//! carry-less multiplication next to none.

use super::Error;
use super::source::Source;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};

/// First byte of a member.
const MAGIC: u8 = 0x1f;
/// Flags of a header: what follows its fixed part.
const HEADER_CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

#[derive(Debug)]
pub(super) struct Gunzip<R> {
    pub(super) source: Source<R>,
    inflate: Decompress,
    checksum: crc32fast::Hasher,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Member,
    /// After a member: another one, zeros, or the end.
    Between,
    /// Zeros after the last member, as tapes and some registries leave them; gzip(1) ignores them.
    Padding,
    End,
}

impl<R: Read> Gunzip<R> {
    pub(super) fn new(source: Source<R>) -> Self {
        let (inflate, checksum) = (Decompress::new(false), crc32fast::Hasher::new());
        Self { source, inflate, checksum, state: State::Header }
    }

    /// Inflates something into `out`; 0 when more input is needed or the member ends.
    fn inflate(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let input = self.source.fill_buf()?;
        if input.is_empty() {
            return Err(Error::Truncated("gzip").into());
        }
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let status =
            self.inflate.decompress(input, out, FlushDecompress::None).map_err(|error| damaged(error.message()))?;
        let consumed = (self.inflate.total_in() - before_in) as usize;
        let produced = (self.inflate.total_out() - before_out) as usize;
        self.source.consume(consumed);
        self.checksum.update(out.get(..produced).unwrap_or_default());
        match status {
            Status::StreamEnd => self.end_member()?,
            Status::Ok | Status::BufError if consumed == 0 && produced == 0 => return Err(damaged(None)),
            Status::Ok | Status::BufError => {}
        }
        Ok(produced)
    }

    /// The next bytes of a header or a trailer.
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = *self.source.fill_buf()?.first().ok_or(Error::Truncated("gzip"))?;
            self.source.consume(1);
        }
        self.checksum.update(&bytes);
        Ok(bytes)
    }

    fn read_header(&mut self) -> io::Result<()> {
        self.checksum.reset();
        let [first, second, method, flags, ..] = self.take::<10>()?;
        if (first, second) != (MAGIC, 0x8b) {
            return Err(damaged(Some("garbage after the end")));
        }
        if method != 8 || flags & RESERVED != 0 {
            return Err(damaged(Some("an unknown method or flag")));
        }
        if flags & EXTRA != 0 {
            for _ in 0..u16::from_le_bytes(self.take()?) {
                self.take::<1>()?;
            }
        }
        for text in [NAME, COMMENT] {
            while flags & text != 0 && self.take()? != [0] {}
        }
        let sum = self.checksum.clone().finalize() as u16;
        if flags & HEADER_CHECKSUM != 0 && u16::from_le_bytes(self.take()?) != sum {
            return Err(damaged(Some("the header's checksum is wrong")));
        }
        self.inflate.reset(false);
        self.checksum.reset();
        self.state = State::Member;
        Ok(())
    }

    fn end_member(&mut self) -> io::Result<()> {
        let sum = self.checksum.clone().finalize();
        if u32::from_le_bytes(self.take()?) != sum {
            return Err(damaged(Some("the checksum is wrong")));
        }
        // The trailer has the size modulo 2^32.
        if u32::from_le_bytes(self.take()?) != self.inflate.total_out() as u32 {
            return Err(damaged(Some("the size is wrong")));
        }
        self.state = State::Between;
        Ok(())
    }

    fn next_member(&mut self) -> io::Result<()> {
        self.state = match self.source.fill_buf()?.first() {
            None => State::End,
            Some(&MAGIC) => State::Header,
            Some(0) => State::Padding,
            Some(_) => return Err(damaged(Some("garbage after the end"))),
        };
        Ok(())
    }

    fn skip_padding(&mut self) -> io::Result<()> {
        let input = self.source.fill_buf()?;
        if input.iter().any(|&byte| byte != 0) {
            return Err(damaged(Some("garbage after the end")));
        }
        let count = input.len();
        self.source.consume(count);
        if count == 0 {
            self.state = State::End;
        }
        Ok(())
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Header => self.read_header()?,
                State::Member => match self.inflate(out)? {
                    0 => {}
                    count => return Ok(count),
                },
                State::Between => self.next_member()?,
                State::Padding => self.skip_padding()?,
                State::End => return Ok(0),
            }
        }
    }
}

fn damaged(detail: Option<&str>) -> io::Error {
    Error::Damaged { format: "gzip", detail: detail.unwrap_or("invalid data").to_owned() }.into()
}
