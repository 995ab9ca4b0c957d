//! Several layers made into one.

use super::append::store_image;
use super::{Appended, Clock, Error, Result, capture};
use crate::diff::{self, ChangeSet, Comparison, LayerOptions, Options, compare, keep_links};
use crate::image::{ImageError, open_layers};
use crate::oci::{Descriptor, History, LayerCompression, ManifestKind, MediaType};
use crate::store::{ImageRecord, Session};
use crate::union::{Follow, Layer, MemLayer, Stack, StackError};
use std::sync::Arc;

/// An image whose last `count` layers, all of them when nothing is said, are one layer. What they hide of each other is
/// gone; whiteouts stay only where a layer below has what they hide. The history keeps its steps and says what was done.
pub fn squash(session: &Session, image: &ImageRecord, count: Option<usize>, clock: Clock) -> Result<Appended> {
    let total = image.layers.len();
    let kept = total - count.unwrap_or(total).min(total);
    let layers = open_layers(session.store(), image)?;
    let (changes, new) = changes_above(&layers, kept)?;
    let options = LayerOptions { latest: clock.latest() };
    let layer = capture(session, &changes, &new, options)?;
    let mut config = image.config.clone();
    config.rootfs.diff_ids.truncate(kept);
    config.rootfs.diff_ids.push(layer.diff_id);
    config.created = Some(clock.rfc3339());
    config.history = history(image, kept, clock);
    let mut blobs = lower_blobs(session, image, kept)?;
    blobs.push(Descriptor::new(MediaType::OciLayer(LayerCompression::None), layer.diff_id, layer.size));
    store_image(session, config, blobs)
}

/// The whole tree of a stack as changes to nothing, with the stack that they refer to.
pub fn flatten(layers: &[Arc<dyn Layer>]) -> Result<(ChangeSet, Stack)> {
    changes_above(layers, 0)
}

/// A stack that shows nothing: what a whole tree is compared with. Its one layer stands where no image has one, or its root
/// would be taken for that of an image's lowest layer.
pub fn empty_stack() -> Result<Stack> {
    let nothing = MemLayer::parse("nothing", "").map_err(|error| damaged(&error.to_string()))?;
    stack(Vec::new(), Some(Arc::new(nothing)))
}

/// What the layers from `kept` on change of those below. Both stacks begin with the same layers, so that what they share
/// is seen to be the same.
fn changes_above(layers: &[Arc<dyn Layer>], kept: usize) -> Result<(ChangeSet, Stack)> {
    let below: Vec<Arc<dyn Layer>> = layers.iter().take(kept).cloned().collect();
    let old = if below.is_empty() { empty_stack()? } else { stack(below, None)? };
    let new = if layers.is_empty() { empty_stack()? } else { stack(layers.to_vec(), None)? };
    let changes = compare(&old, &new, Options { comparison: Comparison::Sources, parents: true })?;
    let changes = keep_links(changes, &new)?;
    Ok((changes, new))
}

fn stack(lowers: Vec<Arc<dyn Layer>>, upper: Option<Arc<dyn Layer>>) -> Result<Stack> {
    Stack::new(lowers, upper, Follow::default()).map_err(|error| match error {
        StackError::Layer(error) => Error::Diff(diff::Error::Layer(error)),
        other => damaged(&other.to_string()),
    })
}

fn damaged(detail: &str) -> Error {
    let layer = "the layers of the image".to_owned();
    Error::Diff(diff::Error::Layer(crate::union::LayerError::Damaged { layer, detail: detail.to_owned() }))
}

/// The history: steps whose layers are no more made none, and one more step made the new layer.
fn history(image: &ImageRecord, kept: usize, clock: Clock) -> Vec<History> {
    let mut history = image.config.history.clone();
    if history.is_empty() {
        history = vec![History::default(); image.layers.len()];
    }
    let mut seen = 0;
    for step in history.iter_mut().filter(|step| !step.empty_layer) {
        seen += 1;
        step.empty_layer = seen > kept;
    }
    history.push(History {
        created: Some(clock.rfc3339()),
        created_by: Some("layerfs squash".to_owned()),
        comment: Some(format!("{} layers of {} in one", image.layers.len() - kept, image.id)),
        ..History::default()
    });
    history
}

/// The layers that stay, as the manifest lists them.
fn lower_blobs(session: &Session, image: &ImageRecord, kept: usize) -> Result<Vec<Descriptor>> {
    let mut blobs = match session.store().read_target(&image.manifest)? {
        ManifestKind::Image(manifest) => manifest.layers,
        ManifestKind::Index(_) => {
            let detail = "a list of images where a manifest belongs".to_owned();
            return Err(Error::Image(ImageError::NotAnImage { what: image.label(), detail }));
        }
    };
    blobs.truncate(kept);
    for (blob, layer) in blobs.iter_mut().zip(&image.layers) {
        session.protect(&blob.digest)?;
        session.protect(&layer.diff_id)?;
        let compression = blob.kind().ok().and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
        MediaType::OciLayer(compression).as_str().clone_into(&mut blob.media_type);
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Arc<dyn Layer> {
        Arc::new(MemLayer::parse("layer", text).unwrap())
    }

    fn paths(changes: &ChangeSet) -> Vec<String> {
        changes.iter().map(|change| change.path.to_string()).collect()
    }

    #[test]
    fn regression_nothing_shares_nothing_with_the_lowest_layer() {
        let layers = [layer("dir a\nfile a/b x")];
        let (changes, _) = flatten(&layers).unwrap();
        assert_eq!(paths(&changes).iter().filter(|path| *path != "/").count(), 2, "{:?}", paths(&changes));
        let whole = stack(layers.to_vec(), Some(layer("file c x"))).unwrap();
        let options = Options { comparison: Comparison::Sources, parents: true };
        let changes = compare(&empty_stack().unwrap(), &whole, options).unwrap();
        assert!(paths(&changes).iter().any(|path| path == "/a/b"), "{:?}", paths(&changes));
    }
}
