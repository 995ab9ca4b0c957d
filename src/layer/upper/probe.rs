//! What the file system of an upper can do, found out before anything is mounted.

use super::{Ownership, UpperError, whiteouts};
use crate::layer::dir::{Object, Record, XattrPrefix, owners};
use crate::layer::staging::Staging;
use rustix::fs::{AtFlags, Mode, RenameFlags, XattrFlags};
use std::io;
use std::path::Path;

/// What differs between file systems and is worked around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// `RENAME_WHITEOUT`.
    pub(super) rename_whiteout: bool,
}

/// Tries in the stage what every mount needs.
pub(super) fn probe(
    staging: &Staging,
    upper: &Path,
    prefix: XattrPrefix,
    ownership: Ownership,
) -> Result<Abilities, UpperError> {
    let failed = |context| move |source: io::Error| UpperError::Io { path: upper.to_owned(), context, source };
    let dir = staging.fresh();
    rustix::fs::mkdirat(&dir.dir, &*dir.name, Mode::RWXU).map_err(|error| failed("make a directory")(error.into()))?;
    let opaque = prefix.record(Record::Opaque);
    let wanted: &[&[u8]] = match ownership {
        Ownership::Real => &[opaque],
        Ownership::Override => &[opaque, owners::CONTAINERS_OVERRIDE],
    };
    for attribute in wanted {
        dir.set_xattr(attribute, b"0:0:0755", XattrFlags::empty()).map_err(|error| {
            let attribute = attribute.escape_ascii().to_string();
            UpperError::NoXattrs { path: upper.to_owned(), attribute, source: error.into() }
        })?;
    }
    let whiteout = staging.fresh();
    whiteouts::make_inode(&whiteout).map_err(|source| UpperError::NoWhiteouts { path: upper.to_owned(), source })?;
    exchange(&dir, &whiteout).map_err(failed("exchange two names (RENAME_EXCHANGE)"))?;
    let (dir, whiteout) = (whiteout, dir);
    remove(&dir, AtFlags::REMOVEDIR).map_err(failed("remove a directory"))?;
    let moved = staging.fresh();
    let flags = RenameFlags::WHITEOUT;
    let renamed = rustix::fs::renameat_with(&whiteout.dir, &*whiteout.name, &moved.dir, &*moved.name, flags);
    remove(&whiteout, AtFlags::empty()).map_err(failed("remove a whiteout"))?;
    if renamed.is_ok() {
        remove(&moved, AtFlags::empty()).map_err(failed("remove a whiteout"))?;
    }
    Ok(Abilities { rename_whiteout: renamed.is_ok() })
}

/// Makes two objects change places.
pub(super) fn exchange(left: &Object, right: &Object) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(&left.dir, &*left.name, &right.dir, &*right.name, RenameFlags::EXCHANGE)?)
}

/// Removes a name.
pub(super) fn remove(object: &Object, flags: AtFlags) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(&object.dir, &*object.name, flags)?)
}
