//! Named writable mounts: `mount --rw`.

use super::WithHint;
use super::image_argument::{OpenImage, open_image};
use crate::fs::LayerFs;
use crate::mount::MountOptions;
use crate::mount::MountPlan;
use crate::mount::writable::{Changes, writable};
use crate::oci::Reference;
use crate::store::{Container, ContainerRecord, Store, StoreError};
use anyhow::{anyhow, bail};
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What to mount: the filesystem, how, and what has to live as long as it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) fs: LayerFs,
    pub(super) plan: MountPlan,
    pub(super) name: String,
    pub(super) image: OpenImage,
    pub(super) lock: crate::store::ContainerLock,
    /// Whether it was made for this.
    pub(super) fresh: bool,
}

/// Removes the container `name`, which was made for a mount that has failed, unless something was written in it.
pub(super) fn remove_unused(store: &Store, name: &str) {
    let is_unused =
        |container: &Container| std::fs::read_dir(container.upper()).is_ok_and(|mut entries| entries.next().is_none());
    if store.container(name).is_ok_and(|container| is_unused(&container))
        && let Err(error) = store.remove_container(name)
    {
        log::debug!("{name} is left behind: {error}");
    }
}

/// Opens the writable mount `name` of `image`, made when there is none of that name; without a name it gets one.
pub(super) fn open(
    store: &Store,
    image: &str,
    name: Option<&str>,
    mount_point: &Path,
    options: MountOptions,
    volatile: bool,
) -> anyhow::Result<Named> {
    let existing = match name.map(|name| store.container(name)) {
        None | Some(Err(StoreError::NoSuchContainer(_))) => None,
        Some(found) => Some(found?),
    };
    let user = user_of(mount_point);
    let (container, image, fresh) = if let Some(container) = existing {
        let image = open_same_image(store, image, &container, &user)?;
        (container, image, false)
    } else {
        let opened = open_image(store, image, &user)?;
        let created = OffsetDateTime::now_utc().format(&Rfc3339)?;
        let name = name.map_or_else(|| invent_name(store, image), |name| Ok(name.to_owned()))?;
        let record = ContainerRecord::new(&name, image, &opened.record, &created);
        (store.create_container(&record)?, opened, true)
    };
    let lock = container.lock()?;
    let (upper, work) = (container.upper(), container.work());
    let changes = Changes { upper: &upper, work: &work, fresh, volatile };
    let opened = writable(image.layers.clone(), &changes);
    if opened.is_err() && fresh {
        drop(lock);
        // It never was of any use to anyone; why it could not be mounted is what matters.
        let _ = store.remove_container(&container.record.name);
        return Err(opened.err().map_or_else(|| anyhow::anyhow!("not mounted"), anyhow::Error::from));
    }
    let name = container.record.name.clone();
    let plan = MountPlan {
        source: image.record.label(),
        mount_point: mount_point.to_owned(),
        name: Some(name.clone()),
        container: Some(container.dir.clone()),
        options,
    };
    Ok(Named { fs: opened?, plan, name, image, lock, fresh })
}

/// Who uses an image that is mounted on `mount_point`, as conflicts name it from any directory.
pub(super) fn user_of(mount_point: &Path) -> String {
    std::path::absolute(mount_point).unwrap_or_else(|_| mount_point.to_owned()).display().to_string()
}

/// Whether there is a mount `name` that was made of the image called `image`.
pub(super) fn is_made_of(store: &Store, name: &str, image: &str) -> bool {
    store.container(name).is_ok_and(|container| is_same_name(image, &container.record.image))
}

/// The image that the container was made of, which `asked` has to name. The name it was made by is always right, whatever image has it
/// by now.
fn open_same_image(store: &Store, asked: &str, container: &Container, user: &str) -> anyhow::Result<OpenImage> {
    let record = &container.record;
    if !is_same_name(asked, &record.image) {
        let other = open_image(store, asked, user)?;
        if other.record.id != record.image_id {
            return Err(anyhow!("{} is a mount of {}, not of {asked}", record.name, record.image)).hint(format!(
                "choose another --name, or mount it as what it is: layerfs mount --rw --name {} {} MNT",
                record.name, record.image
            ));
        }
        return Ok(other);
    }
    open_image(store, &record.image_id.to_string(), user)
}

/// Whether two texts are the same, or the same reference written in two ways.
fn is_same_name(one: &str, other: &str) -> bool {
    let parse = |text: &str| text.parse::<Reference>().ok().map(Reference::or_latest);
    one == other || parse(one).is_some_and(|name| Some(name) == parse(other))
}

/// A name that nothing has: the image's own and a number.
fn invent_name(store: &Store, image: &str) -> anyhow::Result<String> {
    let last = image.rsplit('/').next().unwrap_or(image);
    let base: String = last.split([':', '@']).next().unwrap_or(last).to_owned();
    let base: String = base.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let base = if base.starts_with(|c: char| c.is_ascii_alphanumeric()) { base } else { "mount".to_owned() };
    for number in 1..u32::MAX {
        let name = format!("{base}-{number}");
        match store.container(&name) {
            Err(StoreError::NoSuchContainer(_)) => return Ok(name),
            found => drop(found?),
        }
    }
    bail!("no name is left")
}

#[cfg(test)]
mod tests {
    use super::is_same_name;

    #[test]
    fn regression_a_name_without_its_tag_is_the_same() {
        for (one, other, same) in [
            ("app", "app:latest", true),
            ("docker.io/library/app:1", "app:1", true),
            ("app:1", "app:2", false),
            ("0123456789ab", "0123456789ab", true),
            ("oci:dir", "oci:dir", true),
        ] {
            assert_eq!(is_same_name(one, other), same, "{one} {other}");
        }
    }
}
