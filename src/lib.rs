//! layerfs: container image layers as filesystems, and the tools around them.
//!
//! The modules have ranks. A module imports only from lower ranks, never from a sibling of its own rank;
//! `tests` in this file checks that against the source text.
//!
//! | rank | modules |
//! |---|---|
//! | 0 | [`model`], [`oci`], [`sys`] |
//! | 1 | [`union`], [`archive`], [`sandbox`] |
//! | 2 | [`layer`], [`store`] |
//! | 3 | [`fs`], [`diff`], [`image`] |
//! | 4 | [`registry`], [`analyze`], [`fuse`] |
//! | 5 | [`mount`] |
//! | 6 | [`commit`] |
//! | 7 | [`build`], [`run`] |
//! | 8 | [`cli`] |

pub mod analyze;
pub mod archive;
pub mod build;
pub mod cli;
pub mod commit;
pub mod diff;
pub mod fs;
pub mod fuse;
pub mod image;
pub mod layer;
pub mod model;
pub mod mount;
pub mod oci;
pub mod registry;
pub mod run;
pub mod sandbox;
pub mod store;
pub mod sys;
pub mod union;

#[cfg(test)]
mod ranks;
#[cfg(test)]
mod testing;
