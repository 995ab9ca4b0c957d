//! What each instruction does to a stage.

use super::environment::{Environment, proxies};
use super::format;
use super::ports;
use super::state::{Action, CopyAction, RunAction, SCRIPT_DIRECTORY, StageState, absolute};
use crate::build::dockerfile::{
    Command, CommandLine, CopySource, ExpandError, Healthcheck, KeyValue, Lexer, Mount, MountKind, Run, Transfer,
    Variables,
};
use crate::oci::HealthCheck;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What instructions are applied with.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    /// The escape character of the Dockerfile.
    pub(super) escape: char,
    /// The variables before the first FROM.
    pub(super) globals: &'a Environment,
    /// Build arguments of the caller.
    pub(super) given: &'a BTreeMap<String, String>,
}

/// Why an instruction cannot be applied: the text it is about, if one can be named, and the message.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) word: String,
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl From<ExpandError> for Fault {
    fn from(error: ExpandError) -> Self {
        Self { word: error.word, message: error.message, suggestion: error.suggestion }
    }
}

fn fault<T>(word: &str, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { word: word.to_owned(), message: message.into(), suggestion: None })
}

impl StageState {
    /// Expands and applies one instruction; returns what is left to do.
    pub(super) fn apply(&mut self, command: &Command, scope: &Scope<'_>) -> Result<Action, Fault> {
        match command.expanded(scope.escape, &self.environment)? {
            Command::Run(run) => return self.run(&run, scope),
            Command::Copy(transfer) => return self.copy(transfer, false),
            Command::Add(transfer) => return self.copy(transfer, true),
            Command::Workdir(path) => return Ok(self.set_workdir(&path)),
            Command::Arg(arguments) => self.declare(&arguments, scope)?,
            Command::Env(pairs) => self.set_environment(&pairs),
            Command::Label(pairs) => self.set_labels(&pairs),
            Command::Cmd(line) => {
                let arguments = self.resolved(line);
                self.commit(format!("CMD {}", format::quoted_list(&arguments)), false);
                self.config.config.cmd = Some(arguments);
                self.cmd_set = true;
            }
            Command::Entrypoint(line) => self.set_entrypoint(line),
            Command::Expose(ports) => self.expose(&ports)?,
            Command::Healthcheck(check) => {
                self.commit(format!("HEALTHCHECK {}", format::healthcheck(&check)), false);
                self.config.config.healthcheck = Some(healthcheck(check));
            }
            Command::Maintainer(author) => {
                self.commit(format!("MAINTAINER {author}"), false);
                self.config.author = Some(author);
            }
            Command::Onbuild(trigger) => self.config.config.on_build.get_or_insert_default().push(trigger),
            Command::Shell(shell) => {
                self.commit(format!("SHELL {}", format::list(&shell)), false);
                self.config.config.shell = Some(shell);
            }
            Command::StopSignal(signal) => {
                if !is_signal(&signal) {
                    return fault(&signal, format!("invalid signal: {signal}"));
                }
                self.commit(format!("STOPSIGNAL {signal}"), false);
                self.config.config.stop_signal = Some(signal);
            }
            Command::User(user) => {
                self.commit(format!("USER {user}"), false);
                self.config.config.user = Some(user);
            }
            Command::Volume(volumes) => {
                if volumes.iter().any(String::is_empty) {
                    return fault("", "VOLUME specified can not be an empty string");
                }
                self.commit(format!("VOLUME {}", format::list(&volumes)), false);
                let known = self.config.config.volumes.get_or_insert_default();
                known.extend(volumes.into_iter().map(|volume| (volume, Value::Object(serde_json::Map::new()))));
            }
            Command::From => {}
        }
        Ok(Action::Metadata)
    }

    fn resolved(&self, line: CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(arguments) => arguments,
            CommandLine::Shell(text) => self.with_shell(&text),
        }
    }

    /// ARG: the caller's value, else the default, else what the global scope has.
    fn declare(&mut self, arguments: &[(String, Option<String>)], scope: &Scope<'_>) -> Result<(), Fault> {
        let lexer = Lexer::new(scope.escape);
        let mut texts = Vec::new();
        for (name, default) in arguments {
            let value = match (scope.given.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => match lexer.word(default, &self.environment) {
                    Ok(value) => Some(value),
                    Err(error) => return fault(default, error.to_string()),
                },
                (None, None) => scope.globals.value(name).map(str::to_owned),
            };
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            if let Some(value) = &value {
                self.environment.set(name, value);
            }
            self.arguments.push((name.clone(), value));
        }
        self.commit(format!("ARG {}", texts.join(" ")), false);
        Ok(())
    }

    fn set_environment(&mut self, pairs: &[KeyValue]) {
        let mut lines = Environment::default();
        lines.set_lines(self.config.config.env.as_deref().unwrap_or_default());
        for pair in pairs {
            lines.set(&pair.key, &pair.value);
            self.path_set |= pair.key == "PATH";
            self.environment.set(&pair.key, &pair.value);
        }
        self.config.config.env = Some(lines.lines());
        self.commit(joined("ENV", pairs), false);
    }

    fn set_labels(&mut self, pairs: &[KeyValue]) {
        let labels = self.config.config.labels.get_or_insert_default();
        labels.extend(pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone())));
        self.commit(joined("LABEL", pairs), false);
    }

    /// ENTRYPOINT: a CMD that came with the base image would be arguments of something else now.
    fn set_entrypoint(&mut self, line: CommandLine) {
        let arguments = self.resolved(line);
        self.commit(format!("ENTRYPOINT {}", format::quoted_list(&arguments)), false);
        self.config.config.entrypoint = (!arguments.is_empty()).then_some(arguments);
        if !self.cmd_set {
            self.config.config.cmd = None;
        }
    }

    fn expose(&mut self, ports: &[String]) -> Result<(), Fault> {
        let mut expanded = Vec::new();
        for port in ports {
            expanded.extend(ports::expand(port).or_else(|message| fault(port, message))?);
        }
        self.commit(format!("EXPOSE {}", format::list(&expanded)), false);
        let known = self.config.config.exposed_ports.get_or_insert_default();
        known.extend(expanded.into_iter().map(|port| (port, Value::Object(serde_json::Map::new()))));
        Ok(())
    }

    fn set_workdir(&mut self, path: &str) -> Action {
        let path = absolute(self.workdir(), path, false);
        self.config.config.working_dir = Some(path.clone());
        let makes_layer = path != "/";
        self.commit(format!("WORKDIR {path}"), makes_layer);
        let user = self.config.config.user.clone().filter(|user| !user.is_empty());
        if makes_layer { Action::Workdir { path, user } } else { Action::Metadata }
    }

    fn run(&mut self, run: &Run, scope: &Scope<'_>) -> Result<Action, Fault> {
        let mut script = None;
        let arguments = match &run.command {
            CommandLine::Exec(arguments) if arguments.is_empty() => {
                return fault("", "RUN requires at least one argument");
            }
            CommandLine::Exec(arguments) => arguments.clone(),
            CommandLine::Shell(text) => match inline(text, run) {
                Inline::Script(name, body) => {
                    let path = format!("{SCRIPT_DIRECTORY}{name}");
                    script = Some((path.clone(), body));
                    self.with_shell(&path)
                }
                Inline::Command(text) => self.with_shell(&text),
            },
        };
        let created_by = self.run_text(&arguments);
        self.commit(format!("RUN {created_by} # buildkit"), true);
        Ok(Action::Run(Box::new(RunAction {
            arguments,
            script,
            environment: self.environment.lines(),
            proxies: proxies(scope.given),
            user: self.config.config.user.clone().unwrap_or_default(),
            workdir: self.workdir().to_owned(),
            mounts: run.mounts.iter().map(|mount| self.placed(mount)).collect::<Result<_, _>>()?,
            network: run.network,
            insecure: run.insecure,
        })))
    }

    /// A mount with its target as a path from the root.
    fn placed(&self, mount: &Mount) -> Result<Mount, Fault> {
        let mut mount = mount.clone();
        let Some(target) = mount.target.take() else { return Ok(mount) };
        if mount.kind == MountKind::Cache && mount.id.is_none() {
            mount.id = Some(target.clone());
        }
        let place = absolute(self.workdir(), &target, false);
        if place == "/" {
            return fault(&target, format!("invalid mount target {place:?}"));
        }
        mount.target = Some(place);
        Ok(mount)
    }

    /// The command as the history has it: with the declared arguments in front, `|1 A=b /bin/sh -c …`.
    fn run_text(&self, arguments: &[String]) -> String {
        let mut declared = Environment::default();
        for (name, value) in &self.arguments {
            let value = self.environment.value(name).or(value.as_deref()).unwrap_or_default();
            declared.set(name, value);
        }
        let mut words = declared.lines();
        if !words.is_empty() {
            words.insert(0, format!("|{}", words.len()));
        }
        words.extend_from_slice(arguments);
        words.join(" ")
    }

    fn copy(&mut self, transfer: Transfer, add: bool) -> Result<Action, Fault> {
        let destination = absolute(self.workdir(), &transfer.destination, true);
        if transfer.checksum.is_some() {
            let [CopySource::Path(url)] = transfer.sources.as_slice() else {
                return fault("--checksum", "checksum can't be specified for multiple sources");
            };
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return fault("--checksum", "checksum requires HTTP(S) sources");
            }
        }
        self.commit(copy_text(&transfer, add), true);
        Ok(Action::Copy(Box::new(CopyAction { add, transfer, destination })))
    }
}

/// What a RUN with heredocs comes to.
enum Inline {
    /// One heredoc and nothing else, with a `#!` line: a program of its own.
    Script(String, String),
    /// A text for the shell.
    Command(String),
}

fn inline(text: &str, run: &Run) -> Inline {
    let Some(first) = run.heredocs.first() else { return Inline::Command(text.to_owned()) };
    let alone = run.heredocs.len() == 1 && crate::build::dockerfile::is_heredoc(text);
    if alone {
        let body = first.body();
        if body.starts_with("#!") { Inline::Script(first.name.clone(), body) } else { Inline::Command(body) }
    } else {
        let mut whole = text.to_owned();
        for heredoc in &run.heredocs {
            whole.push('\n');
            whole.push_str(&heredoc.content);
            whole.push_str(&heredoc.name);
        }
        Inline::Command(whole)
    }
}

fn copy_text(transfer: &Transfer, add: bool) -> String {
    let mut words = vec![if add { "ADD" } else { "COPY" }.to_owned()];
    if transfer.parents {
        words.push("--parents".to_owned());
    }
    for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
        words.extend(value.iter().filter(|value| !value.is_empty()).map(|value| format!("--{flag}={value}")));
    }
    words.extend(transfer.sources.iter().filter_map(|source| match source {
        CopySource::Path(path) => Some(path.clone()),
        CopySource::Inline(_) => None,
    }));
    words.extend(transfer.sources.iter().filter_map(|source| match source {
        CopySource::Inline(heredoc) => Some(format!("<<{}", heredoc.name)),
        CopySource::Path(_) => None,
    }));
    words.push(transfer.destination.clone());
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// An instruction and its pairs: `ENV a=b c=d`.
fn joined(instruction: &str, pairs: &[KeyValue]) -> String {
    let pairs = pairs.iter().map(|pair| format!("{}={}", pair.key, pair.value));
    std::iter::once(instruction.to_owned()).chain(pairs).collect::<Vec<_>>().join(" ")
}

fn healthcheck(check: Healthcheck) -> HealthCheck {
    let time =
        |duration: Duration| (!duration.is_zero()).then(|| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX));
    match check {
        Healthcheck::Disabled => HealthCheck { test: Some(vec!["NONE".to_owned()]), ..HealthCheck::default() },
        Healthcheck::Command { test, interval, timeout, start_period, start_interval, retries } => HealthCheck {
            test: Some(test),
            interval: time(interval),
            timeout: time(timeout),
            start_period: time(start_period),
            start_interval: time(start_interval),
            retries: (retries != 0).then_some(i64::from(retries)),
            ..HealthCheck::default()
        },
    }
}

const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN",
];

/// Whether `text` names a signal: a number above 0, or a name with or without `SIG`, `RTMIN+3` and `RTMAX-2` included.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| {
        rest.is_empty()
            || rest.strip_prefix(sign).and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| (1..=30).contains(&n))
    };
    SIGNALS.contains(&name)
        || name.strip_prefix("RTMIN").is_some_and(|rest| offset(rest, '+'))
        || name.strip_prefix("RTMAX").is_some_and(|rest| offset(rest, '-'))
}
