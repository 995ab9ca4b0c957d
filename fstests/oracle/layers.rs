//! Random lower layers, as text for [`crate::support::tree`].

use super::operations::{NAMES, Random};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is in the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Files, symlinks that lead nowhere, FIFOs and directories, for everyone to read.
    Plain,
    /// And hard links.
    Linked,
    /// And devices, set-ids, modes that shut out, ACLs, capabilities, and symlinks that lead somewhere, in circles too.
    Rich,
}

/// Random lower layers, each over those before. A whiteout stands only over something: in a directory that no other layer has,
/// the kernel would list it.
#[derive(Debug)]
pub(super) struct Layers {
    contents: Contents,
    /// What the layers so far show, and whether it is a directory.
    visible: BTreeMap<String, bool>,
    text: String,
    /// Objects of this layer that hard links may lead to; none where there shall be no hard links.
    targets: Option<Vec<String>>,
}

impl Layers {
    pub(super) fn new(contents: Contents) -> Self {
        let targets = (contents != Contents::Plain).then(Vec::new);
        Self { contents, visible: BTreeMap::new(), text: String::new(), targets }
    }

    /// The text of one more layer.
    pub(super) fn next(&mut self, random: &mut Random) -> String {
        self.targets.iter_mut().for_each(Vec::clear);
        for name in NAMES {
            self.object(random, name, true, 2);
        }
        std::mem::take(&mut self.text)
    }

    fn object(&mut self, random: &mut Random, path: &str, merged: bool, depth: u32) {
        let owner = random.below(3) * 1000;
        let time = 1_500_000_000 + random.below(100_000_000);
        let over = merged.then(|| self.visible.get(path).copied()).flatten();
        let target = match &self.targets {
            Some(targets) if !targets.is_empty() && random.below(4) == 0 => Some(random.pick(targets).clone()),
            _ => None,
        };
        let line = match random.below(if over.is_some() { 14 } else { 12 }) {
            0..8 if target.is_some() => format!("hard {path} =>{}", target.unwrap_or_default()),
            0..4 => return,
            4..6 => self.file(random, path, owner, time),
            6 => format!("link {path} ->{} 0:{owner} @{time}", self.link_target(random)),
            7 => format!("{} 0:{owner} @{time}", self.node(random, path)),
            12..14 => format!("whiteout {path}"),
            _ => {
                let opaque = over == Some(true) && random.below(5) == 0;
                let merged = over == Some(true) && !opaque;
                if !merged {
                    self.hide(path);
                }
                self.visible.insert(path.to_owned(), true);
                let line = self.directory(random, path, owner, time);
                writeln!(self.text, "{line}").expect("a string");
                if opaque {
                    writeln!(self.text, "opaque {path}").expect("a string");
                }
                if depth > 0 {
                    for name in NAMES {
                        self.object(random, &format!("{path}/{name}"), merged, depth - 1);
                    }
                }
                return;
            }
        };
        self.hide(path);
        if !line.starts_with("whiteout") {
            self.targets.iter_mut().for_each(|targets| targets.push(path.to_owned()));
            self.visible.insert(path.to_owned(), false);
        }
        writeln!(self.text, "{line}").expect("a string");
    }

    fn file(&self, random: &mut Random, path: &str, owner: u64, time: u64) -> String {
        if self.contents != Contents::Rich {
            let size = random.below(3) * 3000;
            return format!("file {path} #{size} 0644 {owner}:{owner} @{time}.5 +user.one=low");
        }
        let size = random.pick(&[0, 10, 4096, 9000, 200_000]);
        let mode = random.pick(&[0o644, 0o600, 0o666, 0o4755, 0o2755, 0o2745, 0o444, 0]);
        let group = random.pick(&[0, 1000, 2000, 3000]);
        let capability =
            if random.below(7) == 0 { format!(" +security.capability={CAPABILITY}") } else { String::new() };
        let marks = marks(random);
        format!("file {path} #{size} {mode:04o} {owner}:{group} @{time}.5{marks}{capability}")
    }

    fn directory(&self, random: &mut Random, path: &str, owner: u64, time: u64) -> String {
        if self.contents != Contents::Rich {
            return format!("dir {path} 0755 {owner}:{owner} @{time}.25");
        }
        let mode = random.pick(&[0o755, 0o777, 0o1777, 0o2775, 0o700, 0o2777]);
        let group = random.pick(&[0, 1000, 2000, 3000]);
        let inherited =
            if random.below(7) == 0 { format!(" +system.posix_acl_default={DEFAULT_ACL}") } else { String::new() };
        let marks = marks(random);
        format!("dir {path} {mode:04o} {owner}:{group} @{time}.25{marks}{inherited}")
    }

    fn link_target(&self, random: &mut Random) -> &'static str {
        match self.contents {
            Contents::Rich => {
                random.pick::<&str>(&["a", "b/c", "none", "..", ".", "/nonexistent/a", "a/", "d", "../f", "e"])
            }
            _ => "none/b",
        }
    }

    fn node(&self, random: &mut Random, path: &str) -> String {
        match self.contents {
            Contents::Rich if random.below(2) == 0 => format!("char {path} dev=1:3 0666"),
            _ => format!("fifo {path} 0600"),
        }
    }

    fn hide(&mut self, path: &str) {
        let below = format!("{path}/");
        self.visible.retain(|name, _| name != path && !name.starts_with(&below));
    }
}

/// Attributes that files and directories have now and then.
fn marks(random: &mut Random) -> String {
    let mut text = String::new();
    if random.below(3) == 0 {
        write!(text, " +user.one=low{}", random.below(9)).expect("a string");
    }
    if random.below(7) == 0 {
        write!(text, " +system.posix_acl_access={ACCESS_ACL}").expect("a string");
    }
    text
}

/// CAP_NET_BIND_SERVICE, effective, as a tree's text has it.
const CAPABILITY: &str =
    "\\x01\\x00\\x00\\x02\\x00\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00";

/// `u::rwx,u:1000:r-x,g::r-x,m::r-x,o::r--`, as a tree's text has it.
const ACCESS_ACL: &str = concat!(
    "\\x02\\x00\\x00\\x00",
    "\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff",
    "\\x02\\x00\\x05\\x00\\xe8\\x03\\x00\\x00",
    "\\x04\\x00\\x05\\x00\\xff\\xff\\xff\\xff",
    "\\x10\\x00\\x05\\x00\\xff\\xff\\xff\\xff",
    "\\x20\\x00\\x04\\x00\\xff\\xff\\xff\\xff",
);

/// `u::rwx,u:2000:rw-,g::r-x,m::rwx,o::r--`.
const DEFAULT_ACL: &str = concat!(
    "\\x02\\x00\\x00\\x00",
    "\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff",
    "\\x02\\x00\\x06\\x00\\xd0\\x07\\x00\\x00",
    "\\x04\\x00\\x05\\x00\\xff\\xff\\xff\\xff",
    "\\x10\\x00\\x07\\x00\\xff\\xff\\xff\\xff",
    "\\x20\\x00\\x04\\x00\\xff\\xff\\xff\\xff",
);
