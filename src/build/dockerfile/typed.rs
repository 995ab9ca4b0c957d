//! From a line to a [`Command`]: each instruction's own rules.

use super::arguments::{json_strings, pairs, quoted_words, split_blanks, split_first};
use super::flags::{Fault, Flags, Takes, Written};
use super::heredoc::{self, Heredoc};
use super::instruction::{Command, CommandLine, CopySource, Healthcheck, KeyValue, Network, Run, Transfer};
use super::mount;
use super::suggest::nearest;
use std::time::Duration;

/// The names of all instructions.
pub(super) const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction taken apart: name in upper case, flags, arguments, heredocs.
pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    pub(super) flags: &'a [Written],
    pub(super) arguments: &'a str,
    pub(super) heredocs: &'a [Heredoc],
    pub(super) escape: char,
}

/// Whether the instruction `name` with these arguments may open heredocs.
pub(super) fn takes_heredocs(name: &str, arguments: &str) -> bool {
    matches!(name, "ADD" | "COPY" | "RUN") && !matches!(json_strings(arguments), Ok(Some(_)))
}

impl Parts<'_> {
    fn flags(&self, known: &[(&str, Takes)]) -> Result<Flags, Fault> {
        Flags::check(self.flags, known)
    }

    /// The whole rest of the line as one argument.
    fn single(&self) -> Result<String, Fault> {
        if self.arguments.is_empty() {
            return Err(Fault::new(format!("{} requires exactly one argument", self.name)));
        }
        Ok(self.arguments.to_owned())
    }

    /// A JSON array or words.
    fn list(&self) -> Result<Vec<String>, Fault> {
        Ok(json_strings(self.arguments)?.unwrap_or_else(|| split_blanks(self.arguments)))
    }

    fn at_least_one(&self, list: Vec<String>) -> Result<Vec<String>, Fault> {
        if list.is_empty() {
            return Err(Fault::new(format!("{} requires at least one argument", self.name)));
        }
        Ok(list)
    }

    fn command_line(&self) -> Result<CommandLine, Fault> {
        command_line(self.arguments)
    }

    fn pairs(&self) -> Result<Vec<KeyValue>, Fault> {
        let pairs = pairs(self.arguments, self.name, self.escape)?;
        Ok(pairs.into_iter().map(|(key, value)| KeyValue { key, value }).collect())
    }
}

fn command_line(text: &str) -> Result<CommandLine, Fault> {
    Ok(match json_strings(text)? {
        Some(arguments) => CommandLine::Exec(arguments),
        None => CommandLine::Shell(text.to_owned()),
    })
}

/// The command of an instruction other than FROM and ONBUILD.
pub(super) fn command(parts: &Parts<'_>) -> Result<Command, Fault> {
    let plain = || parts.flags(&[]);
    match parts.name {
        "ADD" | "COPY" => transfer(parts),
        "RUN" => run(parts),
        "HEALTHCHECK" => healthcheck(parts),
        "ARG" => plain().and_then(|_| arg(parts)),
        "CMD" => plain().and_then(|_| parts.command_line()).map(Command::Cmd),
        "ENTRYPOINT" => plain().and_then(|_| parts.command_line()).map(Command::Entrypoint),
        "ENV" => plain().and_then(|_| parts.pairs()).map(Command::Env),
        "LABEL" => plain().and_then(|_| parts.pairs()).map(Command::Label),
        "MAINTAINER" => plain().and_then(|_| parts.single()).map(Command::Maintainer),
        "SHELL" => plain().and_then(|_| shell(parts)),
        "STOPSIGNAL" => plain().and_then(|_| parts.single()).map(Command::StopSignal),
        "USER" => plain().and_then(|_| parts.single()).map(Command::User),
        "WORKDIR" => plain().and_then(|_| parts.single()).map(Command::Workdir),
        "EXPOSE" => {
            plain()?;
            let mut ports = parts.at_least_one(split_blanks(parts.arguments))?;
            ports.sort();
            Ok(Command::Expose(ports))
        }
        "VOLUME" => {
            plain()?;
            let volumes = parts.at_least_one(parts.list()?)?;
            let volumes: Vec<String> = volumes.iter().map(|volume| volume.trim().to_owned()).collect();
            if volumes.iter().any(String::is_empty) {
                return Err(Fault::new("VOLUME specified can not be an empty string"));
            }
            Ok(Command::Volume(volumes))
        }
        name => {
            let near = nearest(name, INSTRUCTIONS).map(str::to_owned);
            Err(Fault::new(format!("unknown instruction: {name}")).suggest(near))
        }
    }
}

fn arg(parts: &Parts<'_>) -> Result<Command, Fault> {
    let words = parts.at_least_one(quoted_words(parts.arguments, parts.escape))?;
    let split = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(Fault::new("ARG names can not be blank")),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word.clone(), None)),
    };
    words.iter().map(split).collect::<Result<_, _>>().map(Command::Arg)
}

fn shell(parts: &Parts<'_>) -> Result<Command, Fault> {
    match json_strings(parts.arguments)? {
        Some(shell) if !shell.is_empty() => Ok(Command::Shell(shell)),
        None if !parts.arguments.is_empty() => {
            Err(Fault::new(format!("SHELL requires the arguments to be in JSON form: {}", parts.arguments)))
        }
        _ => Err(Fault::new("SHELL requires at least one argument")),
    }
}

fn run(parts: &Parts<'_>) -> Result<Command, Fault> {
    let flags = parts.flags(&[
        ("mount", Takes::List),
        ("network", Takes::Text),
        ("security", Takes::Text),
        ("device", Takes::List),
    ])?;
    if let Some(range) = flags.range("device") {
        return Err(Fault::new("--device is not supported").at(range));
    }
    let network = match flags.text("network").as_deref() {
        None => None,
        Some("default") => Some(Network::Default),
        Some("none") => Some(Network::None),
        Some("host") => Some(Network::Host),
        Some(other) => {
            let near = nearest(other, ["default", "none", "host"]).map(str::to_owned);
            return Err(at_flag(
                Fault::new(format!("invalid network mode {other:?}")).suggest(near),
                &flags,
                "network",
            ));
        }
    };
    let insecure = match flags.text("security").as_deref() {
        None | Some("sandbox") => false,
        Some("insecure") => true,
        Some(other) => {
            return Err(at_flag(Fault::new(format!("security {other:?} is not valid")), &flags, "security"));
        }
    };
    let mount_texts = flags.list("mount");
    let identity = |value: &str| Ok(value.to_owned());
    let mounts = mount_texts
        .iter()
        .map(|text| mount::parse(text, false, &identity))
        .collect::<Result<_, _>>()
        .map_err(|(message, near)| at_flag(Fault::new(message).suggest(near), &flags, "mount"))?;
    if parts.arguments.is_empty() {
        return Err(Fault::new("RUN requires at least one argument"));
    }
    let command = parts.command_line()?;
    Ok(Command::Run(Run { command, heredocs: parts.heredocs.to_vec(), mount_texts, mounts, network, insecure }))
}

fn at_flag(fault: Fault, flags: &Flags, name: &str) -> Fault {
    match flags.range(name) {
        Some(range) => fault.at(range),
        None => fault,
    }
}

const COPY_FLAGS: [(&str, Takes); 6] = [
    ("from", Takes::Text),
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("parents", Takes::Bool),
    ("exclude", Takes::List),
];
const ADD_FLAGS: [(&str, Takes); 7] = [
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("exclude", Takes::List),
    ("keep-git-dir", Takes::Bool),
    ("checksum", Takes::Text),
    ("unpack", Takes::Bool),
];

fn transfer(parts: &Parts<'_>) -> Result<Command, Fault> {
    let copy = parts.name == "COPY";
    let known = if copy { COPY_FLAGS.as_slice() } else { ADD_FLAGS.as_slice() };
    let flags = parts.flags(known)?;
    let mut words = parts.list()?;
    let destination =
        words.pop().ok_or_else(|| Fault::new(format!("{} requires at least two arguments", parts.name)))?;
    if words.is_empty() {
        let message = "requires at least two arguments, but only one was provided. Destination could not be determined";
        return Err(Fault::new(format!("{} {message}", parts.name)));
    }
    let json = !takes_heredocs(parts.name, parts.arguments);
    if !json && matches!(heredoc::from_word(&destination), Ok(Some(_))) {
        return Err(Fault::new(format!("{} cannot accept a heredoc as a destination", parts.name)));
    }
    let source = |word: String| match heredoc::from_word(&word) {
        Ok(Some(opened)) if !json => {
            let found = parts.heredocs.iter().rfind(|candidate| candidate.name == opened.name);
            CopySource::Inline(found.cloned().unwrap_or(opened))
        }
        _ => CopySource::Path(word),
    };
    let transfer = Transfer {
        sources: words.into_iter().map(source).collect(),
        destination,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.list("exclude"),
        checksum: flags.text("checksum"),
        unpack: flags.switch("unpack"),
    };
    if transfer.from.as_deref().is_some_and(|from| from.contains('$')) {
        let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global \
                       scope as a workaround";
        return Err(at_flag(Fault::new(message), &flags, "from"));
    }
    Ok(if copy { Command::Copy(transfer) } else { Command::Add(transfer) })
}

fn healthcheck(parts: &Parts<'_>) -> Result<Command, Fault> {
    let flags = parts.flags(&[
        ("interval", Takes::Text),
        ("timeout", Takes::Text),
        ("start-period", Takes::Text),
        ("start-interval", Takes::Text),
        ("retries", Takes::Text),
    ])?;
    let (kind, rest) = split_first(parts.arguments);
    match kind.to_uppercase().as_str() {
        "" => return Err(Fault::new("HEALTHCHECK requires at least one argument")),
        "NONE" if rest.is_empty() => return Ok(Command::Healthcheck(Healthcheck::Disabled)),
        "NONE" => return Err(Fault::new("HEALTHCHECK NONE takes no arguments")),
        "CMD" => {}
        other => return Err(Fault::new(format!("unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    }
    let test = match command_line(rest)? {
        CommandLine::Exec(arguments) if !arguments.is_empty() => {
            std::iter::once("CMD".to_owned()).chain(arguments).collect()
        }
        CommandLine::Shell(text) if !text.is_empty() => vec!["CMD-SHELL".to_owned(), text],
        _ => return Err(Fault::new("missing command after HEALTHCHECK CMD")),
    };
    let time = |name: &str| interval(&flags, name).map_err(|fault| at_flag(fault, &flags, name));
    let retries = match flags.text("retries").filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            let fault = Fault::new(format!("--retries must be a number that is not negative, not {text:?}"));
            at_flag(fault, &flags, "retries")
        })?,
    };
    Ok(Command::Healthcheck(Healthcheck::Command {
        test,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries,
    }))
}

/// The duration of a HEALTHCHECK flag: zero, or at least a millisecond.
fn interval(flags: &Flags, name: &str) -> Result<Duration, Fault> {
    let Some(text) = flags.text(name).filter(|text| !text.is_empty()) else { return Ok(Duration::ZERO) };
    let duration = duration(&text).ok_or_else(|| Fault::new(format!("invalid duration {text:?}")))?;
    if duration != Duration::ZERO && duration < Duration::from_millis(1) {
        return Err(Fault::new(format!("interval {name:?} cannot be less than 1ms")));
    }
    Ok(duration)
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `300ms`, `0`. A negative one is refused.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    Some(total)
}
