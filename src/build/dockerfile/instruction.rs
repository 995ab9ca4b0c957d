//! The syntax tree: stages and instructions with their places.

use super::heredoc::Heredoc;
use super::lines::LogicalLine;
use super::mount::Mount;
use super::source::{Diagnostic, Source, Span};
use std::sync::Arc;
use std::time::Duration;

/// A build stage: FROM and what follows it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What it starts from, as written: an image, a stage, `scratch`, maybe with variables.
    pub base: String,
    /// The name after AS, in lower case.
    pub name: Option<String>,
    /// The value of `--platform`, as written.
    pub platform: Option<String>,
    /// The FROM instruction.
    pub from: Instruction,
    /// What follows it.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// What to do.
    pub command: Command,
    /// The text as written, lines joined, without heredoc bodies.
    pub original: String,
    /// Where it stands, heredocs included.
    pub span: Span,
    /// Whether a trigger of the base image brought it here.
    pub triggered: bool,
    pub(super) line: LogicalLine,
    pub(super) source: Arc<Source>,
}

impl Instruction {
    /// A message about the whole instruction.
    pub fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(self.span, message)
    }

    /// A message about the part of the instruction that reads `part`; about all of it when it is not there.
    pub fn diagnostic_at(&self, part: &str, message: impl Into<String>) -> Diagnostic {
        let span = match self.line.text.find(part) {
            Some(at) if !part.is_empty() => self.line.span(at..at + part.len()),
            _ => self.span,
        };
        self.source.diagnostic(span, message)
    }

    /// The line the instruction starts at, from 1.
    pub fn line_number(&self) -> usize {
        self.source.position(self.span.start).0
    }
}

/// What an instruction does. Texts are as written until [`Command::expanded`] replaced their variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// ADD.
    Add(Transfer),
    /// ARG: names with their defaults.
    Arg(Vec<(String, Option<String>)>),
    /// CMD.
    Cmd(CommandLine),
    /// COPY.
    Copy(Transfer),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ENV.
    Env(Vec<KeyValue>),
    /// EXPOSE.
    Expose(Vec<String>),
    /// FROM; its parts are in [`Stage`].
    From,
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// LABEL.
    Label(Vec<KeyValue>),
    /// MAINTAINER.
    Maintainer(String),
    /// ONBUILD: the instruction as the image's config keeps it.
    Onbuild(String),
    /// RUN.
    Run(Run),
    /// SHELL.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    StopSignal(String),
    /// USER.
    User(String),
    /// VOLUME.
    Volume(Vec<String>),
    /// WORKDIR.
    Workdir(String),
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A command in shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// One text for the shell.
    Shell(String),
    /// The arguments themselves.
    Exec(Vec<String>),
}

/// The arguments of RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// Its heredocs.
    pub heredocs: Vec<Heredoc>,
    /// `--mount` as written, one text each.
    pub mount_texts: Vec<String>,
    /// The mounts, complete once expanded; before that only `type` and `from` can be relied on.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Option<Network>,
    /// `--security=insecure`.
    pub insecure: bool,
}

/// The network of a RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// What the build uses.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// The arguments of COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// What to copy, in order.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: String,
    /// `--from`: stage or image.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--unpack`, when given.
    pub unpack: Option<bool>,
}

/// A source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path with wildcards, or a URL.
    Path(String),
    /// A heredoc: a file of this name and content.
    Inline(Heredoc),
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// NONE.
    Disabled,
    /// CMD.
    Command {
        /// The test as the config writes it: `CMD` or `CMD-SHELL` first.
        test: Vec<String>,
        /// `--interval`; zero when not given.
        interval: Duration,
        /// `--timeout`.
        timeout: Duration,
        /// `--start-period`.
        start_period: Duration,
        /// `--start-interval`.
        start_interval: Duration,
        /// `--retries`.
        retries: u32,
    },
}
