//! A file on the screen: text, hex, or how it differs from the layer below.

use crate::cli::printable;
use crate::diff::NodeReader;
use crate::union::{LayerResult, Node, Stack};
use similar::{ChangeTag, TextDiff};
use std::io::Read;

/// How many bytes of a file are shown.
const SHOWN: u64 = 1 << 20;
/// Bytes on a line of hex.
const HEX_WIDTH: usize = 16;

/// The first bytes of the file `node`; none for what is no file.
pub(super) fn read(stack: &Stack, node: &Node) -> Option<std::io::Result<Vec<u8>>> {
    let mut bytes = Vec::new();
    let reader = NodeReader::new(stack, node)?;
    Some(reader.take(SHOWN).read_to_end(&mut bytes).map(|_| bytes))
}

/// The target of the symlink `node`.
pub(super) fn link_target(stack: &Stack, node: &Node) -> LayerResult<Option<String>> {
    let Node::Other { source, kind: crate::model::FileKind::Symlink, .. } = node else { return Ok(None) };
    Ok(Some(printable(&stack.layer(source.layer)?.read_link(source.ino)?)))
}

/// Whether `bytes` are text, as git and grep decide: no NUL among the first 8,000.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    !bytes.iter().take(8000).any(|&byte| byte == 0)
}

/// The lines of `bytes` as text, tabs widened.
pub(super) fn text_lines(bytes: &[u8]) -> Vec<String> {
    let line = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.split(|&byte| byte == b'\t').map(printable_line).collect::<Vec<_>>().join("    ")
    };
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n').map(line).collect()
}

/// As [`printable`], but a backslash in a text is a backslash.
fn printable_line(bytes: &[u8]) -> String {
    bytes.split(|&byte| byte == b'\\').map(printable).collect::<Vec<_>>().join("\\")
}

/// The lines of `bytes` as hex.
pub(super) fn hex_lines(bytes: &[u8]) -> Vec<String> {
    let line = |(at, line): (usize, &[u8])| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            line.iter().map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '.' }).collect();
        format!("{:08x}  {:<47}  {text}", at * HEX_WIDTH, hex.join(" "))
    };
    bytes.chunks(HEX_WIDTH).enumerate().map(line).collect()
}

/// The lines that differ, with a sign before each, and three lines around them.
pub(super) fn diff_lines(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (text_lines(old).join("\n"), text_lines(new).join("\n"));
    let diff = TextDiff::from_lines(&old, &new);
    let mut lines = Vec::new();
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        lines.push(hunk.header().to_string());
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("{sign}{}", change.value().trim_end_matches('\n')));
        }
    }
    if lines.is_empty() {
        lines.push("(the content is the same)".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shown_without_what_a_terminal_obeys() {
        assert_eq!(text_lines(b"a\tb\\c\r\n\x1b[1m\n"), ["a    b\\c", "\\u{1b}[1m"]);
        assert_eq!(hex_lines(b"AB\x00")[0], format!("00000000  {:<47}  AB.", "41 42 00"));
        assert!(is_text(b"text") && !is_text(b"a\0b"));
        assert_eq!(diff_lines(b"one\ntwo\n", b"one\nTWO\n")[1..], [" one", "-two", "+TWO"]);
    }
}
