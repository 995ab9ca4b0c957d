//! `rmi`: removes images.

use super::Global;
use super::output::{Format, print, print_json};
use crate::store::Removed;
use serde_json::json;
use std::process::ExitCode;

/// Remove images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "IMAGE", required = true, add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    images: Vec<String>,
    /// Also when it has several names, is mounted, or a named mount is made of it
    #[arg(short, long)]
    force: bool,
    /// How to print what was removed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let mut failed = false;
    let mut all = Vec::new();
    for image in &args.images {
        match store.remove_image(image, args.force) {
            Ok(removed) if args.format == Format::Json => all.extend(removed),
            Ok(removed) => print(&removed.iter().map(|line| line.to_string() + "\n").collect::<String>())?,
            Err(error) => {
                super::error::report(&error.into());
                failed = true;
            }
        }
    }
    if args.format == Format::Json {
        print_json(&all.iter().map(describe).collect::<Vec<_>>())?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(removed: &Removed) -> serde_json::Value {
    match removed {
        Removed::Untagged(name) => json!({ "Untagged": name }),
        Removed::Deleted(digest) => json!({ "Deleted": digest }),
    }
}
