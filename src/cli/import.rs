//! `import`: an image from a tar of a root file system.

use super::limits::LimitOptions;
use super::output::print;
use super::progress::Bars;
use super::{Global, WithHint};
use crate::build::plan::change;
use crate::image::{ImportOptions, Location, import};
use crate::oci::{ContainerConfig, Platform, Reference};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make an image of one layer from a tar of a root file system
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A tar, compressed or not, or `-`
    #[arg(value_name = "FILE|-")]
    source: String,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
    /// Apply a Dockerfile instruction to the configuration
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What the history says of it
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    limits: LimitOptions,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let location = if args.source == "-" { Location::Stdin } else { Location::Path(PathBuf::from(&args.source)) };
    if location == Location::Stdin && std::io::stdin().is_terminal() {
        return Err(anyhow::anyhow!("requested import from standard input, but it is a terminal"))
            .hint("name a file: `layerfs import rootfs.tar NAME`");
    }
    let options = ImportOptions {
        location,
        reference: args.name.clone(),
        config: change(&ContainerConfig::default(), &args.change)?,
        message: args.message.clone(),
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        limits: args.limits.limits()?,
    };
    let image = import(&global.store()?, &options, &Bars::new(args.quiet))?;
    print(&format!("{}\n", image.id))?;
    Ok(ExitCode::SUCCESS)
}
