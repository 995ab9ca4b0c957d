//! Where an image comes from, as it is written on the command line.

use super::error::{ImageError, ImageResult};
use crate::oci::Reference;
use std::path::{Path, PathBuf};

/// What an archive is known to be before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// Whatever it turns out to be.
    Any,
    /// What `docker save` writes.
    Docker,
    /// An OCI image layout.
    Oci,
}

/// Where the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Standard input.
    Stdin,
    /// A file or directory.
    Path(PathBuf),
}

/// An archive or image layout, and which of its images is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub location: Location,
    /// What it is.
    pub format: ArchiveFormat,
    /// The one image that is meant; all of them otherwise.
    pub name: Option<String>,
}

impl Source {
    /// Parses `-`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REFERENCE]` or a path.
    pub fn parse(text: &str) -> Self {
        Self::parse_prefixed(text).unwrap_or_else(|| Self {
            location: if text == "-" { Location::Stdin } else { Location::Path(PathBuf::from(text)) },
            format: ArchiveFormat::Any,
            name: None,
        })
    }

    /// Parses only what begins with `oci:`, `oci-archive:` or `docker-archive:`: what can stand where an image of the
    /// store is expected.
    pub fn parse_prefixed(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once(':')?;
        let format = match prefix {
            "oci" | "oci-archive" => ArchiveFormat::Oci,
            "docker-archive" => ArchiveFormat::Docker,
            _ => return None,
        };
        let (location, name) = split_name(rest, Path::exists);
        let location = if location == "-" { Location::Stdin } else { Location::Path(PathBuf::from(location)) };
        Some(Self { location, format, name })
    }

    /// What messages call it.
    pub fn label(&self) -> String {
        match &self.location {
            Location::Stdin => "standard input".to_owned(),
            Location::Path(path) => path.display().to_string(),
        }
    }

    /// The name of the file or directory without what says its format: the repository of images whose archive gives them
    /// only a tag.
    pub fn base_name(&self) -> Option<String> {
        let Location::Path(path) = &self.location else { return None };
        let path = path.canonicalize().unwrap_or_else(|_| path.clone());
        let mut name = path.file_name()?.to_str()?.to_ascii_lowercase();
        for extension in [".gz", ".zst", ".tgz", ".tar", ".oci", ".docker"] {
            if let Some(shorter) = name.strip_suffix(extension).filter(|shorter| !shorter.is_empty()) {
                name.truncate(shorter.len());
            }
        }
        name.parse::<Reference>().is_ok_and(|reference| reference.tag().is_none()).then_some(name)
    }
}

/// Splits `PATH[:NAME]`. Where it is ambiguous, the longest path that exists counts; where none does, the first colon.
fn split_name(text: &str, exists: impl Fn(&Path) -> bool) -> (String, Option<String>) {
    if exists(Path::new(text)) {
        return (text.to_owned(), None);
    }
    let split = |at: usize| Some((text.get(..at)?.to_owned(), text.get(at + 1..)?.to_owned()));
    let colons: Vec<usize> = text.match_indices(':').map(|(at, _)| at).collect();
    let existing = colons.iter().rev().filter_map(|at| split(*at)).find(|(path, _)| exists(Path::new(path)));
    let first = || colons.first().and_then(|at| split(*at));
    existing
        .or_else(first)
        .map_or_else(|| (text.to_owned(), None), |(path, name)| (path, Some(name).filter(|name| !name.is_empty())))
}

/// Whether a name in an image layout is no more than a tag.
pub(super) fn is_only_tag(name: &str) -> bool {
    !name.contains(['/', ':', '@'])
}

/// The reference that a name in an image layout means. `base` is the repository for names that are only a tag.
pub(super) fn layout_reference(name: &str, base: Option<&str>) -> ImageResult<Reference> {
    let text = match base {
        Some(base) if is_only_tag(name) => format!("{base}:{name}"),
        _ => name.to_owned(),
    };
    let parsed: Result<Reference, _> = text.parse();
    parsed.map(Reference::or_latest).map_err(|source| ImageError::Reference { text, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let path = |text: &str| Location::Path(PathBuf::from(text));
        let cases = [
            ("-", Location::Stdin, ArchiveFormat::Any, None),
            ("a.tar", path("a.tar"), ArchiveFormat::Any, None),
            ("oci:/no/dir:tag", path("/no/dir"), ArchiveFormat::Oci, Some("tag")),
            ("oci:/no/dir", path("/no/dir"), ArchiveFormat::Oci, None),
            ("oci:/no/dir:", path("/no/dir"), ArchiveFormat::Oci, None),
            ("oci-archive:x.tar", path("x.tar"), ArchiveFormat::Oci, None),
            ("docker-archive:x.tar:a/b:c", path("x.tar"), ArchiveFormat::Docker, Some("a/b:c")),
        ];
        for (text, location, format, name) in cases {
            assert_eq!(Source::parse(text), Source { location, format, name: name.map(str::to_owned) }, "{text}");
        }
        assert_eq!(Source::parse_prefixed("alpine:3.20"), None);
    }

    #[test]
    fn the_longest_path_that_exists_counts() {
        let exists = |path: &Path| path == Path::new("a:b");
        assert_eq!(split_name("a:b:c", exists), ("a:b".to_owned(), Some("c".to_owned())));
        assert_eq!(split_name("a:b", exists), ("a:b".to_owned(), None));
        assert_eq!(split_name("x:y:z", exists), ("x".to_owned(), Some("y:z".to_owned())));
    }

    #[test]
    fn bare_tags_take_their_repository_from_the_file() {
        let reference = |name: &str, base: Option<&str>| layout_reference(name, base).unwrap().familiar();
        assert_eq!(reference("latest", Some("alpine")), "alpine:latest");
        assert_eq!(reference("3.20", Some("alpine")), "alpine:3.20");
        assert_eq!(reference("a:1", Some("alpine")), "a:1");
        assert_eq!(reference("docker.io/library/a:1", None), "a:1");
        assert_eq!(reference("alpine", None), "alpine:latest");
        assert!(layout_reference("A B", None).is_err());
        assert_eq!(Source::parse("/x/Alpine.tar.gz").base_name().as_deref(), Some("alpine"));
        assert_eq!(Source::parse("-").base_name(), None);
    }
}
