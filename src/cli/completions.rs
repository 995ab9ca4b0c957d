//! `layerfs completions`: what a shell needs to complete images, mounts and paths in images.

use super::output::print;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use std::process::ExitCode;

/// The variable by which a shell asks this program.
pub(super) const VARIABLE: &str = "COMPLETE";

/// Bash takes words apart at colons, keeps the quotes in them, and replaces only what stands behind the last colon or an open quote: so the line is
/// taken apart here as the shell would, IMAGE:PATH is put together before it is completed, and the answers are cut and quoted to fit what
/// readline replaces.
const WHOLE_WORDS: &str = r#"
_layerfs_whole_words() {
    local line=${COMP_LINE:0:COMP_POINT} word= begun= quote= char at cut=0 before=0 reply
    local -a COMP_WORDS=() answers=()
    for ((at = 0; at < ${#line}; at++)); do
        char=${line:at:1}
        if [[ $quote == "'" && $char != "'" ]]; then
            word+=$char
        elif [[ $char == \\ ]]; then
            # Between double quotes only some characters need it; elsewhere it stays.
            ((at += 1))
            [[ $quote && ${line:at:1} != [\"\\\$\`] ]] && word+=\\
            word+=${line:at:1} begun=yes
        elif [[ $quote && $char == "$quote" ]]; then
            quote= cut=$before
        elif [[ $quote ]]; then
            word+=$char
        elif [[ $char == [\"\'] ]]; then
            quote=$char begun=yes before=$cut cut=${#word}
        elif [[ $char == [[:space:]] ]]; then
            [[ $begun ]] && COMP_WORDS+=("$word")
            word= begun= cut=0
        else
            word+=$char begun=yes
            [[ $COMP_WORDBREAKS == *"$char"* ]] && cut=${#word}
        fi
    done
    COMP_WORDS+=("$word")
    local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    local -
    set -o noglob
    _clap_complete_layerfs "$1" "$word" "$3"
    for reply in "${COMPREPLY[@]}"; do
        [[ $reply == "${word:0:cut}"* ]] && reply=${reply:cut}
        case $quote in
            \') reply=${reply//\'/\'\\\'\'} ;;
            \") reply=${reply//\\/\\\\} reply=${reply//\"/\\\"} reply=${reply//\$/\\\$} reply=${reply//\`/\\\`} ;;
            *) [[ $reply ]] && printf -v reply %q "$reply" ;;
        esac
        answers+=("$reply")
    done
    COMPREPLY=("${answers[@]}")
}
complete -o nospace -o bashdefault -F _layerfs_whole_words layerfs
"#;

/// Zsh passes words with their quotes, and the one that is begun with an open one.
const WITHOUT_QUOTES: &str = r#"
function _layerfs_whole_words() {
    local -a words=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
    _clap_dynamic_completer_layerfs "$@"
}
compdef _layerfs_whole_words layerfs
"#;

/// What fish is told to ask for the word that is begun, and what it has to ask for to get it without quotes and escapes.
const FISH_WORD: [&str; 2] = ["(commandline --current-token)", "(__layerfs_word)"];
const FISH_WITHOUT_QUOTES: &str = r#"function __layerfs_word
    set -l word (commandline --current-token)
    switch $word
        case '\'*' '"*'
            string sub --start 2 -- $word
        case '*'
            string unescape -- $word; or printf '%s\n' $word
    end
end
"#;

/// From `fpath`, zsh takes the script as the body of the function `_layerfs` and calls it for the first completion: it must then not only
/// define the function that completes, but complete.
const AUTOLOADED: &str = r#"
if [ "$funcstack[1]" = _layerfs ]; then
    _layerfs_whole_words "$@"
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
    let script = String::from_utf8_lossy(&script).into_owned();
    let script = match args.shell {
        Shell::Bash => script + WHOLE_WORDS,
        Shell::Zsh => script + WITHOUT_QUOTES + AUTOLOADED,
        Shell::Fish => FISH_WITHOUT_QUOTES.to_owned() + &script.replace(FISH_WORD[0], FISH_WORD[1]),
    };
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}
