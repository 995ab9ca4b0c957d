//! `build --build-context`: files and images that stand in the place of names of the Dockerfile.

use super::WithHint;
use super::build_input::named_files;
use super::progress::Bars;
use crate::build::copy::Tree;
use crate::build::plan::{NamedContext, context_name};
use crate::image::resolve_or_load;
use crate::store::{ImageRecord, Session};
use anyhow::anyhow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What `--build-context` names.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    /// All of them.
    pub(super) named: BTreeMap<String, NamedContext>,
    /// The files of those that are files.
    pub(super) files: BTreeMap<String, Arc<dyn Tree>>,
    /// The images of those that came from a layout, by their IDs.
    pub(super) images: BTreeMap<String, ImageRecord>,
}

impl Contexts {
    /// Reads `NAME=VALUE` texts; the last one of a name counts.
    pub(super) fn read(texts: &[String], session: &Session, quiet: bool) -> anyhow::Result<Self> {
        let mut contexts = Self::default();
        for text in texts {
            let parts = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
            let Some((name, value)) = parts else {
                return Err(anyhow!("--build-context {text}: NAME=VALUE is expected"))
                    .hint("such as lib=../lib or base=docker-image://alpine");
            };
            contexts.add(context_name(name), value, session, quiet)?;
        }
        Ok(contexts)
    }

    fn add(&mut self, name: String, value: &str, session: &Session, quiet: bool) -> anyhow::Result<()> {
        if let Some(image) = value.strip_prefix("docker-image://") {
            self.named.insert(name, NamedContext::Image(image.to_owned()));
        } else if let Some(layout) = value.strip_prefix("oci-layout://") {
            let image = resolve_or_load(session.store(), &format!("oci:{layout}"), None, &Bars::new(quiet))?;
            self.named.insert(name, NamedContext::Image(image.id.to_string()));
            self.images.insert(image.id.to_string(), image);
        } else if Path::new(value).is_dir() {
            self.files.insert(name.clone(), named_files(value, session)?);
            self.named.insert(name, NamedContext::Files);
        } else if value.contains("://") || value.starts_with("git@") {
            return Err(anyhow!("--build-context {name}={value}: neither a directory nor an image"))
                .hint("fetch it first; known are directories, docker-image://IMAGE and oci-layout://DIRECTORY[:TAG]");
        } else {
            return Err(anyhow!("--build-context {name}={value}: there is no such directory"))
                .hint("an image is docker-image://IMAGE or oci-layout://DIRECTORY[:TAG]");
        }
        Ok(())
    }
}
