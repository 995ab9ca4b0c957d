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
pub(super) fn run(args: &Args, mut command: Command) -> anyhow::Result<ExitCode> {
    let failed = || format!("cannot write manual pages to {}", args.directory.display());
    std::fs::create_dir_all(&args.directory).with_context(failed)?;
    command.build();
    clap_mangen::generate_to(command, &args.directory).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
