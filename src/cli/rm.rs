//! `layerfs rm`: removes named mounts with their changes.

use super::Global;
use std::process::ExitCode;

/// Remove named writable mounts with everything that was changed in them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The names
    #[arg(value_name = "NAME", required = true, add = clap_complete::ArgValueCompleter::new(super::complete::unused))]
    names: Vec<String>,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match store.remove_container(name) {
            Ok(()) => super::output::print(&format!("{name}\n"))?,
            Err(error) => {
                super::error::report(&error.into());
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
