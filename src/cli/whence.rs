//! `layerfs whence`: every layer that touches a path.

use super::error::note;
use super::explore::instructions;
use super::image_argument::{open_image, open_image_path};
use super::ls::kind_letter;
use super::output::{Format, json_text};
use super::{Global, WithHint, human_size, printable};
use crate::analyze::{Touch, TouchKind, history_of};
use crate::model::{FileKind, RelPath};
use crate::oci::Hasher;
use crate::union::{Follow, LocalIno, Stack};
use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;

/// Tell which layers of an image touch a path, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image, or with the path: IMAGE:PATH
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::image_paths))]
    image: String,
    /// The path in it
    path: Option<String>,
    /// The shape of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let (image, name, path) = match &args.path {
        Some(path) => (open_image(&store, &args.image, "layerfs whence")?, args.image.as_str(), path.as_str()),
        None => open_image_path(&store, &args.image, "layerfs whence")?,
    };
    let stack = Stack::new(image.layers.clone(), None, Follow::default())?;
    let path = RelPath::parse(path.as_bytes()).with_context(|| format!("{path:?} is no path in an image"))?;
    let mut touches = history_of(&stack, &path)?;
    if !any_has(&touches) {
        // As `ls` and `cat` have it, `/bin/sh` may well be a file of `/usr/bin`.
        let real = stack.real_path(&path)?.filter(|real| *real != path);
        touches = real.as_ref().map_or(Ok(Vec::new()), |real| history_of(&stack, real))?;
        let Some(real) = real.filter(|_| any_has(&touches)) else {
            let parent = path.parent().map_or_else(String::new, |parent| printable(&parent.to_bytes()));
            return Err(anyhow!("no layer of {name} has /{}", printable(&path.to_bytes())))
                .hint(format!("see what there is: layerfs ls -a {name}:/{parent}"));
        };
        note(&format!("/{} is /{}", printable(&path.to_bytes()), printable(&real.to_bytes())));
    }
    let instructions = instructions(&image.record);
    let mut out = std::io::stdout().lock();
    let mut rows = Vec::new();
    for touch in &touches {
        let by = instructions.get(touch.layer).map_or("", String::as_str);
        match args.format {
            Format::Text => writeln!(out, "layer {:<3} {}  {by}", touch.layer, text(&stack, touch)?)?,
            Format::Json => rows.push(row(&stack, touch, by)?),
        }
    }
    if args.format == Format::Json {
        writeln!(out, "{}", json_text(&rows)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there ever was anything.
fn any_has(touches: &[Touch]) -> bool {
    touches.iter().any(|touch| matches!(touch.kind, TouchKind::Object { .. } | TouchKind::LinkBelow { .. }))
}

fn text(stack: &Stack, touch: &Touch) -> anyhow::Result<String> {
    Ok(match &touch.kind {
        TouchKind::Object { implied: true, .. } => "only what is in it".to_owned(),
        TouchKind::Object { ino, meta, opaque, .. } => {
            let digest = digest(stack, touch.layer, *ino, meta.kind)?
                .map_or_else(String::new, |hex| format!("  sha256:{}", hex.get(..12).unwrap_or_default()));
            let hides = if *opaque && meta.kind.is_directory() { "  hides what was in it" } else { "" };
            let (kind, owner) = (kind_letter(meta.kind), format!("{}:{}", meta.uid, meta.gid));
            format!("{kind}{:04o} {owner:>9} {:>8}{digest}{hides}", meta.permissions, human_size(meta.size))
        }
        TouchKind::LinkBelow { target } => format!("hard link to /{} of the layers below", printable(target)),
        TouchKind::Removed { path } => format!("removed /{}", printable(&path.to_bytes())),
        TouchKind::Covered { path } => format!("hidden by /{}", printable(&path.to_bytes())),
    })
}

fn row(stack: &Stack, touch: &Touch, by: &str) -> anyhow::Result<Value> {
    let mut row = json!({ "layer": touch.layer, "createdBy": by });
    let facts = match &touch.kind {
        TouchKind::Object { ino, meta, implied, opaque } => json!({
            "deed": if *implied { "passed" } else { "written" },
            "type": kind_letter(meta.kind).to_string(),
            "mode": format!("{:04o}", meta.permissions), "uid": meta.uid, "gid": meta.gid, "size": meta.size,
            "mtime": meta.mtime.seconds, "opaque": *opaque && meta.kind.is_directory(),
            "digest": digest(stack, touch.layer, *ino, meta.kind)?.map(|hex| format!("sha256:{hex}")),
        }),
        TouchKind::LinkBelow { target } => json!({ "deed": "linked", "target": printable(target) }),
        TouchKind::Removed { path } => json!({ "deed": "removed", "path": printable(&path.to_bytes()) }),
        TouchKind::Covered { path } => json!({ "deed": "hidden", "path": printable(&path.to_bytes()) }),
    };
    if let (Some(row), Value::Object(facts)) = (row.as_object_mut(), facts) {
        row.extend(facts);
    }
    Ok(row)
}

/// The SHA-256 of a file's content in hex.
fn digest(stack: &Stack, layer: usize, ino: LocalIno, kind: FileKind) -> anyhow::Result<Option<String>> {
    let Some(layer) = stack.lowers().get(layer).filter(|_| kind == FileKind::File) else { return Ok(None) };
    let (mut hasher, mut buffer, mut offset) = (Hasher::new(), vec![0; 1 << 20], 0);
    loop {
        let count = layer.read_at(ino, offset, &mut buffer)?;
        if count == 0 {
            return Ok(Some(hasher.finish().0.hex()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        offset += count as u64;
    }
}
