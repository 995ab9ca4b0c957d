//! `layerfs stop`: asks the command of a container to end.

use super::Global;
use super::WithHint;
use super::ending::{settled, stop_signal, wait_until_let_go};
use super::output::print;
use anyhow::anyhow;
use std::process::ExitCode;
use std::time::Duration;

/// Ask the command of a container to end, and kill it when it does not
///
/// It gets the signal that its image names, SIGTERM otherwise. What it changed stays, unless it was run with --rm.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The containers' names
    #[arg(value_name = "NAME", required = true, add = clap_complete::ArgValueCompleter::new(super::complete::running))]
    names: Vec<String>,
    /// Seconds until it is killed; -1 waits for ever
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        default_value_t = 10,
        allow_negative_numbers = true
    )]
    time: i64,
    /// Another signal than that of the image, by its name or number
    #[arg(short, long, value_name = "SIGNAL", value_parser = super::kill::signal)]
    signal: Option<i32>,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let patience = u64::try_from(args.time).ok().map(Duration::from_secs);
    super::error::each(&args.names, |name| {
        let container = store.container(name)?;
        match settled(&container)? {
            Some(command) => {
                command.end(args.signal.unwrap_or_else(|| stop_signal(&store, &container)), patience)?;
                wait_until_let_go(&container)?;
            }
            None if container.is_mounted()? => {
                return Err(anyhow!("the container {name} does not run, it is mounted"))
                    .hint(format!("unmount it: layerfs umount {name}"));
            }
            // As with Docker: what has ended is stopped.
            None => {}
        }
        print(&format!("{name}\n"))
    })
}
