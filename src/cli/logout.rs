//! `layerfs logout`: forgets the credentials for a registry.

use super::Global;
use super::registry_options::{RegistryOptions, told};
use crate::registry::login::{log_out, registry_name};
use std::io::Write;
use std::process::ExitCode;

/// Log out from a registry.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The registry, HOST[:PORT] [default: docker.io]
    #[arg(default_value = "", hide_default_value = true)]
    server: String,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// Runs the verb.
pub(super) fn run(args: &Args, _global: &Global) -> anyhow::Result<ExitCode> {
    let session = args.registry.session(None)?;
    let registry = registry_name(&args.server);
    if told(log_out(&session, &registry))? {
        writeln!(std::io::stdout(), "Removed login credentials for {registry}")?;
    } else {
        writeln!(std::io::stdout(), "Not logged in to {registry}")?;
    }
    Ok(ExitCode::SUCCESS)
}
