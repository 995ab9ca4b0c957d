//! `history`: what made an image, layer by layer.

use super::output::{Format, human_since, print, print_json};
use super::progress::Bars;
use super::table::Table;
use super::{Global, human_size, printable};
use crate::image::resolve_or_load;
use crate::oci::{History, Platform};
use crate::store::{ImageRecord, LayerRecord};
use serde_json::json;
use std::process::ExitCode;

/// Characters of a command that are shown without `--no-trunc`.
const COMMAND_MAX: usize = 45;

/// Show what made an image, the newest step first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image
    #[arg(value_name = "IMAGE", add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    image: String,
    /// Show whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Of an image for several platforms, this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One step, with the layer it made.
struct Step<'a> {
    /// The image ID on the last step, `<missing>` on the others: images between two steps exist nowhere.
    id: Option<String>,
    history: History,
    layer: Option<&'a LayerRecord>,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let image = resolve_or_load(&store, &args.image, args.platform.as_ref(), &Bars::new(false))?;
    let steps = steps(&image);
    let id = |step: &Step<'_>| match &step.id {
        Some(_) if args.no_trunc => image.id.to_string(),
        Some(short) => short.clone(),
        None => "<missing>".to_owned(),
    };
    match args.format {
        _ if args.quiet => print(&steps.iter().map(|step| id(step) + "\n").collect::<String>())?,
        Format::Json => print_json(&steps.iter().map(|step| describe(step, &image)).collect::<Vec<_>>())?,
        Format::Text => {
            let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
            for step in &steps {
                let text = |text: &Option<String>| printable(text.as_deref().unwrap_or_default().as_bytes());
                let command = text(&step.history.created_by);
                table.row([
                    id(step),
                    human_since(step.history.created.as_deref()),
                    if args.no_trunc { command } else { shorten(&command) },
                    human_size(step.layer.map_or(0, LayerRecord::tar_size)),
                    text(&step.history.comment),
                ]);
            }
            print(&table.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The steps, newest first. Layers of an image that tells no history are steps without a word.
fn steps(image: &ImageRecord) -> Vec<Step<'_>> {
    let mut layers = image.layers.iter();
    let told = &image.config.history;
    let mut steps: Vec<Step<'_>> = told
        .iter()
        .map(|history| Step {
            id: None,
            history: history.clone(),
            layer: if history.empty_layer { None } else { layers.next() },
        })
        .collect();
    steps.extend(layers.map(|layer| Step { id: None, history: History::default(), layer: Some(layer) }));
    if let Some(last) = steps.last_mut() {
        last.id = Some(image.id.short());
    }
    steps.reverse();
    steps
}

fn shorten(command: &str) -> String {
    if command.chars().count() <= COMMAND_MAX {
        return command.to_owned();
    }
    let start: String = command.chars().take(COMMAND_MAX - 1).collect();
    start + "…"
}

fn describe(step: &Step<'_>, image: &ImageRecord) -> serde_json::Value {
    json!({
        "ID": step.id.as_ref().map_or_else(|| "<missing>".to_owned(), |_| image.id.to_string()),
        "CreatedAt": step.history.created,
        "CreatedSince": human_since(step.history.created.as_deref()),
        "CreatedBy": step.history.created_by.clone().unwrap_or_default(),
        "Author": step.history.author,
        "Comment": step.history.comment.clone().unwrap_or_default(),
        "EmptyLayer": step.layer.is_none(),
        "Size": step.layer.map_or(0, LayerRecord::tar_size),
        "DiffID": step.layer.map(|layer| layer.diff_id),
        "ChainID": step.layer.map(|layer| layer.chain_id),
        "Digest": step.layer.map(|layer| layer.blob.digest),
        "CompressedSize": step.layer.map(|layer| layer.blob.size),
    })
}
