//! What a registry says when it refuses: `{"errors": [{"code": …, "message": …}]}`.

use crate::registry::http::Response;
use serde::Deserialize;

/// No refusal is read further.
const LONGEST: u64 = 64 << 10;
/// No refusal is shown further, in characters.
const SHOWN: usize = 300;

#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A refusal's code (`DENIED`, `MANIFEST_UNKNOWN`, …) and a text to append to a message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The first error's code, or nothing.
    pub code: String,
    /// `: message`, or nothing.
    pub detail: String,
}

/// Reads the rest of `response`. Whatever cannot be read or understood is no detail.
pub(super) fn refusal(response: Response) -> Refusal {
    match response.read_up_to(LONGEST) {
        Ok(Some(bytes)) => parse(&bytes),
        _ => Refusal::default(),
    }
}

fn parse(bytes: &[u8]) -> Refusal {
    let Ok(mut body) = serde_json::from_slice::<Body>(bytes) else { return Refusal::default() };
    if body.errors.is_empty() {
        return Refusal::default();
    }
    let Entry { code, message } = body.errors.swap_remove(0);
    let text = if message.is_empty() { code.to_ascii_lowercase() } else { message };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    let text = text.trim();
    Refusal { code, detail: if text.is_empty() { String::new() } else { format!(": {text}") } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_one_short_line() {
        for (body, code, detail) in [
            (r#"{"errors":[{"code":"DENIED","message":"no\nway"}]}"#, "DENIED", ": no way"),
            (r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, "NAME_UNKNOWN", ": name_unknown"),
            (r#"{"errors":[]}"#, "", ""),
            ("<html>", "", ""),
        ] {
            assert_eq!(parse(body.as_bytes()), Refusal { code: code.into(), detail: detail.into() }, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(5000));
        assert_eq!(parse(long.as_bytes()).detail.len(), SHOWN + 2);
    }
}
