//! What the mounted tests share.
//!
//! A test begins a [`Scene`]: a directory of its own, under a watchdog that ends hanging mounts, and a check at the
//! end that no mount, process or file is left. In it:
//! - [`Run`] runs `layerfs` and other programs, as oneself, as a plain user, in a user namespace;
//! - [`tree`] and [`image`] make layers and images from text, one line a file;
//! - [`Manifest`] holds everything that is to be seen of a tree, and tells how two trees differ;
//! - [`real`] gives the large images made by other tools (`images/` builds them, `make prepare` runs that).
//!
//! ```ignore
//! #[test]
//! fn image_is_seen() {
//!     let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
//!     let oci = Image::new().layer("dir etc\nfile etc/name =hello").write_oci(&scene.path("image"), "latest");
//!     scene.layerfs(["load", "-i", oci]).ok();
//!     let mount = scene.mount(["mount", "latest"], "mnt");
//!     assert_eq!(std::fs::read(mount.path().join("etc/name")).unwrap(), b"hello");
//!     mount.unmount();
//! }
//! ```
#![allow(dead_code, unused_imports, reason = "a shared library of helpers: not each is called at each moment")]

pub(crate) mod image;
pub(crate) mod manifest;
pub(crate) mod needs;
pub(crate) mod real;
pub(crate) mod reap;
pub(crate) mod run;
pub(crate) mod scene;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

pub(crate) use image::Image;
pub(crate) use manifest::{Manifest, Rules};
pub(crate) use needs::Need;
pub(crate) use run::{Done, Run, Who};
pub(crate) use scene::{Mounted, Scene};
pub(crate) use terminal::Terminal;
