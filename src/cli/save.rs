//! `save`: images as archives and image layouts.

use super::progress::Bars;
use super::{Global, WithHint};
use crate::image::{ArchiveFormat, LayerForm, Location, SaveFormat, SaveOptions, Source, save_archive, save_directory};
use crate::oci::{LayerCompression, Platform};
use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Save images as a docker-archive, an OCI archive or an OCI layout directory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Images by name or ID; a repository without a tag means all its tags
    #[arg(value_name = "IMAGE", required = true, add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    images: Vec<String>,
    /// A file or directory, or `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE` [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// What to write [default: docker-archive]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Give all layers this form; without it they leave as they came
    #[arg(long, value_enum, value_name = "FORM")]
    compress: Option<Compress>,
    /// The level of the compression: 1 to 9 for gzip, 1 to 22 for zstd
    #[arg(long, value_name = "N", requires = "compress")]
    level: Option<u32>,
    /// How many threads compress [default: all cores]
    #[arg(long, value_name = "N", requires = "compress")]
    threads: Option<NonZeroUsize>,
    /// Of an image for several platforms, save this one only
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tar for `docker load`; it is an OCI archive as well
    DockerArchive,
    /// A tar of an OCI image layout
    OciArchive,
    /// An OCI image layout directory
    #[value(alias = "oci")]
    OciDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compress {
    None,
    Gzip,
    Zstd,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let (output, format, name) = target(args)?;
    check_level(args)?;
    let options = SaveOptions { form: form(args), platform: args.platform.clone(), name };
    let store = global.store()?;
    let bars = Bars::new(args.quiet);
    match (output, format) {
        (Some(directory), SaveFormat::OciDirectory) => {
            save_directory(&store, &args.images, &options, &directory, &bars)?;
        }
        (None, SaveFormat::OciDirectory) => {
            return Err(anyhow!("an image layout directory cannot be written to standard output"))
                .hint("name it: --output DIR, or write --format oci-archive");
        }
        (None, _) if std::io::stdout().is_terminal() => {
            return Err(anyhow!("refusing to save to a terminal")).hint("use --output FILE, or redirect");
        }
        (None, _) => {
            let save =
                |output: &mut dyn Write| Ok(save_archive(&store, &args.images, format, &options, output, &bars)?);
            super::output::archive(save)?;
        }
        (Some(path), _) => {
            write_file(&path, |output| Ok(save_archive(&store, &args.images, format, &options, output, &bars)?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where to, in which format and under which name; what the output's prefix says must fit the option.
fn target(args: &Args) -> anyhow::Result<(Option<PathBuf>, SaveFormat, Option<String>)> {
    let given = args.format.map(|format| match format {
        Format::DockerArchive => SaveFormat::DockerArchive,
        Format::OciArchive => SaveFormat::OciArchive,
        Format::OciDir => SaveFormat::OciDirectory,
    });
    let default = given.unwrap_or(SaveFormat::DockerArchive);
    let Some(text) = args.output.as_deref().filter(|text| *text != "-") else { return Ok((None, default, None)) };
    let Some(source) = Source::parse_prefixed(text) else { return Ok((Some(PathBuf::from(text)), default, None)) };
    let said = match source.format {
        ArchiveFormat::Docker => SaveFormat::DockerArchive,
        _ if text.starts_with("oci:") => SaveFormat::OciDirectory,
        _ => SaveFormat::OciArchive,
    };
    if given.is_some_and(|given| given != said) {
        bail!("--format and --output {text} contradict each other");
    }
    let path = match source.location {
        Location::Path(path) => Some(path),
        Location::Stdin => None,
    };
    Ok((path, said, source.name.filter(|_| said != SaveFormat::DockerArchive)))
}

fn check_level(args: &Args) -> anyhow::Result<()> {
    let Some(level) = args.level else { return Ok(()) };
    let highest = match args.compress {
        Some(Compress::Gzip) => 9,
        Some(Compress::Zstd) => 22,
        _ => bail!("--level needs --compress gzip or zstd"),
    };
    if !(1..=highest).contains(&level) {
        bail!("level {level} is out of range: 1 to {highest}");
    }
    Ok(())
}

fn form(args: &Args) -> Option<LayerForm> {
    let compression = match args.compress? {
        Compress::None => LayerCompression::None,
        Compress::Gzip => LayerCompression::Gzip,
        Compress::Zstd => LayerCompression::Zstd,
    };
    Some(LayerForm { compression, level: args.level, threads: args.threads })
}

/// Writes a file beside `path` and gives it its name when it is whole. What is no regular file is written to directly.
pub(super) fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    if path.is_dir() {
        return Err(anyhow!("{}: it is a directory", context()))
            .hint(format!("name a file in it; `layerfs save -o oci:{}` writes an image layout", path.display()));
    }
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let mut file = std::fs::OpenOptions::new().write(true).open(path).with_context(context)?;
        return write(&mut file);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        return Err(anyhow!("{}: there is no directory {}", context(), directory.display()))
            .hint(format!("make it: mkdir -p {}", directory.display()));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut builder = tempfile::Builder::new();
    let stage = builder.prefix(".layerfs-").permissions(mode).tempfile_in(directory);
    // The name of the file on the way means nothing to anybody.
    let mut stage = stage.map_err(without_path).with_context(context)?;
    write(stage.as_file_mut())?;
    stage.persist(path).map_err(|error| error.error).with_context(context)?;
    Ok(())
}

/// A failure of the system as the system tells it.
fn without_path(error: std::io::Error) -> std::io::Error {
    let below = error.get_ref().and_then(|error| error.source()?.downcast_ref::<std::io::Error>()?.raw_os_error());
    below.map_or(error, std::io::Error::from_raw_os_error)
}
