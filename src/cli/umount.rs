//! `layerfs umount`: ends a mount.

use super::Global;
use crate::mount::{Registry, Unmount, unmount};
use std::path::PathBuf;
use std::process::ExitCode;

/// Unmount what is mounted on a directory or has a name.
///
/// Returns when the server has ended, and with it everything that a writable mount had to write.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mount points or names
    #[arg(required = true, value_name = "MNT|NAME")]
    targets: Vec<PathBuf>,
    /// Detach now, and let the server end when the last user has gone
    #[arg(short, long, conflicts_with = "force")]
    lazy: bool,
    /// Break the connection first: for a mount that hangs
    #[arg(short, long)]
    force: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args, _global: &Global) -> anyhow::Result<ExitCode> {
    let how = match (args.lazy, args.force) {
        (true, _) => Unmount::Lazy,
        (_, true) => Unmount::Force,
        _ => Unmount::Plain,
    };
    let registry = Registry::open()?;
    for target in &args.targets {
        unmount(&registry, target, how)?;
    }
    Ok(ExitCode::SUCCESS)
}
