//! `images`: what is in the store.

use super::output::{Format, human_since, parse_time, print, print_json};
use super::table::Table;
use super::{Global, human_size};
use crate::oci::Reference;
use crate::store::{ImageRecord, Store, StoreError};
use anyhow::bail;
use serde_json::json;
use std::process::ExitCode;

/// List images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Also the images without a name; they are always shown
    #[arg(short, long, hide = true)]
    all: bool,
    /// Show the digests of manifests
    #[arg(long)]
    digests: bool,
    /// Only images with this property: `dangling=true|false`, `reference=PATTERN`, `label=KEY[=VALUE]`, `before=IMAGE`,
    /// `since=IMAGE`
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Show whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One line: an image under one of its names.
struct Row {
    image: ImageRecord,
    reference: Option<Reference>,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store_if_there()?;
    let filters =
        args.filter.iter().map(|text| Filter::parse(text, store.as_ref())).collect::<anyhow::Result<Vec<_>>>()?;
    let mut rows = rows(store.as_ref().map(Store::images).transpose()?.unwrap_or_default());
    rows.retain(|row| args.name.as_deref().is_none_or(|name| is_named(row, name)));
    rows.retain(|row| filters.iter().all(|filter| filter.matches(row)));
    match args.format {
        _ if args.quiet => {
            let mut ids: Vec<String> = rows.iter().map(|row| id(&row.image, args.no_trunc) + "\n").collect();
            ids.dedup();
            print(&ids.concat())?;
        }
        Format::Json => print_json(&rows.iter().map(describe).collect::<Vec<_>>())?,
        Format::Text => print(&table(args, &rows).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines, newest image first.
fn rows(mut images: Vec<ImageRecord>) -> Vec<Row> {
    images.sort_by_key(|image| std::cmp::Reverse(image.config.created.as_deref().and_then(parse_time)));
    let mut rows = Vec::new();
    for image in images {
        if image.references.is_empty() {
            rows.push(Row { image: image.clone(), reference: None });
        }
        for reference in &image.references {
            rows.push(Row { image: image.clone(), reference: Some(reference.clone()) });
        }
    }
    rows
}

fn table(args: &Args, rows: &[Row]) -> Table {
    let mut header = vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
    header.retain(|column| args.digests || *column != "DIGEST");
    let mut table = Table::new(&header);
    for row in rows {
        let (repository, tag) = names(row);
        let mut cells = vec![repository, tag];
        if args.digests {
            cells.push(row.image.target.digest.to_string());
        }
        cells.push(id(&row.image, args.no_trunc));
        cells.push(human_since(row.image.config.created.as_deref()));
        cells.push(human_size(row.image.size()));
        table.row(cells);
    }
    table
}

fn names(row: &Row) -> (String, String) {
    let none = || "<none>".to_owned();
    let repository = row.reference.as_ref().map_or_else(none, Reference::familiar_name);
    let tag = row.reference.as_ref().and_then(Reference::tag).map_or_else(none, str::to_owned);
    (repository, tag)
}

fn id(image: &ImageRecord, whole: bool) -> String {
    if whole { image.id.to_string() } else { image.id.short() }
}

fn describe(row: &Row) -> serde_json::Value {
    let (repository, tag) = names(row);
    let image = &row.image;
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": image.target.digest,
        "ID": image.id,
        "CreatedAt": image.config.created,
        "CreatedSince": human_since(image.config.created.as_deref()),
        "Size": image.size(),
        "Platform": image.config.platform().to_string(),
        "Labels": image.config.config.labels,
    })
}

/// Whether a line is of the image that a name with or without a tag means.
fn is_named(row: &Row, name: &str) -> bool {
    let Some(reference) = &row.reference else { return false };
    match name.parse::<Reference>() {
        Ok(wanted) => {
            let tag = wanted.tag().is_none_or(|tag| reference.tag() == Some(tag));
            wanted.name() == reference.name() && tag
        }
        Err(_) => matches_pattern(name, reference),
    }
}

/// Whether a pattern with `*` and `?` matches the name as people write it, with its tag or without.
fn matches_pattern(pattern: &str, reference: &Reference) -> bool {
    let mut expression = regex::escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]");
    expression = format!("^{expression}$");
    let Ok(expression) = regex::Regex::new(&expression) else { return false };
    [reference.familiar(), reference.familiar_name(), reference.canonical(), reference.name()]
        .iter()
        .any(|name| expression.is_match(name))
}

/// A condition of `--filter`.
enum Filter {
    Dangling(bool),
    Reference(String),
    Label(String, Option<String>),
    Before(Option<time::OffsetDateTime>),
    Since(Option<time::OffsetDateTime>),
}

impl Filter {
    fn parse(text: &str, store: Option<&Store>) -> anyhow::Result<Self> {
        let Some((key, value)) = text.split_once('=') else { bail!("invalid filter {text:?}: expected KEY=VALUE") };
        let created = || -> anyhow::Result<_> {
            let store = store.ok_or_else(|| StoreError::NoSuchImage(value.to_owned()))?;
            Ok(store.resolve(value)?.config.created.as_deref().and_then(parse_time))
        };
        Ok(match key {
            "dangling" => match value {
                "true" | "1" => Self::Dangling(true),
                "false" | "0" => Self::Dangling(false),
                _ => bail!("invalid filter {text:?}: dangling is true or false"),
            },
            "reference" => Self::Reference(value.to_owned()),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            },
            "before" => Self::Before(created()?),
            "since" => Self::Since(created()?),
            _ => bail!("invalid filter {text:?}: the keys are dangling, reference, label, before and since"),
        })
    }

    fn matches(&self, row: &Row) -> bool {
        let created = || row.image.config.created.as_deref().and_then(parse_time);
        match self {
            Self::Dangling(dangling) => row.reference.is_none() == *dangling,
            Self::Reference(pattern) => {
                row.reference.as_ref().is_some_and(|reference| matches_pattern(pattern, reference))
            }
            Self::Label(key, value) => {
                let label = row.image.config.config.labels.as_ref().and_then(|labels| labels.get(key));
                label.is_some_and(|label| value.as_ref().is_none_or(|value| value == label))
            }
            Self::Before(time) => created() < *time,
            Self::Since(time) => created() > *time,
        }
    }
}
