//! What verbs print: data on standard output, as text or JSON.

use crate::model::harmless;
use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The shape of what a listing or describing verb prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Writes data to standard output. Someone who has closed it has seen enough: that is no failure.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output cannot be written"),
    }
}

/// What a verb that writes as it goes returns. Someone who has closed standard output has seen enough: that is no failure.
pub(super) fn until_closed(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match result {
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

/// Whether writing to standard output failed because nobody reads it: reading layers and the store fails with errors of their own.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Lets `write` write an archive to standard output. Someone who has closed it has seen enough: that is no failure, whatever error
/// the writer made of it.
pub(super) fn archive(write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut output = Noticing { output: std::io::stdout().lock(), closed: false };
    let result = write(&mut output);
    if output.closed { Ok(()) } else { result }
}

/// Notices that nobody reads any more.
struct Noticing<W> {
    output: W,
    closed: bool,
}

impl<W: Write> Noticing<W> {
    fn notice<T>(&mut self, result: std::io::Result<T>) -> std::io::Result<T> {
        self.closed |= result.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe);
        result
    }
}

impl<W: Write> Write for Noticing<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let result = self.output.write(data);
        self.notice(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.output.flush();
        self.notice(result)
    }
}

/// Writes data to standard output as JSON, indented.
pub(super) fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&(json_text(value)? + "\n"))
}

/// JSON, indented. What a terminal would obey stands only in strings, and JSON's own escapes leave only some of it out: here it gets the
/// escapes that it may have.
pub(super) fn json_text<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let mut escaped = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        for character in line.trim_end_matches('\n').chars() {
            if character.is_ascii() || harmless(character.encode_utf8(&mut [0; 4])).starts_with(character) {
                escaped.push(character);
            } else {
                let mut units = [0; 2];
                let units = character.encode_utf16(&mut units).iter();
                escaped.extend(units.map(|unit| format!("\\u{unit:04x}")));
            }
        }
        escaped.push('\n');
    }
    escaped.truncate(escaped.trim_end_matches('\n').len());
    Ok(escaped)
}

/// How long ago a time of a document was, as Docker writes it (`2 weeks ago`); `N/A` where there is none.
pub(super) fn human_since(created: Option<&str>) -> String {
    match created.and_then(parse_time) {
        Some(time) => {
            let seconds = (OffsetDateTime::now_utc() - time).whole_seconds();
            if seconds < 0 { "in the future".to_owned() } else { human_duration(seconds) + " ago" }
        }
        None => "N/A".to_owned(),
    }
}

/// A time of a document.
pub(super) fn parse_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// A duration in words (docker/go-units, `HumanDuration`).
fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match (seconds, minutes, hours) {
        (..1, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., ..48) => format!("{hours} hours"),
        (.., ..336) => format!("{} days", hours / 24),
        (.., ..1440) => format!("{} weeks", hours / 24 / 7),
        (.., ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_nothing_that_a_terminal_obeys() {
        let value = serde_json::json!({ "a\u{9b}31m": ["\u{1b}[31m", "\u{202e}x", "gr\u{fc}n"] });
        let text = json_text(&value).unwrap();
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']) && text.contains("gr\u{fc}n"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn durations_are_written_as_docker_writes_them() {
        let cases = [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3000, "50 minutes"),
            (3600, "About an hour"),
            (2 * 86_400, "2 days"),
            (20 * 86_400, "2 weeks"),
            (100 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
