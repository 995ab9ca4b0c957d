//! Changes written as the tar of a layer (OCI image-spec, layer.md).

use super::entry::{self, Clock};
use super::{Change, ChangeKind, ChangeSet, Error, NodeReader, Result};
use crate::archive::tar::{Entry, EntryKind, EntryPath, Error as ArchiveError, Writer};
use crate::model::RelPath;
use crate::union::{Node, Source, Stack};
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

/// How a layer is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayerOptions {
    /// The latest time stamp that is written, in seconds since the epoch (`SOURCE_DATE_EPOCH`).
    pub latest: Option<i64>,
}

/// Something that no layer can hold and that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The socket.
    pub path: RelPath,
}

/// Writes `changes`, whose new side is `stack`, as a layer to `output`. Returns the output and what was left out.
///
/// The bytes depend on the changes alone. Objects with several names among the changes are written once, the other names as
/// hard links behind it.
///
/// # Errors
/// [`Error::Changing`] when a file became shorter or longer while it was read: what was written so far is of no use, and the
/// caller may start again.
pub fn write_layer<W: Write>(
    changes: &ChangeSet,
    stack: &Stack,
    options: LayerOptions,
    output: W,
) -> Result<(W, Vec<Skipped>)> {
    let clock = Clock { latest: options.latest };
    let names = several_names(changes);
    let mut layer = LayerWriter { stack, clock, archive: Writer::new(output), names, skipped: Vec::new() };
    let mut opaque: Option<&RelPath> = None;
    for change in changes {
        let hidden = opaque.is_some_and(|above| change.path.starts_with(above));
        if !hidden {
            opaque = change.opaque.then_some(&change.path);
        }
        if change.kind == ChangeKind::Deleted {
            if !hidden {
                layer.append_mark(&entry::whiteout(&change.path)?)?;
            }
            continue;
        }
        layer.append_change(change)?;
    }
    Ok((layer.archive.finish()?, layer.skipped))
}

/// The objects that more than one of `changes` leads to. Link counts do not tell: some names may be unchanged, others known
/// only to layers below.
fn several_names(changes: &ChangeSet) -> HashMap<Source, Option<EntryPath>> {
    let mut once = HashSet::new();
    let mut several = HashMap::new();
    for change in changes {
        if let Some(Node::Other { source, .. }) = &change.new
            && !once.insert(*source)
        {
            several.insert(*source, None);
        }
    }
    several
}

struct LayerWriter<'a, W> {
    stack: &'a Stack,
    clock: Clock,
    archive: Writer<W>,
    /// The objects with several names among the changes, with the first of these once it is written.
    names: HashMap<Source, Option<EntryPath>>,
    skipped: Vec<Skipped>,
}

impl<W: Write> LayerWriter<'_, W> {
    fn append_mark(&mut self, entry: &Entry) -> Result<()> {
        Ok(self.archive.append(entry, &mut io::empty())?)
    }

    fn append_change(&mut self, change: &Change) -> Result<()> {
        let Some(node) = &change.new else { return Ok(()) };
        let Some(entry) = entry::of_node(self.stack, &change.path, node, self.clock)? else {
            self.skipped.push(Skipped { path: change.path.clone() });
            return Ok(());
        };
        match self.first_name(node, &entry.path) {
            Some(target) => {
                self.append_mark(&Entry { kind: EntryKind::HardLink { target }, xattrs: Vec::new(), ..entry })?;
            }
            None => self.append_object(&change.path, node, &entry)?,
        }
        if change.opaque {
            self.append_mark(&entry::opaque_mark(&change.path)?)?;
        }
        Ok(())
    }

    /// The name under which `node` is written already; otherwise `path` is remembered as that name.
    fn first_name(&mut self, node: &Node, path: &EntryPath) -> Option<EntryPath> {
        let Node::Other { source, .. } = node else { return None };
        let first = self.names.get_mut(source)?;
        let written = first.clone();
        first.get_or_insert_with(|| path.clone());
        written
    }

    fn append_object(&mut self, path: &RelPath, node: &Node, entry: &Entry) -> Result<()> {
        let appended = match NodeReader::new(self.stack, node) {
            Some(mut data) => self.archive.append(entry, &mut data),
            None => self.archive.append(entry, &mut io::empty()),
        };
        appended.map_err(|error| match error {
            ArchiveError::ShortSource { .. } | ArchiveError::LongSource { .. } => {
                Error::Changing { path: path.clone() }
            }
            other => Error::Archive(other),
        })
    }
}
