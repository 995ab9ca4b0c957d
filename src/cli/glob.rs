//! Patterns in `IMAGE:PATH`, expanded in the image as a shell would expand them in a directory.

use crate::build::context::{Glob, has_wildcards};
use crate::model::RelPath;
use crate::union::{Node, Stack, Visit, Walk};
use anyhow::{Context, bail};
use std::collections::BTreeSet;

/// What `path` names: itself, or where it has wildcards and nothing has just that name, every path that matches, sorted.
///
/// `*`, `?` and `[…]` match within a name, `**` any number of directories. A leading dot must be written, and `**` follows no
/// symlinks, as in a shell. Nothing that matches is an empty list.
pub(super) fn expand(stack: &Stack, path: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    if path.ends_with(b"/") && stack.resolve_following(path, true)?.is_some_and(|node| !node.kind().is_directory()) {
        bail!("not a directory");
    }
    let literal = || stack.resolve_following(path, false);
    let Some(pattern) = std::str::from_utf8(path).ok().filter(|text| has_wildcards(text)) else {
        return Ok(vec![path.to_vec()]);
    };
    if literal()?.is_some() {
        return Ok(vec![path.to_vec()]);
    }
    let components: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mut found = BTreeSet::from([Vec::new()]);
    for (at, component) in components.iter().enumerate() {
        let last = at + 1 == components.len();
        let mut next = BTreeSet::new();
        for place in &found {
            match *component {
                "**" => descend(stack, place, last, &mut next)?,
                component if has_wildcards(component) => matching(stack, place, component, &mut next)?,
                component => drop(next.insert([place, &b"/"[..], &unescaped(component)].concat())),
            }
        }
        found = next;
    }
    let only_directories = pattern.ends_with('/');
    let mut kept = Vec::new();
    for path in found {
        let Some(node) = stack.resolve_following(&path, only_directories)? else { continue };
        match (only_directories, node.kind().is_directory()) {
            (false, _) => kept.push(path),
            (true, true) => kept.push([&path, &b"/"[..]].concat()),
            (true, false) => {}
        }
    }
    Ok(kept)
}

/// The names in the directory `place` that match `pattern`.
fn matching(stack: &Stack, place: &[u8], pattern: &str, found: &mut BTreeSet<Vec<u8>>) -> anyhow::Result<()> {
    // A shell negates a class by `!`, Go by `^`.
    let glob = Glob::new(&pattern.replace("[!", "[^")).with_context(|| format!("`{pattern}`"))?;
    let Some(Node::Directory(directory)) = stack.resolve_following(place, true)? else { return Ok(()) };
    for listed in stack.list(&directory.sources)?.iter() {
        let hidden = listed.name.starts_with(b".") && !pattern.starts_with('.');
        if !hidden && glob.matches(listed.name) {
            found.insert([place, &b"/"[..], listed.name].concat());
        }
    }
    Ok(())
}

/// The directory `place` and the directories below it; with `all`, everything below it too.
fn descend(stack: &Stack, place: &[u8], all: bool, found: &mut BTreeSet<Vec<u8>>) -> anyhow::Result<()> {
    let Some(node @ Node::Directory(_)) = stack.resolve_following(place, true)? else { return Ok(()) };
    let mut walk = Walk::new(stack, RelPath::root(), node);
    while let Some(Visit { path, node }) = walk.step()? {
        let is_directory = node.kind().is_directory();
        if path.file_name().is_some_and(|name| name.starts_with(b".")) {
            walk.skip();
        } else if path.is_root() {
            if !all {
                found.insert(place.to_vec());
            }
        } else if all || is_directory {
            found.insert([place, &b"/"[..], &path.to_bytes()].concat());
        }
    }
    Ok(())
}

/// A component without the backslashes that take the meaning from characters.
fn unescaped(component: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(component.len());
    let mut bytes = component.bytes();
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::{Follow, Layer, MemLayer};
    use std::sync::Arc;

    fn expanded(pattern: &str) -> Vec<String> {
        let text = "file etc/a.conf 644\nfile etc/b.conf 644\nfile etc/.c.conf 644\nfile etc/d/e.conf 644\nfile etc/d/f 644\n\
                    file etc/.g/h.conf 644\nsymlink conf etc\nfile what[1] 644\nfile x*y 644\nfile x1y 644";
        let layer: Arc<dyn Layer> = Arc::new(MemLayer::parse("layer", text).expect("layer text"));
        let stack = Stack::new(vec![layer], None, Follow::default()).expect("a stack");
        let found = expand(&stack, pattern.as_bytes()).expect("a pattern");
        found.into_iter().map(|path| String::from_utf8(path).expect("text")).collect()
    }

    #[test]
    fn patterns_are_expanded_as_in_a_shell() {
        let cases: &[(&str, &[&str])] = &[
            ("/etc/a.conf", &["/etc/a.conf"]),
            ("/etc/nothing", &["/etc/nothing"]),
            ("/etc/*.conf", &["/etc/a.conf", "/etc/b.conf"]),
            ("etc/?.conf", &["/etc/a.conf", "/etc/b.conf"]),
            ("/etc/[!a].conf", &["/etc/b.conf"]),
            ("/etc/.*.conf", &["/etc/.c.conf"]),
            ("/*/d", &["/conf/d", "/etc/d"]),
            ("/etc/*/", &["/etc/d/"]),
            ("/**/*.conf", &["/etc/a.conf", "/etc/b.conf", "/etc/d/e.conf"]),
            ("/etc/**", &["/etc/a.conf", "/etc/b.conf", "/etc/d", "/etc/d/e.conf", "/etc/d/f"]),
            ("/**/**/f", &["/etc/d/f"]),
            ("/conf/*.conf", &["/conf/a.conf", "/conf/b.conf"]),
            ("/what[1]", &["/what[1]"]),
            ("/x*y", &["/x*y"]),
            ("/x[*]y", &["/x*y"]),
            ("/nothing/*", &[]),
            ("/etc/a.conf/*", &[]),
        ];
        for (pattern, paths) in cases {
            assert_eq!(&expanded(pattern), paths, "{pattern}");
        }
    }
}
