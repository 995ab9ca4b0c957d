//! The text of a Dockerfile, places in it, and messages that point at them.

use std::fmt;
use std::sync::Arc;

/// A named text, split into lines for messages.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

/// A range of bytes in a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

/// A mistake in a Dockerfile: what is wrong, where, and what may have been meant.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Diagnostic {
    /// What is wrong; lower case, one line.
    pub message: String,
    /// What may have been meant instead.
    pub suggestion: Option<String>,
    source_text: Arc<Source>,
    span: Span,
}

impl Source {
    /// Wraps `text`, which messages call `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { name: name.into(), text, line_starts })
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of the byte at `offset`, both counted from 1, the column in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|&start| start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or("");
        (line, before.chars().count() + 1)
    }

    /// The text of line `line` (from 1) without its end.
    pub fn line(&self, line: usize) -> &str {
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or("").trim_end_matches(['\n', '\r'])
    }

    /// A message about `span`.
    pub fn diagnostic(self: &Arc<Self>, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), suggestion: None, source_text: Arc::clone(self), span }
    }
}

impl Diagnostic {
    /// The same message with a hint at what may have been meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// Line and column the message points at, from 1.
    pub fn position(&self) -> (usize, usize) {
        self.source_text.position(self.span.start)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        write!(f, "{}:{line}:{column}: {}", self.source_text.name, self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, " (did you mean {suggestion}?)")?;
        }
        let text = self.source_text.line(line);
        let shown = text.replace('\t', " ");
        let rest = shown.chars().count().saturating_sub(column - 1);
        let wanted =
            self.source_text.text.get(self.span.start..self.span.end).map_or(1, |marked| marked.chars().count());
        let width = wanted.clamp(1, rest.max(1));
        let gutter = line.to_string().len();
        write!(f, "\n{line} | {shown}\n{:gutter$} | {:indent$}{}", "", "", "^".repeat(width), indent = column - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_the_line_and_a_caret() {
        let source = Source::new("Dockerfile", "FROM a\nRUN\t--x y\n");
        let message = source.diagnostic(Span { start: 11, end: 14 }, "unknown flag: --x").suggest(Some("--mount"));
        assert_eq!(
            message.to_string(),
            "Dockerfile:2:5: unknown flag: --x (did you mean --mount?)\n2 | RUN --x y\n  |     ^^^"
        );
    }

    #[test]
    fn a_caret_stays_within_its_line() {
        let source = Source::new("D", "é b\nc");
        let message = source.diagnostic(Span { start: 3, end: 6 }, "m");
        assert_eq!(message.to_string(), "D:1:3: m\n1 | é b\n  |   ^");
        assert_eq!(source.position(100), (2, 2));
    }
}
