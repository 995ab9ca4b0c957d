//! Content of files and symlinks.
//!
//! Every read resolves the inode's current source; there is no descriptor that could go on showing an older one.

use super::lookup::Object;
use super::{FsError, FsResult, LayerFs};
use crate::union::{Ino, Source};
use rustix::io::ReadWriteFlags;
use std::borrow::Cow;
use std::io::IoSliceMut;

impl LayerFs {
    /// The target of the symlink `ino`.
    pub fn readlink(&self, ino: Ino) -> FsResult<Cow<'_, [u8]>> {
        match self.object(ino)? {
            Object::Directory(_) => Err(FsError::WrongKind),
            Object::Other(source) => Ok(self.layer(source)?.read_link(source.ino)?),
        }
    }

    /// Reads from the file `ino` at `offset`; fewer bytes than `buffer` takes only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> FsResult<usize> {
        let source = self.data_source(ino)?;
        Ok(self.layer(source)?.read_at(source.ino, offset, buffer)?)
    }

    /// The same when it can be had from memory at once; none when a disk has to be waited for, or when that cannot be told.
    pub fn read_resident(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> FsResult<Option<usize>> {
        let source = self.data_source(ino)?;
        let layer = self.layer(source)?;
        let size = layer.meta(source.ino)?.size;
        let length = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        let Some((file, start)) = layer.backing_file(source.ino)? else { return Ok(None) };
        let Some(wanted) = buffer.get_mut(..length) else { return Ok(None) };
        let mut slices = [IoSliceMut::new(wanted)];
        // Short or refused means that not all of it is in memory; a real error comes again when it is waited for.
        let read = rustix::io::preadv2(file, &mut slices, start.saturating_add(offset), ReadWriteFlags::NOWAIT);
        Ok(read.ok().filter(|&read| read == length))
    }

    /// The first offset from `offset` on that lies in data, or with `hole` in a hole.
    pub fn seek(&self, ino: Ino, offset: u64, hole: bool) -> FsResult<u64> {
        let source = self.data_source(ino)?;
        self.layer(source)?.seek(source.ino, offset, hole)?.ok_or(FsError::BeyondEnd)
    }

    /// Where the data of the file `ino` lie now.
    pub(super) fn data_source(&self, ino: Ino) -> FsResult<Source> {
        let Object::Other(source) = self.object(ino)? else { return Err(FsError::IsDirectory) };
        if !self.layer(source)?.keeps_marks() {
            return Ok(source);
        }
        Ok(self.data_elsewhere.read().get(&ino).copied().unwrap_or(source))
    }
}
