//! `layerfs push`: sends an image to a registry.

use super::output::Format;
use super::registry_options::RegistryOptions;
use super::transfer::{Direction, Display, until_signalled};
use super::{Global, WithHint};
use crate::image::LayerForm;
use crate::oci::{Digest, LayerCompression, Platform, Reference};
use crate::registry::push::{PushOptions, Pushed, push};
use crate::store::Store;
use anyhow::{Context, anyhow};
use clap::ValueEnum;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Push an image to a registry.
///
/// Layers that came from a registry go back as they came; plain ones are compressed once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a name or ID in the store; with --all-tags a name without tag
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    image: String,
    /// The name at the registry, where it is another one
    destination: Option<String>,
    /// Every tag of the image's name
    #[arg(short, long, conflicts_with_all = ["destination", "digestfile"])]
    all_tags: bool,
    /// The platform to push, OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    platform: Option<Platform>,
    /// Every platform of the image
    #[arg(long)]
    all_platforms: bool,
    /// How layers are compressed [default: as they are; plain ones by gzip]
    #[arg(long, value_enum, value_name = "FORMAT")]
    compression_format: Option<CompressionFormat>,
    /// How hard, 1 to 9 for gzip, 1 to 22 for zstd [default: 1 for gzip, 3 for zstd]
    #[arg(long, value_name = "LEVEL", requires = "compression_format")]
    compression_level: Option<u32>,
    /// Write the digest that the registry has now to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Say nothing but the image's name at the end
    #[arg(short, long)]
    quiet: bool,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Layers sent at the same time
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=32))]
    max_concurrent_uploads: u8,
    /// Log in as USER:PASSWORD for this command only
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    #[command(flatten)]
    registry: RegistryOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionFormat {
    Gzip,
    Zstd,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let session = args.registry.session(args.creds.as_deref())?;
    let store = global.store()?;
    let all = what_to_push(args, &store)?;
    let transfer = || {
        let mut pushed = Vec::new();
        for (image, destination) in &all {
            let display = Display::new(Direction::Push, args.quiet || args.format == Format::Json);
            display.line(&format!("The push refers to repository [{}]", destination.name()));
            let one = push(&store, &session, image, destination, &options, &display);
            display.finish();
            pushed.push((one?, display.outcome()));
        }
        Ok(pushed)
    };
    let pushed = match until_signalled(session.cancel(), transfer)? {
        Ok(pushed) => pushed,
        Err(code) => return Ok(code),
    };
    pushed.iter().try_for_each(|(one, layers)| report(args, one, layers))?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &Args) -> anyhow::Result<PushOptions> {
    let compression = args.compression_format.map(|format| {
        let (format, most) = match format {
            CompressionFormat::Gzip => (LayerCompression::Gzip, 9),
            CompressionFormat::Zstd => (LayerCompression::Zstd, 22),
        };
        match args.compression_level {
            Some(level) if level == 0 || level > most => {
                Err(anyhow!("compression level {level} is not in 1 to {most}"))
            }
            level => Ok(LayerForm { compression: format, level, threads: None }),
        }
    });
    Ok(PushOptions {
        platform: args.platform.clone(),
        all_platforms: args.all_platforms,
        compression: compression.transpose()?,
        parallel: usize::from(args.max_concurrent_uploads),
    })
}

/// Images of the store and the names they are to have at the registry.
fn what_to_push(args: &Args, store: &Store) -> anyhow::Result<Vec<(String, Reference)>> {
    if !args.all_tags {
        let name = args.destination.as_deref().unwrap_or(&args.image);
        let destination = name.strip_prefix("docker://").unwrap_or(name).parse::<Reference>();
        let destination = destination.with_context(|| format!("{name:?}"))?.or_latest();
        if destination.digest().is_some() {
            return Err(anyhow!("cannot push a digest reference"))
                .hint("give the image a tag: layerfs tag IMAGE NAME:TAG");
        }
        return Ok(vec![(args.image.clone(), destination)]);
    }
    let name = args.image.parse::<Reference>().with_context(|| format!("{:?}", args.image))?;
    anyhow::ensure!(name.tag().is_none() && name.digest().is_none(), "tag can't be used with --all-tags/-a");
    let tagged = store.entries()?.into_iter().filter_map(|entry| entry.reference);
    let mine: Vec<_> = tagged.filter(|other| other.name() == name.name() && other.tag().is_some()).collect();
    anyhow::ensure!(!mine.is_empty(), "an image does not exist locally with the tag: {}", name.familiar_name());
    Ok(mine.into_iter().map(|reference| (reference.canonical(), reference)).collect())
}

fn report(args: &Args, pushed: &Pushed, outcome: &[(Digest, String)]) -> anyhow::Result<()> {
    if let Some(path) = &args.digestfile {
        std::fs::write(path, pushed.target.digest.to_string()).with_context(|| path.display().to_string())?;
    }
    let mut output = std::io::stdout().lock();
    let (digest, size) = (&pushed.target.digest, pushed.target.size);
    if args.format == Format::Json {
        let layers = outcome.iter().map(|(diff_id, status)| {
            let diff_id = diff_id.to_string();
            serde_json::json!({"diffID": diff_id, "status": status})
        });
        let value = serde_json::json!({
            "reference": pushed.reference.canonical(),
            "digest": digest.to_string(),
            "size": size,
            "layers": layers.collect::<Vec<_>>(),
        });
        writeln!(output, "{value:#}")?;
    } else if args.quiet {
        writeln!(output, "{}", pushed.reference.canonical())?;
    } else {
        writeln!(output, "{}: digest: {digest} size: {size}", pushed.reference.tag().unwrap_or("latest"))?;
    }
    Ok(())
}
