//! How a failure is told: one line, then what to do about it.

use crate::build::dockerfile::Diagnostic;
use crate::model::harmless;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// An error with a line of advice: the command to run, the option to give.
#[derive(Debug)]
pub struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.chain().nth(1)
    }
}

/// Adds advice to a result.
pub trait WithHint<T> {
    /// The same result; a failure is followed by `hint: …` when it is reported.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| Hinted { error: error.into(), hint: hint.into() }.into())
    }
}

/// Whether a hint goes with the error already.
pub(super) fn is_hinted(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<Hinted>)
}

/// Writes `error` and the hints in its chain, or the advice that goes with its kind, to standard error.
pub(super) fn report(error: &anyhow::Error) {
    let hints: Vec<String> =
        error.chain().filter_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.clone()).collect();
    let advice = if hints.is_empty() { super::advice::of(error).into_iter().collect() } else { hints };
    write(&shown(error), &advice);
}

/// Writes a message and hints to standard error.
pub(super) fn write_report(message: &str, hints: &[String]) {
    write(&harmless(&in_words(message)), hints);
}

/// As [`write_report`], of a message that a terminal may get as it is.
fn write(message: &str, hints: &[String]) {
    // Names in images and on the command line are anybody's: here is the last place before the terminal.
    let mut text = format!("layerfs: {message}\n");
    for hint in hints {
        text = text + "hint: " + &harmless(hint) + "\n";
    }
    // Nobody is left to tell when standard error itself is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Does `deed` for each of several arguments. One that fails is reported and does not keep the others from their turn; the exit code tells.
/// Only that nobody reads standard output any more ends it.
pub(super) fn each<T>(all: &[T], mut deed: impl FnMut(&T) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for argument in all {
        match deed(argument) {
            Err(error) if super::output::is_closed(&error) => return Err(error),
            Err(error) => {
                report(&error);
                code = ExitCode::FAILURE;
            }
            Ok(()) => {}
        }
    }
    Ok(code)
}

/// The error as it may go to a terminal: one line, but for the place in a Dockerfile, which is shown below it.
fn shown(error: &anyhow::Error) -> String {
    let text = in_words(&one_line(error));
    if is_placed(error) {
        return text.split('\n').map(harmless).collect::<Vec<_>>().join("\n");
    }
    harmless(&text)
}

/// Whether the error points into a Dockerfile.
fn is_placed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Diagnostic>() || cause.downcast_ref::<Hinted>().is_some_and(|hinted| is_placed(&hinted.error))
    })
}

/// Writes a line that is neither data nor an error to standard error.
pub(super) fn note(text: &str) {
    // Nobody is left to tell when standard error itself is closed.
    let _ = writeln!(std::io::stderr(), "{}", harmless(&in_words(text)));
}

/// A message without the numbers that std gives to failures of the system beside their words: `No such file or directory (os error 2)`.
pub(super) fn in_words(message: &str) -> String {
    const NUMBER: &str = " (os error ";
    let mut words = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(NUMBER) {
        words.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        if let Some(tail) = after.get(end..).and_then(|tail| tail.strip_prefix(')')).filter(|_| end > 0) {
            rest = tail;
        } else {
            words.push_str(NUMBER);
            rest = after;
        }
    }
    words + rest
}

/// The chain of causes as one line. An error of the library tells of its cause itself, so what has been said is not said again.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line = line + ": " + &cause;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {source}")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn a_place_in_a_dockerfile_is_shown_on_lines_of_its_own() {
        let source = crate::build::dockerfile::Source::new("Dockerfile", "FROM\u{1b} x\n");
        let place = || source.diagnostic(crate::build::dockerfile::Span { start: 0, end: 4 }, "wrong");
        let expected = "Dockerfile:1:1: wrong\n1 | FROM\\u{1b} x\n  | ^^^^";
        assert_eq!(shown(&place().into()), expected);
        assert_eq!(shown(&Err::<(), _>(place()).hint("try").unwrap_err()), expected);
        assert_eq!(shown(&anyhow::anyhow!("two\nlines")), "two\\nlines");
    }

    #[test]
    fn regression_failures_of_the_system_are_told_in_words_only() {
        for (message, words) in [
            ("x: No such file or directory (os error 2)", "x: No such file or directory"),
            ("a (os error 2), b (os error 13): c", "a, b: c"),
            ("a file (os error x) and (os error ", "a file (os error x) and (os error "),
            ("(os error 2)", "(os error 2)"),
            ("", ""),
        ] {
            assert_eq!(in_words(message), words);
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let failed = || Err::<(), _>(Outer { source: std::io::Error::other("inner") });
        assert_eq!(one_line(&failed().unwrap_err().into()), "outer: inner");
        assert_eq!(one_line(&failed().context("doing").unwrap_err()), "doing: outer: inner");
        assert_eq!(one_line(&failed().hint("try").unwrap_err()), "outer: inner");
    }
}
