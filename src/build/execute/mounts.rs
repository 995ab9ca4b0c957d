//! `RUN --mount`: what each shows, and what of it the cache has to know.

use super::cache::Key;
use super::cache_mounts::Caches;
use super::error::{BuildError, BuildResult, trying};
use super::stage::{Work, tree_of};
use crate::build::copy::{Copier, Data, Destination, Empty, Rules, Tree, fingerprint, materialise, resolve};
use crate::build::dockerfile::{Mount, MountKind};
use crate::build::plan::{Origin, Step};
use crate::model::Timestamp;
use crate::oci::Digest;
use crate::sandbox;
use std::path::PathBuf;
use std::sync::Arc;

/// Where secrets appear unless the mount says otherwise.
const SECRETS: &str = "/run/secrets/";
/// Who may read a secret unless the mount says otherwise: its owner.
const SECRET_MODE: u32 = 0o400;
/// The mode of a fresh tmpfs.
const TMPFS_MODE: u32 = 0o1777;

/// Where a secret's value is.
#[derive(Debug, Clone)]
pub enum Secret {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

impl Secret {
    fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path),
            Self::Variable(name) => {
                Ok(std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).unwrap_or_default())
            }
        }
    }
}

/// The mounts of a command, ready to be mounted. Locks of caches are held while this lives.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<sandbox::Mount>,
    /// Variables that hold secrets.
    pub(super) variables: Vec<(String, Vec<u8>)>,
    /// Held until the command has ended.
    caches: Caches,
}

/// The tree each mount of `step` shows; none for those that show none.
pub(super) fn trees(work: &Work<'_>, step: &Step, mounts: &[Mount]) -> BuildResult<Vec<Option<Arc<dyn Tree>>>> {
    let mut origins = step.origins.iter();
    let mut trees = Vec::new();
    for mount in mounts {
        let origin: Option<&Origin> = if mount.from.is_some() { origins.next() } else { None };
        trees.push(match (mount.kind, origin) {
            (_, Some(origin)) => Some(tree_of(work.shared, origin)?),
            (MountKind::Bind, None) => Some(Arc::clone(&work.shared.build.context)),
            _ => None,
        });
    }
    Ok(trees)
}

/// Adds to `key` what the result of a command with these mounts depends on.
pub(super) fn add_to_key(key: &mut Key, mounts: &[Mount], trees: &[Option<Arc<dyn Tree>>]) -> BuildResult<()> {
    for (mount, tree) in mounts.iter().zip(trees) {
        key.list(&[
            mount.kind.name(),
            mount.target.as_deref().unwrap_or_default(),
            mount.id.as_deref().unwrap_or_default(),
            mount.source.as_deref().unwrap_or_default(),
            mount.env.as_deref().unwrap_or_default(),
            if mount.read_only { "ro" } else { "rw" },
            &format!("{:?} {:?} {:?} {:?}", mount.mode, mount.uid, mount.gid, mount.size),
        ]);
        if let Some(tree) = tree.as_ref().filter(|_| mount.kind == MountKind::Bind) {
            key.bytes(contents(&**tree, mount)?.as_bytes());
        }
    }
    Ok(())
}

/// A digest of what a bind mount shows.
fn contents(tree: &dyn Tree, mount: &Mount) -> BuildResult<Digest> {
    let mut destination = Destination::new(&Empty, Timestamp::default());
    let rules = Rules::default();
    let source = mount.source.as_deref().unwrap_or("/");
    Copier::new(&mut destination, &rules, "/mount").copy_path(0, tree, &resolve(tree, source.as_bytes(), true)?)?;
    Ok(fingerprint(&destination, Data { trees: &[tree], archives: &[] })?)
}

/// Prepares every mount.
pub(super) fn prepare(work: &Work<'_>, mounts: &[Mount], trees: &[Option<Arc<dyn Tree>>]) -> BuildResult<Prepared> {
    let caches = Caches::take(work, mounts, trees)?;
    let mut prepared = Prepared::default();
    for (mount, tree) in mounts.iter().zip(trees) {
        match (mount.kind, tree) {
            (MountKind::Bind, Some(tree)) => {
                let place = work.shared.build.session.stage_path();
                show(&**tree, mount, &place)?;
                prepared.add(mount, sandbox::Source::Host(place.into()));
            }
            (MountKind::Bind, None) => {}
            (MountKind::Cache, _) => prepared.add(mount, sandbox::Source::Host(caches.place(mount).into())),
            (MountKind::Tmpfs, _) => {
                prepared.add(mount, sandbox::Source::Tmpfs { size: mount.size, mode: TMPFS_MODE, executable: true });
            }
            (MountKind::Secret, _) => prepared.secret(work, mount)?,
            // As in BuildKit where the caller forwards no agent, which is never done here.
            (MountKind::Ssh, _) if !mount.required => {}
            (MountKind::Ssh, _) => {
                return Err(BuildError::Unsupported(
                    "no agent is forwarded to --mount=type=ssh: give the key as a secret".to_owned(),
                ));
            }
        }
    }
    prepared.caches = caches;
    Ok(prepared)
}

/// Makes a copy of what a mount shows, which the command may do with as it likes.
pub(super) fn show(tree: &dyn Tree, mount: &Mount, place: &std::path::Path) -> BuildResult<()> {
    let source = mount.source.as_deref().unwrap_or("/");
    let real = resolve(tree, source.as_bytes(), true)?;
    let stat = tree.stat(&real).map_err(trying(source))?;
    if stat.is_none() {
        return Err(BuildError::Copy(crate::build::copy::CopyError::NotFound { path: source.to_owned() }));
    }
    Ok(materialise(tree, &real, place)?)
}

impl Prepared {
    fn add(&mut self, mount: &Mount, source: sandbox::Source) {
        let target = mount.target.clone().unwrap_or_default();
        self.mounts.push(sandbox::Mount { target: target.into(), source, read_only: mount.read_only });
    }

    fn secret(&mut self, work: &Work<'_>, mount: &Mount) -> BuildResult<()> {
        let id = mount.id.clone().or_else(|| mount.source.clone());
        let id = id.or_else(|| mount.target.as_deref().and_then(|target| target.rsplit('/').next()).map(str::to_owned));
        let id = id.or_else(|| mount.env.clone()).unwrap_or_default();
        let Some(secret) = work.shared.build.options.secrets.get(&id) else {
            return if mount.required { Err(BuildError::Secret(id)) } else { Ok(()) };
        };
        let bytes = secret.read().map_err(trying(format!("read secret {id}")))?;
        if let Some(variable) = &mount.env {
            self.variables.push((variable.clone(), bytes.clone()));
            if mount.target.is_none() {
                return Ok(());
            }
        }
        let target =
            mount.target.clone().unwrap_or_else(|| format!("{SECRETS}{}", id.rsplit('/').next().unwrap_or_default()));
        let (mode, uid, gid) = (mount.mode.unwrap_or(SECRET_MODE), mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let source = sandbox::Source::Content { bytes, mode, uid, gid };
        self.mounts.push(sandbox::Mount { target: target.into(), source, read_only: true });
        Ok(())
    }
}
