//! `layerfs diff`: what a writable mount changed, or how two images differ.
//!
//! [`content`] tells how one path differs; this file finds what is compared, and prints.

mod content;

use super::changes::{find, open};
use super::image_argument::open_image;
use super::output::{Format, print, print_json};
use super::{Global, WithHint, human_size, printable};
use crate::analyze::{PackageChange, package_changes, packages};
use crate::diff::{Change, ChangeKind, ChangeSet, Comparison, Options, compare, meta};
use crate::model::{FileKind, RelPath};
use crate::store::Store;
use crate::union::{Follow, Layer, Node, Stack};
use anyhow::anyhow;
use content::Content;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

/// Tell what a writable mount changed, or how two images differ
///
/// A line for every path that differs: A for added, C for changed, D for deleted. Of two images or layers also the packages that
/// were added, removed, upgraded or downgraded, where there is a database of dpkg or apk.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A writable mount (its name, or where it is mounted), or an image
    #[arg(value_name = "NAME|MNT|IMAGE", add = clap_complete::ArgValueCompleter::new(super::complete::mounts_and_images))]
    old: String,
    /// An image to compare with
    #[arg(value_name = "IMAGE", add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    new: Option<String>,
    /// Compare IMAGE as of layer A with itself as of layer B; layers count from 0 at the bottom
    #[arg(long, value_name = "A..B", value_parser = parse_range, conflicts_with = "new")]
    layers: Option<(usize, usize)>,
    /// Only what is at or below this path
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only the paths
    #[arg(long, conflicts_with_all = ["stat", "format"])]
    name_only: bool,
    /// Also how large things were and are, and a sum
    #[arg(long)]
    stat: bool,
    /// Also how they differ: mode, owner and target, and text files as a unified diff
    #[arg(long, conflicts_with_all = ["stat", "name_only"])]
    content: bool,
    /// Only the packages
    #[arg(long, conflicts_with_all = ["stat", "name_only", "content", "path"])]
    packages: bool,
    /// The shape of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn parse_range(text: &str) -> Result<(usize, usize), String> {
    let wrong = || "expected two numbers of layers such as 2..5".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    Ok((from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?))
}

/// Two trees and how they differ.
struct Compared {
    old: Stack,
    new: Stack,
    changes: ChangeSet,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let mut compared = compare_arguments(args, &store)?;
    if let Some(path) = &args.path {
        let path = RelPath::parse(path.as_bytes()).map_err(|error| anyhow!("{path:?}: {error}"))?;
        compared.changes = compared.changes.below(&path);
    }
    let two_images = args.new.is_some() || args.layers.is_some();
    let packages = if args.packages || (two_images && args.path.is_none() && args.format == Format::Text) {
        package_changes(&packages(&compared.old)?, &packages(&compared.new)?)
    } else {
        Vec::new()
    };
    match args.format {
        Format::Json if args.packages => print_json(&packages.iter().map(package_row).collect::<Vec<_>>())?,
        Format::Json => {
            let rows: anyhow::Result<Vec<Value>> =
                sorted(&compared).map(|change| row(&compared, change, args)).collect();
            print_json(&rows?)?;
        }
        Format::Text if args.packages => print(&package_lines(&packages))?,
        Format::Text if args.name_only || packages.is_empty() => print(&text(&compared, args)?)?,
        Format::Text => print(&format!("{}\nPackages:\n{}", text(&compared, args)?, package_lines(&packages)))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn package_lines(changes: &[PackageChange]) -> String {
    let line = |change: &PackageChange| {
        let name = printable(change.name.as_bytes());
        let versions =
            [&change.old, &change.new].map(|version| version.as_ref().map(|text| printable(text.as_bytes())));
        match versions {
            [Some(old), Some(new)] => format!("{} {name} {old} -> {new}\n", change.deed.label()),
            [old, new] => format!("{} {name} {}\n", change.deed.label(), old.or(new).unwrap_or_default()),
        }
    };
    changes.iter().map(line).collect()
}

fn package_row(change: &PackageChange) -> Value {
    json!({
        "package": change.name, "manager": change.manager.label(), "kind": change.deed.label(),
        "oldVersion": change.old, "newVersion": change.new,
    })
}

fn compare_arguments(args: &Args, store: &Store) -> anyhow::Result<Compared> {
    if args.new.is_none() && args.layers.is_none() {
        return match find(store, &args.old)? {
            Some(container) => {
                let changed = open(store, container, false)?;
                let changes = changed.changes()?;
                Ok(Compared { old: changed.old, new: changed.new, changes })
            }
            None => Err(anyhow!("{} is no writable mount", args.old))
                .hint("name a second image to compare two, or see `layerfs ps -a` for mounts"),
        };
    }
    let (old, new) = if let Some((from, to)) = args.layers {
        let layers = open_image(store, &args.old, "layerfs diff")?.layers;
        (up_to(&layers, from)?, up_to(&layers, to)?)
    } else {
        let name = args.new.as_deref().unwrap_or_default();
        let (old, new) = (open_image(store, &args.old, "layerfs diff")?, open_image(store, name, "layerfs diff")?);
        let stack = |layers| Stack::new(layers, None, Follow::default());
        (stack(old.layers)?, stack(new.layers)?)
    };
    let changes = compare(&old, &new, Options { comparison: Comparison::Content, parents: false })?;
    Ok(Compared { old, new, changes })
}

fn up_to(layers: &[Arc<dyn Layer>], last: usize) -> anyhow::Result<Stack> {
    match layers.get(..=last) {
        Some(layers) => Ok(Stack::new(layers.to_vec(), None, Follow::default())?),
        None => Err(anyhow!("there is no layer {last}: the image has {}, counted from 0", layers.len()))
            .hint("see the layers: layerfs history IMAGE"),
    }
}

/// The changes as people read them: by path; the root itself is nobody's change.
fn sorted(compared: &Compared) -> impl Iterator<Item = &Change> {
    compared.changes.sorted_by_path().into_iter().filter(|change| !change.path.is_root())
}

fn text(compared: &Compared, args: &Args) -> anyhow::Result<String> {
    let mut text = String::new();
    let (mut added, mut removed) = (0, 0);
    for change in sorted(compared) {
        let path = format!("/{}", printable(&change.path.to_bytes()));
        // Writing to a string cannot fail.
        let _ = match (args.name_only, args.stat) {
            (true, _) => writeln!(text, "{path}"),
            (_, false) => {
                let _ = writeln!(text, "{} {path}", change.kind.letter());
                if args.content {
                    text.push_str(&details(compared, change)?);
                }
                Ok(())
            }
            (_, true) => {
                let (old, new) = sizes(compared, change)?;
                (added, removed) = (added + new.unwrap_or(0), removed + old.unwrap_or(0));
                let shown = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), human_size);
                writeln!(text, "{} {:>8} -> {:>8}  {path}", change.kind.letter(), shown(old), shown(new))
            }
        };
    }
    if args.stat {
        let counts = |kind: ChangeKind| sorted(compared).filter(|change| change.kind == kind).count();
        let (a, c, d) = (counts(ChangeKind::Added), counts(ChangeKind::Modified), counts(ChangeKind::Deleted));
        let _ = writeln!(
            text,
            "{a} added, {c} changed, {d} deleted; {} before, {} now",
            human_size(removed),
            human_size(added)
        );
    }
    Ok(text)
}

/// How a path differs, in lines.
fn details(compared: &Compared, change: &Change) -> anyhow::Result<String> {
    let metadata = content::metadata(compared, change)?.into_iter().map(|told| format!("  {told}"));
    let differing = content::lines(change, content::content(compared, change)?);
    Ok(metadata.chain(differing).map(|line| line + "\n").collect())
}

/// Bytes before and after, of files.
fn sizes(compared: &Compared, change: &Change) -> anyhow::Result<(Option<u64>, Option<u64>)> {
    let size = |stack: &Stack, node: &Option<Node>| -> anyhow::Result<Option<u64>> {
        let Some(node) = node.as_ref().filter(|node| node.kind() == FileKind::File) else { return Ok(None) };
        Ok(Some(meta(stack, node)?.size))
    };
    Ok((size(&compared.old, &change.old)?, size(&compared.new, &change.new)?))
}

fn row(compared: &Compared, change: &Change, args: &Args) -> anyhow::Result<Value> {
    let (old, new) = sizes(compared, change)?;
    let kind = match change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Modified => "changed",
        ChangeKind::Deleted => "deleted",
    };
    let node = change.new.as_ref().or(change.old.as_ref());
    let node_kind = node.map(|node| format!("{:?}", node.kind()).to_ascii_lowercase());
    let mut row = json!({
        "path": format!("/{}", printable(&change.path.to_bytes())),
        "kind": kind, "type": node_kind, "oldSize": old, "newSize": new,
    });
    if let Some(row) = row.as_object_mut().filter(|_| args.content) {
        let differing = content::content(compared, change)?;
        row.insert("metadata".to_owned(), content::metadata(compared, change)?.into());
        row.insert("content".to_owned(), differing.label().into());
        if matches!(differing, Content::Text(_)) {
            row.insert("diff".to_owned(), (content::lines(change, differing).join("\n") + "\n").into());
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges_of_layers_are_parsed() {
        assert_eq!(parse_range("2..5"), Ok((2, 5)));
        assert!(parse_range("2").is_err() && parse_range("a..b").is_err());
    }
}
