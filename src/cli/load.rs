//! `load`: images from archives and image layouts.

use super::limits::LimitOptions;
use super::output::{Format, print, print_json};
use super::progress::Bars;
use super::{Global, WithHint};
use crate::image::{LoadOptions, Loaded, Location, Source, load};
use crate::oci::{Platform, Reference};
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Load images from a docker-archive, an OCI archive or an OCI layout directory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file, a directory, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REFERENCE]`, or `-`
    #[arg(value_name = "SOURCE", conflicts_with = "input")]
    source: Option<String>,
    /// The same, as Docker takes it [default: standard input]
    #[arg(short, long, value_name = "SOURCE")]
    input: Option<String>,
    /// Load the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Load the images of all platforms
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Give the image this name in place of its own
    #[arg(short, long, value_name = "REFERENCE", value_parser = Reference::parse_new)]
    tag: Option<Reference>,
    #[command(flatten)]
    limits: LimitOptions,
    /// Print names and IDs only, show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How to print what was loaded
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let text = args.source.as_deref().or(args.input.as_deref()).unwrap_or("-");
    let source = Source::parse(text);
    if source.location == Location::Stdin && std::io::stdin().is_terminal() {
        return Err(anyhow::anyhow!("requested load from standard input, but it is a terminal"))
            .hint("name a file or directory: `layerfs load image.tar`");
    }
    let options = LoadOptions {
        platform: args.platform.clone(),
        all_platforms: args.all_platforms,
        name: args.tag.clone(),
        limits: args.limits.limits()?,
        ..LoadOptions::new(source)
    };
    let loaded = load(&global.store()?, &options, &Bars::new(args.quiet))?;
    match args.format {
        Format::Json => print_json(&loaded.iter().map(describe).collect::<Vec<_>>())?,
        Format::Text => print(&loaded.iter().map(|image| line(image, args.quiet)).collect::<String>())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn line(image: &Loaded, quiet: bool) -> String {
    match (&image.reference, quiet) {
        (Some(reference), false) => format!("Loaded image: {reference}\n"),
        (None, false) => format!("Loaded image ID: {}\n", image.id),
        (Some(reference), true) => format!("{reference}\n"),
        (None, true) => format!("{}\n", image.id),
    }
}

fn describe(image: &Loaded) -> serde_json::Value {
    json!({
        "Reference": image.reference.as_ref().map(Reference::familiar),
        "Id": image.id,
        "Digest": image.target.digest,
    })
}
