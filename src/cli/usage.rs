//! What the argument parser says, in the form of every other message of this program.

use super::error::write_report;
use crate::build::dockerfile::nearest;
use clap::CommandFactory;
use clap::error::{ContextKind, ErrorKind};
use std::ffi::OsString;
use std::process::ExitCode;

/// What a verb that ends as its command does ends with instead of 2, which may be the command's: Docker's code of what was not run.
const NOT_RUN: u8 = 125;

/// Prints what `error` of the argument parser tells of `arguments`, and returns what the program ends with: 2 for wrong usage, or 125 where
/// the verb is one that runs a command.
pub(super) fn report(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let text = error.render().to_string();
    match error.kind() {
        // Not errors: what was asked for goes to standard output. The help that stands for missing arguments goes to standard error.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nobody is left to tell when the output is closed.
            let _ = error.print();
        }
        ErrorKind::InvalidSubcommand => {
            let word = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
            let (message, _) = told(&text);
            write_report(&message, &meant(&word));
        }
        _ => {
            let (message, hints) = told(&text);
            write_report(&message, &hints);
        }
    }
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if runs_a_command(arguments) => ExitCode::from(NOT_RUN),
        code => ExitCode::from(u8::try_from(code).unwrap_or(2)),
    }
}

/// Whether the verb in `arguments`, which the parser has refused, is `run` or `exec`.
fn runs_a_command(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match &*word {
            "--root" => drop(words.next()),
            option if option.starts_with('-') => {}
            verb => return ["run", "exec"].contains(&verb),
        }
    }
    false
}

/// The message and the hints in what the parser would print: paragraphs, the first of them the error, then tips, the usage, and where
/// more is to be found.
fn told(text: &str) -> (String, Vec<String>) {
    let mut message = String::new();
    let mut hints = Vec::new();
    for paragraph in text.split("\n\n") {
        let line = paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        if let Some(error) = line.strip_prefix("error: ") {
            error.clone_into(&mut message);
        } else if line.starts_with("tip: ") {
            let tips = paragraph.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
            // Hardly ever what was meant: an option of another program is not a value.
            hints.extend(tips.filter(|tip| !tip.starts_with("to pass '-")).map(str::to_owned));
        } else if line.starts_with("Usage: ") {
            hints.push(usage(&line));
        } else if message.is_empty() {
            message = line;
        } else if hints.is_empty() && line.starts_with("For more information, ") {
            hints.push(line.trim_end_matches('.').replacen('F', "f", 1));
        }
    }
    for system in ["invalid digit found in string", "cannot parse integer from empty string"] {
        message = message.replace(system, "a whole number is expected");
    }
    if message.starts_with("invalid value '") && message.contains("' for '--format <FORMAT>'") {
        hints = vec![TEMPLATES.to_owned()];
    } else if message.starts_with("a value is required for '--root") {
        hints = vec!["--root and LAYERFS_ROOT name a directory; leave out or unset what is empty".to_owned()];
    } else if message.contains(": invalid reference format") {
        hints = vec![super::advice::REFERENCE.to_owned()];
    }
    let verb = text.lines().find_map(|line| line.strip_prefix("Usage: ")?.split_whitespace().nth(1));
    if let Some(hint) = instead(verb.unwrap_or_default(), &message) {
        hints = vec![hint.to_owned()];
    }
    (message, hints)
}

/// What does here for an option of Docker's `verb` that there is not, in a message about that option.
fn instead(verb: &str, message: &str) -> Option<&'static str> {
    let option = message.strip_prefix("unexpected argument '")?.split(['\'', '=']).next()?;
    match verb {
        "run" => instead_for_run(option),
        "build" => instead_for_build(option),
        "pull" if ["-a", "--all-tags"].contains(&option) => {
            Some("one image at a time is pulled: name each tag, or loop over them in the shell")
        }
        _ => None,
    }
}

fn instead_for_build(option: &str) -> Option<&'static str> {
    Some(match option {
        "--ssh" => {
            "no agent is given to a build: give the key as a secret, --secret id=key,src=FILE with RUN --mount=type=secret,id=key"
        }
        "--cache-to" => {
            "nothing needed: the store keeps the results, and an image that is pushed brings them to others, who give --cache-from"
        }
        "--annotation" => "manifests get no annotations: --label puts the same into the image's configuration",
        "--shm-size" => "leave it out: RUN has /dev/shm as large as the kernel lets it be, and --memory limits it",
        "--attest" => "leave it out: no attestation is ever made",
        "--builder" => "leave it out: there is one builder, this program",
        _ => return None,
    })
}

fn instead_for_run(option: &str) -> Option<&'static str> {
    Some(match option {
        "-d" | "--detach" => {
            "no container runs without whoever started it: put the command into the background with `&`"
        }
        "-p" | "--publish" | "-P" | "--publish-all" | "--expose" => {
            "no port is published: a container has the host's network (--network host, the default), where its ports are open"
        }
        "--net" => "it is called --network, host or none",
        "--mount" => "directories of the host are shown with -v HOST:CONTAINER[:ro], memory with --tmpfs PATH",
        "--init" => "leave it out: there is always an init",
        "--restart" => "a container ends with its command: a service manager or a loop of the shell starts it again",
        "--device" => "the devices are those of Docker's default; no other can be given",
        "--shm-size" => "it is the size of a file system in memory: --tmpfs /dev/shm:size=BYTES",
        "--platform" => "`layerfs pull --platform` brings an image of another platform",
        _ => return None,
    })
}

/// What takes the place of docker's `--format '{{.ID}}'`.
const TEMPLATES: &str = "there are no Go templates: --format json prints every field, and jq picks some: layerfs images --format json | jq -r '.[].ID'";

/// Verbs of docker and mount(8) that are another one here, or none, with what to use instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("attach", "run -it IMAGE` or `layerfs exec -it NAME sh"),
    ("buildx", "build"),
    ("container", "ps -a`, `layerfs rm` or `layerfs inspect"),
    ("create", "mount --rw --name NAME IMAGE MNT"),
    ("from", "mount --rw --name NAME IMAGE MNT"),
    ("image", "images`, `layerfs rmi` or `layerfs inspect"),
    ("info", "df"),
    ("logs", "run"),
    ("search", "pull"),
    ("start", "run"),
    ("system", "df` or `layerfs prune"),
    ("unmount", "umount"),
    ("version", "--version"),
    ("volume", "run -v HOST:CONTAINER IMAGE"),
];

/// What may have been meant by a verb that there is not: at most one thing.
fn meant(word: &str) -> Vec<String> {
    let command = super::Cli::command();
    let verbs = command.get_subcommands().map(clap::Command::get_name);
    let other = ELSEWHERE.iter().find(|(verb, _)| *verb == word).map(|(_, instead)| *instead);
    let begun =
        || command.get_subcommands().map(clap::Command::get_name).find(|verb| word.len() > 2 && verb.starts_with(word));
    match other.or_else(|| nearest(word, verbs)).or_else(begun) {
        Some(instead) => vec![format!("did you mean `layerfs {instead}`?")],
        None => vec!["`layerfs --help` lists what there is".to_owned()],
    }
}

/// The usage of the verb that `line` of the parser is about. The parser's own words name the options that were given, and take the variable
/// for the root of the store for one of them.
fn usage(line: &str) -> String {
    let mut command = super::Cli::command();
    command.build();
    let verb = line.split_whitespace().nth(2).unwrap_or_default();
    let rendered = match command.find_subcommand_mut(verb) {
        Some(verb) => verb.render_usage(),
        None => command.render_usage(),
    };
    let rendered = rendered.to_string();
    rendered.lines().next().unwrap_or_default().replacen("Usage: ", "usage: ", 1)
}

#[cfg(test)]
mod tests {
    use super::told;
    use clap::CommandFactory;

    fn of(arguments: &[&str]) -> (String, Vec<String>) {
        let error = super::super::Cli::command().try_get_matches_from(arguments).expect_err("wrong usage");
        told(&error.render().to_string())
    }

    #[test]
    fn regression_the_verb_is_found_behind_options_of_all_verbs() {
        let is = |arguments: &[&str]| super::runs_a_command(&arguments.iter().map(Into::into).collect::<Vec<_>>());
        assert!(is(&["layerfs", "run", "--nosuch"]) && is(&["layerfs", "--root", "x", "-v", "--root=y", "exec"]));
        assert!(!is(&["layerfs"]) && !is(&["layerfs", "--root", "run"]) && !is(&["layerfs", "images", "run"]));
    }

    #[test]
    fn wrong_usage_is_one_line_and_hints() {
        let usage = "usage: layerfs rmi [OPTIONS] <IMAGE>...".to_owned();
        assert_eq!(
            of(&["layerfs", "rmi", "--forse", "x"]),
            (
                "unexpected argument '--forse' found".to_owned(),
                vec!["a similar argument exists: '--force'".to_owned(), usage.clone()]
            )
        );
        let missing = "the following required arguments were not provided: <IMAGE>...".to_owned();
        assert_eq!(of(&["layerfs", "rmi"]), (missing, vec![usage]));
        let (message, hints) = of(&["layerfs", "rmi", "--format", "xml", "x"]);
        assert_eq!(message, "invalid value 'xml' for '--format <FORMAT>' [possible values: text, json]");
        assert_eq!(hints, [super::TEMPLATES]);
        let (message, hints) = of(&["layerfs", "run", "-dit", "box"]);
        assert_eq!(message, "unexpected argument '-d' found");
        assert!(hints.len() == 1 && hints[0].contains("into the background with `&`"), "{hints:?}");
        for (option, part) in [("-p", "--network host"), ("--publish=80:80", "--network host"), ("--detach", "&")] {
            let (_, hints) = of(&["layerfs", "run", option, "box"]);
            assert!(hints.len() == 1 && hints[0].contains(part), "{option}: {hints:?}");
        }
        for (arguments, part) in [
            (&["build", "--ssh", "default", "."][..], "--secret id=key"),
            (&["build", "--cache-to=type=inline", "."], "--cache-from"),
            (&["build", "--annotation", "a=b", "."], "--label"),
            (&["build", "--shm-size", "1g", "."], "/dev/shm"),
            (&["run", "--shm-size", "1g", "box"], "--tmpfs /dev/shm"),
            (&["pull", "-a", "box"], "name each tag"),
        ] {
            let (_, hints) = of(&[&["layerfs"], arguments].concat());
            assert!(hints.len() == 1 && hints[0].contains(part), "{arguments:?}: {hints:?}");
        }
        let (_, hints) = of(&["layerfs", "exec", "-d", "box", "true"]);
        assert!(hints.iter().any(|hint| hint.starts_with("usage: ")), "{hints:?}");
        let (message, _) = of(&["layerfs", "mount", "--layer", "x", "box", "mnt"]);
        assert_eq!(message, "invalid value 'x' for '--layer <N>': a whole number is expected");
        let (message, _) = of(&["layerfs", "lod"]);
        assert_eq!(message, "unrecognized subcommand 'lod'");
        for (word, instead) in [
            ("lod", "did you mean `layerfs load`?"),
            ("imag", "did you mean `layerfs images`?"),
            ("unmount", "did you mean `layerfs umount`?"),
            ("frobnicate", "`layerfs --help` lists what there is"),
        ] {
            assert_eq!(super::meant(word), [instead], "{word}");
        }
        let (message, hints) = of(&["layerfs", "--root=", "images"]);
        assert!(
            message.starts_with("a value is required for '--root <DIR>'") && hints[0].contains("unset"),
            "{hints:?}"
        );
        let (message, hints) = of(&["layerfs", "commit", "work", "Bad Name"]);
        assert!(
            message.contains("'Bad Name'")
                && message.ends_with("invalid reference format: repository name (library/Bad Name) must be lowercase"),
            "{message}"
        );
        assert_eq!(hints, [super::super::advice::REFERENCE]);
    }
}
