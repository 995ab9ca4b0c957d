//! `layerfs build`: an image from a Dockerfile.

use super::build_contexts::Contexts;
use super::build_images::{BaseImages, Pulls};
use super::build_input::read_input;
use super::build_output::{Destination, deliver};
use super::build_progress::Plain;
use super::build_push;
use super::limit_options::{Host, Ulimit};
use super::registry_options::RegistryOptions;
use super::{Global, WithHint};
use crate::build::dockerfile;
use crate::build::execute::{Build, BuildError, Built, Cancel, Options, Reporter, Secret, keys_of};
use crate::build::plan::{NamedContext, Settings, plan};
use crate::commit::Clock;
use crate::oci::{Platform, Reference};
use crate::registry::http;
use crate::registry::pull::PullPolicy;
use crate::store::Store;
use crate::sys::SignalSet;
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory with the files of the build, or `-` for a tar or a Dockerfile on standard input
    #[arg(value_name = "CONTEXT")]
    context: String,
    /// Name the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", value_parser = Reference::parse_new)]
    tags: Vec<Reference>,
    /// The Dockerfile, or `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Put files or an image in the place of a name: NAME=DIRECTORY, NAME=docker-image://IMAGE, NAME=oci-layout://DIRECTORY[:TAG]
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    contexts: Vec<String>,
    /// Set an argument of the Dockerfile; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    arguments: Vec<String>,
    /// Build this stage instead of the last one
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Add a label to the image
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Do not use results of earlier builds
    #[arg(long)]
    no_cache: bool,
    /// Use the results that this image was built with
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    cache_from: Vec<String>,
    /// Make one layer of all that the build adds
    #[arg(long)]
    squash: bool,
    /// The platform to build for; only the native one can be
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Pull base images even when they are in the store
    #[arg(long)]
    pull: bool,
    /// The network of RUN
    #[arg(long, value_enum, default_value_t)]
    network: NetworkMode,
    /// Give RUN --mount=type=secret a secret: id=NAME[,src=FILE|,env=VARIABLE]
    #[arg(long = "secret", value_name = "SPEC")]
    secrets: Vec<String>,
    /// Allow what is refused otherwise
    #[arg(long, value_enum, value_name = "WHAT")]
    allow: Vec<Allowed>,
    /// The most memory a RUN may take, in bytes or as 512m, 2g
    #[arg(short, long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// Limit a resource of RUN, such as nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<Ulimit>,
    /// Add a line to /etc/hosts of RUN
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<Host>,
    /// Do not use earlier results of this stage
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Docker's; nothing intermediate is ever left
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// Docker's; nothing intermediate is ever left
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_rm: Option<bool>,
    /// Docker's; the image goes to the store anyway
    #[arg(long, hide = true)]
    load: bool,
    /// Docker's; no attestation is ever made
    #[arg(long, hide = true, value_parser = ["false"])]
    provenance: Option<String>,
    /// Docker's; no attestation is ever made
    #[arg(long, hide = true, value_parser = ["false"])]
    sbom: Option<String>,
    /// Let an OCI runtime run the commands, such as runc, by its name or path
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<std::ffi::OsString>,
    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the image's names and digests to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Push the image to the registries of its names
    #[arg(long)]
    push: bool,
    /// Where the result goes: type=local|tar|oci|docker,dest=PATH, type=registry, a directory, or - [default: the store]
    #[arg(short, long, value_name = "SPEC")]
    output: Option<Destination>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressMode,
    /// Print the image's ID only
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum NetworkMode {
    /// The host's
    #[default]
    Default,
    /// The host's
    Host,
    /// Loopback only
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Allowed {
    /// RUN --security=insecure
    #[value(name = "security.insecure")]
    Insecure,
    /// RUN --network=host
    #[value(name = "network.host")]
    HostNetwork,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ProgressMode {
    /// Lines
    #[default]
    Auto,
    /// Lines
    Plain,
    /// Docker's; lines as well
    #[value(hide = true)]
    Tty,
    /// Nothing
    Quiet,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let session = store.session()?;
    args.secrets.iter().try_for_each(|text| check_secret(text))?;
    let tags = args.names();
    let registry = build_push::prepare(args.push, args.output.as_ref(), &tags, &args.registry)?;
    let input = read_input(&args.context, args.file.as_deref(), &session)?;
    let contexts = Contexts::read(&args.contexts, &session, args.is_quiet())?;
    let file = dockerfile::parse(&input.dockerfile)?;
    let reporter = Plain::new(args.is_quiet());
    if args.progress == ProgressMode::Tty {
        reporter.warn("--progress=tty: there is one form for terminals and files, lines: --progress=plain");
    }
    file.warnings.iter().for_each(|warning| reporter.warn(&warning.to_string()));
    let settings = settings(args, contexts.named)?;
    let images = BaseImages::new(pulls(args), &store, contexts.images);
    let plan = images.told(plan(&file, &settings, &images))?;
    if !plan.unused_arguments.is_empty() {
        reporter.warn(&format!("build arguments were not used: {}", plan.unused_arguments.join(", ")));
    }
    let cancel = Cancel::default();
    end_on_signal(cancel.clone(), registry.as_ref().map(|session| session.cancel().clone()))?;
    let options = options(args, &store, &settings, &reporter)?;
    let build = Build {
        store: &store,
        session: &session,
        plan: &plan,
        context: input.context,
        contexts: &contexts.files,
        images: &images.found(),
        options,
        reporter: &reporter,
        cancel,
    };
    let mut built = match build.run() {
        Err(BuildError::Command { place, code }) => return Err(failed_command(&place, code)),
        Err(BuildError::Step(place)) => return Err(anyhow::Error::from(*place)),
        other => other?,
    };
    deliver(&session, &built, args.output.as_ref(), &tags)?;
    if let Some(registry) = registry {
        let pushed = build_push::push_all(&store, &registry, &tags, args.is_quiet())?;
        built.manifest = pushed.unwrap_or(built.manifest);
    }
    finish(args, &built, &tags)
}

impl Args {
    /// What the image is called.
    fn names(&self) -> Vec<Reference> {
        let more = match &self.output {
            Some(Destination::Store { names, .. }) => names.as_slice(),
            _ => &[],
        };
        self.tags.iter().chain(more).cloned().collect()
    }

    fn is_quiet(&self) -> bool {
        self.quiet || self.progress == ProgressMode::Quiet
    }
}

fn failed_command(place: &dockerfile::Diagnostic, code: u8) -> anyhow::Error {
    let failed: anyhow::Result<()> = Err(anyhow::Error::from(place.clone()));
    let failed = match code {
        127 => failed.hint("the command or its interpreter is not in the image"),
        126 => {
            failed.hint("the file is there but cannot be executed: is it for another architecture, or not executable?")
        }
        _ => failed,
    };
    failed.err().unwrap_or_else(|| anyhow::anyhow!("exit code {code}"))
}

/// The file of `--metadata-file`, with the keys that buildx gives it.
fn metadata(tags: &[Reference], built: &Built) -> serde_json::Value {
    let mut facts = serde_json::json!({
        "containerimage.config.digest": built.id.to_string(),
        "containerimage.descriptor": &built.manifest,
        "containerimage.digest": built.manifest.digest.to_string(),
    });
    let names: Vec<String> = tags.iter().map(|tag| tag.clone().or_latest().canonical()).collect();
    if let Some(facts) = facts.as_object_mut().filter(|_| !names.is_empty()) {
        facts.insert("image.name".to_owned(), names.join(",").into());
    }
    facts
}

/// Names, ID file, what is printed.
fn finish(args: &Args, built: &Built, tags: &[Reference]) -> anyhow::Result<ExitCode> {
    let id = built.id.to_string();
    if let Some(path) = &args.iidfile {
        std::fs::write(path, &id).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &args.metadata_file {
        let text = super::output::json_text(&metadata(tags, built))? + "\n";
        std::fs::write(path, text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    if args.quiet {
        writeln!(std::io::stdout(), "{id}")?;
    } else if matches!(args.output, None | Some(Destination::Store { .. })) {
        let tags = tags.iter().map(|tag| format!("tagged {}\n", tag.clone().or_latest().familiar()));
        let text: String = std::iter::once(format!("built {id}\n")).chain(tags).collect();
        // The result does not depend on whether anybody reads this.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &Args, contexts: BTreeMap<String, NamedContext>) -> anyhow::Result<Settings> {
    let host = Platform::host();
    if let Some(platform) = &args.platform
        && host.distance_to(platform).is_none()
    {
        return Err(anyhow::anyhow!("cannot build for {platform}: only the native platform {host} can be built for"))
            .hint(format!("leave --platform out, or build on a machine that is {platform}"));
    }
    let mut arguments = BTreeMap::new();
    for text in &args.arguments {
        match text.split_once('=') {
            Some((name, value)) => {
                arguments.insert(name.to_owned(), value.to_owned());
            }
            None => arguments.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
        }
    }
    for name in crate::build::plan::PROXY_ARGUMENTS {
        for name in [name.to_owned(), name.to_uppercase()] {
            if let Ok(value) = std::env::var(&name) {
                arguments.entry(name).or_insert(value);
            }
        }
    }
    let label = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    Ok(Settings {
        arguments,
        labels: args.labels.iter().map(label).collect(),
        target: args.target.clone(),
        platform: host,
        allow_insecure: args.allow.contains(&Allowed::Insecure),
        contexts,
    })
}

/// How the images that the Dockerfile names are fetched.
fn pulls(args: &Args) -> Pulls<'_> {
    Pulls { registry: &args.registry, always: args.pull, quiet: args.quiet }
}

fn options(args: &Args, store: &Store, settings: &Settings, reporter: &Plain) -> anyhow::Result<Options> {
    let clock = match settings.arguments.get("SOURCE_DATE_EPOCH") {
        Some(text) => Clock::new(Some(text))?,
        None => Clock::from_environment()?,
    };
    let mut cache_from = BTreeMap::new();
    for name in &args.cache_from {
        let wanted = name.split(',').find_map(|part| part.strip_prefix("ref=")).unwrap_or(name);
        match pulls(args).resolve(store, wanted, PullPolicy::Missing) {
            Ok(image) => cache_from.extend(keys_of(&image)),
            // As with Docker, a cache that is not there is no reason not to build.
            Err(missing) => reporter.warn(&format!("--cache-from {wanted}: {}", missing.message)),
        }
    }
    Ok(Options {
        use_cache: !args.no_cache,
        cache_from,
        secrets: args.secrets.iter().map(|text| secret(text)).collect::<anyhow::Result<_>>()?,
        no_network: args.network == NetworkMode::None,
        memory: args.memory,
        runtime: args.runtime.clone(),
        resources: args.ulimits.iter().map(|limit| (*limit).into()).collect(),
        hosts: args.hosts.iter().map(Host::line).collect(),
        no_cache_stages: args.no_cache_filter.iter().map(|name| name.to_lowercase()).collect(),
        squash: args.squash,
        ..Options::new(clock)
    })
}

/// `id=NAME[,src=FILE][,env=VARIABLE]`; without a source the variable or the file of that name.
fn secret(text: &str) -> anyhow::Result<(String, Secret)> {
    let field = |wanted: &[&str]| {
        text.split(',')
            .find_map(|part| part.split_once('=').filter(|(key, _)| wanted.contains(key)).map(|(_, value)| value))
    };
    let id = field(&["id"]).ok_or_else(|| anyhow::anyhow!("--secret {text}: it needs an id"))?;
    let secret = match (field(&["src", "source"]), field(&["env"])) {
        (Some(file), _) if field(&["type"]) != Some("env") => Secret::File(file.into()),
        (_, Some(variable)) | (Some(variable), None) => Secret::Variable(variable.to_owned()),
        (None, None) if std::env::var_os(id).is_some() => Secret::Variable(id.to_owned()),
        (None, None) => Secret::File(id.into()),
    };
    Ok((id.to_owned(), secret))
}

/// Refuses a secret whose file is not there, before anything is built that needs it.
fn check_secret(text: &str) -> anyhow::Result<()> {
    let (_, Secret::File(file)) = secret(text)? else { return Ok(()) };
    let found =
        std::fs::metadata(&file).map_err(|error| anyhow::anyhow!("--secret {text}: {}: {error}", file.display()));
    found.map(drop).hint("a secret is a file, id=NAME,src=FILE, or a variable of the environment, id=NAME,env=VARIABLE")
}

/// A size such as 512m or 2g, in bytes.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let lower = text.to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = lower.get(digits.len()..).unwrap_or_default();
    let power = ["", "k", "m", "g", "t"].iter().position(|known| unit.trim_end_matches('b') == *known);
    let (Some(power), Ok(amount)) = (power, digits.parse::<u64>()) else {
        return Err(format!("{text:?} is no size such as 512m or 2g"));
    };
    amount.checked_mul(1024_u64.pow(power as u32)).ok_or_else(|| format!("{text} is too large"))
}

/// Ends the build at the first signal that asks for it. A second one ends the program as it always does.
fn end_on_signal(cancel: Cancel, transfers: Option<http::Cancel>) -> anyhow::Result<()> {
    let signals = SignalSet::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            if cancel.is_cancelled() {
                std::process::exit(128 + signal);
            }
            cancel.cancel();
            transfers.iter().for_each(http::Cancel::cancel);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_sizes() {
        assert!(
            matches!(secret("id=a,src=/x").unwrap(), (id, Secret::File(path)) if id == "a" && path.as_os_str() == "/x")
        );
        assert!(matches!(secret("type=env,id=a,env=V").unwrap().1, Secret::Variable(name) if name == "V"));
        assert!(secret("src=/x").is_err());
        assert!(
            check_secret("id=a,src=/nosuch").is_err_and(|error| error.to_string().contains("/nosuch: No such file"))
        );
        assert!(check_secret("id=a,src=/dev/null").is_ok() && check_secret("id=a,env=NOSUCH").is_ok());
        assert_eq!((memory("512m"), memory("2GB"), memory("7")), (Ok(512 << 20), Ok(2 << 30), Ok(7)));
        assert!(memory("lots").is_err() && memory("5x").is_err());
    }
}
