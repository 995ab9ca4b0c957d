//! What a name on the command line may mean.

use crate::oci::{InvalidReference, Reference};
use crate::registry::client::Session;

/// The images that `text` may stand for, in order. A name without registry is an alias, or one of each registry in the search list
/// of registries.conf; where that says nothing, Docker's rules apply. `docker://` in front is left out.
pub fn candidates(session: &Session, text: &str) -> Result<Vec<Reference>, InvalidReference> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let plain = text.parse::<Reference>()?.or_latest();
    if has_registry(text) {
        return Ok(vec![plain]);
    }
    let end = text.find([':', '@']).unwrap_or(text.len());
    let (name, suffix) = text.split_at(end);
    let expanded = session.registries().expand_short_name(name);
    if expanded.is_empty() {
        return Ok(vec![plain]);
    }
    expanded.iter().map(|full| Ok(format!("{full}{suffix}").parse::<Reference>()?.or_latest())).collect()
}

/// Whether the first part of a name is a registry, by Docker's rule.
fn has_registry(text: &str) -> bool {
    let Some((first, _)) = text.split_once('/') else { return false };
    first == "localhost" || first.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_told_from_paths() {
        for (text, has) in [
            ("alpine", false),
            ("alpine:3.20", false),
            ("library/alpine", false),
            ("localhost/alpine", true),
            ("localhost:5000/alpine", true),
            ("quay.io/a/b", true),
            ("quay.io", false),
        ] {
            assert_eq!(has_registry(text), has, "{text}");
        }
    }
}
