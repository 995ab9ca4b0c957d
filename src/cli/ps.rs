//! `layerfs ps`: what is mounted.

use super::output::{Format, json_text};
use super::{Global, printable};
use crate::mount::{ControlRequest, ControlResponse, MountRecord, Registry, ask};
use crate::store::{Container, ContainerRecord};
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use time::OffsetDateTime;
use time::macros::format_description;

/// List what is mounted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Named writable mounts too that are not mounted now
    #[arg(short, long)]
    all: bool,
    /// How many requests of each kind each server has answered
    #[arg(long)]
    stats: bool,
    /// The shape of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let registry = Registry::open()?;
    let mounts = registry.mounts()?;
    let resting = if args.all { resting(global, &mounts)? } else { Vec::new() };
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Json => {
            let all: Vec<Value> = mounts
                .iter()
                .map(|mount| describe(&registry, mount, args.stats))
                .chain(resting.iter().map(describe_resting))
                .collect();
            writeln!(out, "{}", json_text(&all)?)?;
        }
        Format::Text => {
            write_table(&mut out, &registry, &mounts, args.stats)?;
            for record in &resting {
                writeln!(out, "(not mounted)  {} ({})", printable(record.image.as_bytes()), record.name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The named mounts that are not mounted.
fn resting(global: &Global, mounts: &[MountRecord]) -> anyhow::Result<Vec<ContainerRecord>> {
    let containers = global.store()?.containers()?.into_iter();
    let mounted = |container: &Container| mounts.iter().any(|mount| mount.is_of(&container.dir));
    Ok(containers.filter(|container| !mounted(container)).map(|container| container.record).collect())
}

fn describe_resting(record: &ContainerRecord) -> Value {
    json!({ "Name": record.name, "Image": record.image, "MountPoint": null, "Writable": true, "Pid": null, "Since": null })
}

fn describe(registry: &Registry, mount: &MountRecord, stats: bool) -> Value {
    let mut described = json!({
        "Name": mount.name,
        "Image": mount.source,
        "MountPoint": mount.mount_point.to_string_lossy(),
        "Writable": mount.writable,
        "Pid": mount.pid,
        "Since": mount.since,
    });
    if stats && let Some(object) = described.as_object_mut() {
        object.insert("Requests".to_owned(), json!(requests(registry, mount)));
    }
    described
}

/// Counts by kind; none when the server does not answer.
fn requests(registry: &Registry, mount: &MountRecord) -> Option<std::collections::BTreeMap<String, u64>> {
    match ask(registry, mount, &ControlRequest::Stats) {
        Ok((ControlResponse::Stats(counts), _)) => Some(counts),
        _ => None,
    }
}

fn write_table(out: &mut impl Write, registry: &Registry, mounts: &[MountRecord], stats: bool) -> anyhow::Result<()> {
    let rows: Vec<[String; 5]> = mounts.iter().map(row).collect();
    let titles = ["MOUNT POINT", "IMAGE", "MODE", "PID", "SINCE"].map(str::to_owned);
    let mut widths = [0; 5];
    for row in std::iter::once(&titles).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (at, row) in std::iter::once(&titles).chain(&rows).enumerate() {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
        let Some(mount) = at.checked_sub(1).and_then(|at| mounts.get(at)) else { continue };
        if stats {
            for (name, count) in requests(registry, mount).unwrap_or_default() {
                writeln!(out, "    {name:<16} {count:>12}")?;
            }
        }
    }
    Ok(())
}

fn row(mount: &MountRecord) -> [String; 5] {
    let since = OffsetDateTime::from_unix_timestamp(mount.since as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let since = since.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z"));
    let image = match &mount.name {
        Some(name) => format!("{} ({name})", mount.source),
        None => mount.source.clone(),
    };
    [
        printable(mount.mount_point.as_os_str().as_encoded_bytes()),
        printable(image.as_bytes()),
        if mount.writable { "rw" } else { "ro" }.to_owned(),
        mount.pid.to_string(),
        since.unwrap_or_default(),
    ]
}
