//! `RUN --mount`: what each shows, and what of it the cache has to know.

use super::cache::Key;
use super::cache_mounts::Caches;
use super::error::{BuildError, BuildResult, trying};
use super::stage::{Work, tree_of};
use crate::build::copy::{
    Copier, CopyError, Data, Destination, Empty, NewEntry, NewKind, Rules, Tree, fingerprint, materialise, resolve,
};
use crate::build::dockerfile::{Mount, MountKind};
use crate::build::plan::{Origin, Step};
use crate::model::{RelPath, Timestamp};
use crate::sandbox;
use std::path::PathBuf;
use std::sync::Arc;

/// Where secrets appear unless the mount says otherwise.
const SECRETS: &str = "/run/secrets/";
/// Who may read a secret unless the mount says otherwise: its owner.
const SECRET_MODE: u32 = 0o400;
/// Where a bind mount is while its key is made: anywhere.
const SHOWN_AT: &str = "/mount";
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

/// A tree of a mount, and of a bind mount what it shows of that.
#[derive(Debug)]
pub(super) struct Shown {
    tree: Arc<dyn Tree>,
    chosen: Option<Destination<'static>>,
}

/// Adds to `key` what the result of a command with these mounts depends on.
pub(super) fn add_to_key(
    key: &mut Key,
    mounts: &[Mount],
    trees: Vec<Option<Arc<dyn Tree>>>,
) -> BuildResult<Vec<Option<Shown>>> {
    let mut all = Vec::new();
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
        all.push(match tree {
            Some(tree) if mount.kind == MountKind::Bind => {
                let chosen = choose(&*tree, mount)?;
                key.bytes(fingerprint(&chosen, Data { trees: &[&*tree], archives: &[] })?.as_bytes());
                Some(Shown { tree, chosen: Some(chosen) })
            }
            tree => tree.map(|tree| Shown { tree, chosen: None }),
        });
    }
    Ok(all)
}

/// What a bind mount shows.
fn choose(tree: &dyn Tree, mount: &Mount) -> BuildResult<Destination<'static>> {
    let mut destination = Destination::new(&Empty, Timestamp::default());
    let rules = Rules::default();
    let source = mount.source.as_deref().unwrap_or("/");
    Copier::new(&mut destination, &rules, SHOWN_AT).copy_path(0, tree, &resolve(tree, source.as_bytes(), true)?)?;
    Ok(destination)
}

/// Refuses a bind mount that shows something else than when it was `chosen`: the key of the cache stands for that.
fn check_unchanged(tree: &dyn Tree, mount: &Mount, chosen: &Destination<'_>) -> BuildResult<()> {
    let now = choose(tree, mount)?;
    let Some(changed) = first_difference(chosen, &now).or_else(|| first_difference(&now, chosen)) else {
        return Ok(());
    };
    let source = resolve(tree, mount.source.as_deref().unwrap_or("/").as_bytes(), true)?;
    let path = changed.names().iter().skip(1).fold(source, |path, name| path.join(name.clone()));
    Err(BuildError::Copy(CopyError::Changing { path }))
}

/// The first object of `one` that is not the same in `other`.
fn first_difference<'d>(one: &'d Destination<'_>, other: &Destination<'_>) -> Option<&'d RelPath> {
    // The time of a directory changes with its names, which are looked at themselves.
    let bare = |entry: &NewEntry| match entry.kind {
        NewKind::Directory { .. } => NewEntry { mtime: Timestamp::default(), ..entry.clone() },
        _ => entry.clone(),
    };
    let is_there = |path, entry| other.entries().get(path).is_some_and(|there| bare(there) == bare(entry));
    one.entries().iter().find(|(path, entry)| !is_there(path, entry)).map(|(path, _)| path)
}

/// Prepares every mount.
pub(super) fn prepare(work: &Work<'_>, mounts: &[Mount], shown: &[Option<Shown>]) -> BuildResult<Prepared> {
    let trees: Vec<_> = shown.iter().map(|shown| shown.as_ref().map(|shown| &*shown.tree)).collect();
    let caches = Caches::take(work, mounts, &trees)?;
    let mut prepared = Prepared::default();
    for (mount, shown) in mounts.iter().zip(shown) {
        match (mount.kind, shown) {
            (MountKind::Bind, Some(Shown { tree, chosen })) => {
                let place = work.shared.build.session.stage_path();
                show(&**tree, mount, &place)?;
                chosen.as_ref().map_or(Ok(()), |chosen| check_unchanged(&**tree, mount, chosen))?;
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
        return Err(BuildError::Copy(CopyError::NotFound { path: source.to_owned() }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::trees::DirectoryTree;
    use std::fs;
    use std::time::{Duration, SystemTime};

    #[test]
    fn regression_what_a_bind_mount_shows_is_what_the_key_was_made_of() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "one").unwrap();
        let tree = DirectoryTree::open(dir.path()).unwrap();
        let mount = Mount::default();
        let chosen = choose(&tree, &mount).unwrap();
        check_unchanged(&tree, &mount, &chosen).unwrap();
        let changed = || check_unchanged(&tree, &mount, &chosen).unwrap_err().to_string();
        fs::write(dir.path().join("d/new"), "").unwrap();
        assert!(changed().starts_with("/d/new: "), "{}", changed());
        fs::remove_file(dir.path().join("d/new")).unwrap();
        // The directory alone is another.
        check_unchanged(&tree, &mount, &chosen).unwrap();
        let later = SystemTime::now() + Duration::from_secs(1);
        fs::File::options().write(true).open(dir.path().join("d/f")).unwrap().set_modified(later).unwrap();
        assert!(changed().starts_with("/d/f: "), "{}", changed());
        fs::remove_file(dir.path().join("d/f")).unwrap();
        assert!(changed().starts_with("/d/f: "), "{}", changed());
    }
}
