//! `layerfs explore IMAGE`: an image on the terminal, layer by layer.
//!
//! [`state`] is what is shown and how keys change it, [`view`] draws it, [`preview`] turns a file into lines, [`keys`] says what
//! each key does; this file opens the image and runs the loop.

mod keys;
mod preview;
mod state;
mod view;

use super::image_argument::open_image;
use super::{Global, WithHint, printable};
use crate::analyze::{ImageTree, WasteReport};
use crate::store::ImageRecord;
use crate::sys::{SignalSet, is_ignored};
use crate::union::{Follow, Node, Stack};
use anyhow::Context;
use parking_lot::Mutex;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use state::State;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Signals that end a program, sent from outside: keys send none while the explorer has the terminal.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// How long a signal waits for a frame to be drawn. A terminal that has stopped takes none.
const FRAME_PATIENCE: Duration = Duration::from_secs(1);

/// Whether the explorer has the terminal. Held while something is drawn, for nothing may be drawn after it was given back.
type Screen = Arc<Mutex<bool>>;

/// Browse an image layer by layer
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a reference, an ID, or oci:DIR[:TAG], docker-archive:FILE, oci-archive:FILE
    #[arg(add = clap_complete::ArgValueCompleter::new(crate::cli::complete::images))]
    image: String,
}

/// What is on the screen besides the two panes.
#[derive(Debug)]
enum Mode {
    Browse,
    Help,
    /// The filter is being typed.
    Filter,
    /// The place to extract to is being typed.
    Extract {
        target: String,
    },
    Pager {
        title: String,
        lines: Vec<String>,
        top: usize,
    },
}

/// Everything the explorer knows.
#[derive(Debug)]
struct App<'a> {
    stack: &'a Stack,
    state: State,
    report: WasteReport,
    instructions: Vec<String>,
    mode: Mode,
    filter: String,
    /// Whether what is shown does not follow `filter` yet.
    filter_changed: bool,
    message: String,
    /// Lines of a page of the tree.
    page: usize,
    quit: bool,
}

impl App<'_> {
    /// The first line of the tree that is shown when `height` lines are: the cursor stays in the middle.
    fn top(&self, height: usize) -> usize {
        self.state.cursor.saturating_sub(height / 2).min(self.state.rows().len().saturating_sub(height))
    }

    /// Makes what is shown follow the filter.
    fn follow_filter(&mut self) {
        if std::mem::take(&mut self.filter_changed) {
            let filter = self.filter.clone();
            self.state.set_filter(&filter);
        }
    }

    /// What the selected path is in the image of the layers up to `layer`.
    fn node_at(&self, layer: usize) -> Option<Node> {
        let id = self.state.selected()?;
        let version = self.state.tree().node(id).visible_at(layer)?;
        let layer = crate::union::LayerIndex::lower(version.layer)?;
        let source = crate::union::Source { layer, ino: version.ino };
        Some(Node::Other { source, kind: version.kind, data: None }).filter(|_| !version.kind.is_directory())
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    if !std::io::stdout().is_terminal() {
        return Err(anyhow::anyhow!("explore needs a terminal"))
            .hint("layerfs analyze, layerfs ls and layerfs cat write to pipes and files");
    }
    let screen = Screen::default();
    // Before there is any other thread.
    end_on_signal(Arc::clone(&screen))?;
    let store = global.store()?;
    let image = open_image(&store, &args.image, "layerfs explore")?;
    let stack = Stack::new(image.layers.clone(), None, Follow::default())?;
    let (tree, report) = ImageTree::of(&stack)?;
    let app = App {
        stack: &stack,
        state: State::new(tree),
        report,
        instructions: instructions(&image.record),
        mode: Mode::Browse,
        filter: String::new(),
        filter_changed: false,
        message: String::new(),
        page: 10,
        quit: false,
    };
    let mut terminal = {
        let mut taken = screen.lock();
        *taken = true;
        ratatui::try_init().context("the terminal cannot be used")?
    };
    let ended = browse(&mut terminal, app, &screen);
    let mut taken = screen.lock();
    ratatui::restore();
    *taken = false;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Gives the terminal back at the first signal that asks for an end, and ends the program as that signal would; at a second one at once:
/// a terminal that has stopped takes nothing back.
fn end_on_signal(screen: Screen) -> anyhow::Result<()> {
    let wanted: Vec<i32> = ENDING.into_iter().filter(|signal| !is_ignored(*signal)).collect();
    let signals = SignalSet::block(&wanted)?;
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        let second = move || signals.wait().map(|signal| std::process::exit(128 + signal));
        // Without it there is only no second chance.
        let _ = thread("second signal").spawn(second);
        let taken = screen.try_lock_for(FRAME_PATIENCE);
        if taken.as_ref().is_none_or(|taken| **taken) {
            ratatui::restore();
            // Nobody is left to tell when the terminal itself has gone.
            let _ = ratatui::crossterm::execute!(std::io::stdout(), Show);
        }
        std::process::exit(128 + signal);
    };
    thread("signals").spawn(wait)?;
    Ok(())
}

/// What made each layer, bottom layer first, as `layerfs history` tells it.
pub(super) fn instructions(record: &ImageRecord) -> Vec<String> {
    let steps = record.config.history.iter().filter(|step| !step.empty_layer);
    let mut told: Vec<String> =
        steps.map(|step| printable(step.created_by.as_deref().unwrap_or_default().as_bytes())).collect();
    told.resize(record.layers.len(), String::new());
    told
}

fn browse(terminal: &mut ratatui::DefaultTerminal, mut app: App<'_>, screen: &Screen) -> anyhow::Result<()> {
    while !app.quit {
        // Someone types faster than large trees are filtered: what is typed already counts before the next look.
        if !event::poll(Duration::ZERO).context("the terminal cannot be read")? {
            app.follow_filter();
            let _taken = screen.lock();
            terminal.draw(|frame| view::draw(frame, &mut app)).context("the terminal cannot be drawn on")?;
        }
        match event::read().context("the terminal cannot be read")? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                // Keys behind a filter mean what it shows, though nobody may have seen that yet.
                if !matches!(app.mode, Mode::Filter) {
                    app.follow_filter();
                }
                keys::press(&mut app, key);
            }
            _ => {}
        }
    }
    Ok(())
}
