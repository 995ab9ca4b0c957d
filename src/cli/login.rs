//! `layerfs login`: keeps the credentials for a registry.

use super::registry_options::{RegistryOptions, told};
use super::{Global, WithHint};
use crate::registry::config::Stored;
use crate::registry::login::{log_in, logged_in, registry_name};
use crate::registry::secret::Secret;
use crate::sys::SignalSet;
use anyhow::{Context, anyhow};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

/// The longest password that is read, in bytes; tokens are long.
const LONGEST: u64 = 64 << 10;

/// Log in to a registry.
///
/// The credentials are proved at the registry and kept where docker, podman and skopeo find them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The registry, HOST[:PORT] [default: docker.io]
    #[arg(default_value = "", hide_default_value = true)]
    server: String,
    /// The user's name
    #[arg(short, long)]
    username: Option<String>,
    /// The password; other users of this machine can see it while the command runs
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Say who is logged in, and change nothing
    #[arg(long)]
    get_login: bool,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// Runs the verb.
pub(super) fn run(args: &Args, _global: &Global) -> anyhow::Result<ExitCode> {
    let session = args.registry.session(None)?;
    let registry = registry_name(&args.server);
    if args.get_login {
        let user = told(logged_in(&session, &registry))?;
        let user = user.ok_or_else(|| anyhow!("not logged in to {registry}"))?;
        writeln!(std::io::stdout(), "{user}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.password.is_some() {
        log::warn!("a password on the command line can be seen by others: use --password-stdin");
    }
    let username = match &args.username {
        Some(name) => name.clone(),
        None => ask("Username: ", true)?,
    };
    anyhow::ensure!(!username.is_empty(), "a user name is needed");
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin()?,
        None => ask("Password: ", false)?,
    };
    anyhow::ensure!(!password.is_empty(), "a password is needed");
    match told(log_in(&session, &registry, &username, Secret::new(password)))? {
        Stored::File(path) => log::info!("the password is kept unencrypted in {}", path.display()),
        Stored::Helper(name) => log::info!("the password is kept by docker-credential-{name}"),
    }
    writeln!(std::io::stdout(), "Login Succeeded")?;
    Ok(ExitCode::SUCCESS)
}

/// All of standard input, without the line end at its end.
fn from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().take(LONGEST).read_to_string(&mut text).context("cannot read the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks on the terminal; a password does not show.
fn ask(prompt: &str, shown: bool) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(anyhow!("cannot ask for it: standard input is not a terminal"))
            .hint("give --username, and the password with --password-stdin");
    }
    write!(std::io::stderr(), "{prompt}")?;
    let _hidden = if shown { None } else { Some(Hidden::begin()?) };
    let mut line = String::new();
    stdin.lock().take(LONGEST).read_line(&mut line)?;
    if !shown {
        writeln!(std::io::stderr())?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal without echo, until it is dropped. A signal that ends this process brings the echo back first.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn begin() -> anyhow::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin()).context("cannot hide the password")?;
        show_again_on_signal(before.clone())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden).context("cannot hide the password")?;
        Ok(Self(before))
    }
}

/// Waits in a thread for a signal that ends this process, which then ends as that signal has it.
fn show_again_on_signal(before: rustix::termios::Termios) -> anyhow::Result<()> {
    let signals = SignalSet::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT])?;
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        drop(Hidden(before));
        std::process::exit(128 + signal);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal is gone then, and its echo with it.
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}
