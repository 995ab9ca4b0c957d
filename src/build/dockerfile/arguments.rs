//! The argument grammars: words, name and value pairs, JSON arrays.

use super::flags::Fault;

/// Blanks between arguments. A newline cannot occur in a joined line.
const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Splits at runs of blanks.
pub(super) fn split_blanks(text: &str) -> Vec<String> {
    text.split(BLANKS).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The first word and what follows it.
pub(super) fn split_first(text: &str) -> (&str, &str) {
    match text.find(BLANKS) {
        Some(at) => {
            let (first, rest) = text.split_at(at);
            (first, rest.trim_start_matches(BLANKS))
        }
        None => (text, ""),
    }
}

/// The strings of a JSON array; none when `text` is no JSON array, an error when it is one with other things in it.
/// `[` alone does not make JSON: what does not parse is the shell form (`RUN [ -f x ]`).
pub(super) fn json_strings(text: &str) -> Result<Option<Vec<String>>, Fault> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(string) => Ok(string),
        _ => Err(Fault::new("when using JSON array syntax, arrays must be comprised of strings only")),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// Words separated by blanks, quotes and escapes respected and kept: expansion removes them later.
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut started = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            if started {
                words.push(std::mem::take(&mut word));
            }
            started = false;
            continue;
        }
        if character == escape && quote != Some('\'') {
            // An escape at the very end is dropped.
            let Some(escaped) = characters.next() else { break };
            word.push(character);
            word.push(escaped);
            started = true;
            continue;
        }
        match quote {
            Some(open) if open == character => quote = None,
            None if character == '\'' || character == '"' => quote = Some(character),
            _ => {}
        }
        word.push(character);
        started = true;
    }
    if started {
        words.push(word);
    }
    words
}

/// The pairs of ENV and LABEL: `name=value …`, or the old `name value` where the rest of the line is the value.
pub(super) fn pairs(text: &str, instruction: &str, escape: char) -> Result<Vec<(String, String)>, Fault> {
    let words = quoted_words(text, escape);
    let Some(first) = words.first() else {
        return Err(Fault::new(format!("{instruction} requires at least one argument")));
    };
    let pairs = if first.contains('=') {
        let split = |word: &String| match word.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => {
                Err(Fault::new(format!("syntax error - can't find = in {word:?}. Must be of the form: name=value")))
            }
        };
        words.iter().map(split).collect::<Result<Vec<_>, _>>()?
    } else {
        match split_first(text) {
            (_, "") => return Err(Fault::new(format!("{instruction} must have two arguments"))),
            (name, value) => vec![(name.to_owned(), value.to_owned())],
        }
    };
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(Fault::new(format!("{instruction} names can not be blank")));
    }
    Ok(pairs)
}
