//! `layerfs pull`: fetches an image from a registry.

use super::Global;
use super::limits::LimitOptions;
use super::output::Format;
use super::registry_options::RegistryOptions;
use super::transfer::{Direction, Display, until_signalled};
use crate::oci::{Platform, Reference};
use crate::registry::Error;
use crate::registry::client::Session;
use crate::registry::pull::{PullOptions, Pulled, candidates, pull};
use crate::store::Store;
use std::io::Write;
use std::process::ExitCode;

/// Pull an image from a registry.
///
/// What is in the store already is not fetched; what was fetched of a layer when a pull was cut short is not fetched again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: NAME[:TAG][@DIGEST], as docker writes it
    image: String,
    /// The platform wanted, OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    platform: Option<Platform>,
    /// Every platform of the image
    #[arg(long)]
    all_platforms: bool,
    /// Say nothing but the image's name at the end
    #[arg(short, long)]
    quiet: bool,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Layers fetched at the same time
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    max_concurrent_downloads: u8,
    /// Log in as USER:PASSWORD for this command only
    #[arg(long, value_name = "USER:PASSWORD", hide_env_values = true)]
    creds: Option<String>,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let session = args.registry.session(args.creds.as_deref())?;
    let store = global.store()?;
    let options = PullOptions {
        platform: args.platform.clone(),
        all_platforms: args.all_platforms,
        parallel: usize::from(args.max_concurrent_downloads),
        limits: args.limits.limits()?,
    };
    let display = Display::new(Direction::Pull, args.quiet || args.format == Format::Json);
    let transfer = || pull_named(&args.image, &store, &session, &options, &display);
    let outcome = until_signalled(session.cancel(), transfer);
    display.finish();
    let pulled = match outcome? {
        Ok(pulled) => pulled,
        Err(code) => return Ok(code),
    };
    report(args, &pulled, &display)?;
    Ok(ExitCode::SUCCESS)
}

/// Pulls the first image that the name may stand for and that exists.
fn pull_named(
    text: &str,
    store: &Store,
    session: &Session,
    options: &PullOptions,
    display: &Display,
) -> Result<Pulled, Error> {
    let names = candidates(session, text).map_err(|source| Error::Reference { text: text.to_owned(), source })?;
    if names_default_tag(text) {
        display.line("Using default tag: latest");
    }
    let mut failure = None;
    for name in &names {
        match pull(store, session, name, options, display) {
            Err(error) if error.is_worth_another_place() => {
                log::debug!("{name}: {error}");
                failure.get_or_insert(error);
            }
            outcome => return outcome,
        }
    }
    Err(failure.unwrap_or_else(|| Error::Blocked(text.to_owned())))
}

/// Whether the user has left the tag to us.
fn names_default_tag(text: &str) -> bool {
    text.parse::<Reference>().is_ok_and(|reference| reference.tag().is_none() && reference.digest().is_none())
}

fn report(args: &Args, pulled: &Pulled, display: &Display) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    let status = if pulled.changed { "Downloaded newer image for" } else { "Image is up to date for" };
    if args.format == Format::Json {
        let layers: Vec<serde_json::Value> = display
            .outcome()
            .iter()
            .map(|(digest, status)| serde_json::json!({"digest": digest.to_string(), "status": status}))
            .collect();
        let value = serde_json::json!({
            "reference": pulled.reference.canonical(),
            "digest": pulled.target.digest.to_string(),
            "changed": pulled.changed,
            "layers": layers,
        });
        writeln!(output, "{value:#}")?;
    } else {
        if !args.quiet {
            writeln!(output, "Digest: {}", pulled.target.digest)?;
            writeln!(output, "Status: {status} {}", pulled.reference.familiar())?;
        }
        writeln!(output, "{}", pulled.reference.canonical())?;
    }
    Ok(())
}
