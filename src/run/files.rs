//! Small text files of a container, links followed inside it.

use super::{RunError, failed};
use crate::diff::read_file;
use crate::union::Stack;
use std::io;

/// The most bytes read of /etc/passwd or /etc/group.
const MOST: u64 = 16 << 20;

/// The text at `path` in a stack of layers; empty where there is no such file.
pub fn read_in(stack: &Stack, path: &str) -> Result<String, RunError> {
    let text = read_file(stack, path.as_bytes(), MOST).map_err(io::Error::other);
    let text = text.map_err(failed(format!("read {path} of the image")))?;
    Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned())
}
