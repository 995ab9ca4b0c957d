//! The rules of sources and destinations.

use super::destination::{Content, Destination, Maker, NewEntry, NewKind};
use super::error::{CopyError, CopyResult, reading};
use super::mode::ModeChange;
use super::owner::Owner;
use super::resolve::{Lookup, resolve};
use super::tree::{Stat, Tree};
use crate::build::context::{Glob, Matcher, ParentMatches, has_wildcards};
use crate::model::{FileKind, Name, RelPath, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;

/// What the flags of an instruction say.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// `--chown`; none keeps the owners of the sources.
    pub owner: Option<Owner>,
    /// `--chmod`.
    pub mode: Option<ModeChange>,
    /// `--exclude`.
    pub exclude: Matcher,
    /// `--link`: the destination is not looked at.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
}

/// Copies into a [`Destination`].
#[derive(Debug)]
pub struct Copier<'a, 'b> {
    destination: &'b mut Destination<'a>,
    rules: &'b Rules,
    /// Where files go: absolute, with a trailing slash where a directory is meant.
    target: &'b str,
    /// New names of source objects that have several, by tree.
    names: HashMap<(usize, u64, u64), RelPath>,
    /// Whether a file is at the target itself, which has no room for another one.
    filled: bool,
    /// Sockets among the sources, which no layer can hold.
    sockets: Vec<RelPath>,
}

/// One source tree of a copy and its number.
#[derive(Debug, Clone, Copy)]
struct From<'t> {
    number: usize,
    tree: &'t dyn Tree,
}

impl<'a, 'b> Copier<'a, 'b> {
    /// A copier to `target`, an absolute path.
    pub fn new(destination: &'b mut Destination<'a>, rules: &'b Rules, target: &'b str) -> Self {
        Self { destination, rules, target, names: HashMap::new(), filled: false, sockets: Vec::new() }
    }

    fn follow(&self) -> bool {
        !self.rules.link
    }

    /// How directories on the way are made: as `--chown` and `--chmod` say, but for bits beyond the permissions.
    fn maker(&self) -> Maker {
        let maker = Maker::from(self.rules.owner.unwrap_or_default());
        let permissions = match &self.rules.mode {
            Some(mode) => mode.apply(maker.permissions, true) & 0o777,
            None => maker.permissions,
        };
        Maker { permissions, ..maker }
    }

    /// The paths of `tree` that `pattern` names, ordered. A pattern without wildcards names its own path, whether or not
    /// anything is there; one with wildcards may name nothing.
    pub fn sources(tree: &dyn Tree, pattern: &str) -> CopyResult<Vec<RelPath>> {
        let (fixed, wild) = split_wildcards(pattern);
        if wild.is_empty() {
            return Ok(vec![resolve(tree, unescaped(&fixed).as_bytes(), false)?]);
        }
        let base = resolve(tree, unescaped(&fixed).as_bytes(), true)?;
        let mut found = vec![base];
        for component in wild {
            let glob = Glob::new(&component)?;
            let mut next = Vec::new();
            for directory in found {
                let stat = tree.stat(&directory).map_err(reading(&directory))?;
                if !stat.is_some_and(|stat| stat.kind.is_directory()) {
                    continue;
                }
                let entries = tree.list(&directory).map_err(reading(&directory))?;
                next.extend(
                    entries.into_iter().filter(|(name, _)| glob.matches(name)).map(|(name, _)| directory.join(name)),
                );
            }
            found = next;
        }
        Ok(found)
    }

    /// Copies what `pattern` names in the tree of this number. Returns how many sources it named.
    pub fn copy(&mut self, number: usize, tree: &dyn Tree, pattern: &str) -> CopyResult<usize> {
        let from = From { number, tree };
        if self.rules.parents {
            return self.copy_with_parents(from, pattern);
        }
        let sources = Self::sources(tree, pattern)?;
        let wild = has_wildcards(pattern);
        for source in &sources {
            // What a wildcard found by a name that is excluded was not meant.
            let name = source.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
            if !name.is_empty() && self.rules.exclude.matches(&name) {
                let directory = is_directory(tree, source)?;
                if wild && directory {
                    // Its entries would have gone to the target.
                    self.prepare(true, None, self.maker())?;
                }
                if wild || !directory {
                    continue;
                }
            }
            self.copy_source(from, source, pattern)?;
        }
        Ok(sources.len())
    }

    /// Copies the one source at `path` of the tree of this number.
    pub fn copy_path(&mut self, number: usize, tree: &dyn Tree, path: &RelPath) -> CopyResult<()> {
        self.copy_source(From { number, tree }, path, &path.to_string())
    }

    /// Copies one source. Symlinks are followed for the source itself and kept for everything in it.
    fn copy_source(&mut self, from: From<'_>, source: &RelPath, written: &str) -> CopyResult<()> {
        let not_found = || CopyError::NotFound { path: shown(source, written) };
        let real = resolve(from.tree, &source.to_bytes(), true)?;
        let stat = from.tree.stat(&real).map_err(reading(&real))?.ok_or_else(not_found)?;
        let target = self.prepare(stat.kind.is_directory(), source.file_name(), self.maker())?;
        if stat.kind.is_directory() {
            return self.copy_entries(from, &real, &target, b"", &ParentMatches::default());
        }
        self.copy_object(from, &real, &stat, target)
    }

    /// Makes the directories a source needs and returns where it goes: into the target when that is a directory, else to the
    /// target itself, where only one file has room. Of a directory the entries are copied, so it goes to the target itself.
    fn prepare(&mut self, directory: bool, name: Option<&Name>, maker: Maker) -> CopyResult<RelPath> {
        let follow = self.follow();
        let parent = match self.target.rfind('/') {
            Some(at) if !self.target.ends_with('/') => self.target.get(..at).unwrap_or_default(),
            _ => self.target,
        };
        let parent = self.destination.resolve(parent.as_bytes(), follow)?;
        self.destination.ensure_directories(&parent, maker, follow)?;
        let mut target = self.destination.resolve(self.target.as_bytes(), follow)?;
        let existing = self.destination.kind(&target)?;
        if directory {
            self.destination.ensure_directories(&target, maker, follow)?;
            return Ok(target);
        }
        let into = existing == Some(FileKind::Directory);
        if let Some(name) = name.filter(|_| into) {
            target.push(name.clone());
            return Ok(target);
        }
        if std::mem::replace(&mut self.filled, true) {
            return Err(CopyError::NoDirectory { destination: self.target.to_owned() });
        }
        if let Some(above) = target.parent() {
            // The target may lead through a symlink to a place whose directory is missing.
            self.destination.ensure_directories(&above, maker, follow)?;
        }
        Ok(target)
    }

    /// Copies the entries of the directory `real` to `target`. `below` is its path from the source, for `--exclude`.
    fn copy_entries(
        &mut self,
        from: From<'_>,
        real: &RelPath,
        target: &RelPath,
        below: &[u8],
        excluded: &ParentMatches,
    ) -> CopyResult<()> {
        for (name, stat) in from.tree.list(real).map_err(reading(real))? {
            let path = join(below, &name);
            let (exclude, matches) = self.rules.exclude.matches_in(&path, excluded);
            let (source, place) = (real.join(name.clone()), target.join(name));
            if !stat.kind.is_directory() {
                if !exclude {
                    self.copy_object(from, &source, &stat, place)?;
                }
                continue;
            }
            if exclude && !self.rules.exclude.may_except_below(&path) {
                continue;
            }
            if !exclude || self.has_kept(from, &source, &path, &matches)? {
                self.copy_directory(from, &source, &stat, &place)?;
                self.copy_entries(from, &source, &place, &path, &matches)?;
            }
        }
        Ok(())
    }

    /// Whether anything below an excluded directory is taken out of the exclusion again.
    fn has_kept(&self, from: From<'_>, real: &RelPath, below: &[u8], excluded: &ParentMatches) -> CopyResult<bool> {
        for (name, stat) in from.tree.list(real).map_err(reading(real))? {
            let path = join(below, &name);
            let (exclude, matches) = self.rules.exclude.matches_in(&path, excluded);
            if !exclude || (stat.kind.is_directory() && self.has_kept(from, &real.join(name), &path, &matches)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn owner(&self, stat: &Stat) -> Owner {
        self.rules.owner.unwrap_or(Owner { uid: stat.uid, gid: stat.gid })
    }

    fn entry(&self, from: From<'_>, real: &RelPath, stat: &Stat, kind: NewKind) -> CopyResult<NewEntry> {
        let directory = stat.kind.is_directory();
        let permissions = match &self.rules.mode {
            Some(mode) if stat.kind != FileKind::Symlink => mode.apply(stat.permissions, directory),
            _ => stat.permissions,
        };
        let xattrs = from.tree.xattrs(real).map_err(reading(real))?;
        Ok(NewEntry { kind, permissions, owner: self.owner(stat), mtime: stat.mtime, xattrs })
    }

    /// Makes the directory `target`, or gives the one that is there the metadata of the source.
    fn copy_directory(&mut self, from: From<'_>, real: &RelPath, stat: &Stat, target: &RelPath) -> CopyResult<()> {
        match self.destination.kind(target)? {
            None | Some(FileKind::Directory) => {}
            Some(_) if self.rules.link => {}
            Some(_) => return Err(CopyError::NotADirectory { path: target.clone() }),
        }
        let entry = self.entry(from, real, stat, NewKind::Directory { fresh: false })?;
        self.destination.put(target.clone(), entry)
    }

    /// Copies anything but a directory. Sockets are left out.
    fn copy_object(&mut self, from: From<'_>, real: &RelPath, stat: &Stat, target: RelPath) -> CopyResult<()> {
        let kind = match stat.kind {
            FileKind::File => match self.known_name(from, stat) {
                Some(known) => NewKind::HardLink(known),
                None => {
                    NewKind::File { size: stat.size, content: Content::Tree { tree: from.number, path: real.clone() } }
                }
            },
            FileKind::Symlink => NewKind::Symlink(from.tree.read_link(real).map_err(reading(real))?),
            FileKind::CharDevice => NewKind::CharDevice(stat.device),
            FileKind::BlockDevice => NewKind::BlockDevice(stat.device),
            FileKind::Fifo => NewKind::Fifo,
            FileKind::Socket => {
                self.sockets.push(real.clone());
                return Ok(());
            }
            FileKind::Directory => return Ok(()),
        };
        let entry = self.entry(from, real, stat, kind)?;
        let first = matches!(entry.kind, NewKind::File { .. });
        self.destination.put(target.clone(), entry)?;
        if let Some((device, inode)) = stat.identity.filter(|_| first) {
            self.names.insert((from.number, device, inode), target);
        }
        Ok(())
    }

    /// The new name of a file that was copied by another name already.
    fn known_name(&self, from: From<'_>, stat: &Stat) -> Option<RelPath> {
        let (device, inode) = stat.identity?;
        let known = self.names.get(&(from.number, device, inode))?;
        // It may have been replaced by a later source.
        let entry = self.destination.entries().get(known)?;
        matches!(entry.kind, NewKind::File { content: Content::Tree { .. }, .. }).then(|| known.clone())
    }

    /// `--parents`: what the pattern names goes to the target with its path, from the `/./` in it or from the root.
    fn copy_with_parents(&mut self, from: From<'_>, pattern: &str) -> CopyResult<usize> {
        let (base, below) = pattern.split_once("/./").unwrap_or(("", pattern));
        let below = clean(below).join("/");
        let include = Matcher::new(&[&below])?;
        let mut count = 0;
        for base in Self::sources(from.tree, base)? {
            let real = resolve(from.tree, &base.to_bytes(), true)?;
            let stat = from.tree.stat(&real).map_err(reading(&real))?;
            if !stat.is_some_and(|stat| stat.kind.is_directory()) {
                continue;
            }
            let target = self.prepare(true, None, self.maker())?;
            let all = below.is_empty();
            count += self.copy_included(from, &real, &target, b"", &include, &ParentMatches::default(), all)?;
        }
        if count == 0 && !has_wildcards(pattern) {
            return Err(CopyError::NotFound { path: format!("/{}", clean(pattern).join("/")) });
        }
        Ok(count)
    }

    /// Copies what is included below the directory `real`, with the directories that lead to it. `all` when the
    /// directory itself is.
    #[expect(clippy::too_many_arguments, reason = "the state of a walk over two trees at once")]
    fn copy_included(
        &mut self,
        from: From<'_>,
        real: &RelPath,
        target: &RelPath,
        below: &[u8],
        include: &Matcher,
        included: &ParentMatches,
        all: bool,
    ) -> CopyResult<usize> {
        let mut count = 0;
        for (name, stat) in from.tree.list(real).map_err(reading(real))? {
            let path = join(below, &name);
            let (matched, matches) = include.matches_in(&path, included);
            let wanted = (matched || all) && !self.rules.exclude.matches(&path);
            let (source, place) = (real.join(name.clone()), target.join(name));
            if stat.kind.is_directory() {
                let before = self.destination.kind(&place)?;
                if wanted {
                    self.copy_directory(from, &source, &stat, &place)?;
                }
                let kept = self.count_included(from, &source, &path, include, &matches, wanted)?;
                if kept > 0 && !wanted && before.is_none() {
                    self.copy_directory(from, &source, &stat, &place)?;
                }
                if kept > 0 {
                    self.copy_included(from, &source, &place, &path, include, &matches, wanted)?;
                }
                count += kept + usize::from(wanted);
            } else if wanted {
                self.copy_object(from, &source, &stat, place)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn count_included(
        &self,
        from: From<'_>,
        real: &RelPath,
        below: &[u8],
        include: &Matcher,
        included: &ParentMatches,
        all: bool,
    ) -> CopyResult<usize> {
        let mut count = 0;
        for (name, stat) in from.tree.list(real).map_err(reading(real))? {
            let path = join(below, &name);
            let (matched, matches) = include.matches_in(&path, included);
            let wanted = (matched || all) && !self.rules.exclude.matches(&path);
            count += usize::from(wanted);
            if stat.kind.is_directory() {
                count += self.count_included(from, &real.join(name), &path, include, &matches, wanted)?;
            }
        }
        Ok(count)
    }

    /// Puts a file that is in no tree: a heredoc, or what was fetched.
    pub fn put_file(&mut self, name: &str, data: Arc<[u8]>, permissions: u16, mtime: Timestamp) -> CopyResult<()> {
        let name = Name::new(name.rsplit('/').next().unwrap_or(name).as_bytes()).map_err(|error| {
            CopyError::Unrepresentable { path: RelPath::root(), detail: format!("{name:?}: {error}") }
        })?;
        let target = self.prepare(false, Some(&name), self.maker())?;
        let permissions = self.rules.mode.as_ref().map_or(permissions, |mode| mode.apply(permissions, false));
        let kind = NewKind::File { size: data.len() as u64, content: Content::Inline(data) };
        let entry =
            NewEntry { kind, permissions, owner: self.rules.owner.unwrap_or_default(), mtime, xattrs: Vec::new() };
        self.destination.put(target, entry)
    }

    /// The sockets that were left out.
    pub fn sockets(&self) -> &[RelPath] {
        &self.sockets
    }

    /// The target as a directory that is made when it is missing; for archives, which `--chmod` is not about.
    pub(super) fn target_directory(&mut self) -> CopyResult<RelPath> {
        self.prepare(true, None, self.rules.owner.unwrap_or_default().into())
    }

    pub(super) fn destination(&mut self) -> &mut Destination<'a> {
        self.destination
    }

    pub(super) fn rules(&self) -> &Rules {
        self.rules
    }
}

/// Whether `path` is a directory, or a symlink to one.
fn is_directory(tree: &dyn Tree, path: &RelPath) -> CopyResult<bool> {
    let real = resolve(tree, &path.to_bytes(), true)?;
    Ok(tree.stat(&real).map_err(reading(&real))?.is_some_and(|stat| stat.kind.is_directory()))
}

fn join(below: &[u8], name: &[u8]) -> Vec<u8> {
    if below.is_empty() { name.to_vec() } else { [below, b"/", name].concat() }
}

/// A source as messages show it: the way it was written, unless a wildcard found it.
fn shown(source: &RelPath, written: &str) -> String {
    if has_wildcards(written) { source.to_string() } else { format!("/{}", clean(written).join("/")) }
}

/// The components of a source as it is written. `..` takes away the component before it, whatever that is in the tree, and nothing
/// at the root: `../a` is `a`, as in BuildKit.
fn clean(pattern: &str) -> Vec<&str> {
    let mut components = Vec::new();
    for component in pattern.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            other => components.push(other),
        }
    }
    components
}

/// The part of a pattern before the first component with a wildcard, and the components from there on.
fn split_wildcards(pattern: &str) -> (String, Vec<String>) {
    let components = clean(pattern);
    let first = components.iter().position(|component| has_wildcards(component)).unwrap_or(components.len());
    let (fixed, wild) = components.split_at(first);
    (fixed.join("/"), wild.iter().map(|&component| component.to_owned()).collect())
}

/// A path without the backslashes that kept its characters from being wildcards.
fn unescaped(path: &str) -> String {
    let mut plain = String::new();
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}
