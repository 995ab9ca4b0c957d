//! `.dockerignore`: its names and its lines.

use super::matcher::clean;

/// The names an ignore file may have for a Dockerfile of this name, in order; only the first that exists counts. One
/// stands beside the Dockerfile, the other at the root of the context.
pub fn ignore_file_names(dockerfile: &str) -> (String, &'static str) {
    (format!("{dockerfile}.dockerignore"), ".dockerignore")
}

/// The patterns of an ignore file. A comment has its `#` at the very start of the line; a leading slash means the root of
/// the context and is dropped.
pub fn ignore_patterns(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    let mut patterns = Vec::new();
    for line in text.lines() {
        let pattern = line.trim();
        if line.starts_with('#') || pattern.is_empty() {
            continue;
        }
        let (mark, pattern) = match pattern.strip_prefix('!') {
            Some(pattern) => ("!", pattern.trim()),
            None => ("", pattern),
        };
        let cleaned = if pattern.is_empty() { String::new() } else { clean(pattern) };
        let relative = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
        patterns.push(format!("{mark}{relative}"));
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_patterns() {
        let text = "\u{feff}# comment\n /a/ \n\n!  b//c/\r\n #d\n/\nx/../y\n!\n*.txt  \n";
        assert_eq!(ignore_patterns(text.as_bytes()), ["a", "!b/c", "#d", "/", "y", "!", "*.txt"]);
    }

    #[test]
    fn names_of_ignore_files() {
        assert_eq!(ignore_file_names("sub/My.Dockerfile"), ("sub/My.Dockerfile.dockerignore".into(), ".dockerignore"));
    }
}
