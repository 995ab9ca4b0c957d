//! A part of a tree as a plain archive: no whiteouts, no marks.

use super::entry::{self, Clock};
use super::{LayerOptions, NodeReader, Result, Skipped};
use crate::archive::tar::{EntryKind, EntryPath, Writer};
use crate::model::RelPath;
use crate::union::{Node, Source, Stack, Visit, Walk};
use std::collections::HashMap;
use std::io::{self, Write};

/// Writes `node` and all below it under the name `name` (the root's is empty) to `output`, sorted; objects with several names are
/// written once. Returns the output and the sockets left out.
pub fn write_tree<W: Write>(
    stack: &Stack,
    node: Node,
    name: RelPath,
    options: LayerOptions,
    output: W,
) -> Result<(W, Vec<Skipped>)> {
    let clock = Clock { latest: options.latest };
    let mut archive = Writer::new(output);
    let mut skipped = Vec::new();
    let mut names: HashMap<Source, EntryPath> = HashMap::new();
    let mut walk = Walk::new(stack, name, node);
    while let Some(Visit { path, node }) = walk.step()? {
        let Some(mut entry) = entry::of_node(stack, path, node, clock)? else {
            skipped.push(Skipped { path: path.clone() });
            continue;
        };
        let Node::Other { source, .. } = node else {
            archive.append(&entry, &mut io::empty())?;
            continue;
        };
        if let Some(target) = names.get(source) {
            entry.kind = EntryKind::HardLink { target: target.clone() };
            entry.xattrs.clear();
            archive.append(&entry, &mut io::empty())?;
            continue;
        }
        if stack.links(*source, stack.layer(source.layer)?.meta(source.ino)?.nlink) > 1 {
            names.insert(*source, entry.path.clone());
        }
        match NodeReader::new(stack, node) {
            Some(mut data) => archive.append(&entry, &mut data)?,
            None => archive.append(&entry, &mut io::empty())?,
        }
    }
    Ok((archive.finish()?, skipped))
}
