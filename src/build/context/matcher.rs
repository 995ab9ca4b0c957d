//! Lists of patterns with exceptions, as `.dockerignore` and `--exclude` have them.
//!
//! The last pattern that matches decides; one with `!` in front takes paths out again. A pattern matches a path also
//! when it matches one of the directories above it.

use super::glob::{BadPattern, Token, decode, matches, tokens};

/// A compiled list of patterns.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

/// Which patterns matched a directory: what its entries start from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParentMatches(Vec<bool>);

#[derive(Debug, Clone)]
struct Pattern {
    exception: bool,
    text: String,
    form: Form,
}

/// How a pattern is compared. The distinction is visible: `**x` alone matches any path that ends with `x`, also in the
/// middle of a name, while `**x*` starts at a name.
#[derive(Debug, Clone)]
enum Form {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Tokens(Vec<Token>),
}

impl Form {
    fn new(pattern: &str) -> Result<Self, BadPattern> {
        // Checks the syntax as well.
        let tokens = tokens(pattern, true)?;
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if plain(pattern) {
            return Ok(Self::Exact(pattern.as_bytes().to_vec()));
        }
        if let Some(suffix) = pattern.strip_prefix("**").filter(|suffix| plain(suffix)) {
            return Ok(Self::Suffix(suffix.as_bytes().to_vec()));
        }
        if let Some(prefix) = pattern.strip_suffix("**").filter(|prefix| plain(prefix)) {
            return Ok(Self::Prefix(prefix.as_bytes().to_vec()));
        }
        Ok(Self::Tokens(tokens))
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|name| path == name)
            }
            Self::Tokens(tokens) => matches(tokens, &decode(path)),
        }
    }
}

impl Matcher {
    /// Compiles `patterns`; empty ones are dropped.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        let mut compiled = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            let cleaned = clean(pattern);
            let (exception, text) = match cleaned.strip_prefix('!') {
                Some("") => return Err(BadPattern("!".to_owned())),
                Some(text) => (true, text),
                None => (false, cleaned.as_str()),
            };
            compiled.push(Pattern { exception, form: Form::new(text)?, text: text.to_owned() });
        }
        Ok(Self { patterns: compiled })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` (relative, no trailing slash) matches, by itself or by a directory above it.
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut parents = ParentMatches::default();
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            parents = self.matches_in(path.get(..at).unwrap_or(path), &parents).1;
        }
        self.matches_in(path, &parents).0
    }

    /// Whether `path` matches, given what matched the directory it is in (the default at the root).
    pub fn matches_in(&self, path: &[u8], parent: &ParentMatches) -> (bool, ParentMatches) {
        let mut matched = false;
        let mut own = vec![false; self.patterns.len()];
        for (index, (pattern, own)) in self.patterns.iter().zip(own.iter_mut()).enumerate() {
            *own = parent.0.get(index).copied().unwrap_or(false);
            if !*own {
                // Only a pattern that would change the result is worth comparing.
                if pattern.exception != matched {
                    continue;
                }
                *own = pattern.form.matches(path);
            }
            if *own {
                matched = !pattern.exception;
            }
        }
        (matched, ParentMatches(own))
    }

    /// Whether an exception could take something below the matching directory `path` out again. If not, the directory
    /// need not be read.
    pub fn may_except_below(&self, path: &[u8]) -> bool {
        let below = [path, b"/"].concat();
        self.patterns.iter().filter(|pattern| pattern.exception).any(|pattern| match &pattern.form {
            Form::Exact(text) => text.starts_with(&below),
            Form::Prefix(prefix) => prefix.starts_with(&below) || below.starts_with(prefix),
            Form::Suffix(_) => true,
            Form::Tokens(_) => literal_start(&pattern.text)
                .is_none_or(|start| start.as_bytes().starts_with(&below) || below.starts_with(start.as_bytes())),
        })
    }
}

/// The part of a pattern before its first wildcard; none when there is nothing before it.
fn literal_start(pattern: &str) -> Option<&str> {
    let end = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    pattern.get(..end).filter(|start| !start.is_empty())
}

/// A path made canonical without looking at the disk: doubled slashes, `.` and `..` resolved (Go's `filepath.Clean`).
pub(super) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: not at all, by the path itself, or only by a directory above it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Hit {
        No,
        Own,
        Parent,
    }
    use Hit::{No, Own, Parent};

    #[test]
    fn single_patterns() {
        for (pattern, path, expected) in [
            ("**", "file", Own),
            ("**/", "file", Own),
            ("**", "dir/file", Own),
            ("**/**", "dir/file", Own),
            ("dir/**", "dir/file", Own),
            ("dir/**", "dir/dir2/file", Own),
            ("dir/**", "dir", No),
            ("**/dir", "dir", Own),
            ("**/dir", "dir/file", Parent),
            ("**/dir2/*", "dir/dir2/file", Own),
            ("**/dir2/*", "dir/dir2/file/x", Parent),
            ("**/dir2/**", "dir/dir2/dir3/file", Own),
            ("**file", "file", Own),
            ("**file", "dir/file", Own),
            ("**file", "dir/myfile", Own),
            ("**/file", "dir/dir/file", Own),
            ("**/file", "dir/myfile", No),
            ("**/file*", "dir/dir/file.txt", Own),
            ("**/file*txt", "dir/dir/file.txt", Own),
            ("**/file*.txt*", "dir/dir/file.txt", Own),
            ("**/**/*.txt", "dir/dir/file.txt", Own),
            ("**/**/*.txt2", "dir/dir/file.txt", No),
            ("**/*.txt", "file.txt", Own),
            ("a**/*.txt", "a/file.txt", Own),
            ("a**/*.txt", "a/dir/dir/file.txt", Own),
            ("a/*.txt", "a/dir/file.txt", No),
            ("a/*.txt**", "a/file.txt", Own),
            ("a[b-d]e", "ae", No),
            ("a[b-d]e", "ace", Own),
            ("a[^b-d]e", "aze", Own),
            (".*", ".foo", Own),
            (".*", "foo", No),
            ("abc.def", "abcZdef", No),
            ("abc?def", "abcZdef", Own),
            ("**/foo/bar", "dir/dir2/foo/bar", Own),
            ("abc/**", "abc", No),
            ("**/.foo", ".foo", Own),
            ("**/.foo", "bar.foo", No),
            ("a(b)c/def", "a(b)c/def", Own),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", Own),
            ("dist/*.whl", "dist/p-2.4.0rc3+g08-any.whl", Own),
            ("a\\\\", "a\\", Own),
            ("a\\*b", "a*b", Own),
            ("docs/", "docs/x/y", Parent),
            ("/docs", "docs", No),
            ("./docs", "docs", Own),
            ("x/../docs", "docs", Own),
            ("*", "dir/file", Parent),
            ("*/file", "dir/file", Own),
            ("*/*/file", "dir/file", No),
            ("fo?", "foo/bar", Parent),
        ] {
            let matcher = Matcher::new(&[pattern]).unwrap();
            assert_eq!(matcher.matches(path.as_bytes()), expected != No, "{pattern} {path}");
            assert_eq!(matcher.patterns[0].form.matches(path.as_bytes()), expected == Own, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_decides() {
        for (patterns, path, expected) in [
            (vec!["!fileutils.go", "*.go"], "fileutils.go", true),
            (vec!["*.go", "!fileutils.go"], "fileutils.go", false),
            (vec!["docs", "!docs/README.md"], "docs/README.md", false),
            (vec!["docs/", "!docs/README.md"], "docs/README.md", false),
            (vec!["docs/*", "!docs/README.md"], "docs/README.md", false),
            (vec!["docs", "!docs/README.md"], "docs/other", true),
            (vec!["**", "!util/docker/web"], "util/docker/web/foo", false),
            (vec!["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
            (vec!["**", "!dist/*.whl"], "dist/a+b.whl", false),
            (vec!["*", "!*/keep"], "dir/keep", false),
            (vec!["*", "!dir/keep"], "dir", true),
            (vec!["  a  ", ""], "a", true),
        ] {
            assert_eq!(Matcher::new(&patterns).unwrap().matches(path.as_bytes()), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["!", "[", "a/[b", "\\"] {
            assert!(Matcher::new(&[pattern]).is_err(), "{pattern}");
        }
    }

    #[test]
    fn directories_without_exceptions_below_need_not_be_read() {
        for (exception, directory, expected) in [
            ("!docs/README.md", "docs", true),
            ("!docs/README.md", "src", false),
            ("!docs/*/x", "docs/a", true),
            ("!docs/*/x", "docs2", false),
            ("!**/x", "any", true),
            ("!a/**", "a/b/c", true),
            ("!a/**", "b", false),
        ] {
            let matcher = Matcher::new(&["*", exception]).unwrap();
            assert_eq!(matcher.may_except_below(directory.as_bytes()), expected, "{exception} {directory}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in
            [("", "."), ("a//b/./c/..", "a/b"), ("../a", "../a"), ("/../a", "/a"), ("/", "/"), ("a/..", ".")]
        {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
