//! Attributes of objects and of the whole.

use super::lookup::Object;
use super::{FsResult, LayerFs};
use crate::model::Meta;
use crate::union::Ino;

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
        let object = self.object(ino)?;
        let source = object.metadata();
        let mut meta = self.layer(source)?.meta(source.ino)?;
        if matches!(object, Object::Directory(_)) {
            // The count of merged subdirectories would have to be kept; 1 is what says that it is not.
            meta.nlink = 1;
        }
        Ok(Attr { ino, meta })
    }

    /// The size of the whole: what the layers hold, and nothing free.
    pub fn statfs(&self) -> Statfs {
        let block_size = 4096;
        let totals = self.stack.lowers().iter().map(|layer| layer.totals());
        let (bytes, files) = totals.fold((0_u64, 0_u64), |(bytes, files), one| {
            (bytes.saturating_add(one.bytes), files.saturating_add(one.inodes))
        });
        let blocks = bytes.div_ceil(u64::from(block_size));
        Statfs { block_size, blocks, blocks_free: 0, blocks_available: 0, files, files_free: 0 }
    }
}
