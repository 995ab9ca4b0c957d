//! A report as a Markdown table and as a plot, for README.md.

use serde_json::Value;
use std::fmt::Write as _;

/// The report as Markdown: a table, and below it what it was measured on.
pub(crate) fn markdown(report: &Value) -> String {
    let mut text = String::from("| workload | layerfs | peer | peer's time | layerfs is |\n|---|---|---|---|---|\n");
    for row in rows(report) {
        for peer in peers(row).iter().filter(|peer| peer.name != crate::harness::OURS) {
            let Some(ours) = peers(row).iter().find(|peer| peer.name == crate::harness::OURS).map(|ours| ours.seconds)
            else {
                continue;
            };
            let target = target(row, &peer.name).map_or(String::new(), |ratio| format!(" (goal {ratio}×)"));
            let workload = row["workload"].as_str().unwrap_or_default();
            let ratio = peer.seconds / ours;
            writeln!(
                text,
                "| {workload} | {} | {} | {} | {ratio:.2}×{target} |",
                time(ours),
                peer.name,
                time(peer.seconds)
            )
            .expect("write to a string");
        }
    }
    let machine = &report["machine"];
    let fact = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
    let facts = [
        "kernel",
        "processor",
        "threads",
        "memory",
        "layerfs",
        "fuse-overlayfs 2",
        "fuse-overlayfs 1",
        "podman",
        "skopeo",
        "umoci",
    ];
    let facts: Vec<String> = facts.iter().map(|name| format!("{name} {}", fact(name))).collect();
    let rounds = if report["quick"] == Value::Bool(true) { "make bench-quick" } else { "make bench" };
    write!(text, "\nMedians of `{rounds}`; {}.\n", facts.join("; ")).expect("write to a string");
    text
}

struct Peer {
    name: String,
    seconds: f64,
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().map_or(&[], Vec::as_slice)
}

fn peers(row: &Value) -> Vec<Peer> {
    let all = row["peers"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    let read = |peer: &Value| {
        Some(Peer { name: peer["peer"].as_str()?.to_owned(), seconds: peer["median_seconds"].as_f64()? })
    };
    all.iter().filter_map(read).collect()
}

fn target(row: &Value, peer: &str) -> Option<f64> {
    let targets = row["targets"].as_array()?;
    targets.iter().find(|target| target["peer"] == peer)?["ratio"].as_f64()
}

fn time(seconds: f64) -> String {
    if seconds >= 1.0 { format!("{seconds:.2} s") } else { format!("{:.1} ms", seconds * 1e3) }
}

const COLOURS: [(&str, &str); 6] = [
    ("layerfs", "#1b7f5c"),
    ("layerfs overlay", "#7cc4a8"),
    ("kernel overlayfs", "#4a5a6a"),
    ("fuse-overlayfs 2.0", "#c8553d"),
    ("fuse-overlayfs 1.x", "#e8a090"),
    ("", "#b8b8b8"),
];

/// The report as an SVG: for every workload the time of each peer, the slowest as long as the page is wide.
pub(crate) fn svg(report: &Value) -> String {
    let mut body = String::new();
    let mut top = 10;
    for row in rows(report) {
        let peers = peers(row);
        let slowest = peers.iter().map(|peer| peer.seconds).fold(0.0, f64::max);
        let title = escape(row["workload"].as_str().unwrap_or_default());
        writeln!(body, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{title}</text>", top + 12)
            .expect("write to a string");
        top += 18;
        for peer in &peers {
            let width = (peer.seconds / slowest * 420.0).max(1.0);
            let name = escape(&peer.name);
            writeln!(
                body,
                "<text x=\"150\" y=\"{0}\" text-anchor=\"end\">{name}</text><rect x=\"160\" y=\"{1}\" width=\"{width:.1}\" height=\"12\" fill=\"{2}\"/><text x=\"{3:.1}\" y=\"{0}\">{4}</text>",
                top + 10, top, colour(&peer.name), 166.0 + width, time(peer.seconds),
            )
            .expect("write to a string");
            top += 15;
        }
        top += 10;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{top}\" viewBox=\"0 0 680 {top}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"680\" height=\"{top}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn colour(name: &str) -> &'static str {
    let found = COLOURS.iter().find(|(known, _)| *known == name);
    found.or(COLOURS.last()).map_or("black", |(_, colour)| colour)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
