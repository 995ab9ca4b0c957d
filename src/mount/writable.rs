//! A filesystem that takes changes, over the layers of an image.

use super::MountError;
use super::overlay::{ownership, prefix};
use crate::fs::{LayerFs, Settings};
use crate::layer::dir::{Descriptors, Owners};
use crate::layer::upper::{Upper, UpperOptions, UpperView, view_upper};
use crate::union::{Follow, Layer};
use std::path::Path;
use std::sync::Arc;

/// Where the changes go.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The upper directory.
    pub upper: &'a Path,
    /// The workdir.
    pub work: &'a Path,
    /// The upper is new: its root becomes like that of the image.
    pub fresh: bool,
    /// Nothing is synced to disk.
    pub volatile: bool,
}

/// The filesystem of `layers`, bottom layer first, under the upper of `changes`. Directories of the image can be renamed, and a
/// change of metadata copies no data.
pub fn writable(layers: Vec<Arc<dyn Layer>>, changes: &Changes<'_>) -> Result<LayerFs, MountError> {
    let descriptors = Arc::new(Descriptors::for_this_process(layers.len() as u64 * 2 + 4));
    let options = UpperOptions {
        prefix: prefix(false),
        ownership: ownership(false),
        owners: Owners::default(),
        volatile: changes.volatile,
    };
    let upper = Upper::open(changes.upper, changes.work, options, &descriptors)?;
    let settings = Settings { redirect_dir: true, metacopy: true };
    let fs = LayerFs::new_writable(layers, upper, settings, Follow::default())?;
    if changes.fresh {
        fs.adopt_root().map_err(MountError::Root)?;
    }
    Ok(fs)
}

/// What the upper of a writable mount holds now, whether it is mounted or not.
pub fn view_changes(upper: &Path, work: &Path) -> Result<UpperView, MountError> {
    let descriptors = Arc::new(Descriptors::for_this_process(4));
    Ok(view_upper(upper, work, prefix(false), ownership(false), &descriptors)?)
}
