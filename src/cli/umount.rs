//! `layerfs umount`: ends a mount.

use super::Global;
use crate::mount::{Registry, Unmount, unmount};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Unmount what is mounted on a directory or has a name.
///
/// Returns when the server has ended, and with it everything that a writable mount had to write.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mount points or names
    #[arg(required = true, value_name = "MNT|NAME", add = clap_complete::ArgValueCompleter::new(super::complete::mounted))]
    targets: Vec<PathBuf>,
    /// Detach now, and let the server end when the last user has gone
    #[arg(short, long, conflicts_with = "force")]
    lazy: bool,
    /// Break the connection first: for a mount that hangs
    #[arg(short, long)]
    force: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let how = match (args.lazy, args.force) {
        (true, _) => Unmount::Lazy,
        (_, true) => Unmount::Force,
        _ => Unmount::Plain,
    };
    let registry = Registry::open()?;
    super::error::each(&args.targets, |target| Ok(unmount(&registry, &place(&registry, target, global)?, how)?))
}

/// Where the named mount `target` of this store is mounted; anything else as it stands.
fn place(registry: &Registry, target: &Path, global: &Global) -> anyhow::Result<PathBuf> {
    let container = target.to_str().and_then(|name| global.store().ok()?.container(name).ok());
    let mount = container.map(|container| registry.mount_of(&container.dir)).transpose()?.flatten();
    Ok(mount.map_or_else(|| target.to_owned(), |mount| mount.mount_point))
}
