//! The accounting of an image as one page that needs nothing else.

use super::{DuplicateGroup, ImageTree, Leftover, NodeId, WasteCause, WasteReport};
use crate::model::FileKind;
use serde_json::{Value, json};

const PAGE: &str = include_str!("report.html");
const DATA: &str = "/*DATA*/";
/// Rows of each table at the most: the page is read by people.
const ROWS: usize = 200;

/// What the page shows.
#[derive(Debug)]
pub struct Page<'a> {
    /// What the image is called.
    pub image: &'a str,
    /// What made each layer, bottom layer first.
    pub instructions: &'a [String],
    /// The accounting.
    pub report: &'a WasteReport,
    /// All paths.
    pub tree: &'a ImageTree,
    /// Equal files.
    pub duplicates: &'a [DuplicateGroup],
    /// What builds left behind.
    pub leftovers: &'a [Leftover],
}

impl Page<'_> {
    /// The page.
    pub fn render(&self) -> String {
        // JSON in a script element ends at the first `</script`, wherever it stands: no `<` is left in it.
        let data = self.data().to_string().replace('<', "\\u003c");
        PAGE.replacen(DATA, &data, 1)
    }

    fn data(&self) -> Value {
        json!({
            "image": self.image,
            "total": self.report.total_bytes(),
            "hidden": self.report.hidden_bytes(),
            "efficiency": self.report.efficiency(),
            "layers": self.layers(),
            "waste": self.waste(),
            "duplicates": self.duplicates(),
            "leftovers": self.leftovers(),
            "nodes": self.nodes(),
        })
    }

    fn layers(&self) -> Vec<Value> {
        let layer = |(index, layer): (usize, &super::LayerSummary)| {
            json!({
                "instruction": self.instructions.get(index).map_or("", String::as_str),
                "bytes": layer.bytes, "hidden": layer.hidden_bytes,
                "added": layer.added, "changed": layer.changed, "removed": layer.removed,
            })
        };
        self.report.layers.iter().enumerate().map(layer).collect()
    }

    fn waste(&self) -> Vec<Value> {
        let row = |waste: &super::Waste| {
            json!({
                "path": waste.path.to_string(), "cause": cause(waste.cause), "by": waste.hidden_by,
                "bytes": waste.bytes(), "of": waste.bytes_of.keys().collect::<Vec<_>>(),
            })
        };
        self.report.waste.iter().take(ROWS).map(row).collect()
    }

    fn duplicates(&self) -> Vec<Value> {
        let row = |group: &DuplicateGroup| {
            let paths: Vec<String> = group.paths.iter().map(ToString::to_string).collect();
            json!({ "wasted": group.wasted(), "paths": paths })
        };
        self.duplicates.iter().take(ROWS).map(row).collect()
    }

    fn leftovers(&self) -> Vec<Value> {
        let row = |leftover: &Leftover| {
            let places: Vec<String> = leftover.places.iter().take(ROWS).map(|(path, _)| path.to_string()).collect();
            json!({ "kind": leftover.kind.label(), "files": leftover.files, "bytes": leftover.bytes, "places": places })
        };
        self.leftovers.iter().map(row).collect()
    }

    /// `[position of the parent, name, [[layer, bytes, hidden by or -1], …]]` of every node, parents first: a flat list, since
    /// paths may be deeper than any parser of nested JSON goes.
    fn nodes(&self) -> Vec<Value> {
        let node = |id: NodeId| {
            let node = self.tree.node(id);
            let name = node.name.as_ref().map_or_else(|| "/".to_owned(), ToString::to_string);
            let versions: Vec<Value> = node
                .versions
                .iter()
                .filter(|version| version.kind != FileKind::Directory)
                .map(|version| json!([version.layer, version.size, version.hidden_by.map_or(-1, |layer| layer as i64)]))
                .collect();
            json!([ImageTree::index(node.parent), name, versions])
        };
        self.tree.ids().map(node).collect()
    }
}

/// What people call a cause.
pub fn cause(cause: WasteCause) -> &'static str {
    match cause {
        WasteCause::Deleted => "deleted",
        WasteCause::Recreated => "recreated",
        WasteCause::Replaced => "replaced",
    }
}
