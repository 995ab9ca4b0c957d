//! `df`: what takes the space.

use super::output::{Format, print, print_json};
use super::table::Table;
use super::{Global, human_size};
use crate::build::execute::cache_mounts;
use serde_json::json;
use std::process::ExitCode;

/// Show what takes the space in the store
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let usage = store.usage()?;
    let mounts = cache_mounts(&store)?;
    let mount_bytes: u64 = mounts.iter().map(|mount| mount.size).sum();
    let image_bytes = usage.tars + usage.compressed + usage.tables + usage.documents;
    if args.format == Format::Json {
        print_json(&json!({
            "Root": store.root(),
            "Images": { "Total": usage.images, "Active": usage.active_images, "Size": image_bytes,
                "Tars": usage.tars, "Compressed": usage.compressed, "Tables": usage.tables, "Documents": usage.documents },
            "Containers": { "Total": usage.containers, "Active": usage.mounted_containers, "Size": usage.container_bytes },
            "BuildCache": { "Total": usage.cache_records, "Size": usage.cache_bytes },
            "CacheMounts": { "Total": mounts.len(), "Size": mount_bytes },
            "Reclaimable": usage.garbage,
            "ReclaimableAll": usage.garbage_all,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    let mut row = |name: &str, total: usize, active: usize, size: u64, free: String| {
        table.row([name.to_owned(), total.to_string(), active.to_string(), human_size(size), free]);
    };
    let free = format!("{} ({} with --all)", human_size(usage.garbage), human_size(usage.garbage_all));
    row("Images", usage.images, usage.active_images, image_bytes, free);
    row("Containers", usage.containers, usage.mounted_containers, usage.container_bytes, human_size(0));
    let with_cache = |bytes| format!("{} with --build-cache", human_size(bytes));
    row("Build Cache", usage.cache_records, 0, usage.cache_bytes, with_cache(usage.cache_bytes));
    row("Cache Mounts", mounts.len(), 0, mount_bytes, with_cache(mount_bytes));
    let mut parts = Table::new(&["PART OF IMAGES", "SIZE"]);
    let named = [
        ("Plain tars", usage.tars),
        ("Compressed layers", usage.compressed),
        ("Tables of contents", usage.tables),
        ("Manifests, configurations", usage.documents),
    ];
    for (name, size) in named {
        parts.row([name.to_owned(), human_size(size)]);
    }
    print(&format!("{table}\n{parts}"))?;
    Ok(ExitCode::SUCCESS)
}
