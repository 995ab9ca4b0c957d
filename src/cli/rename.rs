//! `layerfs rename`: gives a named mount another name.

use super::Global;
use std::process::ExitCode;

/// Give a named writable mount another name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name it has
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::unused))]
    old: String,
    /// The name it gets
    new: String,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    // Its server has told the old name to everyone.
    let container = store.container(&args.old)?;
    if container.is_mounted()? {
        return Err(container.busy().into());
    }
    store.rename_container(&args.old, &args.new)?;
    Ok(ExitCode::SUCCESS)
}
