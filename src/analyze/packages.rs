//! Packages installed in an image, by the databases of dpkg and apk, and how those of two images differ.

use crate::diff::read_file;
use crate::union::{LayerResult, Node, Stack};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The most bytes read of one database: that of a full desktop has some 10 MB.
const MOST: u64 = 256 << 20;

/// Whose database a package stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackageManager {
    /// Debian's.
    Dpkg,
    /// Alpine's.
    Apk,
}

impl PackageManager {
    /// What it is called.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Apk => "apk",
        }
    }
}

/// The packages of an image: name, with the version of each architecture.
pub type Packages = BTreeMap<(PackageManager, String), BTreeMap<String, String>>;

/// What became of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackageDeed {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// Its version is higher now.
    Upgraded,
    /// Its version is lower now.
    Downgraded,
}

impl PackageDeed {
    /// What people call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Upgraded => "upgraded",
            Self::Downgraded => "downgraded",
        }
    }
}

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageChange {
    /// Whose database says so.
    pub manager: PackageManager,
    /// The name; where several architectures of it are installed, with `:` and the architecture.
    pub name: String,
    /// What became of it.
    pub deed: PackageDeed,
    /// The version that was there.
    pub old: Option<String>,
    /// The version that is there.
    pub new: Option<String>,
}

/// The packages installed in `stack`; none where there is no database.
pub fn packages(stack: &Stack) -> LayerResult<Packages> {
    let mut found = Packages::new();
    for database in ["/var/lib/dpkg/status"].map(str::to_owned).into_iter().chain(fragments(stack)?) {
        if let Some(text) = read_file(stack, database.as_bytes(), MOST)? {
            dpkg(&text, &mut found);
        }
    }
    for database in ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"] {
        if let Some(text) = read_file(stack, database.as_bytes(), MOST)? {
            apk(&text, &mut found);
        }
    }
    Ok(found)
}

/// The files of `status.d`: one a package, as images without dpkg itself have them (distroless). The lists of checksums beside them
/// have a name of their own.
fn fragments(stack: &Stack) -> LayerResult<Vec<String>> {
    const DIRECTORY: &str = "/var/lib/dpkg/status.d";
    let Some(Node::Directory(directory)) = stack.resolve_following(DIRECTORY.as_bytes(), true)? else {
        return Ok(Vec::new());
    };
    let listing = stack.list(&directory.sources)?;
    let names = listing.iter().filter_map(|listed| std::str::from_utf8(listed.name).ok());
    Ok(names.filter(|name| !name.ends_with(".md5sums")).map(|name| format!("{DIRECTORY}/{name}")).collect())
}

/// Paragraphs of `Key: value` lines; lines that begin with a blank go on with the value above (deb-control(5)).
fn dpkg(text: &[u8], found: &mut Packages) {
    for paragraph in String::from_utf8_lossy(text).split("\n\n") {
        let value =
            |key: &str| paragraph.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()));
        let (Some(name), Some(version)) = (value("Package"), value("Version")) else { continue };
        let state = value("Status").and_then(|status| status.split_whitespace().last()).unwrap_or("installed");
        if !matches!(state, "not-installed" | "config-files") {
            insert(found, PackageManager::Dpkg, name, value("Architecture"), version);
        }
    }
}

/// Paragraphs of `K:value` lines.
fn apk(text: &[u8], found: &mut Packages) {
    for paragraph in String::from_utf8_lossy(text).split("\n\n") {
        let value = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key));
        if let (Some(name), Some(version)) = (value("P:"), value("V:")) {
            insert(found, PackageManager::Apk, name, value("A:"), version);
        }
    }
}

fn insert(found: &mut Packages, manager: PackageManager, name: &str, architecture: Option<&str>, version: &str) {
    let versions = found.entry((manager, name.to_owned())).or_default();
    versions.insert(architecture.unwrap_or_default().to_owned(), version.to_owned());
}

/// How the packages of two images differ, by their names.
pub fn package_changes(old: &Packages, new: &Packages) -> Vec<PackageChange> {
    let none = BTreeMap::new();
    let mut changes = Vec::new();
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in names {
        let (manager, name) = key;
        let (before, after) = (old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none));
        if before.len() <= 1 && after.len() <= 1 {
            changes.extend(change(*manager, name.clone(), before.values().next(), after.values().next()));
            continue;
        }
        let architectures: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for architecture in architectures {
            let name = format!("{name}:{architecture}");
            changes.extend(change(*manager, name, before.get(architecture), after.get(architecture)));
        }
    }
    changes
}

fn change(manager: PackageManager, name: String, old: Option<&String>, new: Option<&String>) -> Option<PackageChange> {
    let deed = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => PackageDeed::Added,
        (Some(_), None) => PackageDeed::Removed,
        (Some(old), Some(new)) if old == new => return None,
        (Some(old), Some(new)) => match compare_versions(manager, old, new) {
            Ordering::Greater => PackageDeed::Downgraded,
            Ordering::Less | Ordering::Equal => PackageDeed::Upgraded,
        },
    };
    Some(PackageChange { manager, name, deed, old: old.cloned(), new: new.cloned() })
}

/// The order of versions: dpkg's (deb-version(7)); apk's suffixes for what comes before a release are read as dpkg's `~`.
fn compare_versions(manager: PackageManager, old: &str, new: &str) -> Ordering {
    let normal = |version: &str| match manager {
        PackageManager::Dpkg => version.to_owned(),
        PackageManager::Apk => ["alpha", "beta", "pre", "rc"]
            .iter()
            .fold(version.to_owned(), |version, stage| version.replace(&format!("_{stage}"), &format!("~{stage}"))),
    };
    let (old, new) = (normal(old), normal(new));
    let parts = |version: &str| {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch.parse::<u64>().unwrap_or(0), upstream.to_owned(), revision.to_owned())
    };
    let (old, new) = (parts(&old), parts(&new));
    old.0
        .cmp(&new.0)
        .then_with(|| compare_part(old.1.as_bytes(), new.1.as_bytes()))
        .then_with(|| compare_part(old.2.as_bytes(), new.2.as_bytes()))
}

/// Runs of other characters and runs of digits in turn: the first compare character by character, `~` before the end, letters before the rest;
/// the second as numbers.
fn compare_part(mut old: &[u8], mut new: &[u8]) -> Ordering {
    let rank = |text: &[u8]| match text.first() {
        Some(b'~') => -1,
        Some(&byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(&byte) if !byte.is_ascii_digit() => i32::from(byte) + 256,
        _ => 0,
    };
    let is_other = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    while !old.is_empty() || !new.is_empty() {
        while is_other(old) || is_other(new) {
            match rank(old).cmp(&rank(new)) {
                Ordering::Equal => {}
                different => return different,
            }
            (old, new) = (old.get(1..).unwrap_or_default(), new.get(1..).unwrap_or_default());
        }
        let ((old_number, old_rest), (new_number, new_rest)) = (old.split_at(digits(old)), new.split_at(digits(new)));
        let number = |digits: &[u8]| {
            let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
            digits.get(zeros..).unwrap_or_default().to_vec()
        };
        let (old_number, new_number) = (number(old_number), number(new_number));
        match old_number.len().cmp(&new_number.len()).then_with(|| old_number.cmp(&new_number)) {
            Ordering::Equal => (old, new) = (old_rest, new_rest),
            different => return different,
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(old: &Packages, new: &Packages) -> Vec<String> {
        let line = |change: PackageChange| {
            let version = |version: Option<String>| version.unwrap_or_else(|| "-".to_owned());
            format!("{} {} {} {}", change.deed.label(), change.name, version(change.old), version(change.new))
        };
        package_changes(old, new).into_iter().map(line).collect()
    }

    #[test]
    fn databases_of_dpkg_are_compared() {
        let read = |text: &str| {
            let mut found = Packages::new();
            dpkg(text.as_bytes(), &mut found);
            found
        };
        let old = read(
            "Package: gone\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\nPackage: libc6\nStatus: install ok installed\n\
             Version: 2.36-9\nArchitecture: amd64\nDescription: x\n Version: 9\n\nPackage: purged\nStatus: deinstall ok config-files\nVersion: 1\n",
        );
        let new = read(
            "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9+deb12u1\nArchitecture: amd64\n\n\
             Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\nArchitecture: i386\n\n\
             Package: tzdata\nVersion: 2026a-0\nArchitecture: all\n\nbroken\n",
        );
        let expected = [
            "removed gone 1 -",
            "upgraded libc6:amd64 2.36-9 2.36-9+deb12u1",
            "added libc6:i386 - 2.36-9",
            "added tzdata - 2026a-0",
        ];
        assert_eq!(lines(&old, &new), expected);
    }

    #[test]
    fn databases_of_apk_are_compared() {
        let read = |text: &str| {
            let mut found = Packages::new();
            apk(text.as_bytes(), &mut found);
            found
        };
        let old = read("C:Q1x=\nP:musl\nV:1.2.5-r9\nA:x86_64\nF:lib\nR:x\n\nP:busybox\nV:1.37.0_rc1-r0\nA:x86_64\n");
        let new = read("P:musl\nV:1.2.5-r10\nA:x86_64\n\nP:busybox\nV:1.37.0-r0\nA:x86_64\n\n");
        assert_eq!(lines(&old, &new), ["upgraded busybox 1.37.0_rc1-r0 1.37.0-r0", "upgraded musl 1.2.5-r9 1.2.5-r10"]);
        assert_eq!(lines(&new, &old)[1], "downgraded musl 1.2.5-r10 1.2.5-r9");
    }

    #[test]
    fn versions_have_the_order_of_dpkg() {
        let rising = ["1.0~rc1", "1.0", "1.0-1", "1.0-1.1", "1.0a", "1.0+b", "1.0.1", "1.09", "1.10", "2", "1:0.1"];
        for pair in rising.windows(2) {
            assert_eq!(compare_versions(PackageManager::Dpkg, pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_versions(PackageManager::Dpkg, pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare_versions(PackageManager::Dpkg, "1.01", "1.1"), Ordering::Equal);
        assert_eq!(compare_versions(PackageManager::Dpkg, "0:1-0", "1"), Ordering::Equal);
    }
}
