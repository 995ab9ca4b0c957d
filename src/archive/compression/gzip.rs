//! Plain to gzip on all cores.
//!
//! One member. The input is cut into blocks of a fixed size that are deflated side by side; each ends on a byte boundary (an
//! empty stored block) and may refer to the last 32 KiB before it, so that little compression is lost. Nothing but the
//! input and the level shapes the output.

use flate2::{Compress, Compression, FlushCompress, Status};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};
use std::thread;

/// Bytes deflated by one thread at a time. A different number gives different output.
const BLOCK: usize = 256 << 10;

/// Bytes before a block that it may refer to: the window of deflate.
const WINDOW: usize = 32 << 10;

/// Header of a member (RFC 1952): no name, no time, no flags, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Blocks under way for each thread: one at work, one waiting.
const BLOCKS_A_THREAD: usize = 2;

/// One block to deflate.
#[derive(Debug)]
struct Job {
    data: Vec<u8>,
    /// What stands before it.
    window: Vec<u8>,
    last: bool,
    done: mpsc::SyncSender<io::Result<Deflated>>,
}

#[derive(Debug)]
struct Deflated {
    bytes: Vec<u8>,
    checksum: crc32fast::Hasher,
}

pub(super) struct Gzip<W> {
    output: W,
    level: Compression,
    threads: NonZeroUsize,
    block: Vec<u8>,
    window: Vec<u8>,
    checksum: crc32fast::Hasher,
    /// Bytes of input so far, modulo 2^32, as the trailer wants them.
    size: u32,
    started: bool,
    /// Where workers take jobs from; none before the second block: short streams need no threads.
    workers: Option<mpsc::SyncSender<Job>>,
    /// Blocks under way, in order.
    pending: VecDeque<mpsc::Receiver<io::Result<Deflated>>>,
}

impl<W> fmt::Debug for Gzip<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gzip").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl<W: Write> Gzip<W> {
    /// A writer of level 1 to 9.
    pub(super) fn new(output: W, level: u32, threads: NonZeroUsize) -> Self {
        Self {
            output,
            level: Compression::new(level.clamp(1, 9)),
            threads,
            block: Vec::with_capacity(BLOCK),
            window: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            size: 0,
            started: false,
            workers: None,
            pending: VecDeque::new(),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.submit(true)?;
        while !self.pending.is_empty() {
            self.collect()?;
        }
        self.output.write_all(&self.checksum.clone().finalize().to_le_bytes())?;
        self.output.write_all(&self.size.to_le_bytes())?;
        self.output.flush()?;
        Ok(self.output)
    }

    /// Hands the block that is full, or the last one, to the workers.
    fn submit(&mut self, last: bool) -> io::Result<()> {
        let data = std::mem::replace(&mut self.block, if last { Vec::new() } else { Vec::with_capacity(BLOCK) });
        self.size = self.size.wrapping_add(data.len() as u32);
        let tail = data.get(data.len().saturating_sub(WINDOW)..).unwrap_or_default().to_vec();
        let window = std::mem::replace(&mut self.window, tail);
        let (done, result) = mpsc::sync_channel(1);
        let job = Job { data, window, last, done };
        if last && self.workers.is_none() {
            run(&job, self.level);
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
        let deflated = result.recv().map_err(|_| io::Error::other("a thread that compresses has failed"))??;
        if !self.started {
            self.output.write_all(&HEADER)?;
            self.started = true;
        }
        self.checksum.combine(&deflated.checksum);
        self.output.write_all(&deflated.bytes)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A full block waits for the byte after it: the last one ends differently.
        if self.block.len() >= BLOCK && !buffer.is_empty() {
            self.submit(false)?;
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

fn work(jobs: &Mutex<mpsc::Receiver<Job>>, level: Compression) {
    loop {
        // The lock is released before the work begins.
        let job = jobs.lock().recv();
        match job {
            Ok(job) => run(&job, level),
            Err(mpsc::RecvError) => return,
        }
    }
}

fn run(job: &Job, level: Compression) {
    let result = deflate(job, level);
    // Nobody waits for it when the encoder was given up.
    let _ = job.done.send(result);
}

fn deflate(job: &Job, level: Compression) -> io::Result<Deflated> {
    let mut compress = Compress::new(level, false);
    if !job.window.is_empty() {
        compress.set_dictionary(&job.window)?;
    }
    let mut bytes = Vec::with_capacity(job.data.len() / 2 + 1024);
    let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let input = job.data.get(compress.total_in() as usize..).unwrap_or_default();
        let status = compress.compress_vec(input, &mut bytes, flush)?;
        // A flush is complete when room is left in the output (zlib.h, deflate()).
        let is_done = if job.last { status == Status::StreamEnd } else { bytes.len() < bytes.capacity() };
        if is_done {
            break;
        }
        bytes.reserve(bytes.capacity().max(1024));
    }
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&job.data);
    Ok(Deflated { bytes, checksum })
}
