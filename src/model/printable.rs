//! Names as text that a terminal can be given: nothing that it would obey gets through.

use std::fmt::Write;

/// `bytes` as text that is safe to print: valid UTF-8 stays, everything else is escaped as `\xNN`, `\n`, `\u{…}`. Escaped are control
/// characters, the marks that reverse the direction of text (Unicode Bidi_Control), line separators, and the backslash
/// itself, so that two names never look the same.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_harmless(character) {
                text.push(character);
            } else {
                text.extend(character.escape_default());
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The same for a message, which has to stay a line: a path of more than a kibibyte is shown without its middle.
pub fn printable_briefly(bytes: &[u8]) -> String {
    match (bytes.len() > 1024).then(|| (bytes.first_chunk::<512>(), bytes.last_chunk::<256>())) {
        Some((Some(begin), Some(end))) => format!("{}…{}", printable(begin), printable(end)),
        _ => printable(bytes),
    }
}

/// `text` with nothing in it that a terminal would obey: what [`printable`] escapes, but for backslashes, so that what is escaped already
/// stays as it is.
pub fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmless(character) || character == '\\' {
            harmless.push(character);
        } else {
            harmless.extend(character.escape_default());
        }
    }
    harmless
}

fn is_harmless(character: char) -> bool {
    let reverses =
        matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separates = matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}');
    !character.is_control() && !reverses && !separates && character != '\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_long_paths_are_cut_in_messages() {
        assert_eq!(printable_briefly(&[b'a'; 1024]), "a".repeat(1024));
        let long = [b"a".repeat(20_000), b"/name".to_vec()].concat();
        let brief = printable_briefly(&long);
        assert!(brief.len() < 1024 && brief.starts_with("aaa") && brief.contains('…') && brief.ends_with("/name"));
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain name", "plain name"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"back\\slash", "back\\\\slash"),
            ("\u{202e}gnp.exe".as_bytes(), "\\u{202e}gnp.exe"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(&printable(bytes), expected);
            assert_eq!(&harmless(&printable(bytes)), expected, "once is enough");
        }
        assert_eq!(harmless("a\u{1b}[0m\\x"), "a\\u{1b}[0m\\x");
    }
}
