//! The file of a blob that is being written.
//!
//! 1. *Filling the page cache costs more than hashing*: a page of a new blob is allocated, copied into and written back, by the
//!    same processor that inflates and hashes, and every other program loses what it had cached. So a blob is written past the
//!    page cache (`O_DIRECT`) from [`DIRECT_FROM`] on; what is smaller stays cached, for whoever mounts a small image at once.
//! 2. *Direct writes want aligned memory, offsets and lengths*: what comes aligned (the chunks of a layer do) is written as it is,
//!    the rest through an aligned buffer; the end of the file goes through the page cache.
//! 3. *Not every file system can*: where the first direct write is refused, everything goes through the page cache, and the
//!    kernel is told early to write it back.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::File;
use std::io::{self, Write};

/// Bytes at the beginning of a blob that go through the page cache. Whole layers of up to this size stay in memory.
const DIRECT_FROM: u64 = 8 << 20;
/// What memory, offset and length of a direct write are multiples of: the largest block size of common disks, and a page.
const ALIGN: usize = 4096;
/// Bytes gathered for one direct write when they do not come aligned.
const GATHERED: usize = 512 << 10;
/// How many bytes are written before the kernel is told to start with them, so that the final sync finds little to do.
const WRITEBACK_STEP: u64 = 8 << 20;

/// How bytes go to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the page cache up to [`DIRECT_FROM`].
    Beginning,
    /// Past the page cache.
    Direct,
    /// Through the page cache to the end.
    Cached,
}

/// A file that is written from some offset on, in order.
#[derive(Debug)]
pub(super) struct BlobFile {
    file: File,
    way: Way,
    /// Bytes of the file, what waits in `gathered` not counted.
    written: u64,
    /// How far the kernel was asked to write to disk.
    pushed: u64,
    /// Bytes that wait for a direct write. The first [`Self::margin`] bytes only make the rest aligned.
    gathered: Vec<u8>,
    margin: usize,
}

impl BlobFile {
    /// Goes on at `offset`, which is where the file's own offset and end are.
    pub(super) fn new(file: File, offset: u64) -> Self {
        let way = Way::Beginning;
        let mut blob = Self { file, way, written: offset, pushed: offset, gathered: Vec::new(), margin: 0 };
        if offset >= DIRECT_FROM {
            blob.go_direct();
        }
        blob
    }

    /// The offset at which a file of `size` bytes can be taken up: direct writes begin at multiples of their alignment.
    pub(super) fn resumable(size: u64) -> u64 {
        if size > DIRECT_FROM { size - size % ALIGN as u64 } else { size }
    }

    /// Bytes of the file, and those that will be.
    pub(super) fn size(&self) -> u64 {
        self.written + self.waiting().len() as u64
    }

    /// Begins anew at the beginning.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.gathered.truncate(self.margin);
        self.file.set_len(0)?;
        io::Seek::rewind(&mut self.file)?;
        self.go_cached()?;
        (self.way, self.written, self.pushed) = (Way::Beginning, 0, 0);
        Ok(())
    }

    /// Writes what waits. After this, everything goes through the page cache.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.way == Way::Direct {
            self.go_cached()?;
        }
        let gathered = std::mem::take(&mut self.gathered);
        let waiting = gathered.get(std::mem::take(&mut self.margin)..).unwrap_or_default();
        self.file.write_all(waiting)?;
        self.written += waiting.len() as u64;
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.settle()?;
        self.file.sync_data()
    }

    fn waiting(&self) -> &[u8] {
        self.gathered.get(self.margin..).unwrap_or_default()
    }

    fn go_direct(&mut self) {
        let aligned = self.written.is_multiple_of(ALIGN as u64);
        let flags = fcntl_getfl(&self.file).map(|flags| flags | OFlags::DIRECT);
        let direct = aligned && flags.is_ok_and(|flags| fcntl_setfl(&self.file, flags).is_ok());
        self.way = if direct { Way::Direct } else { Way::Cached };
    }

    fn go_cached(&mut self) -> io::Result<()> {
        self.way = Way::Cached;
        Ok(fcntl_setfl(&self.file, fcntl_getfl(&self.file)? - OFlags::DIRECT)?)
    }

    fn write_cached(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(DIRECT_FROM.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let beginning = bytes.get(..left).filter(|_| self.way == Way::Beginning);
        let count = self.file.write(beginning.unwrap_or(bytes))?;
        self.written += count as u64;
        if self.written - self.pushed >= WRITEBACK_STEP {
            crate::sys::start_writeback(&self.file, self.pushed, self.written - self.pushed);
            self.pushed = self.written;
        }
        if self.way == Way::Beginning && self.written == DIRECT_FROM {
            self.go_direct();
        }
        Ok(count)
    }

    /// Writes whole blocks past the page cache, or as the file system can.
    fn write_blocks(&mut self, blocks: &[u8]) -> io::Result<usize> {
        let count = match self.file.write(blocks) {
            // Another alignment, or a file system that cannot: it says so only here.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.go_cached()?;
                self.file.write(blocks)?
            }
            result => result?,
        };
        self.written += count as u64;
        if !count.is_multiple_of(ALIGN) {
            self.go_cached()?;
        }
        Ok(count)
    }

    fn write_direct(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let blocks = bytes.get(..bytes.len() - bytes.len() % ALIGN).unwrap_or_default();
        let aligned = bytes.as_ptr().align_offset(ALIGN) == 0;
        if self.waiting().is_empty() && aligned && !blocks.is_empty() {
            return self.write_blocks(blocks);
        }
        if self.gathered.capacity() == 0 {
            self.gathered.reserve_exact(GATHERED + ALIGN);
            self.margin = self.gathered.as_ptr().align_offset(ALIGN).min(ALIGN);
            self.gathered.resize(self.margin, 0);
        }
        let count = bytes.len().min(GATHERED - self.waiting().len());
        self.gathered.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.waiting().len() == GATHERED {
            self.write_gathered()?;
        }
        Ok(count)
    }

    fn write_gathered(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let mut rest = gathered.get(self.margin..).unwrap_or_default();
        while self.way == Way::Direct && !rest.is_empty() {
            let count = self.write_blocks(rest)?;
            rest = rest.get(count..).unwrap_or_default();
        }
        self.file.write_all(rest)?;
        self.written += rest.len() as u64;
        self.gathered = gathered;
        self.gathered.truncate(self.margin);
        Ok(())
    }
}

impl Write for BlobFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.way == Way::Direct { self.write_direct(bytes) } else { self.write_cached(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at / 7 + at / 4096) as u8).collect()
    }

    fn write_and_read(directory: &std::path::Path, content: &[u8], piece: usize) {
        let path = directory.join("blob");
        let mut blob = BlobFile::new(File::create(&path).unwrap(), 0);
        for piece in content.chunks(piece) {
            blob.write_all(piece).unwrap();
        }
        assert_eq!(blob.size(), content.len() as u64);
        blob.sync().unwrap();
        assert!(std::fs::read(&path).unwrap() == content, "pieces of {piece}");
    }

    #[test]
    fn what_is_written_is_there_however_it_comes() {
        let content = bytes(DIRECT_FROM as usize + 3 * GATHERED + 4097);
        for directory in ["/dev/shm", env!("CARGO_MANIFEST_DIR")] {
            let Ok(directory) = tempfile::tempdir_in(directory) else { continue };
            for piece in [content.len(), 4096, GATHERED, 5000, 1 << 20] {
                write_and_read(directory.path(), &content, piece);
            }
            write_and_read(directory.path(), &content[..100], 7);
            write_and_read(directory.path(), &[], 1);
        }
    }

    #[test]
    fn a_file_is_taken_up_where_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        let content = bytes(DIRECT_FROM as usize + GATHERED + 77);
        for end in [5, DIRECT_FROM - 1, DIRECT_FROM, DIRECT_FROM + 5000] {
            let mut blob = BlobFile::new(File::create(&path).unwrap(), 0);
            blob.write_all(&content[..end as usize]).unwrap();
            blob.settle().unwrap();
            drop(blob);
            let from = BlobFile::resumable(end);
            assert!(from <= end && end - from < ALIGN as u64);
            let mut file = File::options().write(true).open(&path).unwrap();
            file.set_len(from).unwrap();
            io::Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap();
            let mut blob = BlobFile::new(file, from);
            blob.write_all(&content[from as usize..]).unwrap();
            blob.sync().unwrap();
            assert!(std::fs::read(&path).unwrap() == content, "from {from}");
        }
    }

    #[test]
    fn a_new_beginning_forgets_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        let mut blob = BlobFile::new(File::create(&path).unwrap(), 0);
        blob.write_all(&bytes(DIRECT_FROM as usize + 5000)).unwrap();
        blob.restart().unwrap();
        assert_eq!(blob.size(), 0);
        blob.write_all(b"new").unwrap();
        blob.sync().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
