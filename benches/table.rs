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

/// Peers with a colour of their own; all others, the programs for images, share the last.
const COLOURS: [(&str, &str); 5] = [
    ("kernel overlayfs", "#4a5a6a"),
    ("fuse-overlayfs 2.0", "#c8553d"),
    ("fuse-overlayfs 1.x", "#e8a090"),
    ("layerfs overlay", "#7cc4a8"),
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
        let Some(ours) = peers.iter().find(|peer| peer.name == crate::harness::OURS).filter(|_| peers.len() > 1) else {
            continue;
        };
        let title = escape(row["workload"].as_str().unwrap_or_default());
        writeln!(body, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{title}</text>", AXIS - 8.0, top + 4)
            .expect("write to a string");
        for peer in peers.iter().filter(|peer| peer.name != ours.name) {
            let (ratio, colour) = (peer.seconds / ours.seconds, colour(&peer.name));
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
