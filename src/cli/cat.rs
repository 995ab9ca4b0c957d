//! `layerfs cat`: the content of files of an image, without a mount.

use super::image_argument::open_path;
use super::output::until_closed;
use super::registry_options::RegistryOptions;
use super::{Global, WithHint, glob, printable};
use crate::model::FileKind;
use crate::union::{Node, Source, Stack};
use anyhow::{Context, bail};
use std::io::{self, Write};
use std::process::ExitCode;

const HINT: &str = "see what there is: layerfs ls -lR IMAGE:PATH";
/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// Write the content of files of an image to standard output
///
/// PATH may be a pattern, quoted from the shell: `*`, `?` and `[…]` match within a name, `**` any number of directories. Of what
/// matches, files are written, sorted by their paths, and everything else is left out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files; symlinks are followed inside the image. docker://IMAGE:PATH reads from an image at its registry
    #[arg(required = true, value_name = "IMAGE:PATH", add = clap_complete::ArgValueCompleter::new(super::complete::paths))]
    files: Vec<String>,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let write = || {
        let mut out = io::stdout().lock();
        let code = super::error::each(&args.files, |file| {
            let (_image, stack, path) = open_path(&store, file, &args.registry)?;
            for source in find(&stack, &path).with_context(|| printable(file.as_bytes())).hint(HINT)? {
                copy(&stack, source, &mut out).with_context(|| printable(file.as_bytes()))?;
            }
            Ok(())
        })?;
        out.flush()?;
        Ok(code)
    };
    until_closed(write())
}

/// The files that `path` names: one, or of those that match a pattern all that are files.
fn find(stack: &Stack, path: &[u8]) -> anyhow::Result<Vec<Source>> {
    let paths = glob::expand(stack, path)?;
    if let [path] = paths.as_slice() {
        return Ok(vec![file(stack, path)?]);
    }
    let files: Vec<Source> = paths.iter().filter_map(|path| file(stack, path).ok()).collect();
    if files.is_empty() {
        bail!("no file matches");
    }
    Ok(files)
}

fn file(stack: &Stack, path: &[u8]) -> anyhow::Result<Source> {
    match stack.resolve_following(path, true)? {
        None => bail!("no such file or directory"),
        Some(Node::Directory(_)) => bail!("is a directory"),
        Some(Node::Other { source, kind: FileKind::File, data }) => Ok(data.unwrap_or(source)),
        Some(Node::Other { .. }) => bail!("is not a file"),
    }
}

fn copy(stack: &Stack, source: Source, out: &mut impl Write) -> anyhow::Result<()> {
    let layer = stack.layer(source.layer)?;
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let length = layer.read_at(source.ino, offset, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        out.write_all(buffer.get(..length).unwrap_or_default())?;
        offset += length as u64;
    }
}
