//! Progress bars on standard error, for what takes longer than a second, when it is a terminal.

use crate::image::{LayerProgress, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long something may take before it is worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// One bar a layer.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    started: Instant,
    /// Set once the bars are to be seen, or from the start where they never will.
    shown: Arc<AtomicBool>,
}

impl Bars {
    /// Bars, unless `quiet` or nobody would see them.
    pub(super) fn new(quiet: bool) -> Self {
        let hidden = quiet || !std::io::stderr().is_terminal();
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self { all, started: Instant::now(), shown: Arc::new(AtomicBool::new(hidden)) }
    }
}

struct Bar {
    line: ProgressBar,
    all: MultiProgress,
    started: Instant,
    shown: Arc<AtomicBool>,
}

impl Progress for Bars {
    fn layer(&self, label: &str, size: Option<u64>) -> Box<dyn LayerProgress> {
        let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = "{msg:14} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        // The template is a constant; were it wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(label.to_owned());
        let bar = self.all.add(bar);
        Box::new(Bar { line: bar, all: self.all.clone(), started: self.started, shown: Arc::clone(&self.shown) })
    }
}

impl LayerProgress for Bar {
    fn advance(&self, bytes: u64) {
        self.line.inc(bytes);
        let due = self.started.elapsed() > PATIENCE;
        if due && !self.shown.swap(true, Ordering::Relaxed) {
            self.all.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}
