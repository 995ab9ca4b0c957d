//! `layerfs exec`: a further command in a container that runs.

use super::Global;
use super::container_options::ContainerOptions;
use super::error::{WithHint, report};
use super::run::code_of;
use crate::run::{Attached, attend, block_signals, state};
use crate::sandbox::{Capabilities, Identity, Limits, RemoteSink, Root, Sandbox, Spec};
use anyhow::{Context, anyhow};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// Run a further command in a container that runs.
#[derive(Debug, clap::Args)]
#[command(trailing_var_arg = true)]
pub(super) struct Args {
    #[command(flatten)]
    options: ContainerOptions,
    /// The container's name
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::running))]
    name: String,
    /// The command and its arguments
    #[arg(required = true, value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    exec(args, global).map(ExitCode::from).or_else(|error| {
        report(&error);
        Ok(ExitCode::from(code_of(&error)))
    })
}

fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    args.options.check_terminal()?;
    let signals = block_signals()?;
    let container = global.store()?.container(&args.name)?;
    let Some(running) = state::read(&container.dir)? else {
        let name = &args.name;
        return Err(anyhow!("the container {name} is not running"))
            .hint(format!("a container runs as long as its `layerfs run`; `layerfs commit {name} IMAGE` and a run of that go on from what it left"));
    };
    let mut spec = Spec::new(Root::Running { init: running.init }, args.command.clone());
    spec.identity = running.identity;
    spec.account = Some(args.options.user.clone().unwrap_or(running.user));
    spec.env = environment(args, running.env)?;
    spec.cwd = args.options.workdir.clone().map_or(running.cwd, OsString::from);
    spec.seccomp = running.seccomp && !args.options.privileged && !args.options.unconfined()?;
    spec.capabilities = args.options.capabilities()?.unwrap_or(running.capabilities);
    if args.options.privileged {
        spec.capabilities = Capabilities::all();
    }
    // Its control group has the others.
    spec.limits = Limits { memory: None, ..running.limits };
    spec.no_new_privileges = args.options.no_new_privileges();
    spec.terminal = args.options.tty.then(crate::run::terminal_size);
    let attached = Attached { input: args.options.interactive };
    let single = spec.identity == Identity::Single;
    let mut sandbox = Sandbox::new(spec);
    if single {
        let owners = RemoteSink::connect(&container.dir);
        sandbox = sandbox.ownership(Arc::new(owners.context("the container's owners cannot be kept")?));
    }
    Ok(attend(sandbox, attached, signals, |_| Ok(()))?.code())
}

/// The container's environment with what was asked for. The home of another user is that of his account.
fn environment(args: &Args, container: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let name = |pair: &OsString| pair.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
    let mut env = container;
    let mut added = args.options.variables()?;
    if args.options.user.is_some() {
        env.retain(|known| name(known) != b"HOME");
    }
    if args.options.tty && !env.iter().any(|pair| name(pair) == b"TERM") {
        added.insert(0, "TERM=xterm".into());
    }
    for pair in added {
        env.retain(|known| name(known) != name(&pair));
        env.push(pair);
    }
    Ok(env)
}
