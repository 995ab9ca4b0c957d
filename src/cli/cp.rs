//! `layerfs cp`: files out of an image, without a mount.

use super::changes::is_around;
use super::copy_out::{CopyOptions, copy};
use super::image_argument::{container_path, open_container_path, open_path};
use super::registry_options::RegistryOptions;
use super::{Global, WithHint, glob, printable};
use crate::commit::Clock;
use crate::diff::{LayerOptions, write_tree};
use crate::model::RelPath;
use crate::union::Stack;
use anyhow::{Context, anyhow, bail};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HINT: &str = "see what there is: layerfs ls -lR IMAGE:PATH";

/// Copy files and directories out of an image or a named writable mount.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to copy, of an image or, in use or not, of a writable mount by its name; with `/.` behind a directory, only what is in it
    #[arg(value_name = "IMAGE|NAME:PATH", add = clap_complete::ArgValueCompleter::new(super::complete::paths))]
    from: String,
    /// Where to: into a directory that is there, under this name otherwise; `-` writes a tar to standard output
    #[arg(value_name = "DEST")]
    to: PathBuf,
    /// Keep owners and extended attributes too
    #[arg(short, long)]
    archive: bool,
    /// Copy what a symlink named by PATH leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing about what was copied
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    if let Some((container, _)) = container_path(&store, &args.from)?
        && args.to.as_os_str() != "-"
        && is_around(&container, &args.to)?
    {
        return Err(anyhow!("{}: this is in the mount that is copied from", args.to.display()))
            .hint("copy in the mount itself, by cp(1)");
    }
    // A container of that name is meant before an image, as with docker cp.
    let opened = match open_container_path(&store, &args.from)? {
        Some(found) => Ok(found),
        None => open_path(&store, &args.from, &args.registry),
    };
    if opened.is_err() && Path::new(&args.from).exists() && args.to.to_string_lossy().contains(":/") {
        return Err(anyhow!("{}: cp copies out of images and containers only", printable(args.from.as_bytes())))
            .hint("change a writable mount of the image: layerfs mount --rw IMAGE MNT; or build one with COPY");
    }
    let (_image, stack, path) = opened?;
    let path = one(&stack, &path).with_context(|| printable(args.from.as_bytes())).hint(HINT)?;
    if args.to.as_os_str() == "-" {
        if std::io::stdout().is_terminal() {
            return Err(anyhow!("refusing to write a tar to a terminal")).hint("name a directory, or redirect");
        }
        return super::output::archive(|output| tar(&stack, &path, args, output)).map(|()| ExitCode::SUCCESS);
    }
    let options = CopyOptions { archive: args.archive, follow: args.follow_link };
    let copied = copy(&stack, &path, &args.to, options).map_err(advised)?;
    if !args.quiet {
        // Nobody is left to tell when standard error itself is closed.
        let _ = writeln!(std::io::stderr(), "{copied}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A failed copy with what to do about it, where nothing that failed has its own advice.
fn advised(error: anyhow::Error) -> anyhow::Error {
    if super::advice::of(&error).is_some() {
        return error;
    }
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let hint = match kind {
        Some(ErrorKind::PermissionDenied) => "choose a directory that you may write to",
        Some(ErrorKind::NotFound) => "make the directory first: mkdir -p DIR",
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => "make room there, or copy to another place",
        _ => "choose another name, or remove what is there; `-` writes a tar instead",
    };
    Err::<(), _>(error).hint(hint).err().unwrap_or_else(|| anyhow!(hint))
}

/// The one path that is there under this name, or matches this pattern.
fn one(stack: &Stack, path: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut paths = glob::expand(stack, path)?;
    match (paths.pop(), paths.len()) {
        (Some(path), 0) if stack.resolve_following(&path, false)?.is_some() => Ok(path),
        (Some(_), 1..) => bail!("cp copies one file or directory, and {} match", paths.len() + 1),
        _ => bail!("no such file or directory"),
    }
}

/// As `docker cp … -`: an archive whose only top name is the last component of the path.
fn tar(stack: &Stack, path: &[u8], args: &Args, output: &mut dyn Write) -> anyhow::Result<()> {
    let node = stack.resolve_following(path, args.follow_link)?;
    let node = node.with_context(|| format!("/{}: no such file or directory", printable(path)))?;
    let parsed = RelPath::parse(path).unwrap_or_default();
    let name = parsed.file_name().filter(|_| !path.ends_with(b"/.")).cloned().into_iter().collect();
    let options = LayerOptions { latest: Clock::from_environment()?.latest() };
    let (mut output, skipped) = write_tree(stack, node, name, options, BufWriter::new(output))?;
    output.flush()?;
    for socket in skipped {
        log::warn!("{}: a socket, which no archive can hold, was left out", printable(&socket.path.to_bytes()));
    }
    Ok(())
}
