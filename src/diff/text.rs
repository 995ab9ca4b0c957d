//! How two texts differ, line by line, as it may be shown on a terminal.

use crate::model::printable;
use similar::{Algorithm, DiffOp, capture_diff_slices_deadline, group_diff_ops};
use std::time::{Duration, Instant};

/// Lines around what differs, as in diff -u.
const CONTEXT: usize = 3;
/// How long the shortest difference of two texts is looked for; after that what has been found is told, right but longer than need be.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether `bytes` are text, as git and grep decide: no NUL among the first 8,000.
pub fn is_text(bytes: &[u8]) -> bool {
    !bytes.iter().take(8000).any(|&byte| byte == 0)
}

/// A line of a text as a terminal may get it: as [`printable`], but backslashes and tabs stay what they are.
pub fn printable_line(bytes: &[u8]) -> String {
    let between_tabs = |part: &[u8]| part.split(|&byte| byte == b'\\').map(printable).collect::<Vec<_>>().join("\\");
    bytes.split(|&byte| byte == b'\t').map(between_tabs).collect::<Vec<_>>().join("\t")
}

/// The hunks of a unified diff from `old` to `new`, line by line, without the two lines that name the files; empty when they are equal.
pub fn unified(old: &[u8], new: &[u8]) -> Vec<String> {
    let split = |text| <[u8]>::split_inclusive(text, |&byte| byte == b'\n').collect::<Vec<_>>();
    let (old, new) = (split(old), split(new));
    let deadline = Some(Instant::now() + PATIENCE);
    let operations = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, deadline);
    let mut lines = Vec::new();
    for hunk in group_diff_ops(operations, CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let range = |from: usize, to: usize| match to - from {
            0 => format!("{from},0"),
            1 => (from + 1).to_string(),
            count => format!("{},{count}", from + 1),
        };
        let old_range = range(first.old_range().start, last.old_range().end);
        let new_range = range(first.new_range().start, last.new_range().end);
        lines.push(format!("@@ -{old_range} +{new_range} @@"));
        for operation in hunk {
            let removed = old.get(operation.old_range()).unwrap_or_default();
            let added = new.get(operation.new_range()).unwrap_or_default();
            let equal = matches!(operation, DiffOp::Equal { .. });
            for line in removed {
                push(&mut lines, if equal { ' ' } else { '-' }, line);
            }
            for line in added.iter().filter(|_| !equal) {
                push(&mut lines, '+', line);
            }
        }
    }
    lines
}

fn push(lines: &mut Vec<String>, sign: char, line: &[u8]) {
    let ended = line.strip_suffix(b"\n");
    lines.push(format!("{sign}{}", printable_line(ended.unwrap_or(line))));
    if ended.is_none() {
        lines.push("\\ No newline at end of file".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_as_diff_does() {
        let cases: &[(&[u8], &[u8], &[&str])] = &[
            (b"same\n", b"same\n", &[]),
            (b"", b"a\n", &["@@ -0,0 +1 @@", "+a"]),
            (b"a\nb\n", b"", &["@@ -1,2 +0,0 @@", "-a", "-b"]),
            (b"a\n", b"b\n", &["@@ -1 +1 @@", "-a", "+b"]),
            (b"a", b"a\n", &["@@ -1 +1 @@", "-a", "\\ No newline at end of file", "+a"]),
            (b"1\n2\n3\n4\n5\n6\n", b"1\n2\n3\n4\n5\nx\n", &["@@ -3,4 +3,4 @@", " 3", " 4", " 5", "-6", "+x"]),
            (b"\x1b[1m\ta\\b\n", b"\xff\r\n", &["@@ -1 +1 @@", "-\\u{1b}[1m\ta\\b", "+\\xff\\r"]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(&unified(old, new), expected, "{}", old.escape_ascii());
        }
    }

    #[test]
    fn texts_have_no_nul() {
        assert!(is_text(b"text") && is_text(b"") && !is_text(b"a\0b"));
    }
}
