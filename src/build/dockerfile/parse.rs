//! The whole file: stages, global arguments, triggers.

use super::arguments::{split_blanks, split_first};
use super::flags::{Fault, Flags, Takes, extract};
use super::heredoc::{self, Heredoc};
use super::instruction::{Command, Instruction, Stage};
use super::lines::{Lines, LogicalLine};
use super::source::{Diagnostic, Source};
use super::typed::{self, Parts};
use std::sync::Arc;

/// A parsed Dockerfile.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// The text.
    pub source: Arc<Source>,
    /// The escape character.
    pub escape: char,
    /// The frontend named by `# syntax=`; there is only this one.
    pub syntax: Option<String>,
    /// What `# check=` says; there are no checks to configure.
    pub check: Option<String>,
    /// The ARG instructions before the first FROM.
    pub global_arguments: Vec<Instruction>,
    /// The stages in order, at least one.
    pub stages: Vec<Stage>,
    /// What is allowed but unwise.
    pub warnings: Vec<Diagnostic>,
}

/// Parses a Dockerfile.
pub fn parse(source: &Arc<Source>) -> Result<Dockerfile, Diagnostic> {
    let mut lines = Lines::new(source);
    let mut global_arguments = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    while let Some((instruction, stage)) = next(source, &mut lines)? {
        match (stage, stages.last_mut()) {
            (Some(from), _) => stages.push(Stage {
                base: from.base,
                name: from.name,
                platform: from.platform,
                from: instruction,
                instructions: Vec::new(),
            }),
            (None, Some(stage)) => stage.instructions.push(instruction),
            (None, None) if matches!(instruction.command, Command::Arg(_)) => global_arguments.push(instruction),
            (None, None) => {
                return Err(instruction
                    .diagnostic("no build stage in current context: only ARG may stand before the first FROM"));
            }
        }
    }
    let directives = lines.directives().clone();
    if stages.is_empty() {
        let message = if global_arguments.is_empty() {
            "file with no instructions"
        } else {
            "dockerfile contains no stages to build"
        };
        return Err(source.diagnostic(super::Span::default(), message));
    }
    Ok(Dockerfile {
        source: Arc::clone(source),
        escape: directives.escape,
        syntax: directives.syntax,
        check: directives.check,
        global_arguments,
        stages,
        warnings: std::mem::take(&mut lines.warnings),
    })
}

/// Parses a trigger that a base image brings: one instruction. Messages about it point into the trigger's text.
pub fn parse_trigger(text: &str) -> Result<Instruction, Diagnostic> {
    let source = Source::new("ONBUILD trigger", text);
    let mut lines = Lines::new(&source);
    let fault = |message: &str| source.diagnostic(super::Span::default(), message);
    let Some((mut instruction, stage)) = next(&source, &mut lines)? else {
        return Err(fault("onbuild trigger should be a single expression"));
    };
    if stage.is_some() || matches!(instruction.command, Command::Onbuild(_) | Command::Maintainer(_)) {
        return Err(fault("this instruction isn't allowed as an ONBUILD trigger"));
    }
    if next(&source, &mut lines)?.is_some() {
        return Err(fault("onbuild trigger should be a single expression"));
    }
    instruction.triggered = true;
    Ok(instruction)
}

/// The parts of a FROM.
struct From {
    base: String,
    name: Option<String>,
    platform: Option<String>,
}

fn next(source: &Arc<Source>, lines: &mut Lines<'_>) -> Result<Option<(Instruction, Option<From>)>, Diagnostic> {
    let Some(mut line) = lines.next_logical()? else { return Ok(None) };
    let escape = lines.directives().escape;
    let heredocs = read_heredocs(source, lines, &mut line)?;
    let text = line.text.trim();
    let lead = line.text.len() - line.text.trim_start().len();
    let (command, from) = command(text, &heredocs, escape).map_err(|fault| {
        let range = fault.range.unwrap_or(0..text.len());
        let span = line.span(range.start + lead..range.end + lead);
        source.diagnostic(span, fault.message).suggest(fault.suggestion)
    })?;
    let original = text.to_owned();
    let span = line.whole();
    let source = Arc::clone(source);
    Ok(Some((Instruction { command, original, span, triggered: false, line, source }, from)))
}

/// Reads the bodies of the heredocs that a line opens.
fn read_heredocs(
    source: &Arc<Source>,
    lines: &mut Lines<'_>,
    line: &mut LogicalLine,
) -> Result<Vec<Heredoc>, Diagnostic> {
    let text = line.text.clone();
    let (mut name, mut rest) = split_first(text.trim());
    if name.eq_ignore_ascii_case("ONBUILD") {
        (name, rest) = split_first(rest);
    }
    let (_, start) = extract(rest, 0);
    if !typed::takes_heredocs(&name.to_uppercase(), rest.get(start..).unwrap_or("")) {
        return Ok(Vec::new());
    }
    let mut heredocs =
        heredoc::in_line(&text).map_err(|error| source.diagnostic(line.whole(), format!("bad heredoc: {error}")))?;
    for heredoc in &mut heredocs {
        let opened = line.whole();
        heredoc.content = lines
            .heredoc_body(&heredoc.name, heredoc.strip_tabs, line)
            .ok_or_else(|| source.diagnostic(opened, format!("unterminated heredoc: {:?} is missing", heredoc.name)))?;
    }
    Ok(heredocs)
}

fn command(text: &str, heredocs: &[Heredoc], escape: char) -> Result<(Command, Option<From>), Fault> {
    let (name, rest) = split_first(text);
    let upper = name.to_uppercase();
    let from = text.len() - rest.len();
    let (flags, start) = extract(text, from);
    let arguments = text.get(start..).unwrap_or("").trim();
    let parts = Parts { name: &upper, flags: &flags, arguments, heredocs, escape };
    match upper.as_str() {
        "FROM" => from_parts(&parts).map(|from| (Command::From, Some(from))),
        "ONBUILD" => onbuild(text, &parts).map(|command| (command, None)),
        _ => match typed::command(&parts) {
            // An unknown name is marked, not the whole line.
            Err(fault) if fault.message.starts_with("unknown instruction") => Err(fault.at(0..name.len().max(1))),
            other => other.map(|command| (command, None)),
        },
    }
}

fn from_parts(parts: &Parts<'_>) -> Result<From, Fault> {
    let flags = Flags::check(parts.flags, &[("platform", Takes::Text)])?;
    let words = split_blanks(parts.arguments);
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (base, Some(name)),
        _ => return Err(Fault::new("FROM requires either one or three arguments")),
    };
    let name = name.map(|name| stage_name(name)).transpose()?;
    Ok(From { base: base.clone(), name, platform: flags.text("platform") })
}

fn stage_name(name: &str) -> Result<String, Fault> {
    let lower = name.to_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if lower.starts_with(|first: char| first.is_ascii_lowercase()) && lower.chars().all(allowed) {
        return Ok(lower);
    }
    Err(Fault::new(format!(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    )))
}

/// ONBUILD keeps its instruction as text; it is parsed now only to find mistakes where they were made.
fn onbuild(text: &str, parts: &Parts<'_>) -> Result<Command, Fault> {
    Flags::check(parts.flags, &[])?;
    let (inner, _) = split_first(parts.arguments);
    match inner.to_uppercase().as_str() {
        "" => return Err(Fault::new("ONBUILD requires at least one argument")),
        "ONBUILD" => return Err(Fault::new("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        name @ ("FROM" | "MAINTAINER") => {
            return Err(Fault::new(format!("{name} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    let offset = text.len() - parts.arguments.len();
    command(parts.arguments, parts.heredocs, parts.escape).map_err(|mut fault| {
        fault.range = fault.range.map(|range| range.start + offset..range.end + offset);
        fault
    })?;
    let mut expression = parts.arguments.to_owned();
    for heredoc in parts.heredocs {
        expression.push('\n');
        expression.push_str(&heredoc.content);
        expression.push_str(&heredoc.name);
    }
    Ok(Command::Onbuild(expression))
}
