//! What a named writable mount changed: the two trees that diff and commit look at.

use super::WithHint;
use super::image_argument::{OpenImage, open_image};
use crate::commit::empty_stack;
use crate::diff::{ChangeSet, Comparison, Options, Override, add_linked_names, compare, keep_links};
use crate::model::RelPath;
use crate::mount::writable::view_changes;
use crate::mount::{Hold, Registry, hold_names, hold_running, mount_points_of_running};
use crate::store::{Container, Store, StoreError};
use crate::union::{Follow, Stack};
use anyhow::{Context, anyhow, bail};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A named writable mount with what it shows and what its image shows.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) container: Container,
    pub(super) image: OpenImage,
    /// What the image shows.
    pub(super) old: Stack,
    /// What the mount shows.
    pub(super) new: Stack,
    /// Objects of the image that were copied up.
    overrides: Vec<Override>,
    /// What is there while the container runs only.
    mount_points: Vec<RelPath>,
    /// Names stay as they are while this lives; none when nobody has it mounted.
    hold: Option<Hold>,
}

/// What a text names, if it names a writable mount: its name, or where it is mounted.
pub(super) fn find(store: &Store, text: &str) -> anyhow::Result<Option<Container>> {
    match store.container(text) {
        Ok(container) => return Ok(Some(container)),
        Err(StoreError::NoSuchContainer(_) | StoreError::ContainerName(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(record) = Registry::open()?.find(Path::new(text))? else { return Ok(None) };
    match &record.name {
        Some(name) => {
            let container = store.container(name).ok().filter(|container| record.is_of(&container.dir));
            container
                .map(Some)
                .ok_or_else(|| anyhow!("{text} is a mount of another store"))
                .hint("name its store by --root")
        }
        None if record.writable => Err(anyhow!("{text} is a mount of directories, not of an image"))
            .hint("layerfs diff and layerfs commit work on mounts made by `layerfs mount --rw`"),
        None => Err(anyhow!("{text} is mounted read-only: nothing can have changed"))
            .hint("mount it with `layerfs mount --rw IMAGE DIR`"),
    }
}

/// As [`find`]; that there is none is an error.
pub(super) fn find_required(store: &Store, text: &str) -> anyhow::Result<Container> {
    match find(store, text)? {
        Some(container) => Ok(container),
        None => Err(anyhow!("{text} is no writable mount")).hint("`layerfs ps -a` lists the writable mounts"),
    }
}

/// Opens the changes of `container`. With `hold`, no name in a live mount changes until the result is dropped.
pub(super) fn open(store: &Store, container: Container, hold: bool) -> anyhow::Result<Changed> {
    let image = open_image(store, &container.record.manifest.to_string(), "a look at its changes")?;
    // Before: whoever holds the names waits for nobody.
    let mount_points =
        mount_points_of_running(&container.dir).context("cannot ask for the container's mount points")?;
    let mount_points = mount_points.iter().filter_map(|path| RelPath::parse(path.as_bytes()).ok()).collect();
    let hold = if hold { hold_live(&container)? } else { None };
    let view = view_changes(&container.upper(), &container.work())?;
    let overrides = view.replaced.iter().map(|&(lower, upper)| Override { lower, upper }).collect();
    let old = Stack::new(image.layers.clone(), None, Follow::default())?;
    let new = old.with_upper(view.layer)?;
    Ok(Changed { container, image, old, new, overrides, mount_points, hold })
}

/// Holds the names of `container` when it is mounted or runs.
fn hold_live(container: &Container) -> anyhow::Result<Option<Hold>> {
    let registry = Registry::open()?;
    if let Some(record) = registry.mount_of(&container.dir)? {
        return Ok(Some(hold_names(&registry, &record)?));
    }
    if !container.is_mounted()? {
        return Ok(None);
    }
    if let Some(hold) = hold_running(&container.dir).context("cannot hold the container's names")? {
        return Ok(Some(hold));
    }
    // It may have ended in this moment.
    if !container.is_mounted()? {
        return Ok(None);
    }
    if matches!(container.busy(), StoreError::ContainerRuns(_)) {
        return Err(container.busy().into());
    }
    bail!("{} is in use, and its server cannot be found", container.record.name)
}

/// Whether `place` is in the mount of `container`, or will be: while that is held, nothing can be made there, nor looked at.
pub(super) fn is_around(container: &Container, place: &Path) -> anyhow::Result<bool> {
    let Some(mount) = Registry::open()?.mount_of(&container.dir)? else { return Ok(false) };
    let parent = place.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let there = [Some(place), parent].into_iter().flatten().find_map(|place| place.metadata().ok());
    let Some(there) = there else { return Ok(false) };
    Ok(mount.mount_point.metadata().is_ok_and(|root| root.dev() == there.dev()))
}

/// What keeps a named writable mount as it is.
#[derive(Debug)]
#[expect(dead_code, reason = "only held")]
pub(super) struct Kept {
    image: OpenImage,
    hold: Option<Hold>,
}

impl Changed {
    /// What the mount shows, and what has to live as long as that is looked at.
    pub(super) fn into_shown(self) -> (Stack, Kept) {
        (self.new, Kept { image: self.image, hold: self.hold })
    }

    /// The changes as a layer has to hold them.
    pub(super) fn layer(&self) -> anyhow::Result<ChangeSet> {
        Ok(keep_links(self.changes()?, &self.new)?)
    }

    /// The changes, with the parents that a layer needs.
    pub(super) fn changes(&self) -> anyhow::Result<ChangeSet> {
        self.since(&self.old)
    }

    /// Everything, as changes of nothing.
    pub(super) fn whole(&self) -> anyhow::Result<ChangeSet> {
        self.since(&empty_stack()?)
    }

    fn since(&self, old: &Stack) -> anyhow::Result<ChangeSet> {
        let options = Options { comparison: Comparison::Sources, parents: true };
        let changes = add_linked_names(compare(old, &self.new, options)?, &self.new, &self.overrides)?;
        Ok(changes.without_mount_points(&self.mount_points))
    }
}
