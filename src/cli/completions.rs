//! `layerfs completions`: what a shell needs to complete images, mounts and paths in images.

use super::output::print;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use std::process::ExitCode;

/// The variable by which a shell asks this program.
pub(super) const VARIABLE: &str = "COMPLETE";

/// Write what a shell needs to complete commands of layerfs
///
/// bash: layerfs completions bash > /usr/share/bash-completion/completions/layerfs. zsh: > /usr/share/zsh/site-functions/_layerfs.
/// fish: > /usr/share/fish/vendor_completions.d/layerfs.fish.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Shells that are known.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "layerfs", "layerfs", "layerfs", &mut script)?;
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
