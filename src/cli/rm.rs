//! `layerfs rm`: removes named mounts with their changes.

use super::Global;
use crate::store::{Store, StoreError};
use std::process::ExitCode;

/// Remove named writable mounts with everything that was changed in them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The names
    #[arg(value_name = "NAME", required = true, add = clap_complete::ArgValueCompleter::new(super::complete::unused))]
    names: Vec<String>,
    /// Also those in use: their commands are killed, their mounts taken away. That there is none of a name is no failure
    #[arg(short, long)]
    force: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    super::error::each(&args.names, |name| {
        match if args.force { remove_by_force(&store, name) } else { Ok(store.remove_container(name)?) } {
            Err(error) if args.force && is_missing(&error) => super::error::report(&error),
            removed => {
                removed?;
                super::output::print(&format!("{name}\n"))?;
            }
        }
        Ok(())
    })
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::NoSuchContainer(_)))
}

fn remove_by_force(store: &Store, name: &str) -> anyhow::Result<()> {
    let container = store.container(name)?;
    super::ending::free(&container)?;
    match store.remove_container(name) {
        // Whoever ran it with --rm was the first.
        Err(StoreError::NoSuchContainer(_)) => Ok(()),
        removed => Ok(removed?),
    }
}
