//! Extended attributes.

use super::{FsError, FsResult, LayerFs};
use crate::union::Ino;
use std::borrow::Cow;

impl LayerFs {
    /// The value of the extended attribute `name` of `ino`.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> FsResult<Cow<'_, [u8]>> {
        let source = self.object(ino)?.metadata();
        self.layer(source)?.xattr(source.ino, name)?.ok_or(FsError::NoXattr)
    }

    /// The names of the extended attributes of `ino`, a NUL behind each.
    pub fn listxattr(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let source = self.object(ino)?.metadata();
        let mut names = Vec::new();
        self.layer(source)?.xattr_names(source.ino, &mut |name| {
            names.extend_from_slice(name);
            names.push(0);
        })?;
        Ok(names)
    }
}
