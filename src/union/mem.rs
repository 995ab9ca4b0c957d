//! A layer in memory, written down as text: what tests are made of.

use super::{Entry, EntryKind, Layer, LayerError, LayerResult, LocalIno, Marks};
use crate::model::{DeviceNumber, FileKind, Meta, Name, RelPath, Timestamp};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A layer in memory.
///
/// Its text has one line an object: a verb, a path, and what the verb wants. Missing parents are implied.
///
/// ```text
/// dir usr 755 0:0           a directory; mode and owner may be left out, here and below
/// file usr/a 644 0:0 text   a file with the rest of the line as content
/// link usr/b usr/a          a hard link; to an object of the layers below where this one has none of that name so far
/// symlink lib usr/lib       a symlink
/// char dev/null 666 1:3     devices, with their numbers
/// block dev/sda 660 8:0
/// fifo run/pipe 600
/// whiteout etc/passwd       hides what lower layers have
/// opaque etc                lower layers do not show through; a directory line may stand beside it
/// xattr usr/a user.x value  an extended attribute of the object
/// redirect new old          overlay's record; /old is absolute
/// metacopy usr/a            the data are those of the layers below
/// ```
#[derive(Debug, Default)]
pub struct MemLayer {
    label: String,
    inodes: Vec<Inode>,
    root_is_opaque: bool,
}

#[derive(Debug)]
struct Inode {
    meta: Meta,
    implied: bool,
    entries: BTreeMap<Vec<u8>, Link>,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    marks: Marks,
    /// The path in the layers below, for a link to an object there.
    link_below: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    inode: Option<usize>,
    whiteout: bool,
    /// An opaque mark in the directory.
    opaque: bool,
}

/// A line that [`MemLayer::parse`] does not understand.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: `{text}` is no entry of a layer")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl MemLayer {
    /// A layer with nothing in it.
    pub fn empty(label: &str) -> Self {
        let mut root = Inode::new(FileKind::Directory, 0o755);
        root.implied = true;
        Self { label: label.to_owned(), inodes: vec![root], root_is_opaque: false }
    }

    /// The layer that `text` describes; `label` is what it is called.
    pub fn parse(label: &str, text: &str) -> Result<Self, BadLine> {
        let mut layer = Self::empty(label);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            layer.apply(line).ok_or_else(|| BadLine { line: index + 1, text: line.to_owned() })?;
        }
        layer.count_links();
        Ok(layer)
    }

    fn apply(&mut self, line: &str) -> Option<()> {
        let mut words = Words(line);
        let verb = words.next()?;
        let path = RelPath::parse(words.next()?.as_bytes()).ok()?;
        match verb {
            "dir" => self.add(&path, FileKind::Directory, &mut words)?,
            "file" => {
                let ino = self.add(&path, FileKind::File, &mut words)?;
                self.set_content(ino, words.0.as_bytes())?;
                ino
            }
            "symlink" => {
                let ino = self.place(&path, FileKind::Symlink)?;
                self.inodes.get_mut(ino)?.meta.permissions = 0o777;
                self.set_content(ino, words.0.as_bytes())?;
                ino
            }
            "link" => return self.link(&path, &RelPath::parse(words.next()?.as_bytes()).ok()?),
            "char" => self.device(&path, FileKind::CharDevice, &mut words)?,
            "block" => self.device(&path, FileKind::BlockDevice, &mut words)?,
            "fifo" => self.add(&path, FileKind::Fifo, &mut words)?,
            "whiteout" => return self.whiteout(&path),
            "opaque" => return self.opaque(&path),
            "xattr" => {
                let name = words.next()?.as_bytes().to_vec();
                let ino = self.find(&path)?;
                self.inodes.get_mut(ino)?.xattrs.insert(name, words.0.as_bytes().to_vec());
                ino
            }
            "redirect" => {
                let ino = self.find(&path)?;
                self.inodes.get_mut(ino)?.marks.redirect = Some(words.next()?.as_bytes().to_vec());
                ino
            }
            "metacopy" => {
                let ino = self.find(&path)?;
                self.inodes.get_mut(ino)?.marks.metacopy = true;
                ino
            }
            _ => return None,
        };
        Some(())
    }

    fn add(&mut self, path: &RelPath, kind: FileKind, words: &mut Words<'_>) -> Option<usize> {
        let ino = self.place(path, kind)?;
        let meta = &mut self.inodes.get_mut(ino)?.meta;
        if let Some(mode) = words.next_if(octal) {
            meta.permissions = mode;
        }
        if let Some((uid, gid)) = words.next_if(pair) {
            (meta.uid, meta.gid) = (uid, gid);
        }
        Some(ino)
    }

    fn device(&mut self, path: &RelPath, kind: FileKind, words: &mut Words<'_>) -> Option<usize> {
        let ino = self.place(path, kind)?;
        let meta = &mut self.inodes.get_mut(ino)?.meta;
        if let Some(mode) = words.next_if(octal) {
            meta.permissions = mode;
        }
        let (major, minor) = words.next_if(pair)?;
        meta.device = DeviceNumber { major, minor };
        Some(ino)
    }

    fn set_content(&mut self, ino: usize, content: &[u8]) -> Option<()> {
        let inode = self.inodes.get_mut(ino)?;
        inode.content = content.to_vec();
        inode.meta.size = content.len() as u64;
        inode.meta.blocks = inode.meta.size.div_ceil(512);
        Some(())
    }

    /// The directory at `path`, implied where it is missing.
    fn ensure_directory(&mut self, path: &RelPath) -> Option<usize> {
        let mut at = 0;
        for name in path.names() {
            let existing = self.inodes.get(at)?.entries.get(name.as_bytes()).and_then(|link| link.inode);
            at = match existing {
                Some(inode) if self.inodes.get(inode)?.meta.kind.is_directory() => inode,
                Some(_) => return None,
                None => {
                    let mut inode = Inode::new(FileKind::Directory, 0o755);
                    inode.implied = true;
                    self.inodes.push(inode);
                    let made = self.inodes.len() - 1;
                    self.inodes.get_mut(at)?.entries.entry(name.to_vec()).or_default().inode = Some(made);
                    made
                }
            };
        }
        Some(at)
    }

    fn place(&mut self, path: &RelPath, kind: FileKind) -> Option<usize> {
        let Some(name) = path.file_name() else {
            let root = self.inodes.first_mut().filter(|_| kind.is_directory())?;
            root.implied = false;
            return Some(0);
        };
        let parent = self.ensure_directory(&path.parent()?)?;
        let existing = self.inodes.get(parent)?.entries.get(name.as_bytes()).and_then(|link| link.inode);
        if let Some(existing) = existing
            && kind.is_directory()
            && self.inodes.get(existing)?.meta.kind.is_directory()
        {
            self.inodes.get_mut(existing)?.implied = false;
            return Some(existing);
        }
        let permissions = if kind.is_directory() { 0o755 } else { 0o644 };
        self.inodes.push(Inode::new(kind, permissions));
        let made = self.inodes.len() - 1;
        self.inodes.get_mut(parent)?.entries.entry(name.to_vec()).or_default().inode = Some(made);
        Some(made)
    }

    fn find(&self, path: &RelPath) -> Option<usize> {
        path.names().iter().try_fold(0, |at, name| self.inodes.get(at)?.entries.get(name.as_bytes())?.inode)
    }

    fn link(&mut self, path: &RelPath, target: &RelPath) -> Option<()> {
        let target = self.find(target).unwrap_or_else(|| {
            let below = Inode { link_below: Some(target.to_bytes()), ..Inode::new(FileKind::File, 0) };
            self.inodes.push(below);
            self.inodes.len() - 1
        });
        let parent = self.ensure_directory(&path.parent()?)?;
        let name = path.file_name()?.to_vec();
        self.inodes.get_mut(parent)?.entries.entry(name).or_default().inode = Some(target);
        Some(())
    }

    fn whiteout(&mut self, path: &RelPath) -> Option<()> {
        let parent = self.ensure_directory(&path.parent()?)?;
        let name = path.file_name()?.to_vec();
        self.inodes.get_mut(parent)?.entries.entry(name).or_default().whiteout = true;
        Some(())
    }

    fn opaque(&mut self, path: &RelPath) -> Option<()> {
        if path.is_root() {
            self.root_is_opaque = true;
            return Some(());
        }
        self.ensure_directory(path)?;
        let parent = self.ensure_directory(&path.parent()?)?;
        self.inodes.get_mut(parent)?.entries.get_mut(path.file_name()?.as_bytes())?.opaque = true;
        Some(())
    }

    fn count_links(&mut self) {
        let mut names = vec![0_u32; self.inodes.len()];
        for ino in self.inodes.iter().flat_map(|inode| inode.entries.values()).filter_map(|link| link.inode) {
            if let Some(count) = names.get_mut(ino) {
                *count += 1;
            }
        }
        for (inode, names) in self.inodes.iter_mut().zip(names) {
            inode.meta.nlink = names.max(1);
        }
    }

    fn inode(&self, ino: LocalIno) -> LayerResult<&Inode> {
        let found = usize::try_from(ino.0).ok().and_then(|at| self.inodes.get(at.checked_sub(1)?));
        found.ok_or_else(|| LayerError::NoSuchInode { layer: self.label.clone(), ino: ino.0 })
    }

    fn kind_of(&self, link: Link) -> Option<EntryKind> {
        let Some(at) = link.inode else { return link.whiteout.then_some(EntryKind::Whiteout) };
        let inode = self.inodes.get(at)?;
        if inode.link_below.is_some() {
            return Some(EntryKind::LinkBelow { ino: LocalIno(at as u64 + 1) });
        }
        let kind = inode.meta.kind;
        let opaque = link.whiteout || link.opaque || !kind.is_directory();
        // Nothing is inherited from what a whiteout has removed.
        let implied = inode.implied && !link.whiteout;
        Some(EntryKind::Node { ino: LocalIno(at as u64 + 1), kind, opaque, implied })
    }
}

impl Inode {
    fn new(kind: FileKind, permissions: u16) -> Self {
        let time = Timestamp::from_seconds(1_000_000_000);
        let meta = Meta {
            kind,
            permissions,
            uid: 0,
            gid: 0,
            nlink: 1,
            device: DeviceNumber::default(),
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
        };
        let (entries, xattrs) = (BTreeMap::new(), BTreeMap::new());
        Self { meta, implied: false, entries, content: Vec::new(), xattrs, marks: Marks::default(), link_below: None }
    }
}

/// The words of a line; what is left is the rest of the line as it stands.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn next_if<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        let value = parse(word)?;
        self.0 = rest;
        Some(value)
    }
}

/// A mode: three or four octal digits.
fn octal(word: &str) -> Option<u16> {
    matches!(word.len(), 3 | 4).then(|| u16::from_str_radix(word, 8).ok())?
}

fn pair(word: &str) -> Option<(u32, u32)> {
    let (left, right) = word.split_once(':')?;
    Some((left.parse().ok()?, right.parse().ok()?))
}

impl Layer for MemLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn root(&self) -> LocalIno {
        LocalIno(1)
    }

    fn root_is_opaque(&self) -> LayerResult<bool> {
        Ok(self.root_is_opaque)
    }

    fn has_links_below(&self) -> bool {
        self.inodes.iter().any(|inode| inode.link_below.is_some())
    }

    fn links_below(&self, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        super::links::walk(self, visit)
    }

    fn root_is_implied(&self) -> bool {
        self.inodes.first().is_some_and(|root| root.implied)
    }

    fn implied_directories(&self, visit: &mut dyn FnMut(&[u8], LocalIno)) -> LayerResult<()> {
        let mut found = BTreeMap::new();
        let mut pending = vec![(RelPath::root(), 0)];
        while let Some((path, at)) = pending.pop() {
            for (name, link) in self.inodes.get(at).iter().flat_map(|inode| &inode.entries) {
                let Some((at, child)) = link.inode.and_then(|at| Some((at, self.inodes.get(at)?))) else { continue };
                let Ok(name) = Name::new(name) else { continue };
                if child.meta.kind.is_directory() {
                    let path = path.join(name);
                    if child.implied {
                        found.insert(path.clone(), LocalIno(at as u64 + 1));
                    }
                    pending.push((path, at));
                }
            }
        }
        for (path, ino) in found {
            visit(&path.to_bytes(), ino);
        }
        Ok(())
    }

    fn entries(&self, directory: LocalIno, visit: &mut dyn FnMut(Entry<'_>)) -> LayerResult<()> {
        for (name, link) in &self.inode(directory)?.entries {
            if let Some(kind) = self.kind_of(*link) {
                visit(Entry { name: Cow::Borrowed(name), kind });
            }
        }
        Ok(())
    }

    fn lookup(&self, directory: LocalIno, name: &[u8]) -> LayerResult<Option<EntryKind>> {
        Ok(self.inode(directory)?.entries.get(name).and_then(|link| self.kind_of(*link)))
    }

    fn link_target(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        let target = self.inode(ino)?.link_below.as_deref().map(Cow::Borrowed);
        target.ok_or_else(|| LayerError::NoSuchInode { layer: self.label.clone(), ino: ino.0 })
    }

    fn meta(&self, ino: LocalIno) -> LayerResult<Meta> {
        Ok(self.inode(ino)?.meta)
    }

    fn read_link(&self, ino: LocalIno) -> LayerResult<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.inode(ino)?.content))
    }

    fn read_at(&self, ino: LocalIno, offset: u64, buffer: &mut [u8]) -> LayerResult<usize> {
        let content = &self.inode(ino)?.content;
        let rest = usize::try_from(offset).ok().and_then(|start| content.get(start..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }

    fn seek(&self, ino: LocalIno, offset: u64, hole: bool) -> LayerResult<Option<u64>> {
        let size = self.inode(ino)?.meta.size;
        Ok((offset < size).then_some(if hole { size } else { offset }))
    }

    fn xattr(&self, ino: LocalIno, name: &[u8]) -> LayerResult<Option<Cow<'_, [u8]>>> {
        Ok(self.inode(ino)?.xattrs.get(name).map(|value| Cow::Borrowed(&**value)))
    }

    fn xattr_names(&self, ino: LocalIno, visit: &mut dyn FnMut(&[u8])) -> LayerResult<()> {
        self.inode(ino)?.xattrs.keys().for_each(|name| visit(name));
        Ok(())
    }

    fn may_have_xattrs(&self, prefix: &[u8]) -> bool {
        self.inodes.iter().flat_map(|inode| inode.xattrs.keys()).any(|name| name.starts_with(prefix))
    }

    fn keeps_marks(&self) -> bool {
        true
    }

    fn marks(&self, ino: LocalIno) -> LayerResult<Marks> {
        Ok(self.inode(ino)?.marks.clone())
    }
}
