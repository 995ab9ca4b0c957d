//! `registries.conf`, version 2 (containers-registries.conf(5)): where names lead.
//!
//! Owns matching and rewriting. Version 1 files are refused, not guessed at.

use super::{ConfigError, Paths};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(rename = "unqualified-search-registries")]
    search: Option<Vec<String>>,
    #[serde(rename = "registry")]
    registries: Vec<Entry>,
    aliases: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    #[serde(rename = "mirror-by-digest-only")]
    mirror_by_digest_only: bool,
    #[serde(rename = "mirror")]
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Mirror {
    location: String,
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    wanted_for: Option<String>,
}

/// Where an image may be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The registry's name, `host[:port]`.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// Whether plain HTTP and unverified TLS are allowed.
    pub insecure: bool,
}

/// The rules of all files, later ones laid over earlier ones.
#[derive(Debug, Default)]
pub struct Registries {
    search: Vec<String>,
    aliases: BTreeMap<String, String>,
    entries: Vec<Entry>,
}

impl Registries {
    /// Reads the files that `paths` name; missing ones are empty, except one that the user named.
    pub fn load(paths: &Paths) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        for path in paths.registries_files() {
            match std::fs::read_to_string(&path) {
                Ok(text) => all.lay_over(&text, &path)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && paths.registries_conf.is_none() => {}
                Err(source) => return Err(ConfigError::Io { path, source }),
            }
        }
        Ok(all)
    }

    /// Adds what `text` says; an entry replaces an earlier one of the same prefix.
    fn lay_over(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let malformed = |reason: String| ConfigError::Malformed { path: path.into(), reason };
        let document: Document = toml::from_str(text).map_err(|error| malformed(error.message().to_owned()))?;
        let table: toml::Table = toml::from_str(text).map_err(|error| malformed(error.message().to_owned()))?;
        if table.get("registries").is_some_and(toml::Value::is_table) {
            return Err(malformed("version 1 of the format; write [[registry]] tables instead".into()));
        }
        if let Some(search) = document.search {
            self.search = search;
        }
        for (name, target) in document.aliases {
            if target.is_empty() {
                self.aliases.remove(&name)
            } else {
                self.aliases.insert(name, target)
            };
        }
        for mut entry in document.registries {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            if entry.location.is_empty() && !entry.prefix.starts_with("*.") {
                entry.location.clone_from(&entry.prefix);
            }
            if entry.prefix.is_empty() {
                return Err(malformed("a [[registry]] has neither prefix nor location".into()));
            }
            for location in entry.mirrors.iter().map(|mirror| &mirror.location).chain([&entry.prefix, &entry.location])
            {
                if location.contains("://") || location.ends_with('/') {
                    return Err(malformed(format!("`{location}`: a location has no protocol and no final slash")));
                }
            }
            self.entries.retain(|known| known.prefix != entry.prefix);
            self.entries.push(entry);
        }
        Ok(())
    }

    /// What a short name (without registry) may stand for, in order: its alias, or the search list's registries. Empty when
    /// nothing is configured; Docker's default applies then.
    pub fn expand_short_name(&self, name: &str) -> Vec<String> {
        if let Some(target) = self.aliases.get(name) {
            return vec![target.clone()];
        }
        self.search.iter().map(|registry| format!("{registry}/{name}")).collect()
    }

    /// Whether a `[[registry]]` or mirror calls `authority` insecure.
    pub fn is_insecure(&self, authority: &str) -> bool {
        let host = |location: &str| location.split('/').next().unwrap_or("").to_ascii_lowercase() == authority;
        self.entries.iter().any(|entry| {
            (entry.insecure
                && (host(&entry.location) || (entry.location.is_empty() && subdomain(&entry.prefix, authority))))
                || entry.mirrors.iter().any(|mirror| mirror.insecure && host(&mirror.location))
        })
    }

    /// Places to pull `registry/repository` from, in order; `by_digest` says how it is named. `None` when it is blocked.
    pub fn pull_locations(&self, registry: &str, repository: &str, by_digest: bool) -> Option<Vec<Location>> {
        let Some(entry) = self.entry_for(registry, repository) else {
            return Some(vec![Location { registry: registry.into(), repository: repository.into(), insecure: false }]);
        };
        if entry.blocked {
            return None;
        }
        let wanted = |mirror: &&Mirror| match mirror.wanted_for.as_deref() {
            Some("digest-only") => by_digest,
            Some("tag-only") => !by_digest,
            _ => by_digest || !entry.mirror_by_digest_only,
        };
        let name = format!("{registry}/{repository}");
        let mirrors = entry.mirrors.iter().filter(wanted).map(|mirror| (&mirror.location, mirror.insecure));
        let places = mirrors.chain([(&entry.location, entry.insecure)]);
        Some(places.filter_map(|(location, insecure)| rewrite(&name, &entry.prefix, location, insecure)).collect())
    }

    /// The place to push `registry/repository` to: its own location, never a mirror. `None` when it is blocked.
    pub fn push_location(&self, registry: &str, repository: &str) -> Option<Location> {
        self.pull_locations(registry, repository, false)?.pop()
    }

    /// The entry whose prefix matches longest.
    fn entry_for(&self, registry: &str, repository: &str) -> Option<&Entry> {
        let name = format!("{registry}/{repository}");
        self.entries.iter().filter(|entry| matches(&entry.prefix, &name)).max_by_key(|entry| entry.prefix.len())
    }
}

/// Whether `prefix` covers the repository `name`; `*.example.org` covers all hosts below.
fn matches(prefix: &str, name: &str) -> bool {
    if prefix.starts_with("*.") {
        return subdomain(prefix, name.split(['/', ':']).next().unwrap_or(""));
    }
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn subdomain(pattern: &str, host: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|suffix| suffix.starts_with('.') && host.ends_with(suffix))
}

/// `name` with `prefix` replaced by `location`.
fn rewrite(name: &str, prefix: &str, location: &str, insecure: bool) -> Option<Location> {
    let full = match name.strip_prefix(prefix) {
        Some(rest) if !prefix.starts_with("*.") => format!("{location}{rest}"),
        _ if location.is_empty() => name.to_owned(),
        // A wildcard's location replaces the host.
        _ => format!("{location}/{}", name.split_once('/')?.1),
    };
    let (registry, repository) = full.split_once('/')?;
    Some(Location { registry: registry.into(), repository: repository.into(), insecure })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(text: &str) -> Registries {
        let mut all = Registries::default();
        all.lay_over(text, Path::new("registries.conf")).expect("well-formed");
        all
    }

    fn places(all: &Registries, registry: &str, repository: &str, by_digest: bool) -> Vec<String> {
        let found = all.pull_locations(registry, repository, by_digest).expect("not blocked");
        let text = |place: Location| {
            format!("{}/{}{}", place.registry, place.repository, if place.insecure { " insecure" } else { "" })
        };
        found.into_iter().map(text).collect()
    }

    const MIRRORED: &str = r#"
        unqualified-search-registries = ["quay.example", "docker.io"]
        [[registry]]
        prefix = "docker.io/library"
        location = "hub.example/official"
        [[registry.mirror]]
        location = "mirror:5000/lib"
        insecure = true
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "evil.example"
        blocked = true
        [[registry]]
        prefix = "*.corp.example"
        insecure = true
        [aliases]
        "fedora" = "registry.example/fedora"
    "#;

    #[test]
    fn mirrors_come_first_and_the_location_last() {
        let all = registries(MIRRORED);
        let by_tag = ["mirror:5000/lib/alpine insecure", "hub.example/official/alpine"];
        assert_eq!(places(&all, "docker.io", "library/alpine", false), by_tag);
        let by_digest = ["mirror:5000/lib/alpine insecure", "digests.example/alpine", "hub.example/official/alpine"];
        assert_eq!(places(&all, "docker.io", "library/alpine", true), by_digest);
        assert_eq!(places(&all, "docker.io", "libraryx/alpine", true), ["docker.io/libraryx/alpine"]);
        let push = all.push_location("docker.io", "library/alpine").expect("not blocked");
        assert_eq!((push.registry.as_str(), push.insecure), ("hub.example", false));
    }

    #[test]
    fn blocked_insecure_and_wildcards() {
        let all = registries(MIRRORED);
        assert_eq!(all.pull_locations("evil.example", "x", false), None);
        assert_eq!(places(&all, "a.corp.example", "x/y", false), ["a.corp.example/x/y insecure"]);
        assert_eq!(places(&all, "corp.example", "x/y", false), ["corp.example/x/y"]);
        assert!(all.is_insecure("mirror:5000") && all.is_insecure("a.corp.example"));
        assert!(!all.is_insecure("hub.example") && !all.is_insecure("corp.example"));
    }

    #[test]
    fn short_names_have_aliases_and_a_search_list() {
        let all = registries(MIRRORED);
        assert_eq!(all.expand_short_name("fedora"), ["registry.example/fedora"]);
        assert_eq!(all.expand_short_name("a/b"), ["quay.example/a/b", "docker.io/a/b"]);
        assert!(Registries::default().expand_short_name("alpine").is_empty());
    }

    #[test]
    fn later_files_replace_entries_of_the_same_prefix() {
        let mut all = registries("[[registry]]\nlocation = \"a\"\nblocked = true\n");
        all.lay_over("[[registry]]\nlocation = \"a\"\n", Path::new("x")).expect("well-formed");
        assert_eq!(places(&all, "a", "b", false), ["a/b"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "[registries.search]\nregistries = ['x']\n",
            "[[registry]]\ninsecure = true\n",
            "[[registry]]\nlocation = 'https://x'\n",
            "unqualified-search-registries = 3\n",
            "[[registry]\n",
        ] {
            assert!(Registries::default().lay_over(text, Path::new("x")).is_err(), "{text}");
        }
    }
}
