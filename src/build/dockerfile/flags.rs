//! Flags between an instruction's name and its arguments: `--name` and `--name=value`.

use super::suggest::nearest;
use std::ops::Range;

/// A mistake at a place of the joined line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
    /// Bytes of the joined line; the whole instruction when none.
    pub(super) range: Option<Range<usize>>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None, range: None }
    }

    pub(super) fn at(mut self, range: Range<usize>) -> Self {
        self.range = Some(range);
        self
    }

    pub(super) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// A flag as written, quotes and escapes removed.
#[derive(Debug, Clone)]
pub(super) struct Written {
    text: String,
    range: Range<usize>,
}

/// Reads the flags at the start of `line[from..]`; returns them and the offset of the first argument. `--` ends them.
pub(super) fn extract(line: &str, from: usize) -> (Vec<Written>, usize) {
    let mut flags = Vec::new();
    let mut position = from;
    loop {
        let rest = line.get(position..).unwrap_or("");
        let start = position + (rest.len() - rest.trim_start().len());
        if !line.get(start..).is_some_and(|rest| rest.starts_with("--")) {
            return (flags, start);
        }
        let (text, end) = word(line, start);
        position = end;
        if text == "--" {
            return (flags, end);
        }
        flags.push(Written { text, range: start..end });
    }
}

/// The word at `start` without quotes and escapes, and where it ends.
fn word(line: &str, start: usize) -> (String, usize) {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = line.get(start..).unwrap_or("").char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (None, _) if character.is_whitespace() => return (text, start + at),
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (_, '\\') => text.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => text.push(character),
        }
    }
    (text, line.len())
}

/// What kind of value a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `true` or `false`.
    Bool,
    /// One value.
    Text,
    /// A value each time it is given.
    List,
}

/// The flags of one instruction, checked against those it knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Flags {
    values: Vec<(String, String, Range<usize>)>,
}

impl Flags {
    /// Checks `written` against `known`: names, values, repetition.
    pub(super) fn check(written: &[Written], known: &[(&str, Takes)]) -> Result<Self, Fault> {
        let mut flags = Self::default();
        for flag in written {
            let range = flag.range.clone();
            let fault = |message: String| Fault::new(message).at(range.clone());
            let body = flag.text.strip_prefix("--").unwrap_or(&flag.text);
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            let Some((_, takes)) = known.iter().find(|(known, _)| *known == name) else {
                let suggestion = nearest(name, known.iter().map(|(known, _)| *known)).map(|near| format!("--{near}"));
                return Err(fault(format!("unknown flag: --{name}")).suggest(suggestion));
            };
            if *takes != Takes::List && flags.values.iter().any(|(seen, ..)| seen == name) {
                return Err(fault(format!("duplicate flag specified: --{name}")));
            }
            let value = match (takes, value) {
                (Takes::Bool, None) => "true".to_owned(),
                (Takes::Bool, Some(value)) if ["true", "false"].contains(&value.to_lowercase().as_str()) => {
                    value.to_lowercase()
                }
                (Takes::Bool, Some(value)) if !value.is_empty() => {
                    return Err(fault(format!("expecting boolean value for flag --{name}, not: {value}")));
                }
                (Takes::Text | Takes::List, Some(value)) => value.to_owned(),
                _ => return Err(fault(format!("missing a value on flag: --{name}"))),
            };
            flags.values.push((name.to_owned(), value, range));
        }
        Ok(flags)
    }

    /// The value of a flag that was given.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.values.iter().find(|(seen, ..)| seen == name).map(|(_, value, _)| value.clone())
    }

    /// The value of a boolean flag; none when it was not given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }

    /// Every value of a repeatable flag.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(seen, ..)| seen == name).map(|(_, value, _)| value.clone()).collect()
    }

    /// Where a flag stands in the joined line.
    pub(super) fn range(&self, name: &str) -> Option<Range<usize>> {
        self.values.iter().find(|(seen, ..)| seen == name).map(|(_, _, range)| range.clone())
    }
}
