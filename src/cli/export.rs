//! `export`: the tree that an image or a named mount shows, as a tar.

use super::progress::Bars;
use super::{Global, WithHint, printable};
use crate::commit::{Clock, flatten};
use crate::diff::{LayerOptions, write_layer};
use crate::image::{open_layers, resolve_or_load};
use crate::oci::Platform;
use anyhow::{anyhow, bail};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the whole tree of an image or of a writable mount as a tar
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A writable mount by its name or where it is mounted, or an image
    #[arg(value_name = "NAME|MNT|IMAGE", add = clap_complete::ArgValueCompleter::new(super::complete::mounts_and_images))]
    source: String,
    /// A file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Of an image for several platforms, this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let changed = match super::changes::find(&store, &args.source)? {
        Some(container) => Some(super::changes::open(&store, container, true)?),
        None => None,
    };
    let (changes, stack) = if let Some(changed) = &changed {
        (changed.whole()?, None)
    } else {
        let image = resolve_or_load(&store, &args.source, args.platform.as_ref(), &Bars::new(false))?;
        let (changes, stack) = flatten(&open_layers(&store, &image)?)?;
        (changes, Some(stack))
    };
    let Some(stack) = stack.as_ref().or_else(|| changed.as_ref().map(|changed| &changed.new)) else {
        bail!("{} shows nothing", args.source);
    };
    let options = LayerOptions { latest: Clock::from_environment()?.latest() };
    let export = |output: &mut dyn Write| -> anyhow::Result<()> {
        let (_, skipped) = write_layer(&changes, stack, options, output)?;
        for socket in skipped {
            log::warn!("{}: a socket, which no archive can hold, was left out", printable(&socket.path.to_bytes()));
        }
        Ok(())
    };
    match args.output.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(path) => super::save::write_file(path, export)?,
        None if std::io::stdout().is_terminal() => {
            return Err(anyhow!("refusing to export to a terminal")).hint("use --output FILE, or redirect");
        }
        None => super::output::archive(export)?,
    }
    Ok(ExitCode::SUCCESS)
}
