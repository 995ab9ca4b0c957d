//! An upper to read only, whether it is mounted or not: for whoever wants to know what was changed.

use super::{Ownership, UpperError};
use crate::layer::dir::{Descriptors, DirLayer, DirOptions, Object, SideTable, XattrPrefix};
use crate::layer::staging;
use crate::union::{Ino, LayerIndex, LocalIno, Source};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An upper as it is now.
#[derive(Debug)]
pub struct UpperView {
    /// The upper as a layer.
    pub layer: Arc<DirLayer>,
    /// Objects of lower layers, with several names there, that have been copied up: what each of their names now is.
    pub replaced: Vec<(Source, Source)>,
}

/// Reads the upper at `upper` with the workdir at `work`. Changes nothing and locks nothing.
pub fn view_upper(
    upper: &Path,
    work: &Path,
    prefix: XattrPrefix,
    ownership: Ownership,
    descriptors: &Arc<Descriptors>,
) -> Result<UpperView, UpperError> {
    let failed = |context| move |source| UpperError::Io { path: upper.to_owned(), context, source };
    let base = work.join("layerfs");
    let side = if super::has_side(prefix, ownership) {
        SideTable::read(&base.join("side")).map_err(failed("read the side table"))?
    } else {
        None
    };
    let options = DirOptions { side: side.map(Arc::new), ..DirOptions::new(prefix) };
    let mut layer = DirLayer::open(upper, options, descriptors)?;
    if ownership == Ownership::Override {
        layer.keep_owners();
    }
    let layer = Arc::new(layer);
    let replaced = replaced(&layer, &base.join("index")).map_err(failed("read the index"))?;
    Ok(UpperView { layer, replaced })
}

fn replaced(layer: &DirLayer, index: &Path) -> io::Result<Vec<(Source, Source)>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let index = match rustix::fs::open(index, flags, Mode::empty()) {
        Ok(fd) => Arc::new(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let attached = layer.attach(&index).map_err(io::Error::other)?;
    let mut found = Vec::new();
    for (name, _) in staging::names(&index)? {
        let lower = index_entry(&name).and_then(Ino::source);
        let Some(lower) = lower else { continue };
        let local: LocalIno = layer.identify(&Object::new(&index, &name).stat()?);
        layer.remember(local, attached, &name);
        found.push((lower, Source { layer: LayerIndex::UPPER, ino: local }));
    }
    Ok(found)
}

/// The number in the mount that an entry of the index is named after.
pub(super) fn index_entry(name: &[u8]) -> Option<Ino> {
    let number = u64::from_str_radix(std::str::from_utf8(name).ok()?, 16).ok()?;
    Some(Ino(number))
}
