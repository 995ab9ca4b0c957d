//! A report as Markdown tables and as a plot, for README.md and docs/performance.md.

use crate::harness::OURS;
use crate::peers::{FUSE1, FUSE2, KERNEL, OURS_DIRECTORIES};
use serde_json::Value;
use std::fmt::Write as _;

/// Peers that have a column of their own where they are measured: they show what layerfs shows. All others do one thing or another, and are
/// told of together.
const COLUMNS: [&str; 4] = [KERNEL, FUSE2, FUSE1, OURS_DIRECTORIES];

/// The report as Markdown: a table for each question, and below them what it was measured on.
pub(crate) fn markdown(report: &Value) -> String {
    let mut text = String::new();
    let mut questions: Vec<&str> = rows(report).iter().filter_map(|row| row["question"].as_str()).collect();
    questions.dedup();
    for question in questions {
        write!(text, "## {question}\n\n{}\n", table(report, question)).expect("write to a string");
    }
    text + &machine(report)
}

/// `text` with the tables of the report between its lines `<!-- bench QUESTION: begin -->` and `<!-- bench QUESTION: end -->`, and what it
/// was measured on where the question is `machine`. What the report does not have stays as it is.
pub(crate) fn insert(text: &str, report: &Value) -> String {
    let mut result = String::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        result.push_str(line);
        let question = line.trim().strip_prefix("<!-- bench ").and_then(|rest| rest.strip_suffix(": begin -->"));
        let Some(question) = question else { continue };
        let end = format!("<!-- bench {question}: end -->");
        let kept: String = lines.by_ref().take_while(|line| line.trim() != end).collect();
        let new = if question == "machine" { machine(report) } else { table(report, question) };
        let is_known = question == "machine" || rows(report).iter().any(|row| row["question"] == question);
        writeln!(result, "{}{end}", if is_known { new } else { kept }).expect("write to a string");
    }
    result
}

/// A question's rows. Where peers have columns, their figures are ratios; a goal that was missed is bold.
fn table(report: &Value, question: &str) -> String {
    let rows: Vec<&Value> = rows(report).iter().filter(|row| row["question"] == question).collect();
    let measured = |name: &&&str| rows.iter().any(|row| peers(row).iter().any(|peer| peer.name == **name));
    let columns: Vec<&str> = COLUMNS.iter().filter(measured).copied().collect();
    let are_there_others = rows.iter().any(|row| others(row).next().is_some());
    let mut notes: Vec<&str> =
        rows.iter().filter_map(|row| row["notes"].as_object()).flatten().map(|(name, _)| name.as_str()).collect();
    notes.sort_unstable();
    notes.dedup();
    let mut header = vec!["workload".to_owned(), OURS.to_owned()];
    header.extend(columns.iter().map(|name| {
        let has_goal = rows.iter().any(|row| target(row, name).is_some());
        format!("× {name}{}", if has_goal { " (goal)" } else { "" })
    }));
    header.extend(are_there_others.then(|| "peers, × (goal)".to_owned()));
    header.extend(notes.iter().map(|name| (*name).to_owned()));
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        let peers = peers(row);
        let Some(ours) = peers.iter().find(|peer| peer.name == OURS) else { continue };
        let workload = row["workload"].as_str().unwrap_or_default();
        let workload = workload.strip_prefix(question).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(workload);
        let mut cells = vec![workload.to_owned(), range(ours)];
        cells.extend(columns.iter().map(|name| {
            peers.iter().find(|peer| peer.name == *name).map_or(String::new(), |peer| ratio(row, peer, ours))
        }));
        if are_there_others {
            let told =
                others(row).map(|peer| format!("{} {}: {}", peer.name, time(peer.median), ratio(row, &peer, ours)));
            cells.push(told.collect::<Vec<_>>().join("; "));
        }
        cells.extend(notes.iter().map(|name| note(&row["notes"][*name])));
        writeln!(text, "| {} |", cells.join(" | ")).expect("write to a string");
    }
    text
}

/// How often `ours` fits into the time of a peer, with the goal.
fn ratio(row: &Value, peer: &Peer, ours: &Peer) -> String {
    let ratio = peer.median / ours.median;
    let digits = if ratio >= 100.0 { 0 } else { usize::from(ratio < 10.0) + 1 };
    let goal = target(row, &peer.name);
    let shown_goal = goal.map_or(String::new(), |goal| format!(" ({})", (goal * 100.0).round() / 100.0));
    let text = format!("{ratio:.digits$}×{shown_goal}");
    if goal.is_some_and(|goal| ratio < goal) { format!("**{text}**") } else { text }
}

/// A further figure; of several peers each with its name.
fn note(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Object(of_peers) => {
            of_peers.iter().map(|(peer, value)| format!("{peer} {value}")).collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        other => other.to_string(),
    }
}

/// What it was measured on, in a line.
fn machine(report: &Value) -> String {
    let facts: Vec<String> = report["machine"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name, value.as_str().unwrap_or_default()))
        // A version begins with the name of its program.
        .map(|(name, value)| {
            if value.starts_with(name.trim_end_matches([' ', '1', '2'])) {
                value.to_owned()
            } else {
                format!("{name} {value}")
            }
        })
        .collect();
    let command = if report["quick"] == Value::Bool(true) { "make bench-quick" } else { "make bench" };
    format!("`{command}`, medians with the least and the most in brackets; {}.\n", facts.join("; "))
}

struct Peer {
    name: String,
    median: f64,
    least: f64,
    most: f64,
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().map_or(&[], Vec::as_slice)
}

fn peers(row: &Value) -> Vec<Peer> {
    let all = row["peers"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    let read = |peer: &Value| {
        let seconds = || peer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64);
        let median = peer["median_seconds"].as_f64()?;
        let (least, most) = (seconds().fold(median, f64::min), seconds().fold(median, f64::max));
        Some(Peer { name: peer["peer"].as_str()?.to_owned(), median, least, most })
    };
    all.iter().filter_map(read).collect()
}

/// The peers without a column.
fn others(row: &Value) -> impl Iterator<Item = Peer> {
    peers(row).into_iter().filter(|peer| peer.name != OURS && !COLUMNS.contains(&peer.name.as_str()))
}

fn target(row: &Value, peer: &str) -> Option<f64> {
    let targets = row["targets"].as_array()?;
    targets.iter().find(|target| target["peer"] == peer)?["ratio"].as_f64()
}

fn time(seconds: f64) -> String {
    let (value, unit) = if seconds >= 1.0 { (seconds, "s") } else { (seconds * 1e3, "ms") };
    format!("{} {unit}", digits(value))
}

/// A median with the least and the most, in the unit of the median.
fn range(peer: &Peer) -> String {
    let factor = if peer.median >= 1.0 { 1.0 } else { 1e3 };
    format!("{} [{}–{}]", time(peer.median), digits(peer.least * factor), digits(peer.most * factor))
}

/// Two decimals below 10, one below 20, none above.
fn digits(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 20.0) };
    format!("{value:.decimals$}")
}

/// Peers with a colour of their own; all others, the programs for images, share the last.
const COLOURS: [(&str, &str); 5] = [
    (KERNEL, "#4a5a6a"),
    (FUSE2, "#c8553d"),
    (FUSE1, "#e8a090"),
    (OURS_DIRECTORIES, "#7cc4a8"),
    ("other programs", "#8a6fb0"),
];
/// Where the axis begins, in pixels, how long a factor of ten is, and how high a row.
const AXIS: f64 = 330.0;
const DECADE: f64 = 130.0;
const ROW: usize = 18;
/// What the axis tells; layerfs itself is at 1.
const AXIS_LINES: [(f64, &str); 7] = [
    (0.1, "#d5d5d5"),
    (0.3, "#d5d5d5"),
    (1.0, "#222222"),
    (3.0, "#d5d5d5"),
    (10.0, "#d5d5d5"),
    (30.0, "#d5d5d5"),
    (100.0, "#d5d5d5"),
];

/// The report as an SVG: for every workload a dot for each peer, as far right as layerfs is faster, on a logarithmic axis; what is to be
/// reached is a stroke of the peer's colour.
pub(crate) fn svg(report: &Value) -> String {
    let mut body = String::new();
    let mut top = 48;
    for row in rows(report) {
        let peers = peers(row);
        let Some(ours) = peers.iter().find(|peer| peer.name == OURS).filter(|_| peers.len() > 1) else {
            continue;
        };
        let title = escape(row["workload"].as_str().unwrap_or_default());
        writeln!(body, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{title}</text>", AXIS - 8.0, top + 4)
            .expect("write to a string");
        for peer in peers.iter().filter(|peer| peer.name != ours.name) {
            let (ratio, colour) = (peer.median / ours.median, colour(&peer.name));
            if let Some(goal) = target(row, &peer.name) {
                let x = position(goal);
                writeln!(body, "<path d=\"M{x:.1} {}v12\" stroke=\"{colour}\" stroke-width=\"2\"/>", top - 6)
                    .expect("write to a string");
            }
            writeln!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{top}\" r=\"4\" fill=\"{colour}\"><title>{}: {ratio:.2}×</title></circle>",
                position(ratio),
                escape(&peer.name)
            )
            .expect("write to a string");
        }
        top += ROW;
    }
    let (width, height) = (AXIS + 3.0 * DECADE + 30.0, top + 4);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n{}{body}</svg>\n",
        frame(height)
    )
}

/// The legend, and the axis with its lines.
fn frame(height: usize) -> String {
    let mut text = String::new();
    for (at, (name, colour)) in COLOURS.iter().enumerate() {
        let x = 14 + at * 130;
        writeln!(
            text,
            "<circle cx=\"{x}\" cy=\"12\" r=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"16\">{name}</text>",
            x + 8
        )
        .expect("write to a string");
    }
    for (ratio, colour) in AXIS_LINES {
        let x = position(ratio);
        writeln!(text, "<path d=\"M{x:.1} 38V{height}\" stroke=\"{colour}\"/><text x=\"{x:.1}\" y=\"34\" text-anchor=\"middle\">{ratio}×</text>").expect("write to a string");
    }
    text
}

/// Where a ratio is on the axis; what is beyond its ends is at them.
fn position(ratio: f64) -> f64 {
    AXIS + (ratio.clamp(0.1, 100.0).log10() + 1.0) * DECADE
}

fn colour(name: &str) -> &'static str {
    let found = COLOURS.iter().find(|(known, _)| *known == name);
    found.or(COLOURS.last()).map_or("black", |(_, colour)| colour)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
