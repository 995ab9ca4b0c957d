//! `layerfs run`: a command in a fresh writable mount of an image.

use super::Global;
use super::WithHint;
use super::container_options::ContainerOptions;
use super::error::report;
use super::limit_options::{Host, Ulimit};
use super::named::{self, Named};
use super::pull_first::PullArguments;
use crate::mount::{Holder, Inside, MountOptions};
use crate::run::{Asked, Attached, Image, attend, block_signals, compose, parse_volume, read_in, state};
use crate::sandbox::account::Databases;
use crate::sandbox::{self, Root, Running, Sandbox, SharedSink, Spec};
use crate::store::{Store, StoreError};
use anyhow::{Context, anyhow};
use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The exit code of a container that could not be made, as Docker's.
const NOT_RUN: u8 = 125;
/// Bytes of a host name (`__NEW_UTS_LEN`, include/uapi/linux/utsname.h).
const HOSTNAME_MAX: usize = 64;
/// Threads that answer for the container's root.
const THREADS: usize = 4;

/// Run a command in a fresh writable mount of an image.
///
/// What it changes stays under the container's name, for diff, commit and mount, unless --rm is given. The exit code is the command's; 125 when it
/// could not be run at all, 126 when it cannot be executed, 127 when it is not there.
#[derive(Debug, clap::Args)]
// -h is --hostname here, as Docker has it.
#[command(trailing_var_arg = true, disable_help_flag = true)]
pub(super) struct Args {
    /// Remove the container with all its changes at the end
    #[arg(long)]
    rm: bool,
    /// Name of the container, to diff, commit or remove it by
    #[arg(long)]
    name: Option<String>,
    /// Show a directory or file of the host in the container, HOST:CONTAINER[:ro]
    #[arg(short = 'v', long = "volume", value_name = "HOST:CONTAINER")]
    volumes: Vec<String>,
    /// An empty file system in memory, PATH[:size=BYTES,mode=OCTAL,exec]
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Run this instead of the image's entry point and command
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Mount the container's root read-only
    #[arg(long)]
    read_only: bool,
    /// The host's network, or none but a loopback interface
    #[arg(long, value_name = "host|none", default_value = "host", value_parser = ["host", "none"])]
    network: String,
    /// Limit a resource, such as nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<Ulimit>,
    /// Add a line to /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<Host>,
    /// Let an OCI runtime do it, runc or crun
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<OsString>,
    /// Name that the container has for itself
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Say more on standard error; -v is --volume here
    // Of the same name as the one of every verb, whose place it takes.
    #[arg(long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Processes and threads at the same time [default: 2048]
    #[arg(long, value_name = "COUNT")]
    pids_limit: Option<u64>,
    /// Memory, with k, m or g; needs a control group, that is, root
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    #[command(flatten)]
    options: ContainerOptions,
    #[command(flatten)]
    pull: PullArguments,
    /// The image
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    image: String,
    /// The command and its arguments; the image's if there is none
    #[arg(value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the verb. Errors have codes of their own here.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    run_container(args, global).map(ExitCode::from).or_else(|error| {
        report(&error);
        Ok(ExitCode::from(code_of(&error)))
    })
}

/// The exit code of an error: that of the sandbox where the command itself was at fault.
pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    let sandbox = error.chain().find_map(|cause| cause.downcast_ref::<sandbox::SandboxError>());
    let run = error.chain().find_map(|cause| match cause.downcast_ref::<crate::run::RunError>() {
        Some(crate::run::RunError::Sandbox(error)) => Some(error),
        _ => None,
    });
    sandbox.or(run).map_or(NOT_RUN, sandbox::SandboxError::exit_code)
}

fn run_container(args: &Args, global: &Global) -> anyhow::Result<u8> {
    args.options.check_terminal()?;
    let store = global.store()?;
    if let Some(name) = &args.name {
        check_name(&store, name)?;
    }
    // A pull can be interrupted; its threads have ended when it has.
    args.pull.ensure(&store, &args.image, None)?;
    // Before there is any other thread.
    let signals = block_signals()?;
    let named =
        named::open(&store, &args.image, args.name.as_deref(), Path::new("/"), MountOptions::default(), args.rm)?;
    let name = named.name.clone();
    let begun = Cell::new(false);
    let ended = run_in(args, &store, named, signals, &begun);
    // Of what never ran nothing is to be kept, and the name is free for another try.
    if (args.rm || (ended.is_err() && !begun.get()))
        && let Err(error) = store.remove_container(&name)
    {
        log::warn!("the container {name} was not removed: {error}");
    }
    ended
}

fn check_name(store: &Store, name: &str) -> anyhow::Result<()> {
    match store.container(name) {
        Err(StoreError::NoSuchContainer(_)) => Ok(()),
        Ok(_) => Err(anyhow!("a container called {name} is there already"))
            .hint(format!("choose another name, or remove it: layerfs rm {name}")),
        Err(error) => Err(error.into()),
    }
}

/// Runs the command and tells in `begun` that it was started.
fn run_in(
    args: &Args,
    store: &Store,
    named: Named,
    signals: crate::sys::SignalSet,
    begun: &Cell<bool>,
) -> anyhow::Result<u8> {
    let directory = store.container(&named.name)?.dir;
    let spec = specification(args, &named, &directory)?;
    let user = args.options.user.clone().unwrap_or_else(|| image_of(&named).user);
    // What holds the image and the container has to live to the end.
    let Named { fs, image: _image, lock: _lock, .. } = named;
    let fs = Arc::new(fs);
    let inside = Inside::serve(Arc::clone(&fs), &spec.identity, THREADS)?;
    let sandbox = inside.give_to(Sandbox::new(spec.clone()));
    let attached = Attached { input: args.options.interactive };
    let owners = inside.ownership();
    let ended = attend(sandbox, attached, signals, |running| {
        begun.set(true);
        let shared = owners.map(|owners| SharedSink::new(&directory, owners)).transpose();
        let shared = shared.inspect_err(|error| log::warn!("further commands will not keep owners: {error}"));
        let handle = running.handle();
        let mount_points = running.mount_points().to_vec();
        let holder = Holder::new(&directory, fs, mount_points, move || handle.sync());
        let holder = holder.inspect_err(|error| log::warn!("it cannot be committed while it runs: {error}"));
        Ok((shared, holder, record(&directory, running, &spec, &user)?))
    });
    let served = inside.finish();
    let outcome = ended?;
    served.context("the container's root")?;
    Ok(outcome.code())
}

/// Writes down what those who want to join need to know.
fn record(
    directory: &Path,
    running: &Running,
    spec: &Spec,
    user: &str,
) -> Result<Option<state::Recorded>, crate::run::RunError> {
    let Some(init) = running.init() else { return Ok(None) };
    let Some(started) = state::started(init) else { return Ok(None) };
    let state = state::RunningState {
        init,
        started,
        identity: spec.identity.clone(),
        env: spec.env.clone(),
        cwd: spec.cwd.clone(),
        user: user.to_owned(),
        capabilities: spec.capabilities,
        seccomp: spec.seccomp,
        limits: spec.limits.clone(),
    };
    state::record(directory, &state).map(Some)
}

fn specification(args: &Args, named: &Named, directory: &Path) -> anyhow::Result<Spec> {
    let at = directory.join("root");
    std::fs::create_dir_all(&at).with_context(|| format!("cannot make {}", at.display()))?;
    let root = Root::Fuse { at: at.into(), source: named.image.record.label(), subtype: "layerfs".to_owned() };
    let stack = named.fs.stack();
    let (passwd, group) = (read_in(stack, "/etc/passwd")?, read_in(stack, "/etc/group")?);
    let files = Databases { passwd: &passwd, group: &group };
    let mut spec = compose(&image_of(named), &asked(args, &named.name)?, root, files)?;
    spec.runtime.clone_from(&args.runtime);
    Ok(spec)
}

fn image_of(named: &Named) -> Image {
    let config = named.image.record.config.config.clone();
    Image {
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
    }
}

fn asked(args: &Args, name: &str) -> anyhow::Result<Asked> {
    let options = &args.options;
    let mut mounts = args.volumes.iter().map(|text| parse_volume(text)).collect::<Result<Vec<_>, _>>()?;
    for text in &args.tmpfs {
        mounts.push(super::container_options::tmpfs(text)?);
    }
    let env = options.variables()?;
    if let Some(cwd) = &options.workdir
        && !PathBuf::from(cwd).is_absolute()
    {
        return Err(anyhow!("the working directory {cwd} must be an absolute path"))
            .hint(format!("-w takes a path of the container that begins with /, such as /{cwd}"));
    }
    let hostname = args.hostname.clone().filter(|name| !name.is_empty());
    if let Some(long) = hostname.as_ref().filter(|name| name.len() > HOSTNAME_MAX) {
        return Err(anyhow!("the host name {long} is too long: {} bytes", long.len()))
            .hint(format!("the kernel takes {HOSTNAME_MAX} bytes at most: give the first part of the name only"));
    }
    Ok(Asked {
        command: args.command.clone(),
        entrypoint: args.entrypoint.clone(),
        env,
        user: options.user.clone(),
        working_dir: options.workdir.clone(),
        hostname: hostname.unwrap_or_else(|| name.chars().take(63).collect()),
        no_network: args.network == "none",
        read_only: args.read_only,
        mounts,
        terminal: options.tty.then(crate::run::terminal_size),
        privileged: options.privileged,
        capabilities: options.capabilities()?,
        no_seccomp: options.unconfined()?,
        no_new_privileges: options.no_new_privileges(),
        processes: args.pids_limit,
        resources: args.ulimits.iter().map(|limit| (*limit).into()).collect(),
        hosts: args.hosts.iter().map(Host::line).collect(),
        memory: args.memory.as_deref().map(super::container_options::bytes).transpose()?,
    })
}
