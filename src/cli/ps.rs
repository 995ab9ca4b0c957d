//! `layerfs ps`: what is mounted.

use super::output::{Format, json_text};
use super::{Global, printable};
use crate::mount::{ControlRequest, ControlResponse, MountRecord, Registry, ask};
use crate::run::state;
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
    /// Names only; where a mount is, when it has none
    #[arg(short, long, conflicts_with_all = ["stats", "format"])]
    quiet: bool,
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
    let unmounted = match unmounted(global, &mounts) {
        // Mounts are shown without a store too.
        Err(error) if !args.all => {
            log::debug!("what runs is not known: {error:#}");
            Vec::new()
        }
        found => found?,
    };
    let unmounted: Vec<Unmounted> = unmounted.into_iter().filter(|one| args.all || one.init.is_some()).collect();
    let mut out = std::io::stdout().lock();
    if args.quiet {
        let place = |mount: &MountRecord| printable(mount.mount_point.as_os_str().as_encoded_bytes());
        let mounts = mounts.iter().map(|mount| mount.name.clone().unwrap_or_else(|| place(mount)));
        for name in mounts.chain(unmounted.into_iter().map(|one| one.record.name)) {
            writeln!(out, "{name}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    match args.format {
        Format::Json => {
            let all: Vec<Value> = mounts
                .iter()
                .map(|mount| describe(&registry, mount, args.stats))
                .chain(unmounted.iter().map(Unmounted::describe))
                .collect();
            writeln!(out, "{}", json_text(&all)?)?;
        }
        Format::Text => {
            write_table(&mut out, &registry, &mounts, &unmounted, args.stats)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A named mount that has no mount point.
struct Unmounted {
    record: ContainerRecord,
    /// The first process of its command, when that runs.
    init: Option<i32>,
}

impl Unmounted {
    fn describe(&self) -> Value {
        let ContainerRecord { name, image, .. } = &self.record;
        json!({ "Name": name, "Image": image, "MountPoint": null, "Writable": true, "Pid": self.init, "Since": null })
    }

    fn row(&self) -> [String; 6] {
        [
            if self.init.is_some() { "(running)" } else { "(not mounted)" }.to_owned(),
            shortened(&self.record.image),
            self.record.name.clone(),
            "rw".to_owned(),
            self.init.map(|init| init.to_string()).unwrap_or_default(),
            String::new(),
        ]
    }
}

/// The named mounts that are not mounted; some of them run.
fn unmounted(global: &Global, mounts: &[MountRecord]) -> anyhow::Result<Vec<Unmounted>> {
    let Some(store) = global.store_if_there()? else { return Ok(Vec::new()) };
    let containers = store.containers()?.into_iter();
    let mounted = |container: &Container| mounts.iter().any(|mount| mount.is_of(&container.dir));
    let look = |container: Container| {
        let init = state::read(&container.dir)?.map(|running| running.init);
        Ok(Unmounted { record: container.record, init })
    };
    containers.filter(|container| !mounted(container)).map(look).collect()
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

fn write_table(
    out: &mut impl Write,
    registry: &Registry,
    mounts: &[MountRecord],
    unmounted: &[Unmounted],
    stats: bool,
) -> anyhow::Result<()> {
    let rows: Vec<[String; 6]> = mounts.iter().map(row).chain(unmounted.iter().map(Unmounted::row)).collect();
    let titles = ["MOUNT POINT", "IMAGE", "NAME", "MODE", "PID", "SINCE"].map(str::to_owned);
    let mut widths = [0; 6];
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

fn row(mount: &MountRecord) -> [String; 6] {
    let since = OffsetDateTime::from_unix_timestamp(mount.since as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let since = since.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z"));
    [
        printable(mount.mount_point.as_os_str().as_encoded_bytes()),
        shortened(&mount.source),
        mount.name.clone().unwrap_or_default(),
        if mount.writable { "rw" } else { "ro" }.to_owned(),
        mount.pid.to_string(),
        since.unwrap_or_default(),
    ]
}

/// A source as a table shows it: a union of many directories would push the other columns off the screen.
fn shortened(source: &str) -> String {
    const WIDTH: usize = 48;
    let source = printable(source.as_bytes());
    if source.chars().count() <= WIDTH {
        return source;
    }
    source.chars().take(WIDTH - 1).chain(['…']).collect()
}
