//! `layerfs cat`: the content of files of an image, without a mount.

use super::image_argument::open_path;
use super::registry_options::RegistryOptions;
use super::{Global, WithHint};
use crate::model::FileKind;
use crate::union::{Node, Source, Stack};
use anyhow::{Context, bail};
use std::io::{self, Write};
use std::process::ExitCode;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// Write the content of files of an image to standard output.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files; symlinks are followed inside the image. docker://IMAGE:PATH reads from an image at its registry
    #[arg(required = true, value_name = "IMAGE:PATH", add = clap_complete::ArgValueCompleter::new(super::complete::image_paths))]
    files: Vec<String>,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let mut out = io::stdout().lock();
    for file in &args.files {
        let (_image, stack, path) = open_path(&store, file, &args.registry)?;
        let source =
            find(&stack, &path).with_context(|| file.clone()).hint("see what there is: layerfs ls -lR IMAGE:PATH")?;
        copy(&stack, source, &mut out).with_context(|| file.clone())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn find(stack: &Stack, path: &[u8]) -> anyhow::Result<Source> {
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
