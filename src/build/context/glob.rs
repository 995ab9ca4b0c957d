//! Go's `filepath.Match`: `*` and `?` within a name, character classes, escapes.

use std::fmt;

/// A pattern that is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {0:?}")]
pub struct BadPattern(pub String);

/// One unit of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Literal(char),
    /// Any character but `/`.
    One,
    /// Any number of characters but `/`.
    Star,
    /// A character of these ranges, or none of them.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Nothing, or anything that ends with `/`.
    Directories,
    /// Anything.
    Rest,
}

/// A compiled `filepath.Match` pattern.
#[derive(Clone)]
pub struct Glob(Vec<Token>);

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.0)
    }
}

/// Whether `pattern` is more than a plain path.
pub fn has_wildcards(pattern: &str) -> bool {
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => {
                characters.next();
            }
            _ => {}
        }
    }
    false
}

impl Glob {
    /// Compiles `pattern`.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        tokens(pattern, false).map(Self)
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        matches(&self.0, &decode(text))
    }
}

/// The characters of a file name; bytes that are no UTF-8 count as one character each.
pub(super) fn decode(text: &[u8]) -> Vec<char> {
    let mut characters = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        characters.extend(chunk.valid().chars());
        characters.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    characters
}

/// Compiles a pattern; with `double_stars`, `**` spans directories.
pub(super) fn tokens(pattern: &str, double_stars: bool) -> Result<Vec<Token>, BadPattern> {
    let bad = || BadPattern(pattern.to_owned());
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' if double_stars && rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => Token::Literal(rest.next().ok_or_else(bad)?),
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
                        break;
                    }
                    let low = class_character(&mut rest).ok_or_else(bad)?;
                    let high = match rest.next_if_eq(&'-') {
                        Some(_) => class_character(&mut rest).ok_or_else(bad)?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                Token::Class { negated, ranges }
            }
            other => Token::Literal(other),
        });
    }
    Ok(tokens)
}

/// A character of a class; `-` and `]` only when escaped.
fn class_character(rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        other => Some(other),
    }
}

/// Whether all of `text` matches. Every pair of a token and a position is tried once, so that no pattern takes
/// exponential time.
pub(super) fn matches(tokens: &[Token], text: &[char]) -> bool {
    let mut reachable = vec![false; text.len() + 1];
    if let Some(first) = reachable.first_mut() {
        *first = true;
    }
    for token in tokens {
        reachable = step(token, text, &reachable);
    }
    reachable.last().copied().unwrap_or(false)
}

/// The positions reachable by `token` from `before`.
fn step(token: &Token, text: &[char], before: &[bool]) -> Vec<bool> {
    let mut after = vec![false; before.len()];
    let mut open = false;
    for (position, slot) in after.iter_mut().enumerate() {
        let previous = position.checked_sub(1);
        let character = previous.and_then(|previous| text.get(previous)).copied();
        let here = before.get(position).copied().unwrap_or(false);
        let stepped = previous.and_then(|previous| before.get(previous)).copied().unwrap_or(false);
        *slot = match (token, character) {
            (Token::Star, character) => {
                open = here || (open && character != Some('/'));
                open
            }
            (Token::Rest, _) => {
                open |= here;
                open
            }
            (Token::Directories, character) => {
                let spanned = open && character == Some('/');
                open |= here;
                here || spanned
            }
            (_, None) => false,
            (Token::Literal(wanted), Some(character)) => stepped && *wanted == character,
            (Token::One, Some(character)) => stepped && character != '/',
            (Token::Class { negated, ranges }, Some(character)) => {
                stepped && ranges.iter().any(|&(low, high)| (low..=high).contains(&character)) != *negated
            }
        };
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("**", "ab", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(Glob::new("a?b").unwrap().matches(b"a\xffb"));
        let slow = Glob::new(&"*a".repeat(60)).unwrap();
        assert!(!slow.matches(&[b'a'; 50]));
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a["] {
            assert_eq!(Glob::new(pattern).unwrap_err(), BadPattern(pattern.to_owned()));
        }
    }
}
