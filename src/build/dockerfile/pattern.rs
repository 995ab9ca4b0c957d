//! The patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*`, `?` and escapes, no brackets.

use regex::Regex;

/// A pattern as a regular expression, or what is wrong with it. `*` takes as much as it can when `greedy`.
fn to_regex(pattern: &str, greedy: bool, anchored: bool) -> Result<Regex, String> {
    let mut text = String::from(if anchored { "^" } else { "" });
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' => text.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => text.push('.'),
            // The escape of `}` and `/` belongs to the braces around the pattern, not to the pattern.
            '\\' if matches!(characters.peek(), Some('}' | '/')) => {}
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '?' | '\\')) => text.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4]))),
                Some(other) => return Err(format!("invalid escape '\\{other}'")),
                None => return Err("nothing after the last '\\'".to_owned()),
            },
            other => text.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&text).map_err(|error| error.to_string())
}

/// `value` without what `pattern` matches at its start.
pub(super) fn trim_prefix(value: &str, pattern: &str, greedy: bool) -> Result<String, String> {
    let matched = to_regex(pattern, greedy, true)?.find(value).map_or(0, |found| found.end());
    Ok(value.get(matched..).unwrap_or_default().to_owned())
}

/// `value` without what `pattern` matches at its end. Both are reversed, because a leftmost search cannot find the
/// shortest match at the end.
pub(super) fn trim_suffix(value: &str, pattern: &str, greedy: bool) -> Result<String, String> {
    let value: String = value.chars().rev().collect();
    let trimmed = trim_prefix(&value, &reverse_pattern(pattern), greedy)?;
    Ok(trimmed.chars().rev().collect())
}

/// `value` with the first or every match of `pattern` replaced.
pub(super) fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> Result<String, String> {
    let regex = to_regex(pattern, true, false)?;
    let limit = usize::from(!all);
    Ok(regex.replacen(value, limit, regex::NoExpand(replacement)).into_owned())
}

/// The pattern read backwards, an escape staying before what it escapes.
fn reverse_pattern(pattern: &str) -> String {
    let mut units: Vec<String> = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let mut unit = character.to_string();
        if character == '\\' {
            unit.extend(characters.next());
        }
        units.push(unit);
    }
    units.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_reversed_with_their_escapes() {
        assert_eq!(reverse_pattern("a\\*c"), "c\\*a");
        assert_eq!(reverse_pattern("\\\\\\ab"), "b\\a\\\\");
        assert_eq!(reverse_pattern("ab\\"), "\\ba");
    }

    #[test]
    fn bad_escapes_are_refused() {
        for pattern in ["\\", "\\x", "\\\\\\"] {
            assert!(trim_prefix("", pattern, true).is_err(), "{pattern}");
        }
    }
}
