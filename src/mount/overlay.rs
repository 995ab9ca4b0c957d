//! Directories as a filesystem: what `layerfs overlay` mounts.

use super::overlay_options::{OverlayOptions, Redirect};
use super::{MountError, MountPlan};
use crate::fs::{LayerFs, Settings};
use crate::layer::dir::{Descriptors, DirLayer, DirOptions, XattrPrefix};
use crate::layer::upper::{Ownership, Upper, UpperOptions};
use crate::union::{Follow, Layer, LayerError, Stack};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The filesystem that `options` describe, and how it is mounted on `mount_point`.
pub fn overlay(options: &OverlayOptions, mount_point: &Path) -> Result<(LayerFs, MountPlan), MountError> {
    options.check()?;
    check_apart(&Directories::of(options)?)?;
    let descriptors = Arc::new(Descriptors::for_this_process(options.lowers.len() as u64 + 4));
    let prefix = prefix(options.userxattr);
    let mut lowers: Vec<Arc<dyn Layer>> = Vec::new();
    for path in options.lowers.iter().rev() {
        let lower = DirOptions { owners: options.owners.clone(), ..DirOptions::new(prefix) };
        let layer = DirLayer::open(path, lower, &descriptors).map_err(|error| match error {
            LayerError::Io { source, .. } => MountError::Directory { option: "lowerdir", path: path.clone(), source },
            other => MountError::Layer(other),
        })?;
        lowers.push(Arc::new(layer));
    }
    let redirects = options.redirect != Redirect::NoFollow;
    let follow = Follow { redirects, metacopy: options.metacopy };
    let fs = match (&options.upper, &options.work) {
        (Some(upper), Some(work)) => {
            let upper_options = UpperOptions {
                prefix,
                ownership: ownership(options.override_stat),
                owners: options.owners.clone(),
                volatile: options.volatile,
            };
            let upper = Upper::open(upper, work, upper_options, &descriptors)?;
            let settings = Settings { redirect_dir: options.redirect == Redirect::On, metacopy: options.metacopy };
            LayerFs::new_writable(lowers, upper, settings, follow)?
        }
        _ => LayerFs::new(Stack::new(lowers, None, follow)?),
    };
    Ok((fs, plan(options, mount_point)))
}

fn plan(options: &OverlayOptions, mount_point: &Path) -> MountPlan {
    let lowers: Vec<_> = options.lowers.iter().map(|path| path.to_string_lossy()).collect();
    let mut source = lowers.join(":");
    if options.volatile {
        log::warn!("volatile: nothing is synced to disk, a power loss may cost the whole upper");
        source = format!("volatile:{source}");
    }
    let mut mount = options.mount.clone();
    mount.read_only |= options.upper.is_none();
    mount.acl = !options.noacl && ownership(options.override_stat) == Ownership::Real;
    MountPlan { source, mount_point: mount_point.to_owned(), name: None, container: None, options: mount }
}

/// Whose attributes hold overlay's records: only root of the machine may write `trusted.` ones.
pub fn prefix(userxattr: bool) -> XattrPrefix {
    let own_namespace = || {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().ne(["0", "0", "4294967295"])
    };
    if userxattr || !rustix::process::geteuid().is_root() || own_namespace() {
        XattrPrefix::User
    } else {
        XattrPrefix::Trusted
    }
}

/// How owners are kept: a plain user cannot give files away.
pub fn ownership(override_stat: bool) -> Ownership {
    if override_stat || !rustix::process::geteuid().is_root() { Ownership::Override } else { Ownership::Real }
}

/// The directories of the options, by their real paths.
struct Directories {
    lowers: Vec<PathBuf>,
    /// The upper and the workdir.
    writable: Option<(PathBuf, PathBuf)>,
}

impl Directories {
    /// An error that names the option where one is no directory.
    fn of(options: &OverlayOptions) -> Result<Self, MountError> {
        let lowers = options.lowers.iter().map(|path| real("lowerdir", path)).collect::<Result<_, _>>()?;
        let writable = match (&options.upper, &options.work) {
            (Some(upper), Some(work)) => Some((real("upperdir", upper)?, real("workdir", work)?)),
            _ => None,
        };
        Ok(Self { lowers, writable })
    }
}

fn real(option: &'static str, path: &Path) -> Result<PathBuf, MountError> {
    let found = path
        .canonicalize()
        .and_then(|real| if real.is_dir() { Ok(real) } else { Err(rustix::io::Errno::NOTDIR.into()) });
    found.map_err(|source| MountError::Directory { option, path: path.to_owned(), source })
}

/// An error unless upper, work and lowers lie beside each other: writing to one must not change another.
fn check_apart(directories: &Directories) -> Result<(), MountError> {
    let Some((upper, work)) = &directories.writable else { return Ok(()) };
    let lowers = || directories.lowers.iter().map(|lower| ("lowerdir", lower));
    let upper_and_others = lowers().chain([("workdir", work)]).map(|other| (("upperdir", upper), other));
    let work_and_others = lowers().map(|other| (("workdir", work), other));
    for (one, other) in upper_and_others.chain(work_and_others) {
        if one.1.starts_with(other.1) || other.1.starts_with(one.1) {
            let shown = |(option, path): (&str, &PathBuf)| format!("{option} {}", path.display());
            return Err(MountError::Overlapping { one: shown(one), other: shown(other) });
        }
    }
    Ok(())
}
