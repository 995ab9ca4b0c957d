//! Directories as a filesystem: what `layerfs overlay` mounts.

use super::overlay_options::{OverlayOptions, Redirect};
use super::{MountError, MountPlan};
use crate::fs::{LayerFs, Settings};
use crate::layer::dir::{Descriptors, DirLayer, DirOptions, XattrPrefix};
use crate::layer::upper::{Ownership, Upper, UpperOptions};
use crate::union::{Follow, Layer, LayerError, MAX_LOWERS, Stack};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The filesystem that `options` describe, and how it is mounted on `mount_point`.
pub fn overlay(options: &OverlayOptions, mount_point: &Path) -> Result<(LayerFs, MountPlan), MountError> {
    options.check()?;
    let directories = Directories::of(options, mount_point)?;
    check_apart(&directories)?;
    let descriptors = Arc::new(Descriptors::for_this_process(options.lowers.len() as u64 + 4));
    let prefix = prefix(options.userxattr);
    let mut lowers: Vec<Arc<dyn Layer>> = Vec::new();
    for (path, real) in options.lowers.iter().zip(&directories.lowers).rev() {
        let lower = DirOptions { owners: options.owners.clone(), ..DirOptions::new(prefix) };
        let layer = if directories.is_mounted_inside(real) {
            // Or whoever walks through the mount would come to it again, without end, and each step waits for the one before.
            DirLayer::open_bare(path, lower, &descriptors)
        } else {
            DirLayer::open(path, lower, &descriptors)
        };
        let layer = layer.map_err(|error| match error {
            LayerError::Io { source, .. } if directories.is_mounted_inside(real) => {
                MountError::MountedInside { mount_point: mount_point.to_owned(), lower: path.clone(), source }
            }
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
    /// Where it is mounted; what is no directory is told later.
    mount_point: PathBuf,
}

impl Directories {
    /// An error that names the option where one is no directory.
    fn of(options: &OverlayOptions, mount_point: &Path) -> Result<Self, MountError> {
        let lowers = options.lowers.iter().map(|path| real("lowerdir", path)).collect::<Result<_, _>>()?;
        let writable = match (&options.upper, &options.work) {
            (Some(upper), Some(work)) => Some((real("upperdir", upper)?, real("workdir", work)?)),
            _ => None,
        };
        let mount_point = mount_point.canonicalize().unwrap_or_else(|_| mount_point.to_owned());
        Ok(Self { lowers, writable, mount_point })
    }

    /// Whether the mount point lies in `directory`. Where it is the directory itself nothing comes back to it: it was opened before.
    fn is_mounted_inside(&self, directory: &Path) -> bool {
        self.mount_point != directory && self.mount_point.starts_with(directory)
    }
}

fn real(option: &'static str, path: &Path) -> Result<PathBuf, MountError> {
    let found = path
        .canonicalize()
        .and_then(|real| if real.is_dir() { Ok(real) } else { Err(rustix::io::Errno::NOTDIR.into()) });
    found.map_err(|source| MountError::Directory { option, path: path.to_owned(), source })
}

/// An error where a change of one directory would change another in a way that the kernel's overlayfs does not take either
/// (`ovl_check_overlapping_layers` in fs/overlayfs/super.c): the upper and the workdir may lie in a lower, as they do in `/`, but nothing
/// may lie in them, nor a lower in a lower.
fn check_apart(directories: &Directories) -> Result<(), MountError> {
    let lowers: Vec<_> = directories.lowers.iter().map(|lower| ("lowerdir", lower)).collect();
    let refused = |one: (&str, &PathBuf), other: (&str, &PathBuf)| {
        let shown = |(option, path): (&str, &PathBuf)| format!("{option} {}", path.display());
        Err(MountError::Overlapping { one: shown(one), other: shown(other) })
    };
    // Of too many it is told later that they are.
    if lowers.len() <= MAX_LOWERS {
        for (at, one) in lowers.iter().enumerate() {
            let others = lowers.get(at + 1..).unwrap_or_default();
            if let Some(other) = others.iter().find(|other| one.1.starts_with(other.1) || other.1.starts_with(one.1)) {
                return refused(*one, *other);
            }
        }
    }
    let Some((upper, work)) = &directories.writable else { return Ok(()) };
    let (upper, work) = (("upperdir", upper), ("workdir", work));
    if upper.1.starts_with(work.1) || work.1.starts_with(upper.1) {
        return refused(upper, work);
    }
    for above in [upper, work] {
        if let Some(lower) = lowers.iter().find(|lower| lower.1.starts_with(above.1)) {
            return refused(above, *lower);
        }
        if directories.is_mounted_inside(above.1) {
            return refused(above, ("the mount point", &directories.mount_point));
        }
    }
    Ok(())
}
