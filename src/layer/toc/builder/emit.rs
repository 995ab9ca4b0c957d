//! Numbering the objects and writing the tables.
//!
//! Directories are taken depth first, the names in each in the order of their bytes. The entries of a directory stand
//! together, and so do the inodes that it is the first to name: a listing with metadata reads two runs of memory.

use super::super::format::{self, EntryRecord, ExtentRecord, Header, InodeRecord, TimesRecord, XattrRecord};
use super::super::{BuildError, DiffId};
use super::inodes::{Data, Inode, Inodes};
use super::tree::{HIDDEN, NO_INODE, Node, NodeId, OPAQUE, REPLACED, ROOT, Tree, WHITEOUT};
use crate::model::{FileKind, Timestamp};
use std::collections::HashMap;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I64, U16, U32, U64};

/// The bytes of the TOC.
pub(super) fn emit(tree: &Tree, inodes: &Inodes, diff_id: DiffId, tar_size: u64) -> Result<Vec<u8>, BuildError> {
    let shape = Shape::new(tree, inodes);
    let mut tables = Tables::new(inodes, tar_size);
    let root = tree.node(ROOT);
    tables.push_inode(inodes, root.inode, 1, root.flags, shape.is_hollow(ROOT))?;
    tables.set_place(1, 1, 0);
    let mut directories = vec![(ROOT, 1)];
    while let Some((dir, ino)) = directories.pop() {
        let first = tables.entries.len() as u64;
        let mut below = Vec::new();
        for &child in shape.children(dir) {
            let node = tree.node(child);
            let child_ino = tables.push_entry(tree, inodes, &shape, child)?;
            if let Some(child_ino) = child_ino.filter(|_| is_directory(inodes, &node)) {
                tables.set_place(child_ino, ino, tables.entries.len() as u32 - 1);
                below.push((child, child_ino));
            }
        }
        tables.set_entries(ino, first);
        directories.extend(below.into_iter().rev());
    }
    tables.into_bytes(diff_id, tar_size)
}

fn is_directory(inodes: &Inodes, node: &Node) -> bool {
    matches!(inodes.get(node.inode).map(|inode| inode.data), Some(Data::Directory { .. }))
}

/// The tree as it is to be written: what is gone or hidden left out.
struct Shape {
    /// Children of all directories in one list, those of one together and ordered by name.
    children: Vec<NodeId>,
    /// Where the children of a node begin; one more than there are nodes.
    starts: Vec<u32>,
    /// Whether nothing but whiteouts is in and below a directory, and no entry names it.
    hollow: Vec<bool>,
}

impl Shape {
    fn new(tree: &Tree, inodes: &Inodes) -> Self {
        let nodes = tree.nodes();
        let mut visible = vec![false; nodes.len()];
        let mut counts = vec![0u32; nodes.len() + 1];
        for (id, node) in nodes.iter().enumerate() {
            let parent = node.parent as usize;
            let shown = node.flags & (HIDDEN | REPLACED) == 0
                && (id == 0 || visible.get(parent) == Some(&true))
                && (node.inode != NO_INODE || node.flags & WHITEOUT != 0);
            if let Some(slot) = visible.get_mut(id) {
                *slot = shown;
            }
            if let Some(count) = counts.get_mut(parent).filter(|_| shown && id != 0) {
                *count += 1;
            }
        }
        let mut shape =
            Self { children: Vec::new(), starts: Vec::new(), hollow: hollow_nodes(nodes, inodes, &visible) };
        shape.sort_children(tree, &visible, counts);
        shape
    }

    /// Puts the children of each directory together (counting sort by parent) and in order.
    fn sort_children(&mut self, tree: &Tree, visible: &[bool], mut counts: Vec<u32>) {
        let mut sum = 0;
        for count in &mut counts {
            let start = sum;
            sum += *count;
            *count = start;
        }
        self.starts.clone_from(&counts);
        self.children = vec![0; sum as usize];
        for (id, node) in tree.nodes().iter().enumerate().skip(1) {
            if visible.get(id) != Some(&true) {
                continue;
            }
            let Some(at) = counts.get_mut(node.parent as usize) else { continue };
            if let Some(slot) = self.children.get_mut(*at as usize) {
                *slot = id as NodeId;
            }
            *at += 1;
        }
        let name = |id: &NodeId| tree.nodes().get(*id as usize).map_or(&[][..], |node| tree.name(node));
        for bounds in self.starts.windows(2) {
            let &[start, end] = bounds else { continue };
            if let Some(run) = self.children.get_mut(start as usize..end as usize).filter(|run| run.len() > 1) {
                run.sort_unstable_by(|one, other| name(one).cmp(name(other)));
            }
        }
    }

    fn children(&self, dir: NodeId) -> &[NodeId] {
        let bounds = self.starts.get(dir as usize).zip(self.starts.get(dir as usize + 1));
        bounds.and_then(|(start, end)| self.children.get(*start as usize..*end as usize)).unwrap_or_default()
    }

    fn is_hollow(&self, node: NodeId) -> bool {
        self.hollow.get(node as usize).copied().unwrap_or(false)
    }
}

/// Children are younger than their parents, so one pass backwards carries what is below upwards.
fn hollow_nodes(nodes: &[Node], inodes: &Inodes, visible: &[bool]) -> Vec<bool> {
    let mut hollow = vec![true; nodes.len()];
    for (id, node) in nodes.iter().enumerate().rev() {
        let shown = visible.get(id) == Some(&true);
        let own = match inodes.get(node.inode).map(|inode| inode.data) {
            None | Some(Data::Directory { implied: true }) => false,
            Some(_) => true,
        };
        let full = shown && (own || hollow.get(id) == Some(&false));
        if full && let Some(slot) = hollow.get_mut(id) {
            *slot = false;
        }
        if full && let Some(slot) = hollow.get_mut(node.parent as usize) {
            *slot = false;
        }
    }
    hollow
}

/// The sections of the file.
struct Tables {
    records: Vec<InodeRecord>,
    entries: Vec<EntryRecord>,
    extents: Vec<ExtentRecord>,
    times: Vec<TimesRecord>,
    xattrs: Vec<XattrRecord>,
    implied: Vec<U32>,
    heap: Vec<u8>,
    /// Number of the record of an inode of the builder; 0 when it has none yet.
    numbers: Vec<u32>,
    /// First record and number of records of a set of extended attributes that is written already.
    sets: HashMap<u32, (u32, u16)>,
    tar_size: u64,
}

impl Tables {
    fn new(inodes: &Inodes, tar_size: u64) -> Self {
        Self {
            records: Vec::with_capacity(inodes.len()),
            entries: Vec::with_capacity(inodes.len()),
            extents: Vec::new(),
            times: Vec::new(),
            xattrs: Vec::new(),
            implied: Vec::new(),
            heap: Vec::new(),
            numbers: vec![0; inodes.len()],
            sets: HashMap::from([(0, (0, 0))]),
            tar_size,
        }
    }

    /// Writes the entry of `id`; its inode number where it has one.
    fn push_entry(
        &mut self,
        tree: &Tree,
        inodes: &Inodes,
        shape: &Shape,
        id: NodeId,
    ) -> Result<Option<u32>, BuildError> {
        let node = tree.node(id);
        let name = tree.name(&node);
        let whiteout = node.flags & WHITEOUT != 0;
        let is_directory = is_directory(inodes, &node);
        // Where the name is gone, whiteouts below it say nothing.
        let nothing = node.inode == NO_INODE || (whiteout && is_directory && shape.is_hollow(id));
        let (ino, kind, flags) = if nothing {
            (None, 0, format::ENTRY_WHITEOUT)
        } else {
            let ino = self.ensure_inode(inodes, &node, shape.is_hollow(id))?;
            let kind = inodes.get(node.inode).and_then(|inode| inode.data.kind()).map_or(0, FileKind::mode_bits);
            let opaque = !is_directory || whiteout || node.flags & OPAQUE != 0;
            (Some(ino), (kind >> 12) as u8, if opaque { format::ENTRY_OPAQUE } else { 0 })
        };
        let name_offset = self.push_heap(name)?;
        self.entries.push(EntryRecord {
            name_offset,
            ino: U32::new(ino.unwrap_or(0)),
            prefix: format::name_prefix(name),
            name_length: name.len() as u8,
            flags,
            kind,
            reserved: 0,
        });
        // A directory that is gone is not walked into either.
        Ok(ino)
    }

    /// The number of the inode of `node`, which has one name more.
    fn ensure_inode(&mut self, inodes: &Inodes, node: &Node, hollow: bool) -> Result<u32, BuildError> {
        let number = self.numbers.get(node.inode as usize).copied().unwrap_or(0);
        if let Some(record) = number.checked_sub(1).and_then(|at| self.records.get_mut(at as usize)) {
            record.nlink.set(record.nlink.get().saturating_add(1));
            return Ok(number);
        }
        let number = u32::try_from(self.records.len() + 1).map_err(|_| BuildError::TooLarge("inodes"))?;
        self.push_inode(inodes, node.inode, number, node.flags, hollow)?;
        Ok(number)
    }

    fn push_inode(
        &mut self,
        inodes: &Inodes,
        index: u32,
        number: u32,
        node_flags: u8,
        hollow: bool,
    ) -> Result<(), BuildError> {
        let Some(inode) = inodes.get(index) else { return Ok(()) };
        if let Some(slot) = self.numbers.get_mut(index as usize) {
            *slot = number;
        }
        let (first, count, size, mut flags) = self.push_data(inodes, inode)?;
        // A whiteout beside an implied directory: nothing of the layers below is left to inherit from.
        if inode.is_implied() && node_flags & WHITEOUT == 0 {
            flags |= format::IMPLIED | if hollow { format::ONLY_WHITEOUTS } else { 0 };
            self.implied.extend((number != 1).then_some(U32::new(number)));
        }
        if node_flags & OPAQUE != 0 && inode.data.kind() == Some(FileKind::Directory) {
            flags |= format::OPAQUE;
        }
        let (xattr_first, xattr_count) = self.push_xattrs(inodes, inode.xattrs)?;
        if let Some((atime, ctime)) = inodes.times(inode) {
            flags |= format::TIMES;
            self.push_times(number, atime.unwrap_or(inode.mtime), ctime.unwrap_or(inode.mtime));
        }
        let kind = inode.data.kind().map_or(0, FileKind::mode_bits);
        self.records.push(InodeRecord {
            mode: U32::new(kind | u32::from(inode.permissions)),
            uid: U32::new(inode.uid),
            gid: U32::new(inode.gid),
            nlink: U32::new(1),
            size: U64::new(size),
            mtime_seconds: I64::new(inode.mtime.seconds),
            mtime_nanoseconds: U32::new(inode.mtime.nanoseconds),
            flags: U16::new(flags),
            xattr_count: U16::new(xattr_count),
            xattr_first: U32::new(xattr_first),
            count: U32::new(count),
            first: U64::new(first),
            header_offset: U64::new(inode.header_offset),
        });
        Ok(())
    }

    /// Fields `first`, `count`, `size` and flags of an inode.
    fn push_data(&mut self, inodes: &Inodes, inode: &Inode) -> Result<(u64, u32, u64, u16), BuildError> {
        Ok(match inode.data {
            Data::Directory { .. } => (0, 0, 0, 0),
            Data::File { size, offset } => {
                self.check_range(offset, size)?;
                (offset, 0, size, 0)
            }
            Data::Sparse { size, first, count } => {
                let start = self.extents.len() as u64;
                for extent in inodes.extents(first, count) {
                    self.check_range(extent.archive_offset, extent.length)?;
                    self.extents.push(ExtentRecord {
                        file_offset: U64::new(extent.file_offset),
                        archive_offset: U64::new(extent.archive_offset),
                        length: U64::new(extent.length),
                    });
                }
                (start, count, size, format::EXTENTS)
            }
            Data::Symlink { offset, length } | Data::Link { offset, length } => {
                let at = self.push_heap(inodes.string(offset, length))?;
                (u64::from(at.get()), 0, u64::from(length), 0)
            }
            Data::Special { device, .. } => (device, 0, 0, 0),
        })
    }

    fn check_range(&self, offset: u64, length: u64) -> Result<(), BuildError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.tar_size => Ok(()),
            _ => Err(BuildError::BeyondTar),
        }
    }

    fn push_times(&mut self, number: u32, atime: Timestamp, ctime: Timestamp) {
        self.times.push(TimesRecord {
            ino: U32::new(number),
            atime_nanoseconds: U32::new(atime.nanoseconds),
            ctime_nanoseconds: U32::new(ctime.nanoseconds),
            reserved: U32::new(0),
            atime_seconds: I64::new(atime.seconds),
            ctime_seconds: I64::new(ctime.seconds),
        });
    }

    fn push_xattrs(&mut self, inodes: &Inodes, set: u32) -> Result<(u32, u16), BuildError> {
        const TOO_LARGE: BuildError = BuildError::TooLarge("extended attributes");
        if let Some(&place) = self.sets.get(&set) {
            return Ok(place);
        }
        let xattrs = inodes.xattr_sets().get(set as usize).map(Vec::as_slice).unwrap_or_default();
        let first = u32::try_from(self.xattrs.len()).map_err(|_| TOO_LARGE)?;
        let count = u16::try_from(xattrs.len()).map_err(|_| TOO_LARGE)?;
        for (name, value) in xattrs {
            let name_offset = self.push_heap(name)?;
            let value_offset = self.push_heap(value)?;
            self.xattrs.push(XattrRecord {
                name_offset,
                value_offset,
                value_length: U32::new(u32::try_from(value.len()).map_err(|_| TOO_LARGE)?),
                name_length: U16::new(u16::try_from(name.len()).map_err(|_| TOO_LARGE)?),
                reserved: U16::new(0),
            });
        }
        self.sets.insert(set, (first, count));
        Ok((first, count))
    }

    fn push_heap(&mut self, bytes: &[u8]) -> Result<U32, BuildError> {
        let offset = u32::try_from(self.heap.len()).map_err(|_| BuildError::TooLarge("names"))?;
        self.heap.extend_from_slice(bytes);
        Ok(U32::new(offset))
    }

    /// Notes where the directory `number` stands.
    fn set_place(&mut self, number: u32, parent: u32, entry: u32) {
        if let Some(record) = self.records.get_mut(number as usize - 1) {
            record.size = U64::new(format::directory_place(parent, entry));
        }
    }

    /// Notes that the entries of the directory `number` are those from `first` on.
    fn set_entries(&mut self, number: u32, first: u64) {
        let count = self.entries.len() as u64 - first;
        if let Some(record) = self.records.get_mut(number as usize - 1) {
            record.first = U64::new(first);
            record.count = U32::new(count as u32);
        }
    }

    fn into_bytes(self, diff_id: DiffId, tar_size: u64) -> Result<Vec<u8>, BuildError> {
        let count = |length: usize, what| u32::try_from(length).map(U32::new).map_err(|_| BuildError::TooLarge(what));
        let mut header = Header {
            magic: format::MAGIC,
            version: U32::new(format::VERSION),
            header_checksum: U32::new(0),
            body_checksum: U32::new(0),
            links_below: count(self.records.iter().filter(|record| record.is_link_below()).count(), "hard links")?,
            file_size: U64::new(0),
            tar_size: U64::new(tar_size),
            diff_id,
            inodes: count(self.records.len(), "inodes")?,
            entries: count(self.entries.len(), "entries")?,
            extents: count(self.extents.len(), "extents")?,
            times: count(self.times.len(), "times")?,
            xattrs: count(self.xattrs.len(), "extended attributes")?,
            implied: count(self.implied.len(), "directories")?,
            heap: U64::new(self.heap.len() as u64),
        };
        let size = format::file_size(&header).ok_or(BuildError::TooLarge("tables"))?;
        header.file_size = U64::new(size);
        let mut bytes = Vec::with_capacity(size as usize);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(self.records.as_bytes());
        bytes.extend_from_slice(self.entries.as_bytes());
        bytes.extend_from_slice(self.extents.as_bytes());
        bytes.extend_from_slice(self.times.as_bytes());
        bytes.extend_from_slice(self.xattrs.as_bytes());
        bytes.extend_from_slice(self.implied.as_bytes());
        bytes.extend_from_slice(&self.heap);
        let body = bytes.get(format::HEADER_SIZE..).unwrap_or_default();
        header.body_checksum = U32::new(crc32fast::hash(body));
        header.header_checksum = U32::new(format::header_checksum(&header));
        if let Some(head) = bytes.get_mut(..format::HEADER_SIZE) {
            head.copy_from_slice(header.as_bytes());
        }
        Ok(bytes)
    }
}
