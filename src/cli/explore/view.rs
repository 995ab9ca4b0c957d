//! The explorer drawn.

use super::state::{Focus, Order, State, Status};
use super::{App, Mode};
use crate::cli::{human_size, printable};
use crate::model::FileKind;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, List, ListItem, ListState, Paragraph};

const HELP: &[&str] = &[
    "Tab            layers or tree",
    "arrows, hjkl   move; right opens, left closes",
    "PgUp PgDn      a page; Home and End: first and last",
    "Enter          open a directory, view a file",
    "Space          open or close a directory",
    "[ ]            the layer below or above",
    "/              filter by name or regular expression; Esc clears it",
    "c              only what the layer changed",
    "s              order by size or name",
    "z              close all directories",
    "v  x           view the file as text, as hex",
    "d              how the file differs from the layer below",
    "e              extract the file or directory",
    "y              copy the path to the clipboard",
    "q              quit",
    "",
    "+ added   ~ changed   - removed   ! hidden by a later layer",
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App<'_>) {
    let [body, message, help] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(1), Constraint::Length(1)]).areas(frame.area());
    if let Mode::Pager { title, lines, top } = &mut app.mode {
        let height = usize::from(body.height.saturating_sub(2));
        *top = (*top).min(lines.len().saturating_sub(height));
        pager(frame, body, title, lines, *top);
    } else {
        let left = if body.width < 100 { Constraint::Percentage(36) } else { Constraint::Percentage(30) };
        let [left, right] = Layout::horizontal([left, Constraint::Fill(1)]).areas(body);
        let [list, detail] = Layout::vertical([Constraint::Fill(1), Constraint::Length(8)]).areas(left);
        app.page = usize::from(right.height.saturating_sub(3)).max(1);
        layers(frame, list, app);
        details(frame, detail, app);
        tree(frame, right, app);
    }
    bottom(frame, message, help, app);
    if matches!(app.mode, Mode::Help) {
        help_box(frame);
    }
}

fn pane(title: String, focused: bool) -> Block<'static> {
    let style = if focused { Style::new().add_modifier(Modifier::BOLD) } else { Style::new().fg(Color::DarkGray) };
    Block::bordered().title(title).border_style(style)
}

fn highlight(focused: bool) -> Style {
    if focused {
        Style::new().add_modifier(Modifier::REVERSED)
    } else {
        Style::new().add_modifier(Modifier::UNDERLINED)
    }
}

fn layers(frame: &mut Frame<'_>, area: Rect, app: &App<'_>) {
    let item = |(at, instruction): (usize, &String)| {
        let summary = app.report.layers.get(at).copied().unwrap_or_default();
        ListItem::new(format!("{at:>3} {:>7} {instruction}", human_size(summary.bytes)))
    };
    let items: Vec<ListItem<'_>> = app.instructions.iter().enumerate().map(item).collect();
    let focused = app.state.focus == Focus::Layers;
    let list = List::new(items).block(pane("Layers".to_owned(), focused)).highlight_style(highlight(focused));
    frame.render_stateful_widget(list, area, &mut ListState::default().with_selected(Some(app.state.layer)));
}

fn details(frame: &mut Frame<'_>, area: Rect, app: &App<'_>) {
    let summary = app.report.layers.get(app.state.layer).copied().unwrap_or_default();
    let text = vec![
        Line::from(format!("files   {}", human_size(summary.bytes))),
        Line::from(format!("hidden  {}", human_size(summary.hidden_bytes))),
        Line::from(format!("+{} ~{} -{}", summary.added, summary.changed, summary.removed)),
        Line::from(""),
        Line::from(format!("image   {}", human_size(app.report.total_bytes()))),
        Line::from(format!("efficiency {:.1} %", app.report.efficiency() * 100.0)),
    ];
    frame.render_widget(Paragraph::new(text).block(pane(format!("Layer {}", app.state.layer), false)), area);
}

fn tree(frame: &mut Frame<'_>, area: Rect, app: &App<'_>) {
    let state = &app.state;
    let height = usize::from(area.height.saturating_sub(2)).max(1);
    let top = app.top(height);
    let lines: Vec<Line<'_>> = (top..state.rows().len().min(top + height)).map(|at| row(state, at)).collect();
    let order = if state.order == Order::Size { ", by size" } else { "" };
    let only = if state.only_changes { ", changes only" } else { "" };
    let filter = if app.filter.is_empty() { String::new() } else { format!(", /{}", app.filter) };
    let title = format!("Tree at layer {}{order}{only}{filter}", state.layer);
    frame.render_widget(Paragraph::new(lines).block(pane(title, state.focus == Focus::Tree)), area);
}

fn row(state: &State, at: usize) -> Line<'static> {
    let Some(row) = state.rows().get(at) else { return Line::default() };
    let node = state.tree().node(row.id);
    let status = state.status(row.id);
    let shown = node.visible_at(state.layer).or_else(|| node.versions.last());
    let kind = shown.map_or(FileKind::File, |version| version.kind);
    let wasted = state.wasted(row.id) > 0;
    let name = node.name.as_ref().map_or_else(String::new, |name| printable(name));
    let fold = match (node.children.is_empty(), state.is_expanded(row.id)) {
        (true, _) => ' ',
        (false, true) => '\u{25be}',
        (false, false) => '\u{25b8}',
    };
    let suffix = match kind {
        FileKind::Directory => "/",
        FileKind::Symlink => "@",
        FileKind::Fifo => "|",
        FileKind::Socket => "=",
        FileKind::CharDevice | FileKind::BlockDevice => "%",
        FileKind::File => "",
    };
    let colour = match status {
        Status::Added => Color::Green,
        Status::Changed => Color::Yellow,
        Status::Removed => Color::Red,
        Status::Unchanged if wasted && kind != FileKind::Directory => Color::Magenta,
        Status::Unchanged => Color::Reset,
    };
    let mark = if wasted { '!' } else { ' ' };
    let text = format!(
        "{}{mark}{:>8} {}{fold} {name}{suffix}",
        status.sign(),
        human_size(state.size(row.id)),
        "  ".repeat(row.depth.min(40))
    );
    let style = Style::new().fg(colour);
    let selected = at == state.cursor;
    Line::from(Span::styled(text, if selected { style.patch(highlight(state.focus == Focus::Tree)) } else { style }))
}

fn pager(frame: &mut Frame<'_>, area: Rect, title: &str, lines: &[String], top: usize) {
    let height = usize::from(area.height.saturating_sub(2));
    let shown: Vec<Line<'_>> = lines.iter().skip(top).take(height).map(|line| Line::from(line.as_str())).collect();
    let title = format!("{title}  {}/{}", (top + height).min(lines.len()), lines.len());
    frame.render_widget(Paragraph::new(shown).block(pane(title, true)), area);
}

fn bottom(frame: &mut Frame<'_>, message: Rect, help: Rect, app: &App<'_>) {
    let text = match &app.mode {
        Mode::Filter => format!("filter: {}\u{2588}", app.filter),
        Mode::Extract { target } => format!("extract to: {target}\u{2588}"),
        _ if !app.message.is_empty() => app.message.clone(),
        _ => app
            .state
            .selected()
            .map_or_else(String::new, |id| format!("/{}", printable(&app.state.tree().path(id).to_bytes()))),
    };
    frame.render_widget(Paragraph::new(text), message);
    let keys = match &app.mode {
        Mode::Pager { .. } => "q back  arrows PgUp PgDn move",
        Mode::Filter | Mode::Extract { .. } => "Enter done  Esc cancel",
        _ => "? help  Tab pane  / filter  c changes  s size  v view  d diff  e extract  q quit",
    };
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), help);
}

fn help_box(frame: &mut Frame<'_>) {
    let area = frame.area();
    let width = 72.min(area.width);
    let height = (HELP.len() as u16 + 2).min(area.height);
    let area = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(pane("Keys".to_owned(), true)), area);
}
