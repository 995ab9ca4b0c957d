//! What `pull` and `push` show while they run: docker's lines, or bars on a terminal.

use super::registry_options::told;
use crate::oci::{Digest, Reference};
use crate::registry::Error;
use crate::registry::http::Cancel;
use crate::registry::pull::{LayerEvent, Observer};
use crate::sys::SignalSet;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The exit code of a program that a signal has ended, as shells have it.
const SIGNALLED: u8 = 128;

/// Runs a transfer. The first signal that asks for its end cancels it, so that what it staged is cleared away; a second one ends the
/// program at once. The exit code then is the signal's.
pub(super) fn until_signalled<T>(
    cancel: &Cancel,
    transfer: impl FnOnce() -> Result<T, Error>,
) -> anyhow::Result<Result<T, ExitCode>> {
    let signals = SignalSet::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    let received = Arc::new(AtomicI32::new(0));
    let (flag, noted) = (cancel.clone(), Arc::clone(&received));
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            if noted.swap(signal, Ordering::Relaxed) != 0 {
                std::process::exit(i32::from(SIGNALLED) + signal);
            }
            flag.cancel();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    let outcome = transfer();
    let signal = received.load(Ordering::Relaxed);
    if outcome.is_err() && signal != 0 {
        super::error::note("layerfs: interrupted");
        return Ok(Err(ExitCode::from(SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(0)))));
    }
    told(outcome).map(Ok)
}

/// Which way the data goes; it decides the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the store.
    Pull,
    /// To the registry.
    Push,
}

/// Shows a transfer. Lines go to standard output as docker's do; bars to standard error.
#[derive(Debug)]
pub(super) struct Display {
    direction: Direction,
    style: Style,
    stderr: bool,
    layers: Mutex<Layers>,
}

#[derive(Debug)]
enum Style {
    Nothing,
    Lines,
    Bars(MultiProgress),
}

#[derive(Debug, Default)]
struct Layers {
    bars: HashMap<Digest, ProgressBar>,
    /// What became of each layer, in the order they ended.
    ended: Vec<(Digest, String)>,
}

impl Display {
    /// A display for a command; nothing shows when `silent`.
    pub(super) fn new(direction: Direction, silent: bool) -> Self {
        let style = match silent {
            true => Style::Nothing,
            false if std::io::stderr().is_terminal() => {
                Style::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
            }
            false => Style::Lines,
        };
        Self { direction, style, stderr: false, layers: Mutex::default() }
    }

    /// The same with its lines on standard error: for verbs whose data are something else.
    pub(super) fn on_stderr(mut self) -> Self {
        self.stderr = true;
        self
    }

    fn print(&self, text: &str) {
        // A reader that has gone away does not end a transfer.
        let _ = if self.stderr { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
    }

    /// A line of its own.
    pub(super) fn line(&self, text: &str) {
        if !matches!(self.style, Style::Nothing) {
            self.print(text);
        }
    }

    /// Leaves the line of the last bar, so that what follows begins on its own.
    pub(super) fn finish(&self) {
        if matches!(self.style, Style::Bars(_)) && !self.lock().bars.is_empty() {
            super::error::note("");
        }
    }

    /// What became of each layer.
    pub(super) fn outcome(&self) -> Vec<(Digest, String)> {
        self.lock().ended.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The words for an event; none where it is no news.
    fn words(&self, event: &LayerEvent) -> Option<String> {
        let pull = self.direction == Direction::Pull;
        Some(match event {
            LayerEvent::AlreadyExists if pull => "Already exists".to_owned(),
            LayerEvent::AlreadyExists => "Layer already exists".to_owned(),
            LayerEvent::Begins(_) if pull => "Downloading".to_owned(),
            LayerEvent::Begins(_) => "Pushing".to_owned(),
            LayerEvent::Resumes(bytes) => format!("Resuming after {}", indicatif::HumanBytes(*bytes)),
            LayerEvent::Compressing => "Compressing".to_owned(),
            LayerEvent::Mounted(from) => format!("Mounted from {from}"),
            LayerEvent::Complete if pull => "Pull complete".to_owned(),
            LayerEvent::Complete => "Pushed".to_owned(),
            LayerEvent::Restarts => "Retrying".to_owned(),
            LayerEvent::Advanced(_) => return None,
        })
    }

    fn show_bar(&self, bars: &MultiProgress, digest: &Digest, event: &LayerEvent) {
        let mut layers = self.lock();
        let bar = layers.bars.entry(*digest).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0)).with_style(bar_style()).with_prefix(digest.short());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        match event {
            LayerEvent::Begins(size) => bar.set_length(*size),
            LayerEvent::Resumes(bytes) => bar.set_position(*bytes),
            LayerEvent::Advanced(bytes) => bar.inc(*bytes),
            LayerEvent::Restarts => bar.set_position(0),
            LayerEvent::AlreadyExists | LayerEvent::Mounted(_) | LayerEvent::Complete | LayerEvent::Compressing => {}
        }
        let Some(words) = self.words(event) else { return };
        if is_end(event) {
            bar.set_style(end_style());
            bar.finish_with_message(words);
        } else {
            bar.set_message(words);
        }
    }
}

impl Observer for Display {
    fn found(&self, reference: &Reference, _layers: usize) {
        if self.direction == Direction::Pull {
            let name =
                reference.digest().map_or_else(|| reference.tag().unwrap_or("latest").to_owned(), Digest::to_string);
            let path = if reference.domain() == "docker.io" { reference.path().to_owned() } else { reference.name() };
            self.line(&format!("{name}: Pulling from {path}"));
        }
    }

    fn layer(&self, digest: &Digest, event: LayerEvent) {
        match &self.style {
            Style::Bars(bars) => self.show_bar(bars, digest, &event),
            Style::Lines => {
                if let Some(words) = self.words(&event) {
                    self.print(&format!("{}: {words}", digest.short()));
                }
            }
            Style::Nothing => {}
        }
        if is_end(&event) {
            let words = self.words(&event).unwrap_or_default();
            self.lock().ended.push((*digest, words));
        }
    }
}

fn is_end(event: &LayerEvent) -> bool {
    matches!(event, LayerEvent::AlreadyExists | LayerEvent::Mounted(_) | LayerEvent::Complete)
}

fn bar_style() -> ProgressStyle {
    let template = "{prefix}: {msg:<16} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn end_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}: {msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}
