//! `--pull`: a verb that needs an image fetches it first.

use super::error::{WithHint, is_hinted};
use super::progress::Bars;
use super::registry_options::{RegistryOptions, told};
use super::transfer::{Direction, Display};
use crate::image::{ImageError, resolve_or_load};
use crate::oci::{Platform, Reference};
use crate::registry::pull::{PullOptions, PullPolicy, pull_first};
use crate::store::{ImageRecord, Store, StoreError};
use anyhow::Context;
use clap::{Args, ValueEnum};

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum When {
    /// When it is not here
    #[default]
    Missing,
    /// Every time; what is here already is not fetched again
    Always,
    /// Never
    Never,
}

/// The options of verbs that need an image.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PullArguments {
    /// When the image is pulled from its registry
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pull: When,
    #[command(flatten)]
    registry: RegistryOptions,
}

impl PullArguments {
    fn policy(&self) -> PullPolicy {
        match self.pull {
            When::Missing => PullPolicy::Missing,
            When::Always => PullPolicy::Always,
            When::Never => PullPolicy::Never,
        }
    }

    /// The image that `text` names, pulled first where that is wanted. What happens is told on standard error.
    pub(super) fn ensure(&self, store: &Store, text: &str, platform: Option<&Platform>) -> anyhow::Result<ImageRecord> {
        let policy = self.policy();
        let name = text.strip_prefix("docker://").unwrap_or(text);
        let named = name.parse::<Reference>().ok().filter(|_| !is_file_or_layout(text));
        if policy != PullPolicy::Always || named.is_none() {
            match resolve_or_load(store, name, platform, &Bars::new(false)) {
                Err(error) if is_missing(&error) && policy == PullPolicy::Missing && named.is_some() => {}
                found => return Ok(found?),
            }
            let name = named.map_or_else(|| name.to_owned(), |name| name.or_latest().familiar());
            super::error::note(&format!("Unable to find image '{name}' locally"));
        }
        let session = self.registry.session(None)?;
        let options = PullOptions { platform: platform.cloned(), ..PullOptions::default() };
        let display = Display::new(Direction::Pull, false).on_stderr();
        let pulled = told(pull_first(store, &session, name, &options, &display));
        display.finish();
        if policy == PullPolicy::Always {
            return pulled;
        }
        match pulled.with_context(|| format!("no such image: {name}")) {
            Err(error) if !is_hinted(&error) && super::advice::of(&error).is_none() => {
                Err(error).hint("check the name (`layerfs images` lists what is here) and the way to its registry")
            }
            found => found,
        }
    }
}

/// What `load` reads, not a registry.
fn is_file_or_layout(text: &str) -> bool {
    ["oci:", "oci-archive:", "docker-archive:"].iter().any(|prefix| text.starts_with(prefix))
}

fn is_missing(error: &ImageError) -> bool {
    matches!(error, ImageError::Store(StoreError::NoSuchImage(_) | StoreError::NoPlatform { .. }))
}
