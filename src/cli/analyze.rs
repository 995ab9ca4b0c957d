//! `layerfs analyze`: what is in an image, which layer put it there, and what is wasted.

use super::explore::instructions;
use super::image_argument::{OpenImage, open_image};
use super::output::{Format, json_text, print};
use super::{Global, human_size, printable};
use crate::analyze::{
    DuplicateGroup, ImageTree, Leftover, Page, Waste, WasteReport, cause, copies, duplicates, leftovers,
};
use crate::union::{Follow, Stack};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// Tell what is in an image, which layer put it there, and what is wasted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a reference, an ID or a prefix of one
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    image: String,
    /// The shape of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also write a page for a browser, which needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How many rows each table has at the most; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Look for duplicates only among files of at least so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    duplicates_from: u64,
    /// Exit with 1 when a threshold is crossed
    #[arg(long)]
    ci: bool,
    /// With --ci: the most bytes that may be hidden; k, M and G stand for powers of 1000
    #[arg(long, value_name = "BYTES", value_parser = parse_size, requires = "ci")]
    max_wasted: Option<u64>,
    /// With --ci: the lowest efficiency, as a share (0.95) or in per cent (95%)
    #[arg(long, value_name = "SHARE", value_parser = parse_share, requires = "ci")]
    min_efficiency: Option<f64>,
}

/// Efficiency below which `--ci` without a threshold fails.
const DEFAULT_MIN_EFFICIENCY: f64 = 0.9;

fn parse_size(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(['b', 'B', 'k', 'K', 'm', 'M', 'g', 'G']);
    let unit = match text.get(number.len()..).unwrap_or_default().to_ascii_lowercase().trim_end_matches('b') {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        _ => return Err("expected a number, with k, M or G behind it where wanted".to_owned()),
    };
    let value: u64 = number.parse().map_err(|_| "expected a whole number of bytes".to_owned())?;
    value.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.parse::<f64>().map_err(|_| "expected a share such as 0.95 or 95%".to_owned())? / scale;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("expected a share between 0 and 1".to_owned()) }
}

/// Everything there is to tell.
struct Told {
    image: OpenImage,
    instructions: Vec<String>,
    tree: ImageTree,
    report: WasteReport,
    duplicates: Vec<DuplicateGroup>,
    leftovers: Vec<Leftover>,
    copies: Vec<Waste>,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let told = tell(args, global)?;
    if let Some(file) = &args.html {
        let page = Page {
            image: &args.image,
            instructions: &told.instructions,
            report: &told.report,
            tree: &told.tree,
            duplicates: &told.duplicates,
            leftovers: &told.leftovers,
        };
        let write = || {
            let mut output = BufWriter::new(File::create(file)?);
            page.write(&mut output).and_then(|()| output.flush())
        };
        write().with_context(|| format!("cannot write {}", file.display()))?;
    }
    let text = match args.format {
        Format::Json => json_text(&as_json(&told))? + "\n",
        Format::Text => as_text(&told, if args.top == 0 { usize::MAX } else { args.top }),
    };
    print(&text)?;
    Ok(verdict(args, &told.report))
}

fn tell(args: &Args, global: &Global) -> anyhow::Result<Told> {
    let store = global.store()?;
    let image = open_image(&store, &args.image, "layerfs analyze")?;
    let stack = Stack::new(image.layers.clone(), None, Follow::default())?;
    // Reading content and counting what is hidden do not wait for each other.
    let (surveyed, equal) = std::thread::scope(|scope| {
        let equal = scope.spawn(|| duplicates(&stack, args.duplicates_from));
        let surveyed = ImageTree::of(&stack).and_then(|(tree, report)| Ok((tree, copies(&stack, &report)?, report)));
        (surveyed, equal.join())
    });
    let (tree, copies, report) = surveyed?;
    let Ok(equal) = equal else { bail!("the search for duplicates ended early") };
    Ok(Told {
        instructions: instructions(&image.record),
        duplicates: equal?,
        leftovers: leftovers(&stack)?,
        copies,
        image,
        tree,
        report,
    })
}

/// Says on standard error which threshold was crossed.
fn verdict(args: &Args, report: &WasteReport) -> ExitCode {
    if !args.ci {
        return ExitCode::SUCCESS;
    }
    let mut crossed = Vec::new();
    if let Some(most) = args.max_wasted.filter(|most| report.hidden_bytes() > *most) {
        crossed.push(format!("{} are hidden, at most {} may be", human_size(report.hidden_bytes()), human_size(most)));
    }
    let fallback = if args.max_wasted.is_none() { Some(DEFAULT_MIN_EFFICIENCY) } else { None };
    if let Some(least) = args.min_efficiency.or(fallback).filter(|least| report.efficiency() < *least) {
        crossed.push(format!(
            "efficiency is {:.1} %, at least {:.1} % is wanted",
            report.efficiency() * 100.0,
            least * 100.0
        ));
    }
    for line in &crossed {
        // Nobody is left to tell when standard error itself is closed.
        let _ = writeln!(std::io::stderr(), "layerfs: {line}");
    }
    if crossed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn paths_of(waste: &Waste) -> String {
    printable_path(&waste.path)
}

fn printable_path(path: &crate::model::RelPath) -> String {
    format!("/{}", printable(&path.to_bytes()))
}

fn as_text(told: &Told, top: usize) -> String {
    let report = &told.report;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "Image       {}", told.image.record.label());
    let layers = if report.layers.len() == 1 { "layer" } else { "layers" };
    let _ = writeln!(text, "Files       {} in {} {layers}", human_size(report.total_bytes()), report.layers.len());
    let _ = writeln!(text, "Hidden      {}", human_size(report.hidden_bytes()));
    let _ = writeln!(text, "Efficiency  {:.1} %", report.efficiency() * 100.0);
    let _ = writeln!(text, "A squash would save {}\n", human_size(squash_saves(told)));
    let _ = writeln!(text, "LAYER      FILES     HIDDEN    ADDED  CHANGED  REMOVED  CREATED BY");
    for (index, layer) in report.layers.iter().enumerate() {
        let by = told.instructions.get(index).map_or("", String::as_str);
        let by: String = by.chars().take(70).collect();
        let _ = writeln!(
            text,
            "{index:>5} {:>10} {:>10} {:>8} {:>8} {:>8}  {by}",
            human_size(layer.bytes),
            human_size(layer.hidden_bytes),
            layer.added,
            layer.changed,
            layer.removed
        );
    }
    section(&mut text, "Hidden by later layers", &told.report.waste, top, |waste| {
        let from: Vec<String> = waste.bytes_of.keys().map(ToString::to_string).collect();
        let (what, from) = (cause(waste.cause), from.join(","));
        format!("{:>10}  {what} by {} (from {from})  {}", human_size(waste.bytes()), waste.hidden_by, paths_of(waste))
    });
    section(&mut text, "Copied for a change of mode, owner or time only", &told.copies, top, |waste| {
        format!("{:>10}  by {}  {}", human_size(waste.bytes()), waste.hidden_by, paths_of(waste))
    });
    section(&mut text, "Duplicates", &told.duplicates, top, |group| {
        let paths: Vec<String> = group.paths.iter().take(4).map(printable_path).collect();
        let more = if group.paths.len() > 4 { " …" } else { "" };
        format!("{:>10}  {} × {}{more}", human_size(group.wasted()), group.paths.len(), paths.join("  "))
    });
    section(&mut text, "Left behind", &told.leftovers, top, |leftover| {
        let places: Vec<String> = leftover.places.iter().take(3).map(|(path, _)| printable_path(path)).collect();
        let (bytes, label) = (human_size(leftover.bytes), leftover.kind.label());
        let files = if leftover.files == 1 { "file" } else { "files" };
        format!("{bytes:>10}  {label}, {} {files}: {}", leftover.files, places.join("  "))
    });
    text
}

fn section<T>(text: &mut String, title: &str, rows: &[T], top: usize, line: impl Fn(&T) -> String) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for row in rows.iter().take(top) {
        let _ = writeln!(text, "{}", line(row));
    }
    if rows.len() > top {
        let _ = writeln!(text, "{:>10}  {} more; --top 0 shows all", "", rows.len() - top);
    }
}

/// Bytes of tar that one layer instead of all would have less: hidden data in whole blocks, and the headers of what is hidden.
fn squash_saves(told: &Told) -> u64 {
    const BLOCK: u64 = 512;
    let mut saved = 0;
    for id in told.tree.ids() {
        let versions = &told.tree.node(id).versions;
        let hidden = versions.iter().filter(|version| version.hidden_by.is_some());
        saved += hidden.map(|version| BLOCK + version.size.div_ceil(BLOCK) * BLOCK).sum::<u64>();
        // Directories that several layers mention are mentioned once.
        let shown = versions.iter().filter(|version| version.hidden_by.is_none()).count() as u64;
        saved += shown.saturating_sub(1) * BLOCK;
    }
    saved
}

fn as_json(told: &Told) -> Value {
    let report = &told.report;
    let layer = |(index, layer): (usize, &crate::analyze::LayerSummary)| {
        let record = told.image.record.layers.get(index);
        json!({
            "index": index,
            "createdBy": told.instructions.get(index),
            "diffID": record.map(|record| record.diff_id.to_string()),
            "tarSize": record.map(crate::store::LayerRecord::tar_size),
            "bytes": layer.bytes, "hiddenBytes": layer.hidden_bytes,
            "added": layer.added, "changed": layer.changed, "removed": layer.removed,
            "idleWhiteouts": layer.idle_whiteouts,
        })
    };
    json!({
        "image": told.image.record.label(),
        "id": told.image.record.id.to_string(),
        "totalBytes": report.total_bytes(),
        "hiddenBytes": report.hidden_bytes(),
        "efficiency": report.efficiency(),
        "squashSaves": squash_saves(told),
        "layers": report.layers.iter().enumerate().map(layer).collect::<Vec<_>>(),
        "hidden": report.waste.iter().map(waste_json).collect::<Vec<_>>(),
        "metadataOnlyCopies": told.copies.iter().map(waste_json).collect::<Vec<_>>(),
        "duplicates": told.duplicates.iter().map(|group| json!({
            "size": group.size, "wasted": group.wasted(),
            "paths": group.paths.iter().map(printable_path).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "leftovers": told.leftovers.iter().map(|leftover| json!({
            "kind": leftover.kind.label(), "files": leftover.files, "bytes": leftover.bytes,
            "places": leftover.places.iter().map(|(path, bytes)| json!({ "path": printable_path(path), "bytes": bytes })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn waste_json(waste: &Waste) -> Value {
    json!({
        "path": paths_of(waste), "cause": cause(waste.cause), "hiddenBy": waste.hidden_by,
        "bytes": waste.bytes(), "objects": waste.objects,
        "of": waste.bytes_of.iter().map(|(layer, bytes)| json!({ "layer": layer, "bytes": bytes })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_parsed() {
        assert_eq!(parse_size("10"), Ok(10));
        assert_eq!(parse_size("5MB"), Ok(5_000_000));
        assert_eq!(parse_size("2k"), Ok(2000));
        assert!(parse_size("x").is_err() && parse_size("5Mk").is_err());
        assert_eq!(parse_share("0.95"), Ok(0.95));
        assert_eq!(parse_share("95%"), Ok(0.95));
        assert!(parse_share("95").is_err());
    }
}
