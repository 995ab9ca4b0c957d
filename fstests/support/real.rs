//! The real images: made by `images/build` with other tools, kept in the cache between runs.

use super::needs;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::PathBuf;

/// The recipes by name. The key of a built image is the hash of its recipe, so a changed recipe is built anew.
const RECIPES: [(&str, &[u8]); 2] =
    [("small", include_bytes!("../../images/small")), ("large", include_bytes!("../../images/large"))];

/// The script that makes bases of the worked examples; its hash is in their names.
const BASES: &[u8] = include_bytes!("../../images/base");

/// The tar of the base `name` of the worked examples. Begin the scene with [`super::Need::Base`].
pub(crate) fn base(name: &str) -> PathBuf {
    needs::cache().join("bases").join(format!("{name}-{}.tar", key(BASES)))
}

/// One real image in the cache.
#[derive(Debug, Clone)]
pub(crate) struct RealImage {
    /// Where everything of it lies.
    pub(crate) directory: PathBuf,
}

/// The real image `name`. Begin the scene with [`super::Need::Image`].
pub(crate) fn image(name: &str) -> RealImage {
    RealImage { directory: directory(name) }
}

/// Where the image `name` is kept; the file `complete` is in it once it has been built.
pub(super) fn directory(name: &str) -> PathBuf {
    let (_, recipe) = RECIPES.iter().find(|(known, _)| *known == name).expect("the name of a recipe in images/");
    needs::cache().join("images").join(format!("{name}-{}", key(recipe)))
}

/// The beginning of a recipe's hash.
fn key(recipe: &[u8]) -> String {
    let mut key = String::new();
    for byte in &Sha256::digest(recipe)[..8] {
        write!(key, "{byte:02x}").expect("write to a string");
    }
    key
}

impl RealImage {
    /// An OCI layout directory with gzip layers; the tag is `latest`.
    pub(crate) fn oci(&self) -> PathBuf {
        self.directory.join("oci")
    }

    /// What `docker save` would have written, with plain layers; the tag is the image's name and `latest`.
    pub(crate) fn docker_archive(&self) -> PathBuf {
        self.directory.join("docker.tar")
    }

    /// The root file system as `umoci unpack` made it, as root. Not to be changed.
    pub(crate) fn unpacked(&self) -> PathBuf {
        self.directory.join("bundle/rootfs")
    }
}
