//! The accounting of an image as one page that needs nothing else.

use super::{DuplicateGroup, ImageTree, Leftover, WasteCause, WasteReport};
use crate::model::{FileKind, printable};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::{Value, json};
use std::io::{self, Write};

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
    /// Writes the page to `output`, which should be buffered.
    pub fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        let (before, after) = PAGE.split_once(DATA).unwrap_or((PAGE, ""));
        output.write_all(before.as_bytes())?;
        serde_json::to_writer(InScript(&mut *output), self)?;
        output.write_all(after.as_bytes())
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
}

impl Serialize for Page<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut page = serializer.serialize_struct("Page", 9)?;
        page.serialize_field("image", &printable(self.image.as_bytes()))?;
        page.serialize_field("total", &self.report.total_bytes())?;
        page.serialize_field("hidden", &self.report.hidden_bytes())?;
        page.serialize_field("efficiency", &self.report.efficiency())?;
        page.serialize_field("layers", &self.layers())?;
        page.serialize_field("waste", &self.waste())?;
        page.serialize_field("duplicates", &self.duplicates())?;
        page.serialize_field("leftovers", &self.leftovers())?;
        page.serialize_field("nodes", &Nodes(self.tree))?;
        page.end()
    }
}

/// `[position of the parent, name, [[layer, bytes, hidden by or -1], …]]` of every node, parents first: a flat list, since
/// paths may be deeper than any parser of nested JSON goes. Written one by one, since there may be millions.
struct Nodes<'a>(&'a ImageTree);

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.ids().map(|id| {
            let node = self.0.node(id);
            let name = node.name.as_ref().map_or_else(|| "/".to_owned(), ToString::to_string);
            let files = node.versions.iter().filter(|version| version.kind != FileKind::Directory);
            let versions: Vec<(usize, u64, i64)> = files
                .map(|version| (version.layer, version.size, version.hidden_by.map_or(-1, |layer| layer as i64)))
                .collect();
            (ImageTree::index(node.parent), name, versions)
        }))
    }
}

/// JSON in a script element ends at the first `</script`, wherever it stands: no `<` gets through.
struct InScript<'a>(&'a mut dyn Write);

impl Write for InScript<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|&byte| byte == b'<') {
            match part.strip_suffix(b"<") {
                Some(before) => {
                    self.0.write_all(before)?;
                    self.0.write_all(b"\\u003c")?;
                }
                None => self.0.write_all(part)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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
