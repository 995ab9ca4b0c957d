//! Attributes of objects and of the whole.

use super::lookup::Object;
use super::{FsResult, LayerFs};
use crate::model::Meta;
use crate::union::{Ino, LayerIndex, Source};

/// What stat tells of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The number in this mount.
    pub ino: Ino,
    /// The rest.
    pub meta: Meta,
}

/// What statfs tells of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for those who are not root.
    pub blocks_available: u64,
    /// Objects in all.
    pub files: u64,
    /// How many more objects there could be.
    pub files_free: u64,
}

impl LayerFs {
    /// The attributes of `ino`.
    pub fn getattr(&self, ino: Ino) -> FsResult<Attr> {
        let _shared = self.writable.as_ref().map(|writable| writable.stripes.read(ino));
        let object = self.object(ino)?;
        let source = object.metadata();
        let mut meta = self.layer(source)?.meta(source.ino)?;
        if let Object::Directory(directory) = &object {
            // The count of merged subdirectories would have to be kept; 1 is what says that it is not. A directory of the upper
            // alone has it.
            if !matches!(*directory.made().sources, [Source { layer: LayerIndex::UPPER, .. }]) {
                meta.nlink = 1;
            }
        } else {
            meta.nlink = self.stack.links(source, meta.nlink);
            if let Some(writable) = &self.writable {
                meta.nlink = writable.links(ino, source, meta.nlink);
            }
        }
        Ok(Attr { ino, meta })
    }

    /// The size of the whole: that of the file system the upper is on, or else what the layers hold, and nothing free.
    pub fn statfs(&self) -> FsResult<Statfs> {
        if let Some(writable) = &self.writable {
            let all = writable.upper.statfs()?;
            return Ok(Statfs {
                block_size: u32::try_from(all.f_frsize).unwrap_or(4096),
                blocks: all.f_blocks,
                blocks_free: all.f_bfree,
                blocks_available: all.f_bavail,
                files: all.f_files,
                files_free: all.f_ffree,
            });
        }
        let block_size = 4096;
        let totals = self.stack.lowers().iter().map(|layer| layer.totals());
        let (bytes, files) = totals.fold((0_u64, 0_u64), |(bytes, files), one| {
            (bytes.saturating_add(one.bytes), files.saturating_add(one.inodes))
        });
        let blocks = bytes.div_ceil(u64::from(block_size));
        Ok(Statfs { block_size, blocks, blocks_free: 0, blocks_available: 0, files, files_free: 0 })
    }
}
