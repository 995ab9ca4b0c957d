//! What `build` shows while it runs: numbered steps, as `docker build --progress=plain` does.

use crate::build::execute::{Event, Reporter};
use crate::model::harmless;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines on standard error.
#[derive(Debug)]
pub(super) struct Plain {
    silent: bool,
    /// The step that was told of last: another one begins after an empty line.
    last: Mutex<usize>,
}

impl Plain {
    /// Lines, or nothing but warnings when `silent`.
    pub(super) fn new(silent: bool) -> Self {
        Self { silent, last: Mutex::new(0) }
    }

    fn line(&self, step: usize, text: &[u8]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::with_capacity(text.len() + 8);
        if *last != step && *last != 0 {
            bytes.push(b'\n');
        }
        *last = step;
        bytes.extend_from_slice(format!("#{step} ").as_bytes());
        bytes.extend_from_slice(text);
        bytes.push(b'\n');
        // A build goes on when nobody listens.
        let _ = std::io::stderr().lock().write_all(&bytes);
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

impl Reporter for Plain {
    fn report(&self, step: usize, event: Event<'_>) {
        if self.silent {
            return;
        }
        match event {
            Event::Started(title) => self.line(step, super::printable(title.as_bytes()).as_bytes()),
            Event::Cached => self.line(step, b"CACHED"),
            Event::Output { line, after } => {
                let mut text = format!("{:.3} ", after.as_secs_f64()).into_bytes();
                text.extend_from_slice(line);
                self.line(step, &text);
            }
            Event::Done(elapsed) => self.line(step, format!("DONE {}", seconds(elapsed)).as_bytes()),
            Event::Failed(message) => {
                self.line(step, format!("ERROR: {}", harmless(&super::error::in_words(message))).as_bytes());
            }
        }
    }

    fn warn(&self, message: &str) {
        // A place in a Dockerfile is shown below the message.
        let message: Vec<String> = message.split('\n').map(harmless).collect();
        // A build goes on when nobody listens.
        let _ = std::io::stderr().lock().write_all(format!("warning: {}\n", message.join("\n")).as_bytes());
    }
}
