//! From an image to the layers that a mount shows.

use super::MountError;
use crate::union::{DiffView, Follow, Hanging, Layer, Stack};
use std::sync::Arc;

/// What of an image is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// All layers on top of each other.
    #[default]
    Merged,
    /// The diff of one layer, counted from 0 at the bottom.
    Layer(usize),
    /// Directories `0`, `1` and so on with the diff of each layer, and `merged`.
    Layers,
}

/// The stack that shows `view` of `layers`, bottom layer first.
pub fn stack(layers: Vec<Arc<dyn Layer>>, view: View) -> Result<Stack, MountError> {
    let follow = Follow::default();
    let shown = match view {
        View::Merged => layers,
        View::Layer(index) => {
            let layer = layers.get(index).ok_or(MountError::NoLayer { index, count: layers.len() })?;
            // Where it gives further names to objects of layers below, these are needed, and are not seen otherwise.
            let below = if layer.has_links_below() { layers.get(..index).unwrap_or_default() } else { &[] };
            let diff = Arc::new(DiffView::alone(Arc::clone(layer))) as Arc<dyn Layer>;
            below.iter().cloned().chain([diff]).collect()
        }
        View::Layers => {
            // The stack has put the entries of implied directories where they belong.
            let merged = Stack::new(layers.clone(), None, follow)?;
            let merged = merged.lowers().iter().map(|layer| Arc::new(Hanging::new(Arc::clone(layer), "merged")));
            let diffs = layers.iter().enumerate().map(|(index, layer)| {
                let diff = Arc::new(DiffView::new(Arc::clone(layer)));
                Arc::new(Hanging::linking(diff, &index.to_string(), "merged"))
            });
            // Each diff stands right above what the layers below it make: there its links lead.
            diffs.zip(merged).flat_map(|(diff, layer)| [diff as Arc<dyn Layer>, layer]).collect()
        }
    };
    Ok(Stack::new(shown, None, follow)?)
}
