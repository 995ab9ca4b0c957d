//! How a failure is told: one line, then what to do about it.

use crate::model::harmless;
use std::fmt;
use std::io::Write;

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

/// Writes `error` and the hints in its chain, or the advice that goes with its kind, to standard error.
pub(super) fn report(error: &anyhow::Error) {
    // Names in images and on the command line are anybody's: here is the last place before the terminal.
    let mut text = format!("layerfs: {}\n", harmless(&one_line(error)));
    let hints: Vec<String> =
        error.chain().filter_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.clone()).collect();
    let advice = if hints.is_empty() { super::advice::of(error).into_iter().collect() } else { hints };
    for hint in advice {
        text = text + "hint: " + &harmless(&hint) + "\n";
    }
    // Nobody is left to tell when standard error itself is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes a line that is neither data nor an error to standard error.
pub(super) fn note(text: &str) {
    // Nobody is left to tell when standard error itself is closed.
    let _ = writeln!(std::io::stderr(), "{}", harmless(text));
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
    fn a_cause_is_told_once() {
        let failed = || Err::<(), _>(Outer { source: std::io::Error::other("inner") });
        assert_eq!(one_line(&failed().unwrap_err().into()), "outer: inner");
        assert_eq!(one_line(&failed().context("doing").unwrap_err()), "doing: outer: inner");
        assert_eq!(one_line(&failed().hint("try").unwrap_err()), "outer: inner");
    }
}
