//! `layerfs mount`: an image becomes a directory.

use super::image_argument::open_image;
use super::pull_first::PullArguments;
use super::{Global, named};
use crate::fs::LayerFs;
use crate::mount::background::{self, Outcome};
use crate::mount::image::{View, stack};
use crate::mount::{MountError, MountOptions, MountPlan, serve};
use crate::store::Store;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Mount an image on a directory.
///
/// The command returns as soon as the mount answers; the server goes on in the background until `layerfs umount`.
///
/// Options for -o: allow_other, suid, dev, noexec, nonempty, atime, sync, dirsync, source=TEXT, subtype=TEXT, threads=N, nospin, opens=zero-message|answered, volatile,
/// and those of mount(8) that say what is so in any case.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a name, an ID
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    image: String,
    /// The directory, which must be empty
    #[arg(value_name = "MNT")]
    mount_point: PathBuf,
    /// Take changes, which are kept under a name and are there again when it is mounted again
    #[arg(short = 'w', long, conflicts_with_all = ["layer", "layers"])]
    rw: bool,
    /// The name of a writable mount; without it one is invented and printed
    #[arg(long, value_name = "NAME", requires = "rw")]
    name: Option<String>,
    /// Show the changes of one layer only, counted from 0 at the bottom; whiteouts as character devices 0/0
    #[arg(long, value_name = "N", conflicts_with = "layers")]
    layer: Option<usize>,
    /// Show each layer in a directory of its own, 0, 1 and so on, and all together in `merged`
    #[arg(long)]
    layers: bool,
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Let other users in; the kernel checks their permissions
    #[arg(long)]
    allow_other: bool,
    #[command(flatten)]
    pull: PullArguments,
    /// Mount options, separated by commas
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
}

impl Args {
    fn mount_options(&self) -> Result<MountOptions, MountError> {
        let read_only = !self.rw;
        let mut options = MountOptions { allow_other: self.allow_other, read_only, ..MountOptions::default() };
        self.options.iter().try_for_each(|list| options.apply(list))?;
        Ok(options)
    }

    fn view(&self) -> View {
        match self.layer {
            Some(index) => View::Layer(index),
            None if self.layers => View::Layers,
            None => View::Merged,
        }
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = args.mount_options()?;
    if !args.foreground && !background::is_background() {
        ensure_image(args, &global.store()?)?;
        return start_in_background();
    }
    if background::is_background() {
        background::leave_terminal();
    }
    let store = global.store()?;
    if !background::is_background() {
        ensure_image(args, &store)?;
    }
    if args.rw {
        return mount_writable(args, &store, options);
    }
    let image = open_image(&store, &args.image, &super::named::user_of(&args.mount_point))?;
    let plan = MountPlan {
        source: image.record.label(),
        mount_point: args.mount_point.clone(),
        name: None,
        container: None,
        options,
    };
    let stack = stack(image.layers.clone(), args.view())?;
    serve(LayerFs::new(stack), &plan)?;
    Ok(ExitCode::SUCCESS)
}

/// Fetches the image where it is not there. A named mount keeps its own, whatever has happened to the name of it.
fn ensure_image(args: &Args, store: &Store) -> anyhow::Result<()> {
    let name = args.name.as_deref().filter(|_| args.rw);
    if !name.is_some_and(|name| named::is_made_of(store, name, &args.image)) {
        args.pull.ensure(store, &args.image, None)?;
    }
    Ok(())
}

fn mount_writable(args: &Args, store: &Store, options: MountOptions) -> anyhow::Result<ExitCode> {
    let volatile = options.volatile;
    let named = named::open(store, &args.image, args.name.as_deref(), &args.mount_point, options, volatile)?;
    if args.name.is_none() {
        writeln!(std::io::stdout(), "{}", named.name)?;
    }
    let served = serve(named.fs, &named.plan);
    drop(named.lock);
    if served.is_err() && named.fresh {
        named::remove_unused(store, &named.name);
    }
    served?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the server and ends as it says: with its message, or with its exit code.
pub(super) fn start_in_background() -> anyhow::Result<ExitCode> {
    match background::start()? {
        Outcome::Ready(message) => {
            std::io::stdout().write_all(message.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Ended(status) => match status.code() {
            Some(0) | None => Err(MountError::Background.into()),
            Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        },
    }
}
