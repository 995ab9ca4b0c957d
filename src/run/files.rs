//! Small text files of a container, links followed inside it.

use super::{RunError, failed};
use crate::model::FileKind;
use crate::union::{Node, Stack};
use std::io;

/// The most bytes read of /etc/passwd or /etc/group.
const MOST: u64 = 16 << 20;

/// The text at `path` in a stack of layers; empty where there is no such file.
pub fn read_in(stack: &Stack, path: &str) -> Result<String, RunError> {
    let what = || format!("read {path} of the image");
    let broken = |error: crate::union::LayerError| failed(what())(io::Error::other(error));
    let Some(Node::Other { source, kind: FileKind::File, data }) =
        stack.resolve_following(path.as_bytes(), true).map_err(broken)?
    else {
        return Ok(String::new());
    };
    let source = data.unwrap_or(source);
    let layer = stack.layer(source.layer).map_err(broken)?;
    let mut text = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while (text.len() as u64) < MOST {
        let length = layer.read_at(source.ino, text.len() as u64, &mut buffer).map_err(broken)?;
        if length == 0 {
            break;
        }
        text.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
