//! `layerfs overlay`: directories on top of each other, as fuse-overlayfs and mount(8) are told to.

use super::mount::start_in_background;
use super::{Global, WithHint};
use crate::mount::overlay::overlay;
use crate::mount::overlay_options::OverlayOptions;
use crate::mount::serve;
use crate::mount::{MountError, background};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Mount directories on top of each other, with an upper one that takes the changes
///
/// A drop-in for fuse-overlayfs, and for mount(8) when called as mount.layerfs or mount.fuse.layerfs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mount options, separated by commas: lowerdir=A:B, upperdir=U, workdir=W and those of overlayfs, fuse-overlayfs and mount(8)
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Say on standard error what is done
    #[arg(short, long)]
    debug: bool,
    /// As fuse-overlayfs and mount(8) are called; without effect
    #[arg(short = 's', hide = true)]
    single_thread_or_sloppy: bool,
    /// As mount(8) calls its helpers; without effect
    #[arg(short = 'n', hide = true)]
    no_mtab: bool,
    /// As mount(8) calls its helpers; without effect
    #[arg(short = 't', hide = true, value_name = "TYPE")]
    kind: Option<String>,
    /// The directory; one before it is the source that mount(8) passes, and is ignored
    #[arg(value_name = "[SOURCE] MNT", required = true, num_args = 1..=2)]
    places: Vec<PathBuf>,
}

/// Names under which the program is this verb.
const NAMES: &[&str] = &["fuse-overlayfs", "mount.layerfs", "mount.fuse.layerfs"];

/// The arguments as the program would get them under its own name, when it is called by another one.
pub(super) fn translate(arguments: Vec<OsString>) -> Vec<OsString> {
    let name = called_as(arguments.first());
    if name.is_none() {
        return arguments;
    }
    let own = arguments.into_iter().skip(1);
    [OsString::from("layerfs"), OsString::from("overlay")].into_iter().chain(own).collect()
}

/// The name of this verb that the program was called by.
fn called_as(program: Option<&OsString>) -> Option<&'static str> {
    let name = Path::new(program?).file_name()?;
    NAMES.iter().find(|known| name == OsStr::new(known)).copied()
}

/// Prints the version as fuse-overlayfs does, when it is called by that name and asked for it.
pub(super) fn print_version(arguments: &[OsString]) -> Option<std::io::Result<()>> {
    let name = called_as(arguments.first())?;
    let asked = arguments.iter().skip(1).any(|word| word == "--version" || word == "-V");
    let text = format!("{name}: version {0}\nlayerfs {0}\n", env!("CARGO_PKG_VERSION"));
    asked.then(|| std::io::stdout().write_all(text.as_bytes()))
}

/// Runs the verb.
pub(super) fn run(args: &Args, _global: &Global) -> anyhow::Result<ExitCode> {
    let mut options = OverlayOptions::new();
    options.mount.allow_other = rustix::process::geteuid().is_root();
    let name = called_as(std::env::args_os().next().as_ref());
    if name == Some("fuse-overlayfs") {
        "fuse-overlayfs".clone_into(&mut options.mount.subtype);
    }
    let applied = args.options.iter().try_for_each(|list| options.apply(list.as_bytes()));
    match applied {
        Err(error @ MountError::UnknownOption(_)) => {
            return Err(error).hint("see the options that exist: layerfs overlay --help");
        }
        applied => applied?,
    }
    options.check()?;
    if args.foreground && name.is_some_and(|name| name.starts_with("mount.")) {
        // What mount(8) calls a fake mount: everything but the system call.
        return Ok(ExitCode::SUCCESS);
    }
    if !args.foreground && !background::is_background() {
        return start_in_background();
    }
    if background::is_background() {
        background::leave_terminal();
    }
    let Some(mount_point) = args.places.last() else { anyhow::bail!("no mount point given") };
    let (fs, plan) = overlay(&options, mount_point)?;
    serve(fs, &plan)?;
    Ok(ExitCode::SUCCESS)
}
