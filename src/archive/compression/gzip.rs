//! Plain to gzip on all cores.
//!
//! The input is cut into blocks of a fixed size, each of which becomes a member of its own (RFC 1952, 2.2): every reader of
//! layers takes several members for one stream, as images that are fetched lazily have them, too. Nothing but the input and the
//! level shapes the output.
//!
//! libdeflate, which compresses whole blocks only, is why there are members and no windows across blocks: at its lowest
//! level it is 1.8 times as fast as zlib's second and its output is smaller.

use libdeflater::{CompressionLvl, Compressor};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};
use std::thread;

/// Bytes of a member at the most, before compression. A different number gives different output.
const BLOCK: usize = 512 << 10;

/// Blocks under way for each thread: one at work, one waiting.
const BLOCKS_A_THREAD: usize = 2;

/// One block to compress.
#[derive(Debug)]
struct Job {
    data: Vec<u8>,
    done: mpsc::SyncSender<io::Result<Vec<u8>>>,
}

pub(super) struct Gzip<W> {
    output: W,
    level: CompressionLvl,
    threads: NonZeroUsize,
    block: Vec<u8>,
    /// Where workers take jobs from; none before the second block: short streams need no threads.
    workers: Option<mpsc::SyncSender<Job>>,
    /// Whether a member was begun: an empty stream is one empty member.
    started: bool,
    /// Blocks under way, in order.
    pending: VecDeque<mpsc::Receiver<io::Result<Vec<u8>>>>,
}

impl<W> fmt::Debug for Gzip<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gzip").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl<W: Write> Gzip<W> {
    /// A writer of level 1 to 9.
    pub(super) fn new(output: W, level: u32, threads: NonZeroUsize) -> Self {
        let level = CompressionLvl::new(level.clamp(1, 9) as i32).unwrap_or_else(|_| CompressionLvl::fastest());
        let (block, pending) = (Vec::new(), VecDeque::new());
        Self { output, level, threads, block, workers: None, started: false, pending }
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() || !self.started {
            self.submit(true)?;
        }
        while !self.pending.is_empty() {
            self.collect()?;
        }
        self.output.flush()?;
        Ok(self.output)
    }

    /// Hands the block that is full, or the last one, to the workers.
    fn submit(&mut self, last: bool) -> io::Result<()> {
        self.started = true;
        let data = std::mem::take(&mut self.block);
        let (done, result) = mpsc::sync_channel(1);
        let job = Job { data, done };
        if last && self.workers.is_none() {
            run(&job, &mut Compressor::new(self.level));
        } else {
            if self.pending.len() >= self.threads.get() * BLOCKS_A_THREAD {
                self.collect()?;
            }
            let gone = |_| io::Error::other("the threads that compress are gone");
            self.ensure_workers()?.send(job).map_err(gone)?;
        }
        self.pending.push_back(result);
        Ok(())
    }

    fn ensure_workers(&mut self) -> io::Result<&mpsc::SyncSender<Job>> {
        if self.workers.is_none() {
            let (sender, receiver) = mpsc::sync_channel(self.threads.get() * BLOCKS_A_THREAD);
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..self.threads.get() {
                let (receiver, level) = (Arc::clone(&receiver), self.level);
                // They end when the sender is dropped, with the encoder.
                thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&receiver, level))?;
            }
            self.workers = Some(sender);
        }
        self.workers.as_ref().ok_or_else(|| io::Error::other("no threads to compress"))
    }

    /// Writes the oldest block under way.
    fn collect(&mut self) -> io::Result<()> {
        let Some(result) = self.pending.pop_front() else { return Ok(()) };
        let member = result.recv().map_err(|_| io::Error::other("a thread that compresses has failed"))??;
        self.output.write_all(&member)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A full block waits for the byte after it: a stream of one block needs no threads.
        if self.block.len() >= BLOCK && !buffer.is_empty() {
            self.submit(false)?;
        }
        if self.block.capacity() < BLOCK {
            let wanted = if self.started { BLOCK } else { buffer.len().min(BLOCK) };
            self.block.reserve(wanted.saturating_sub(self.block.len()));
        }
        let count = buffer.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// Writes the blocks that are done. What does not fill a block stays: the output must not depend on flushes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            self.collect()?;
        }
        self.output.flush()
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>, level: CompressionLvl) {
    let mut compressor = Compressor::new(level);
    loop {
        // The lock is released before the work begins.
        let job = jobs.lock().recv();
        match job {
            Ok(job) => run(&job, &mut compressor),
            Err(mpsc::RecvError) => return,
        }
    }
}

fn run(job: &Job, compressor: &mut Compressor) {
    let mut member = vec![0; compressor.gzip_compress_bound(job.data.len())];
    let result = compressor.gzip_compress(&job.data, &mut member).map_err(io::Error::other);
    let result = result.map(|length| {
        member.truncate(length);
        member
    });
    // Nobody waits for it when the encoder was given up.
    let _ = job.done.send(result);
}
