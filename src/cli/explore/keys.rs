//! What each key does.

use super::state::Focus;
use super::{App, Mode, preview};
use crate::cli::copy_out::{self, Copied, CopyOptions};
use crate::cli::printable;
use crate::diff::is_text;
use crate::union::{Follow, Node, Stack};
use base64::Engine as _;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::io::Write;
use std::path::Path;

/// Takes a key.
pub(super) fn press(app: &mut App<'_>, key: KeyEvent) {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        app.quit = true;
        return;
    }
    match std::mem::replace(&mut app.mode, Mode::Browse) {
        Mode::Browse => browse(app, key.code),
        Mode::Help => {}
        Mode::Filter => filter(app, key.code),
        Mode::Extract { target } => extract(app, key.code, target),
        Mode::Pager { title, lines, top } => pager(app, key.code, title, lines, top),
    }
}

fn browse(app: &mut App<'_>, key: KeyCode) {
    app.message.clear();
    let page = isize::try_from(app.page).unwrap_or(isize::MAX);
    let state = &mut app.state;
    match key {
        KeyCode::Char('q') => app.quit = true,
        KeyCode::Char('?') => app.mode = Mode::Help,
        KeyCode::Tab | KeyCode::BackTab => {
            state.focus = if state.focus == Focus::Tree { Focus::Layers } else { Focus::Tree };
        }
        KeyCode::Up | KeyCode::Char('k') => state.step(-1),
        KeyCode::Down | KeyCode::Char('j') => state.step(1),
        KeyCode::PageUp => state.step(-page),
        KeyCode::PageDown => state.step(page),
        KeyCode::Home | KeyCode::Char('g') => state.step(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => state.step(isize::MAX),
        KeyCode::Char('[') => state.choose_layer(state.layer.saturating_sub(1)),
        KeyCode::Char(']') => state.choose_layer(state.layer + 1),
        KeyCode::Right | KeyCode::Char('l') => state.open(),
        KeyCode::Left | KeyCode::Char('h') => state.close(),
        KeyCode::Char(' ') => state.toggle(),
        KeyCode::Char('z') => state.collapse_all(),
        KeyCode::Char('s') => state.toggle_order(),
        KeyCode::Char('c') => state.toggle_only_changes(),
        KeyCode::Char('/') => app.mode = Mode::Filter,
        KeyCode::Esc => set_filter(app, ""),
        KeyCode::Enter => enter(app),
        KeyCode::Char('v') => view(app, false),
        KeyCode::Char('x') => view(app, true),
        KeyCode::Char('d') => diff(app),
        KeyCode::Char('e') if app.state.selected().is_some() => app.mode = Mode::Extract { target: proposed(app) },
        KeyCode::Char('y') => copy_path(app),
        _ => {}
    }
}

fn set_filter(app: &mut App<'_>, text: &str) {
    text.clone_into(&mut app.filter);
    app.filter_changed = true;
}

fn filter(app: &mut App<'_>, key: KeyCode) {
    let mut text = std::mem::take(&mut app.filter);
    match key {
        KeyCode::Enter => {
            app.filter = text;
            return;
        }
        KeyCode::Esc => return set_filter(app, ""),
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char(character) => text.push(character),
        _ => {}
    }
    app.mode = Mode::Filter;
    set_filter(app, &text);
}

fn pager(app: &mut App<'_>, key: KeyCode, title: String, lines: Vec<String>, top: usize) {
    let page = app.page.max(1);
    let top = match key {
        KeyCode::Char('q') | KeyCode::Esc | KeyCode::Left => return,
        KeyCode::Up | KeyCode::Char('k') => top.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => top + 1,
        KeyCode::PageUp => top.saturating_sub(page),
        KeyCode::PageDown | KeyCode::Char(' ') => top + page,
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => lines.len(),
        _ => top,
    };
    app.mode = Mode::Pager { title, lines, top };
}

fn enter(app: &mut App<'_>) {
    let Some(id) = app.state.selected() else { return };
    if app.state.tree().node(id).is_directory() {
        app.state.toggle();
    } else {
        view(app, false);
    }
}

fn title(app: &App<'_>) -> String {
    app.state.selected().map_or_else(String::new, |id| format!("/{}", printable(&app.state.tree().path(id).to_bytes())))
}

/// What is selected at the chosen layer; what that layer removed, as it was before.
fn selected(app: &App<'_>) -> Option<Node> {
    app.node_at(app.state.layer).or_else(|| app.node_at(app.state.layer.checked_sub(1)?))
}

fn view(app: &mut App<'_>, hex: bool) {
    let Some(node) = selected(app) else {
        "not a file".clone_into(&mut app.message);
        return;
    };
    if let Ok(Some(target)) = preview::link_target(app.stack, &node) {
        app.message = format!("a symlink to {target}");
        return;
    }
    let lines = match preview::read(app.stack, &node) {
        None => return "not a file".clone_into(&mut app.message),
        Some(Err(error)) => return app.message = error.to_string(),
        Some(Ok(bytes)) if hex || !is_text(&bytes) => preview::hex_lines(&bytes),
        Some(Ok(bytes)) => preview::text_lines(&bytes),
    };
    app.mode = Mode::Pager { title: title(app), lines, top: 0 };
}

fn diff(app: &mut App<'_>) {
    let layer = app.state.layer;
    let below = layer.checked_sub(1).and_then(|below| app.node_at(below));
    let (Some(old), Some(new)) = (below, app.node_at(layer)) else {
        "the file is not in both this layer's tree and the one below".clone_into(&mut app.message);
        return;
    };
    let lines = match (preview::read(app.stack, &old), preview::read(app.stack, &new)) {
        (Some(Ok(old)), Some(Ok(new))) if is_text(&old) && is_text(&new) => preview::diff_lines(&old, &new),
        (Some(Ok(old)), Some(Ok(new))) if old == new => vec!["(the content is the same)".to_owned()],
        (Some(Ok(_)), Some(Ok(_))) => vec!["binary files differ".to_owned()],
        _ => return "not a file that can be read".clone_into(&mut app.message),
    };
    app.mode = Mode::Pager { title: format!("{} against the layer below", title(app)), lines, top: 0 };
}

fn proposed(app: &App<'_>) -> String {
    let name = app.state.selected().and_then(|id| app.state.tree().path(id).file_name().map(|name| printable(name)));
    format!("./{}", name.unwrap_or_default())
}

fn extract(app: &mut App<'_>, key: KeyCode, mut target: String) {
    match key {
        KeyCode::Esc => return,
        KeyCode::Backspace => drop(target.pop()),
        KeyCode::Char(character) => target.push(character),
        KeyCode::Enter => {
            let Some(id) = app.state.selected() else { return };
            let path = app.state.tree().path(id).to_bytes();
            app.message = match copy(app, &path, Path::new(&target)) {
                Ok(copied) => format!("{copied} written to {target}"),
                Err(error) => format!("{error:#}"),
            };
            return;
        }
        _ => {}
    }
    app.mode = Mode::Extract { target };
}

/// Copies `path` of the image as of the chosen layer.
fn copy(app: &App<'_>, path: &[u8], target: &Path) -> anyhow::Result<Copied> {
    let layers = app.stack.lowers().iter().take(app.state.layer + 1).cloned().collect();
    let stack = Stack::new(layers, None, Follow::default())?;
    copy_out::copy(&stack, path, target, CopyOptions::default())
}

/// Asks the terminal to take the path into its clipboard (OSC 52), which also works over ssh.
fn copy_path(app: &mut App<'_>) {
    let Some(id) = app.state.selected() else { return };
    let path = format!("/{}", String::from_utf8_lossy(&app.state.tree().path(id).to_bytes()));
    let encoded = base64::engine::general_purpose::STANDARD.encode(&path);
    let mut out = std::io::stdout();
    let sent = write!(out, "\x1b]52;c;{encoded}\x07").and_then(|()| out.flush());
    app.message = match sent {
        Ok(()) => format!("copied {}", printable(path.as_bytes())),
        Err(error) => error.to_string(),
    };
}
