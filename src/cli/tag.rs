//! `tag`: another name for an image.

use super::Global;
use crate::oci::Reference;
use crate::store::IndexEntry;
use anyhow::{Context, bail};
use std::process::ExitCode;

/// Give an image another name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a name, an ID or the beginning of one
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    source: String,
    /// The name to give
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let target: Reference = args
        .target
        .parse()
        .with_context(|| format!("error parsing reference: {:?} is not a valid repository/tag", args.target))?;
    if target.digest().is_some() {
        bail!("refusing to create a tag with a digest reference");
    }
    let store = global.store()?;
    let image = store.resolve(&args.source)?;
    let entry = IndexEntry::new(None, image.target, image.repo_digests);
    store.tag(&entry, &target.or_latest())?;
    Ok(ExitCode::SUCCESS)
}
