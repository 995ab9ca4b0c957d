//! `layerfs completions`: what a shell needs to complete images, mounts and paths in images.

use super::output::print;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use std::process::ExitCode;

/// The variable by which a shell asks this program.
pub(super) const VARIABLE: &str = "COMPLETE";

/// Bash takes words apart at colons, and replaces only what stands behind the last one: IMAGE:PATH is put together before it is completed, and
/// what is typed already is cut off the answers.
const WHOLE_WORDS: &str = r#"
_layerfs_whole_words() {
    local line=${COMP_LINE:0:COMP_POINT} current
    local -a COMP_WORDS
    read -ra COMP_WORDS <<<"$line"
    [[ $line == *[[:space:]] ]] && COMP_WORDS+=("")
    local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    current=${COMP_WORDS[COMP_CWORD]}
    _clap_complete_layerfs "$1" "$current" "$3"
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    fi
}
complete -o nospace -o bashdefault -F _layerfs_whole_words layerfs
"#;

/// From `fpath`, zsh takes the script as the body of the function `_layerfs` and calls it for the first completion: it must then not only
/// define the function that completes, but complete.
const AUTOLOADED: &str = r#"
if [ "$funcstack[1]" = _layerfs ]; then
    _clap_dynamic_completer_layerfs "$@"
fi
"#;

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
    let mut script = String::from_utf8_lossy(&script).into_owned();
    script += match args.shell {
        Shell::Bash => WHOLE_WORDS,
        Shell::Zsh => AUTOLOADED,
        Shell::Fish => "",
    };
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}
