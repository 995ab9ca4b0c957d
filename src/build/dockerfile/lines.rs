//! Physical lines become logical lines: comments, continuation, parser directives, heredoc bodies.

use super::source::{Diagnostic, Source, Span};
use std::ops::Range;
use std::sync::Arc;

/// One instruction's text, joined from its lines, and where each piece of it stands in the file.
#[derive(Debug, Clone)]
pub(super) struct LogicalLine {
    /// The joined text.
    pub(super) text: String,
    /// Pieces in order: offset in `text`, offset in the source.
    pieces: Vec<(usize, usize)>,
    /// Offset after the instruction's last byte in the source, heredocs included.
    pub(super) end: usize,
}

impl LogicalLine {
    /// A line that stands in `text` as it is.
    fn new(text: &str, at: usize) -> Self {
        Self { text: text.to_owned(), pieces: vec![(0, at)], end: at + text.len() }
    }

    fn append(&mut self, text: &str, at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(text);
        self.end = at + text.len();
    }

    /// Where a byte of the joined text stands in the source.
    fn locate(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|&(start, _)| start <= offset).saturating_sub(1);
        self.pieces.get(piece).map_or(0, |&(start, at)| at + (offset - start.min(offset)))
    }

    /// The span in the source of a range of the joined text.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.locate(range.start);
        Span { start, end: self.locate(range.end.saturating_sub(1).max(range.start)) + 1 }
    }

    /// The span of the whole instruction, heredocs included.
    pub(super) fn whole(&self) -> Span {
        Span { start: self.locate(0), end: self.end }
    }
}

/// What the parser directives at the top say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directives {
    /// The escape character, `\` or `` ` ``.
    pub(super) escape: char,
    /// `# syntax=`: accepted; this implementation is the only syntax there is.
    pub(super) syntax: Option<String>,
    /// `# check=`: accepted; there are no checks to configure.
    pub(super) check: Option<String>,
}

/// Reads a source line by line.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    source: &'a Arc<Source>,
    /// Offset of the next unread line.
    position: usize,
    directives: Directives,
    /// Directives are looked for until the first line that is none.
    directives_done: bool,
    escape_set: bool,
    pub(super) warnings: Vec<Diagnostic>,
}

/// A physical line: its offset, its text with and without the line end.
struct Physical<'a> {
    at: usize,
    raw: &'a str,
    text: &'a str,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a Arc<Source>) -> Self {
        let position = if source.text().starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let directives = Directives { escape: '\\', syntax: None, check: None };
        Self { source, position, directives, directives_done: false, escape_set: false, warnings: Vec::new() }
    }

    /// The directives read so far; final once the first instruction was read.
    pub(super) fn directives(&self) -> &Directives {
        &self.directives
    }

    fn physical(&mut self) -> Option<Physical<'a>> {
        let rest = self.source.text().get(self.position..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let raw = rest.get(..length)?;
        let line = Physical { at: self.position, raw, text: raw.trim_end_matches(['\r', '\n']) };
        self.position += length;
        Some(line)
    }

    /// The next instruction's text; none at the end of the file.
    pub(super) fn next_logical(&mut self) -> Result<Option<LogicalLine>, Diagnostic> {
        while let Some(physical) = self.physical() {
            let text = physical.text.trim_start();
            let at = physical.at + (physical.text.len() - text.len());
            self.read_directive(text, at)?;
            if text.starts_with('#') {
                continue;
            }
            let (content, more) = self.strip_continuation(text);
            if !more && content.is_empty() {
                continue;
            }
            let mut line = LogicalLine::new(content, at);
            if more {
                self.read_continuation(&mut line);
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// Appends the lines of a continuation. Comment lines inside are dropped, and so are empty ones, with a warning.
    fn read_continuation(&mut self, line: &mut LogicalLine) {
        while let Some(physical) = self.physical() {
            let trimmed = physical.text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                let span = Span { start: physical.at, end: physical.at + 1 };
                self.warnings.push(self.source.diagnostic(span, "empty continuation line"));
                continue;
            }
            let (content, more) = self.strip_continuation(physical.text);
            line.append(content, physical.at);
            if !more {
                return;
            }
        }
    }

    /// `text` without a trailing continuation character, and whether there was one. One that is itself escaped
    /// (`\\` at the end of the line) is none.
    fn strip_continuation<'t>(&self, text: &'t str) -> (&'t str, bool) {
        let escape = self.directives.escape;
        match text.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(content) if !content.ends_with(escape) => (content, true),
            _ => (text, false),
        }
    }

    /// Directives stand before anything else: before comments, blank lines and instructions; each once.
    fn read_directive(&mut self, text: &str, at: usize) -> Result<(), Diagnostic> {
        if self.directives_done {
            return Ok(());
        }
        let Some((key, value)) = directive(text) else {
            self.directives_done = true;
            return Ok(());
        };
        let slot = match key.as_str() {
            "escape" => return self.set_escape(value, text, at),
            "syntax" => &mut self.directives.syntax,
            "check" => &mut self.directives.check,
            _ => {
                self.directives_done = true;
                return Ok(());
            }
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(self.repeated(&key, text, at));
        }
        Ok(())
    }

    fn set_escape(&mut self, value: &str, text: &str, at: usize) -> Result<(), Diagnostic> {
        if std::mem::replace(&mut self.escape_set, true) {
            return Err(self.repeated("escape", text, at));
        }
        self.directives.escape = match value {
            "\\" => '\\',
            "`" => '`',
            _ => {
                let span = Span { start: at, end: at + text.len() };
                let message = format!("invalid escape character {value:?}: it must be ` or \\");
                return Err(self.source.diagnostic(span, message));
            }
        };
        Ok(())
    }

    fn repeated(&self, key: &str, text: &str, at: usize) -> Diagnostic {
        let span = Span { start: at, end: at + text.len() };
        self.source.diagnostic(span, format!("only one {key} parser directive can be used"))
    }

    /// The body of a heredoc: the lines up to one that is `terminator`, with their line ends; none when it is missing.
    /// With `strip_tabs` the terminator may be indented by tabs; the body stays as it is.
    pub(super) fn heredoc_body(
        &mut self,
        terminator: &str,
        strip_tabs: bool,
        line: &mut LogicalLine,
    ) -> Option<String> {
        let mut body = String::new();
        while let Some(physical) = self.physical() {
            line.end = physical.at + physical.text.len();
            let candidate = if strip_tabs { physical.text.trim_start_matches('\t') } else { physical.text };
            if candidate == terminator {
                return Some(body);
            }
            body.push_str(physical.raw);
        }
        None
    }
}

/// Key (lower case) and value of `# key = value`; none when the line is no directive.
fn directive(text: &str) -> Option<(String, &str)> {
    let (key, value) = text.strip_prefix('#')?.split_once('=')?;
    let key = key.trim();
    let value = value.trim();
    let mut letters = key.chars();
    let well_formed = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric());
    (well_formed && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}
