//! `layerfs man`: manual pages, made from the same text as the help.

use anyhow::Context;
use clap::Command;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write manual pages, one for the program and one for each verb
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs the verb.
pub(super) fn run(args: &Args, command: Command) -> anyhow::Result<ExitCode> {
    let failed = || format!("cannot write manual pages to {}", args.directory.display());
    std::fs::create_dir_all(&args.directory).with_context(failed)?;
    // `help VERB` shows what the verb's own page says.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    clap_mangen::generate_to(command, &args.directory).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
