//! A tree in memory, written as text: one object a line.

use super::tree::{Empty, Stat, Tree};
use crate::archive::tar::Xattr;
use crate::model::{FileKind, Name, RelPath, Timestamp};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Lines: `d path [mode [uid:gid]]`, `f path content [mode [uid:gid]]`, `l path target`, `h path other-path`. Missing directories are
/// made with 0755.
#[derive(Debug)]
pub(super) struct MemTree(BTreeMap<RelPath, (Stat, Vec<u8>)>);

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

impl MemTree {
    pub(super) fn new(text: &str) -> Self {
        let root = Empty.stat(&RelPath::root()).unwrap().unwrap();
        let mut tree = Self(BTreeMap::from([(RelPath::root(), (root.clone(), Vec::new()))]));
        for (number, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let place = path(words[1]);
            let mut above = place.clone();
            while above.pop().is_some() {
                tree.0.entry(above.clone()).or_insert_with(|| (root.clone(), Vec::new()));
            }
            let (kind, data, rest) = match words[0] {
                "d" => (FileKind::Directory, "", &words[2..]),
                "f" => (FileKind::File, words[2], &words[3..]),
                "l" => (FileKind::Symlink, words[2], &words[3..]),
                "h" => {
                    let mut other = tree.0[&path(words[2])].clone();
                    let identity = other.0.identity.unwrap_or((1, number as u64));
                    other.0.identity = Some(identity);
                    tree.0.insert(path(words[2]), other.clone());
                    tree.0.insert(place, other);
                    continue;
                }
                other => panic!("{other}"),
            };
            let default = match kind {
                FileKind::Directory => 0o755,
                FileKind::Symlink => 0o777,
                _ => 0o644,
            };
            let permissions = rest.first().map_or(default, |mode| u16::from_str_radix(mode, 8).unwrap());
            let owner = rest.get(1).map(|owner| owner.split_once(':').unwrap());
            let (uid, gid) = owner.map_or((0, 0), |(uid, gid)| (uid.parse().unwrap(), gid.parse().unwrap()));
            let stat = Stat {
                kind,
                permissions,
                uid,
                gid,
                size: data.len() as u64,
                mtime: Timestamp::from_seconds(100),
                ..root.clone()
            };
            tree.0.insert(place, (stat, data.as_bytes().to_vec()));
        }
        tree
    }
}

impl Tree for MemTree {
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        Ok(self.0.get(path).map(|(stat, _)| stat.clone()))
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Name, Stat)>> {
        let below = self.0.iter().filter(|(known, _)| known.parent().as_ref() == Some(path));
        Ok(below.map(|(known, (stat, _))| (known.file_name().unwrap().clone(), stat.clone())).collect())
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        Ok(self.0[path].1.clone())
    }

    fn xattrs(&self, _path: &RelPath) -> io::Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    fn open<'a>(&'a self, path: &RelPath) -> io::Result<Box<dyn Read + 'a>> {
        Ok(Box::new(self.0[path].1.as_slice()))
    }
}
