//! `squash`: several layers made into one.

use super::error::note;
use super::output::print;
use super::progress::Bars;
use super::{Global, WithHint};
use crate::commit::{Appended, Clock, squash};
use crate::image::resolve_or_load;
use crate::oci::{Platform, Reference};
use crate::store::ImageRecord;
use anyhow::{anyhow, bail};
use std::process::ExitCode;

/// Make one layer of all layers of an image, or of its last ones
///
/// As with `docker build -t` and `docker tag`, a name that is another image's already moves to the new one; which image lost it is told
/// on standard error. The ID of the new image goes to standard output.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image
    #[arg(value_name = "IMAGE", add = clap_complete::ArgValueCompleter::new(super::complete::images))]
    image: String,
    /// The name of the result; without one, the name that IMAGE was given by moves to it
    #[arg(value_name = "TARGET", value_parser = Reference::parse_new)]
    target: Option<Reference>,
    /// The same as TARGET
    #[arg(short, long, value_name = "TARGET", conflicts_with = "target", value_parser = Reference::parse_new)]
    tag: Option<Reference>,
    /// Only the last N layers
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Of an image for several platforms, this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let image = resolve_or_load(&store, &args.image, args.platform.as_ref(), &Bars::new(false))?;
    let count = image.layers.len();
    match args.last {
        Some(0) => bail!("--last takes a number from 1 on"),
        Some(last) if last > count => {
            return Err(anyhow!("{} has {count} layers, not {last}", image.label()))
                .hint(format!("see them: layerfs history {}; without -n all are made one", args.image));
        }
        _ => {}
    }
    let own_name = || args.image.parse::<Reference>().ok().map(Reference::or_latest);
    let own_name = || own_name().filter(|name| name.digest().is_none() && image.references.contains(name));
    let target = args.target.clone().or_else(|| args.tag.clone()).map(Reference::or_latest).or_else(own_name);
    let session = store.session()?;
    let squashed = squash(&session, &image, args.last, Clock::from_environment()?)?;
    let before = target.as_ref().and_then(|name| store.resolve(&name.familiar()).ok());
    session.set_reference(target.as_ref(), &squashed.manifest)?;
    tell(&image, &squashed, args.last.unwrap_or(count), target.as_ref(), before);
    print(&format!("{}\n", squashed.id))?;
    Ok(ExitCode::SUCCESS)
}

/// Says on standard error what became of which name: a name that moves takes nothing away without a word.
fn tell(old: &ImageRecord, new: &Appended, count: usize, target: Option<&Reference>, before: Option<ImageRecord>) {
    let layers = if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") };
    let short = new.id.short();
    note(&format!("{layers} of {} made one: {} -> {short}", old.label(), old.id.short()));
    let Some(name) = target.map(Reference::familiar) else {
        return note(&format!("the new image has no name: layerfs tag {short} NAME gives it one"));
    };
    let Some(before) = before.filter(|before| before.id != new.id) else { return };
    let lost = before.id.short();
    note(&format!("{name} is {short} now, no longer {lost}"));
    if before.references.len() == 1 {
        note(&format!("{lost} has no name any more: layerfs tag {lost} NAME gives it one, layerfs prune removes it"));
    }
}
