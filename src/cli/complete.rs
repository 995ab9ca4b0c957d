//! What the shell completes: images, named mounts, paths in images.
//!
//! Answers come from the store as it is at that moment. Whatever goes wrong, nothing is offered: a shell in the middle of a line
//! is no place for an error.

use super::image_argument::open_path;
use super::registry_options::RegistryOptions;
use crate::mount::Registry;
use crate::oci::Reference;
use crate::run::state;
use crate::store::{Container, Store};
use crate::union::{Node, Stack};
use clap::{Args, Command};
use clap_complete::CompletionCandidate;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The store that the line being completed is about.
fn store() -> Option<Store> {
    let root = root_of(std::env::args_os()).or_else(|| std::env::var_os("LAYERFS_ROOT"));
    let root: PathBuf = root.map_or_else(Store::default_root, Into::into);
    root.exists().then(|| Store::open(&root).ok()).flatten()
}

/// The value of `--root` among `words`: the shell passes those of its line behind a `--`.
fn root_of(words: impl Iterator<Item = OsString>) -> Option<OsString> {
    let mut words = words.skip_while(|word| word != "--").skip(1);
    let mut found = None;
    while let Some(word) = words.next() {
        if word == "--root" {
            found = words.next();
        } else if let Some(value) = word.as_bytes().strip_prefix(b"--root=") {
            found = Some(OsStr::from_bytes(value).to_owned());
        }
    }
    found
}

fn candidates(begun: &OsStr, all: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    all.into_iter().filter(|text| text.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// Images by their names.
pub(super) fn images(begun: &OsStr) -> Vec<CompletionCandidate> {
    let images = store().and_then(|store| store.images().ok()).unwrap_or_default();
    candidates(begun, images.iter().flat_map(|image| image.references.iter().map(Reference::familiar)))
}

/// Named writable mounts.
pub(super) fn mounts(begun: &OsStr) -> Vec<CompletionCandidate> {
    named(begun, |_| true)
}

/// Named writable mounts whose command runs.
pub(super) fn running(begun: &OsStr) -> Vec<CompletionCandidate> {
    named(begun, runs)
}

/// Named writable mounts that nobody uses: which can be removed or renamed.
pub(super) fn unused(begun: &OsStr) -> Vec<CompletionCandidate> {
    named(begun, |container| !runs(container) && !container.is_mounted().unwrap_or(true))
}

/// What is mounted: mount points, and the names of those that have one.
pub(super) fn mounted(begun: &OsStr) -> Vec<CompletionCandidate> {
    let mounts = Registry::open().and_then(|registry| registry.mounts()).unwrap_or_default();
    let mut found = named(begun, |container| mounts.iter().any(|mount| mount.is_of(&container.dir)));
    let points = mounts.iter().filter_map(|mount| mount.mount_point.to_str()).map(str::to_owned);
    found.extend(candidates(begun, points.filter(|point| !point.contains(char::is_control))));
    found
}

fn runs(container: &Container) -> bool {
    state::read(&container.dir).is_ok_and(|running| running.is_some())
}

fn named(begun: &OsStr, wanted: impl Fn(&Container) -> bool) -> Vec<CompletionCandidate> {
    let containers = store().and_then(|store| store.containers().ok()).unwrap_or_default().into_iter();
    candidates(begun, containers.filter(wanted).map(|container| container.record.name))
}

/// Named writable mounts and images.
pub(super) fn mounts_and_images(begun: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = mounts(begun);
    found.extend(images(begun));
    found
}

/// `IMAGE` or `IMAGE:PATH`: images first, then what is in the directory of the path.
pub(super) fn image_paths(begun: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = if has_path(begun) { Vec::new() } else { images(begun) };
    found.extend(paths(begun));
    found
}

/// `IMAGE:PATH` where the path must be.
pub(super) fn paths(begun: &OsStr) -> Vec<CompletionCandidate> {
    let Some(text) = begun.to_str() else { return Vec::new() };
    let Some(directory) = text.rfind('/').filter(|_| has_path(begun)).and_then(|at| text.get(..=at)) else {
        let with_path = |image: &CompletionCandidate| {
            let mut with_path = image.get_value().to_os_string();
            with_path.push(":/");
            CompletionCandidate::new(with_path)
        };
        return images(begun).iter().map(with_path).collect();
    };
    candidates(begun, listed(directory).unwrap_or_default())
}

fn has_path(begun: &OsStr) -> bool {
    begun.to_str().is_some_and(|text| text.contains(":/"))
}

/// The names of the directory `text`, `IMAGE:/DIR/`, each behind it; directories end in a slash.
fn listed(text: &str) -> Option<Vec<String>> {
    let (_image, stack, path) = open_path(&store()?, text, &offline()?).ok()?;
    let Some(Node::Directory(directory)) = stack.resolve_following(&path, true).ok()? else { return None };
    let listing = stack.list(&directory.sources).ok()?;
    let named = |listed: crate::union::Listed<'_>| {
        let name = std::str::from_utf8(listed.name).ok()?;
        let name = Some(name).filter(|name| !name.contains(char::is_control))?;
        let slash = if leads_to_directory(&stack, &path, name) { "/" } else { "" };
        Some(format!("{text}{name}{slash}"))
    };
    Some(listing.iter().filter_map(named).collect())
}

fn leads_to_directory(stack: &Stack, path: &[u8], name: &str) -> bool {
    let path = [path, b"/", name.as_bytes()].concat();
    stack.resolve_following(&path, true).ok().flatten().is_some_and(|node| node.kind().is_directory())
}

/// The options of registries as they are without any on the line.
fn offline() -> Option<RegistryOptions> {
    let command = RegistryOptions::augment_args(Command::new("complete"));
    let matches = command.try_get_matches_from(["complete"]).ok()?;
    <RegistryOptions as clap::FromArgMatches>::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use super::root_of;
    use std::ffi::OsString;

    #[test]
    fn the_store_on_the_line_counts() {
        let root = |line: &str| root_of(line.split(' ').map(OsString::from));
        assert_eq!(root("layerfs -- layerfs --root /a cat x"), Some("/a".into()));
        assert_eq!(root("layerfs -- layerfs --root=/b cat --root /c x"), Some("/c".into()));
        assert_eq!(root("layerfs --root /a -- layerfs cat --root"), None);
    }
}
