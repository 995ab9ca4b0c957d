//! A tree without what an ignore file names.

use crate::archive::tar::Xattr;
use crate::build::context::{Matcher, ParentMatches};
use crate::build::copy::{Stat, Tree};
use crate::model::{Name, RelPath};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, Read};

/// A tree some of whose paths are not seen. An ignored directory is seen when an exception takes something in it out again.
#[derive(Debug)]
pub struct Filtered<T> {
    inner: T,
    ignore: Matcher,
    /// What matched each directory that was looked into.
    matches: Mutex<HashMap<RelPath, (bool, ParentMatches)>>,
}

impl<T: Tree> Filtered<T> {
    /// `inner` without what `ignore` matches.
    pub fn new(inner: T, ignore: Matcher) -> Self {
        Self { inner, ignore, matches: Mutex::new(HashMap::new()) }
    }

    /// Whether `path` matches, and which patterns did.
    fn matched(&self, path: &RelPath) -> (bool, ParentMatches) {
        let Some(parent) = path.parent() else { return (false, ParentMatches::default()) };
        if let Some(known) = self.matches.lock().get(path) {
            return known.clone();
        }
        let (_, above) = self.matched(&parent);
        self.ignore.matches_in(&path.to_bytes(), &above)
    }

    fn is_seen(&self, path: &RelPath, stat: &Stat) -> io::Result<bool> {
        if self.ignore.is_empty() || path.is_root() {
            return Ok(true);
        }
        let (matched, matches) = self.matched(path);
        if stat.kind.is_directory() {
            self.matches.lock().insert(path.clone(), (matched, matches));
        }
        if !matched {
            return Ok(true);
        }
        Ok(stat.kind.is_directory() && self.ignore.may_except_below(&path.to_bytes()) && self.has_seen(path)?)
    }

    /// Whether anything in the ignored directory `path` is seen.
    fn has_seen(&self, path: &RelPath) -> io::Result<bool> {
        for (name, stat) in self.inner.list(path)? {
            if self.is_seen(&path.join(name), &stat)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<T: Tree> Tree for Filtered<T> {
    fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        let Some(stat) = self.inner.stat(path)? else { return Ok(None) };
        Ok(if self.is_seen(path, &stat)? { Some(stat) } else { None })
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Name, Stat)>> {
        let mut entries = self.inner.list(path)?;
        let mut failed = None;
        entries.retain(|(name, stat)| match self.is_seen(&path.join(name.clone()), stat) {
            Ok(seen) => seen,
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        failed.map_or(Ok(entries), Err)
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        self.inner.read_link(path)
    }

    fn xattrs(&self, path: &RelPath) -> io::Result<Vec<Xattr>> {
        self.inner.xattrs(path)
    }

    fn open<'a>(&'a self, path: &RelPath) -> io::Result<Box<dyn Read + 'a>> {
        self.inner.open(path)
    }
}
