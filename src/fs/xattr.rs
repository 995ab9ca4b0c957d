//! Extended attributes.

use super::{FsError, FsResult, LayerFs};
use crate::model::acl;
use crate::union::Ino;
use std::borrow::Cow;

/// What file systems of Linux know; of the system's own only ACLs.
const NAMESPACES: [&[u8]; 4] = [b"user.", TRUSTED, b"security.", acl::PREFIX.as_bytes()];
const TRUSTED: &[u8] = b"trusted.";

impl LayerFs {
    /// The value of the extended attribute `name` of `ino`.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> FsResult<Cow<'_, [u8]>> {
        if !NAMESPACES.iter().any(|namespace| name.starts_with(namespace)) {
            return Err(FsError::NotSupported);
        }
        let source = self.object(ino)?.metadata();
        self.layer(source)?.xattr(source.ino, name)?.ok_or(FsError::NoXattr)
    }

    /// The names of the extended attributes of `ino`, a NUL behind each. `unprivileged`: those that only root may read do not
    /// exist.
    pub fn listxattr(&self, ino: Ino, unprivileged: bool) -> FsResult<Vec<u8>> {
        let source = self.object(ino)?.metadata();
        let mut names = Vec::new();
        self.layer(source)?.xattr_names(source.ino, &mut |name| {
            if unprivileged && name.starts_with(TRUSTED) {
                return;
            }
            names.extend_from_slice(name);
            names.push(0);
        })?;
        Ok(names)
    }
}
