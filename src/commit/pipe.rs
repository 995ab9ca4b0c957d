//! Bytes from one thread to another, in large pieces and bounded memory.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Pieces under way: what is bounded by this, times [`PIECE`], is the memory of a pipe.
const DEPTH: usize = 8;

/// The writing end. Only [`Sender::finish`] ends the stream; without it the reader gets an error at the end.
#[derive(Debug)]
pub(super) struct Sender {
    pieces: SyncSender<Piece>,
    piece: Vec<u8>,
}

/// What goes through a pipe.
#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Receiving {
    pieces: Receiver<Piece>,
    piece: Vec<u8>,
    offset: usize,
    ended: bool,
}

/// A pipe.
pub(super) fn pipe() -> (Sender, Receiving) {
    let (sender, receiver) = sync_channel(DEPTH);
    (
        Sender { pieces: sender, piece: Vec::with_capacity(PIECE) },
        Receiving { pieces: receiver, piece: Vec::new(), offset: 0, ended: false },
    )
}

impl Sender {
    /// Sends what is left, and the end of the stream.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.pieces.send(Piece::End).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.pieces.send(Piece::Bytes(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Read for Receiving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.offset == self.piece.len() && !self.ended {
            match self.pieces.recv() {
                Ok(Piece::Bytes(piece)) => (self.piece, self.offset) = (piece, 0),
                Ok(Piece::End) => self.ended = true,
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the writer ended early")),
            }
        }
        let rest = self.piece.get(self.offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.offset += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let bytes: Vec<u8> = (0..3 * PIECE + 17).map(|at| at as u8).collect();
        let (mut sender, mut receiver) = pipe();
        let sent = bytes.clone();
        let thread = std::thread::spawn(move || sender.write_all(&sent).and_then(|()| sender.finish()));
        let mut read = Vec::new();
        receiver.read_to_end(&mut read).unwrap();
        assert!(thread.join().unwrap().is_ok());
        assert!(read == bytes);
    }

    #[test]
    fn a_writer_that_breaks_off_is_no_end() {
        let (mut sender, mut receiver) = pipe();
        sender.write_all(b"half").unwrap();
        sender.flush().unwrap();
        drop(sender);
        let error = receiver.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_that_is_gone_breaks_the_pipe() {
        let (mut sender, receiver) = pipe();
        drop(receiver);
        let error = sender.write_all(&vec![0; PIECE]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
