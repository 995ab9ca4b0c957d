//! `prune`: frees what nobody needs.

use super::output::{Format, print, print_json};
use super::{Global, WithHint, human_size};
use crate::build::execute::{cache_mounts, free_cache_mounts};
use crate::store::{Freed, Garbage, PruneOptions};
use anyhow::{Context, anyhow};
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;

/// Remove what nobody needs: images without a name, blobs without an image, what interrupted commands left
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also images that no mount uses, whatever their names, and the build cache
    #[arg(short, long)]
    all: bool,
    /// Also results of builds that no image has, and the directories of RUN --mount=type=cache
    #[arg(long)]
    build_cache: bool,
    /// Of the results of builds, keep this much, the last used ones, as 512m or 2g
    #[arg(long, value_name = "SIZE", requires = "build_cache", value_parser = super::build::memory)]
    keep_storage: Option<u64>,
    /// Only tell what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask before --all; without an answer on standard input nothing is removed
    #[arg(short, long)]
    force: bool,
    /// How to print what was removed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    if args.all && !args.force && !args.dry_run {
        confirm()?;
    }
    let store = global.store()?;
    if args.build_cache && !args.dry_run {
        store.cache_prune(args.keep_storage.unwrap_or(0))?;
    }
    let mut freed = store.prune(PruneOptions { all: args.all, dry_run: args.dry_run })?;
    if args.all || args.build_cache && args.keep_storage.is_none() {
        let mounts = if args.dry_run {
            cache_mounts(&store).context("cannot read the directories of RUN --mount=type=cache")?
        } else {
            free_cache_mounts(&store, None)?
        };
        freed.items.extend(mounts.into_iter().map(|mount| Garbage::Leftover { path: mount.path, size: mount.size }));
    }
    match args.format {
        Format::Json => print_json(&json!({
            "Items": freed.items.iter().map(describe).collect::<Vec<_>>(),
            "SpaceReclaimed": freed.bytes(),
            "DryRun": args.dry_run,
        }))?,
        Format::Text => print(&report(&freed, args.dry_run))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks as `docker system prune --all` does, of a terminal or whatever else stands on standard input; its end is no yes.
fn confirm() -> anyhow::Result<()> {
    let mut output = std::io::stderr().lock();
    write!(output, "This removes every image that no mount uses, and the build cache. Continue? [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    if read == 0 {
        // The question's line has no end yet.
        writeln!(output)?;
    }
    Err(anyhow!("nothing was removed")).hint("--force removes without asking, --dry-run tells what would be removed")
}

fn report(freed: &Freed, dry_run: bool) -> String {
    let mut text = String::new();
    for item in &freed.items {
        let line = match item {
            Garbage::Image { reference: Some(reference), .. } => format!("Untagged: {reference}\n"),
            Garbage::Image { reference: None, target } => format!("Deleted image: {target}\n"),
            Garbage::Blob { path, size, .. } | Garbage::Leftover { path, size } => {
                format!("Deleted: {} ({})\n", path.display(), human_size(*size))
            }
        };
        text.push_str(&line);
    }
    let what = if dry_run { "Total space that would be reclaimed" } else { "Total reclaimed space" };
    text + &format!("{what}: {}\n", human_size(freed.bytes()))
}

fn describe(item: &Garbage) -> serde_json::Value {
    match item {
        Garbage::Image { reference, target } => json!({ "Image": target, "Reference": reference }),
        Garbage::Blob { path, digest, size } => json!({ "Path": path, "Digest": digest, "Size": size }),
        Garbage::Leftover { path, size } => json!({ "Path": path, "Size": size }),
    }
}
