//! How the content and the metadata of a path differ, as people read it.

use super::Compared;
use crate::cli::printable;
use crate::diff::{Change, is_text, meta, read_node, unified};
use crate::model::{FileKind, Meta};
use crate::union::{LayerResult, Node, Stack};

/// The most bytes of a file that are compared line by line.
const MOST: u64 = 4 << 20;

/// How the data of a path differ.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Not at all, or there are none on either side.
    Same,
    /// Text: the hunks of a unified diff.
    Text(Vec<String>),
    /// No text on one side at least.
    Binary,
    /// More than [`MOST`] bytes on one side at least.
    Large,
}

impl Content {
    /// What it is called in JSON.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Text(_) => "text",
            Self::Binary => "binary",
            Self::Large => "large",
        }
    }
}

/// How the content of `change` differs; a side without a file counts as empty.
pub(super) fn content(compared: &Compared, change: &Change) -> LayerResult<Content> {
    let bytes = |stack: &Stack, node: &Option<Node>| match node {
        Some(node) => read_node(stack, node, MOST + 1),
        None => Ok(None),
    };
    let (old, new) = (bytes(&compared.old, &change.old)?, bytes(&compared.new, &change.new)?);
    if old == new {
        // Cut where they are large: there the comparison that found the change has looked at the rest.
        let large = old.is_some_and(|old| old.len() as u64 > MOST);
        return Ok(if large { Content::Large } else { Content::Same });
    }
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    if !is_text(&old) || !is_text(&new) {
        return Ok(Content::Binary);
    }
    if old.len().max(new.len()) as u64 > MOST {
        return Ok(Content::Large);
    }
    Ok(match unified(&old, &new) {
        hunks if hunks.is_empty() => Content::Same,
        hunks => Content::Text(hunks),
    })
}

/// The unified diff with the two lines that name the files, or a line that says why there is none.
pub(super) fn lines(change: &Change, content: Content) -> Vec<String> {
    let path = printable(&change.path.to_bytes());
    let side = |letter: char, node: &Option<Node>| match node {
        Some(node) if node.kind() == FileKind::File => format!("{letter}/{path}"),
        _ => "/dev/null".to_owned(),
    };
    let (old, new) = (side('a', &change.old), side('b', &change.new));
    match content {
        Content::Same => Vec::new(),
        Content::Binary => vec![format!("Binary files {old} and {new} differ")],
        Content::Large => vec![format!("Files {old} and {new} differ, and are too large to be compared line by line")],
        Content::Text(hunks) => [format!("--- {old}"), format!("+++ {new}")].into_iter().chain(hunks).collect(),
    }
}

/// What is different besides the data: type, mode, owner, target, in words.
pub(super) fn metadata(compared: &Compared, change: &Change) -> LayerResult<Vec<String>> {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(Vec::new()) };
    let (before, after) = (meta(&compared.old, old)?, meta(&compared.new, new)?);
    let mut told = Vec::new();
    let mut tell = |what: &str, of: &dyn Fn(&Meta) -> String| {
        if of(&before) != of(&after) {
            told.push(format!("{what} {} to {}", of(&before), of(&after)));
        }
    };
    tell("type", &|meta| format!("{:?}", meta.kind).to_lowercase());
    tell("mode", &|meta| format!("{:04o}", meta.permissions));
    tell("owner", &|meta| format!("{}:{}", meta.uid, meta.gid));
    tell("device", &|meta| format!("{}:{}", meta.device.major, meta.device.minor));
    let target = |stack: &Stack, node: &Node| match node {
        Node::Other { source, kind: FileKind::Symlink, .. } => {
            Ok::<_, crate::union::LayerError>(Some(printable(&stack.layer(source.layer)?.read_link(source.ino)?)))
        }
        _ => Ok(None),
    };
    if let (Some(old), Some(new)) = (target(&compared.old, old)?, target(&compared.new, new)?)
        && old != new
    {
        told.push(format!("target {old} to {new}"));
    }
    Ok(told)
}
