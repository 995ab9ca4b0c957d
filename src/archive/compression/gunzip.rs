//! gzip to plain: members one after the other.

use super::Error;
use super::source::Source;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};

/// Largest window that deflate has, as a power of two.
const WINDOW_BITS: u8 = 15;

/// First byte of a member.
const MAGIC: u8 = 0x1f;

#[derive(Debug)]
pub(super) struct Gunzip<R> {
    pub(super) source: Source<R>,
    inflate: Decompress,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Member,
    /// After a member: another one, zeros, or the end.
    Between,
    /// Zeros after the last member, as tapes and some registries leave them; gzip(1) ignores them.
    Padding,
    End,
}

impl<R: Read> Gunzip<R> {
    pub(super) fn new(source: Source<R>) -> Self {
        Self { source, inflate: Decompress::new_gzip(WINDOW_BITS), state: State::Member }
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
        match status {
            Status::StreamEnd => self.state = State::Between,
            Status::Ok | Status::BufError if consumed == 0 && produced == 0 => return Err(damaged(None)),
            Status::Ok | Status::BufError => {}
        }
        Ok(produced)
    }

    fn next_member(&mut self) -> io::Result<()> {
        match self.source.fill_buf()?.first() {
            None => self.state = State::End,
            Some(&MAGIC) => {
                self.inflate = Decompress::new_gzip(WINDOW_BITS);
                self.state = State::Member;
            }
            Some(0) => self.state = State::Padding,
            Some(_) => return Err(damaged(Some("garbage after the end"))),
        }
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
