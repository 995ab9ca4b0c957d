//! An archive as a tree: a build context that came as a tar.

use crate::archive::tar::{Entry, EntryKind, Xattr};
use crate::build::copy::{Empty, Opened, Pieces, Stat, Tree};
use crate::model::{DeviceNumber, FileKind, Name, RelPath, Timestamp};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

/// An unpacked archive that was never unpacked. Everything in it belongs to root.
#[derive(Debug)]
pub struct ArchiveTree {
    file: File,
    nodes: BTreeMap<RelPath, Node>,
}

#[derive(Debug, Clone)]
struct Node {
    stat: Stat,
    entry: Option<Entry>,
}

impl ArchiveTree {
    /// The tree of an opened archive. Of entries with the same name the last one counts; missing directories are made.
    pub fn new(opened: Opened) -> io::Result<Self> {
        let (entries, file) = opened.into_parts();
        let root = Empty.stat(&RelPath::root())?.ok_or(io::ErrorKind::InvalidData)?;
        let mut nodes = BTreeMap::from([(RelPath::root(), Node { stat: root.clone(), entry: None })]);
        for (number, entry) in entries.into_iter().enumerate() {
            let path = entry.path.to_rel_path().map_err(io::Error::other)?;
            if path.is_root() {
                continue;
            }
            let mut above = path.clone();
            while above.pop().is_some() {
                nodes.entry(above.clone()).or_insert_with(|| Node { stat: root.clone(), entry: None });
            }
            let node = match &entry.kind {
                EntryKind::HardLink { target } => {
                    let target = target.to_rel_path().map_err(io::Error::other)?;
                    let Some(known) = nodes.get_mut(&target) else {
                        return Err(io::Error::other(format!("{path} is a hard link to {target}, which is not there")));
                    };
                    known.stat.identity.get_or_insert((0, number as u64));
                    known.clone()
                }
                _ => Node { stat: stat_of(&entry), entry: Some(entry) },
            };
            nodes.insert(path, node);
        }
        Ok(Self { file, nodes })
    }
}

fn stat_of(entry: &Entry) -> Stat {
    let (kind, device) = match &entry.kind {
        EntryKind::File { .. } | EntryKind::HardLink { .. } => (FileKind::File, DeviceNumber::default()),
        EntryKind::Symlink { .. } => (FileKind::Symlink, DeviceNumber::default()),
        EntryKind::Directory => (FileKind::Directory, DeviceNumber::default()),
        EntryKind::CharDevice { device } => (FileKind::CharDevice, *device),
        EntryKind::BlockDevice { device } => (FileKind::BlockDevice, *device),
        EntryKind::Fifo => (FileKind::Fifo, DeviceNumber::default()),
    };
    Stat {
        kind,
        permissions: entry.permissions,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(entry.mtime.seconds),
        size: entry.size(),
        device,
        identity: None,
    }
}

impl Tree for ArchiveTree {
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        Ok(self.nodes.get(path).map(|node| node.stat.clone()))
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Name, Stat)>> {
        let depth = path.names().len();
        let below = self.nodes.range(path.clone()..).skip(1).take_while(|(known, _)| known.starts_with(path));
        let direct = below.filter(|(known, _)| known.names().len() == depth + 1);
        Ok(direct.filter_map(|(known, node)| Some((known.file_name()?.clone(), node.stat.clone()))).collect())
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        match self.nodes.get(path).and_then(|node| node.entry.as_ref()).map(|entry| &entry.kind) {
            Some(EntryKind::Symlink { target }) => Ok(target.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn xattrs(&self, path: &RelPath) -> io::Result<Vec<Xattr>> {
        Ok(self
            .nodes
            .get(path)
            .and_then(|node| node.entry.as_ref())
            .map(|entry| entry.xattrs.clone())
            .unwrap_or_default())
    }

    fn open<'a>(&'a self, path: &RelPath) -> io::Result<Box<dyn Read + 'a>> {
        match self.nodes.get(path).and_then(|node| node.entry.as_ref()).map(|entry| &entry.kind) {
            Some(EntryKind::File { size, extents }) => Ok(Box::new(Pieces::new(&self.file, extents, *size))),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
