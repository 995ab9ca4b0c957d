//! `layerfs kill`: sends a signal to the command of a container.

use super::Global;
use super::WithHint;
use super::ending::{Command, signal_number};
use super::output::print;
use anyhow::anyhow;
use std::process::ExitCode;

/// Send a signal to the command of a container
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The containers' names
    #[arg(value_name = "NAME", required = true, add = clap_complete::ArgValueCompleter::new(super::complete::running))]
    names: Vec<String>,
    /// The signal, by its name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    signal: i32,
}

/// A signal as it is written on the command line.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    signal_number(text).ok_or_else(|| format!("invalid signal: {text}"))
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    super::error::each(&args.names, |name| {
        let Some(command) = Command::of(&store.container(name)?)? else {
            return Err(anyhow!("the container {name} is not running")).hint("`layerfs ps` lists what runs");
        };
        command.signal(args.signal)?;
        print(&format!("{name}\n"))
    })
}
