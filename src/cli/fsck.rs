//! `fsck`: checks the store and mends it.

use super::error::note;
use super::output::{Format, print, print_json};
use super::progress::Bars;
use super::{Global, human_size};
use crate::image::{Finding, FsckOptions, FsckReport, Outcome, fsck};
use crate::model::harmless;
use serde_json::json;
use std::process::ExitCode;

/// Check every blob, document and table of contents; make anew what can be made of what is sound, and name what is lost
///
/// Exit code 0 when everything is right, or is now; 1 when something is lost or was left as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also remove damaged files that cannot be made anew, and images that cannot be used
    #[arg(long, conflicts_with = "dry_run")]
    repair: bool,
    /// Only tell
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print problems only, show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = FsckOptions { dry_run: args.dry_run, repair: args.repair };
    let report = fsck(&global.store()?, options, &Bars::new(args.quiet))?;
    match args.format {
        Format::Json => print_json(&json!({
            "Blobs": report.blobs,
            "Bytes": report.bytes,
            "Images": report.images,
            "Sound": report.is_sound(),
            "Findings": report.findings.iter().map(describe).collect::<Vec<_>>(),
        }))?,
        Format::Text => {
            print(&text(&report, args.quiet))?;
            advise(&report, args);
        }
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells what to do about what is not right yet.
fn advise(report: &FsckReport, args: &Args) {
    let any = |wanted: Outcome| report.findings.iter().any(|finding| finding.outcome == wanted);
    if any(Outcome::Found) && args.dry_run {
        note("hint: layerfs fsck mends what can be mended");
    }
    if any(Outcome::Found) && !args.dry_run {
        note("hint: `layerfs fsck --repair` makes the index again from the images that are there, without their names");
    }
    if args.repair && !report.index_is_sound {
        note(
            "hint: `layerfs images` shows what was found, `layerfs tag ID NAME` names it; `layerfs prune` removes what has no name",
        );
    }
    if any(Outcome::Lost) {
        note("hint: `layerfs fsck --repair` removes what is damaged; then load or pull the images again");
    }
}

fn text(report: &FsckReport, quiet: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let affects =
            if finding.affects.is_empty() { String::new() } else { format!(" [{}]", finding.affects.join(", ")) };
        text = text + outcome(finding) + ": " + &harmless(&finding.problem) + &harmless(&affects) + "\n";
    }
    if quiet {
        return text;
    }
    let count = |wanted: Outcome| report.findings.iter().filter(|finding| finding.outcome == wanted).count();
    let checked = format!("images: {}, blobs: {}, {}: ", report.images, report.blobs, human_size(report.bytes));
    text += &checked;
    if report.findings.is_empty() {
        return text + "clean\n";
    }
    text + &format!(
        "{} mended, {} removed, {} lost, {} left\n",
        count(Outcome::Mended),
        count(Outcome::Removed),
        count(Outcome::Lost),
        count(Outcome::Found)
    )
}

fn outcome(finding: &Finding) -> &'static str {
    match finding.outcome {
        Outcome::Found => "found",
        Outcome::Mended => "mended",
        Outcome::Removed => "removed",
        Outcome::Lost => "lost",
    }
}

fn describe(finding: &Finding) -> serde_json::Value {
    json!({ "Problem": finding.problem, "Outcome": outcome(finding), "Affects": finding.affects })
}
