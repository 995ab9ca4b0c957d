//! `layerfs commit`: what a writable mount changed becomes an image.

use super::changes::{find_required, open};
use super::output::print;
use super::{Global, printable};
use crate::build::plan::change;
use crate::commit::{Clock, Step, append, capture};
use crate::diff::LayerOptions;
use crate::oci::Reference;
use std::process::ExitCode;

/// Make an image of what a writable mount changed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The mount: its name, or where it is mounted
    #[arg(value_name = "NAME|MNT", add = clap_complete::ArgValueCompleter::new(super::complete::mounts))]
    mount: String,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]", value_parser = Reference::parse_new)]
    name: Option<Reference>,
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,
    /// What the history says of it
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Apply a Dockerfile instruction to the configuration
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Hold all names of a mount in use, or of a container that runs, as they are meanwhile; `--pause=false` does not
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pause: bool,
    /// One layer of everything instead of one more layer
    #[arg(long)]
    squash: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let clock = Clock::from_environment()?;
    let container = find_required(&store, &args.mount)?;
    let session = store.session()?;
    let changed = open(&store, container, args.pause)?;
    let parent = &changed.image.record;
    let mut config = parent.config.clone();
    config.config = change(&config.config, &args.change)?;
    let changes = if args.squash { changed.whole()? } else { changed.layer()? };
    let captured = if changes.is_empty() {
        None
    } else {
        Some(capture(&session, &changes, &changed.new, LayerOptions { latest: clock.latest() })?)
    };
    for socket in captured.iter().flat_map(|layer| &layer.skipped) {
        log::warn!("{}: a socket, which no layer can hold, was left out", printable(&socket.path.to_bytes()));
    }
    let step = Step {
        layer: captured,
        created_by: Some(format!("layerfs commit {}", changed.container.record.name)),
        author: args.author.clone(),
        comment: args.message.clone(),
    };
    let base = if args.squash { None } else { Some(parent) };
    if args.squash {
        // The steps are still told; their layers are one.
        config.rootfs.diff_ids.clear();
        config.history.iter_mut().for_each(|step| step.empty_layer = true);
    }
    let image = append(&session, base, config, step, clock)?;
    let name = args.name.clone().map(Reference::or_latest);
    session.set_reference(name.as_ref(), &image.manifest)?;
    print(&format!("{}\n", image.id))?;
    Ok(ExitCode::SUCCESS)
}
