//! A file on the screen: text, hex, or how it differs from the layer below.

use crate::cli::printable;
use crate::diff::{printable_line, read_node, unified};
use crate::union::{LayerResult, Node, Stack};

/// How many bytes of a file are shown.
const SHOWN: u64 = 1 << 20;
/// What a tab is drawn as.
const TAB: &str = "    ";
/// Bytes on a line of hex.
const HEX_WIDTH: usize = 16;

/// The first bytes of the file `node`; none for what is no file.
pub(super) fn read(stack: &Stack, node: &Node) -> Option<LayerResult<Vec<u8>>> {
    read_node(stack, node, SHOWN).transpose()
}

/// The target of the symlink `node`.
pub(super) fn link_target(stack: &Stack, node: &Node) -> LayerResult<Option<String>> {
    let Node::Other { source, kind: crate::model::FileKind::Symlink, .. } = node else { return Ok(None) };
    Ok(Some(printable(&stack.layer(source.layer)?.read_link(source.ino)?)))
}

/// The lines of `bytes` as text, tabs widened.
pub(super) fn text_lines(bytes: &[u8]) -> Vec<String> {
    let line = |line: &[u8]| printable_line(line.strip_suffix(b"\r").unwrap_or(line)).replace('\t', TAB);
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n').map(line).collect()
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

/// The lines that differ, with a sign before each, and three lines around them; tabs widened.
pub(super) fn diff_lines(old: &[u8], new: &[u8]) -> Vec<String> {
    let lines = unified(old, new);
    if lines.is_empty() {
        return vec!["(the content is the same)".to_owned()];
    }
    lines.iter().map(|line| line.replace('\t', TAB)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shown_without_what_a_terminal_obeys() {
        assert_eq!(text_lines(b"a\tb\\c\r\n\x1b[1m\n"), ["a    b\\c", "\\u{1b}[1m"]);
        assert_eq!(hex_lines(b"AB\x00")[0], format!("00000000  {:<47}  AB.", "41 42 00"));
        assert_eq!(diff_lines(b"one\ntwo\n", b"one\nTWO\n")[1..], [" one", "-two", "+TWO"]);
    }
}
