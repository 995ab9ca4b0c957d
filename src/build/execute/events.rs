//! What there is to tell of a build while it runs.

use std::time::Duration;

/// Something that happened to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// It began.
    Started(&'a str),
    /// Its result was there already.
    Cached,
    /// Its command wrote a line, to standard error or not.
    Output {
        /// The line, without its end.
        line: &'a [u8],
        /// How long after the start.
        after: Duration,
    },
    /// It is done.
    Done(Duration),
    /// It failed.
    Failed(&'a str),
}

/// Whom a build tells what it does, from several threads at once. Steps are numbered from 1.
pub trait Reporter: std::fmt::Debug + Sync {
    /// Takes note of an event.
    fn report(&self, step: usize, event: Event<'_>);

    /// Takes note of something unwise.
    fn warn(&self, message: &str);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Reporter for Quiet {
    fn report(&self, _step: usize, _event: Event<'_>) {}

    fn warn(&self, _message: &str) {}
}
