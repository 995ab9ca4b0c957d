//! `export`: the tree that an image or a named mount shows, as a tar.

use super::progress::Bars;
use super::{Global, WithHint};
use crate::commit::{Clock, flatten};
use crate::diff::{LayerOptions, write_layer};
use crate::image::{ensure_layers, open_layers, resolve_or_load};
use crate::oci::Platform;
use anyhow::anyhow;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes the whole tree of an image as a tar
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// A file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Of an image for several platforms, this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let image = resolve_or_load(&store, &args.image, args.platform.as_ref(), &Bars::new(false))?;
    ensure_layers(&store, &image)?;
    let layers = open_layers(&store, &image)?;
    let (changes, stack) = flatten(&layers)?;
    let options = LayerOptions { latest: Clock::from_environment()?.latest() };
    let export = |output: &mut dyn Write| -> anyhow::Result<()> {
        write_layer(&changes, &stack, options, output)?;
        Ok(())
    };
    match args.output.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(path) => super::save::write_file(path, export)?,
        None if std::io::stdout().is_terminal() => {
            return Err(anyhow!("refusing to export to a terminal")).hint("use --output FILE, or redirect");
        }
        None => export(&mut std::io::stdout().lock())?,
    }
    Ok(ExitCode::SUCCESS)
}
