//! Names of images, by Docker's rules.
//!
//! The grammar and the wording of errors are those of distribution/reference (regexp.go, normalize.go, reference.go).

use super::{Digest, InvalidDigest};
use std::fmt;
use std::str::FromStr;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// The longest path of a repository, in bytes (`RepositoryNameTotalLengthMax`).
const PATH_MAX: usize = 255;
/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

/// A reference to an image: registry host, repository path, and a tag, a digest, both or neither.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It does not match the grammar.
    #[error("invalid reference format")]
    Format,
    /// Upper case in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// No repository at all.
    #[error("repository name must have at least one component")]
    Empty,
    /// The path of the repository is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// Could be mistaken for an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// A name whose tags would read as digests.
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    LooksLikeDigest,
    /// A new name with a digest: it would be another image's.
    #[error("refusing to create a tag with a digest reference")]
    NewDigest,
    /// The part after `@`.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// A tag that does not match the grammar.
    #[error("invalid tag format")]
    Tag,
}

impl Reference {
    /// The registry host, with its port: `docker.io` when none was written.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository path at the registry: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether an image may be called so: `sha256:abc` would be taken for the beginning of an ID.
    pub fn check_as_name(&self) -> Result<(), InvalidReference> {
        if self.familiar_name() == "sha256" { Err(InvalidReference::LooksLikeDigest) } else { Ok(()) }
    }

    /// A name for a new image, which cannot be said to have a digest before it is there.
    pub fn parse_new(text: &str) -> Result<Self, InvalidReference> {
        let reference: Self = text.parse()?;
        if reference.digest.is_some() { Err(InvalidReference::NewDigest) } else { Ok(reference) }
    }

    /// Host and path: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as people write it: `alpine`, `ghcr.io/owner/name`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The reference as people write it, with its tag and digest: `alpine:3.20`.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    /// The whole reference: `docker.io/library/alpine:3.20`.
    pub fn canonical(&self) -> String {
        self.name() + &self.suffix()
    }

    /// The reference with the tag `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository under `tag`, without a digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Tag);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository by `digest`, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

/// The familiar form.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    /// Parses what a person writes. No tag is added: see [`Reference::or_latest`].
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Format);
        }
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        check_lowercase(&rest)?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !is_domain(&domain) || !path.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
            return Err(InvalidReference::Format);
        }
        if path.len() > PATH_MAX {
            return Err(InvalidReference::TooLong);
        }
        let digest = digest.map(parse_digest).transpose()?;
        Ok(Self { domain, path: path.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

/// Splits off the host. The first component is one only when it has a dot or a colon, is `localhost`, or has upper
/// case; otherwise it belongs to the path.
fn split_domain(text: &str) -> (String, String) {
    let is_host = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    let official = domain == DEFAULT_DOMAIN && !rest.contains('/');
    (domain.to_owned(), if official { format!("{OFFICIAL_PREFIX}{rest}") } else { rest.to_owned() })
}

fn check_lowercase(rest: &str) -> Result<(), InvalidReference> {
    let end = rest.find([':', '@']).unwrap_or(rest.len());
    let path = rest.get(..end).unwrap_or(rest);
    if path.chars().any(char::is_uppercase) {
        return Err(InvalidReference::Uppercase(path.to_owned()));
    }
    Ok(())
}

/// A digest in a reference: what is not even shaped like one is a malformed reference.
fn parse_digest(text: &str) -> Result<Digest, InvalidReference> {
    text.parse().map_err(|error| match error {
        InvalidDigest::Format(_) => InvalidReference::Format,
        InvalidDigest::Length(_) if text.rsplit(':').next().is_none_or(|hex| hex.len() < 32) => {
            InvalidReference::Format
        }
        other => InvalidReference::Digest(other),
    })
}

/// `[a-z0-9]+` parts joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|&byte| alphanumeric(byte));
    if !ends(text.as_bytes().first()) || !ends(text.as_bytes().last()) {
        return false;
    }
    text.as_bytes()
        .split(|&byte| alphanumeric(byte))
        .filter(|run| !run.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&byte| byte == b'-'))
}

/// `[\w][\w.-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// A host name or a bracketed IPv6 address, with a port or without.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
                return false;
            }
            (None, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("?")) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let component = |part: &str| {
        let bytes = part.as_bytes();
        let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    host.is_none_or(|host| host.split('.').all(component))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn familiar_and_canonical_forms() {
        let cases = [
            ("alpine", "alpine", "docker.io/library/alpine"),
            ("alpine:3.20", "alpine:3.20", "docker.io/library/alpine:3.20"),
            ("library/alpine", "alpine", "docker.io/library/alpine"),
            ("docker.io/alpine", "alpine", "docker.io/library/alpine"),
            ("docker.io/library/alpine", "alpine", "docker.io/library/alpine"),
            ("index.docker.io/library/alpine", "alpine", "docker.io/library/alpine"),
            ("owner/name:tag", "owner/name:tag", "docker.io/owner/name:tag"),
            ("library/a/b", "library/a/b", "docker.io/library/a/b"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("localhost:5000", "localhost:5000", "docker.io/library/localhost:5000"),
            ("ghcr.io/owner/name", "ghcr.io/owner/name", "ghcr.io/owner/name"),
            ("Host/name", "Host/name", "Host/name"),
            ("[::1]:5000/name", "[::1]:5000/name", "[::1]:5000/name"),
            ("a_b/c__d/e-f/g---h:V1.0_x-y", "a_b/c__d/e-f/g---h:V1.0_x-y", "docker.io/a_b/c__d/e-f/g---h:V1.0_x-y"),
        ];
        for (text, familiar, canonical) in cases {
            let reference = parse(text);
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(reference.canonical(), canonical, "{text}");
            assert_eq!(parse(canonical), reference, "{text}");
        }
    }

    #[test]
    fn tags_and_digests_in_any_combination() {
        let both = parse(&format!("alpine:3.20@sha256:{HEX}"));
        assert_eq!(both.tag(), Some("3.20"));
        assert_eq!(both.digest(), Some(&Digest::of(b"")));
        assert_eq!(both.clone().or_latest(), both);
        assert_eq!(parse("alpine").or_latest().tag(), Some("latest"));
        let digest = parse(&format!("alpine@sha256:{HEX}")).or_latest();
        assert_eq!((digest.tag(), digest.canonical()), (None, format!("docker.io/library/alpine@sha256:{HEX}")));
        assert_eq!(parse("a").with_tag("b").unwrap().familiar(), "a:b");
        assert_eq!(parse("a").with_tag("b/c"), Err(InvalidReference::Tag));
        assert_eq!(parse("sha256:abc").check_as_name(), Err(InvalidReference::LooksLikeDigest));
        assert_eq!(parse("example.com/sha256:abc").check_as_name(), Ok(()));
    }

    #[test]
    fn errors_are_worded_as_docker_words_them() {
        let long = format!("{}/b", "a".repeat(255));
        let cases = [
            ("", "invalid reference format"),
            (":tag", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a--", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("a@sha256:abc", "invalid reference format"),
            ("http://a/b", "invalid reference format"),
            ("host:port/a", "invalid reference format"),
            ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
            ("Foo:bar", "invalid reference format: repository name (library/Foo) must be lowercase"),
            ("a/Foo:bar", "invalid reference format: repository name (a/Foo) must be lowercase"),
            (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            (&long, "repository name must not be more than 255 characters"),
            (&format!("a:{}", "x".repeat(129)), "invalid reference format"),
            (
                &format!("a@sha512:{}", "0".repeat(128)),
                "unsupported digest algorithm \"sha512\": only sha256 is supported",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<Reference>().unwrap_err().to_string(), message, "{text:?}");
        }
    }
}
