//! Removing whole trees, whatever whoever made them did.
//!
//! 1. *A tree may be deeper than there are descriptors, or stack*: any process can make directories in each other without end. Only
//!    [`DEPTH`] levels are gone down; what lies deeper is moved to the top first, where it is one level down again.
//! 2. *Directories may be closed to their owner*: they are opened to him before they are looked into.
//! 3. *Two may remove the same tree*: what is gone already is no error.

use super::attributes::chmod_no_follow;
use super::names::read_names;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Levels that are gone down at once: each takes a descriptor and a buffer for names.
const DEPTH: usize = 32;
/// What the owner of a directory needs to empty it.
const OWNER: u32 = 0o700;

/// Removes what is at `path`: a file, or a directory with everything in it. No symlink is followed, and that nothing is there is no error.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_at(CWD, path.as_os_str().as_bytes())
}

/// The same for `name` in the directory `parent`, which may have been opened with `O_PATH`.
pub fn remove_tree_at(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    if !is_directory(parent, name)? {
        return gone(rustix::fs::unlinkat(parent, name, AtFlags::empty()));
    }
    if let Some(top) = open_directory(parent, name)? {
        let mut removal = Removal { top: top.as_fd(), moved: Vec::new(), next: 0 };
        removal.empty(top.as_fd(), 1)?;
        while let Some(name) = removal.moved.pop() {
            removal.directory(top.as_fd(), &name, 1)?;
        }
    }
    gone(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// Names in `top` of directories that lay too deep.
    moved: Vec<Vec<u8>>,
    /// The number in the name of the next one.
    next: u64,
}

impl Removal<'_> {
    /// Removes everything in `dir`, which is open for reading.
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        read_names(dir, |entry| {
            let name = entry.file_name().to_bytes();
            let directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => is_directory(dir, name)?,
                _ => false,
            };
            if directory {
                return self.directory(dir, name, depth);
            }
            gone(rustix::fs::unlinkat(dir, name, AtFlags::empty()))
        })
    }

    /// Removes the directory `name` of `parent`, or moves it to the top when it lies too deep.
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> io::Result<()> {
        if depth > DEPTH {
            return self.move_up(parent, name);
        }
        if let Some(dir) = open_directory(parent, name)? {
            self.empty(dir.as_fd(), depth + 1)?;
        }
        gone(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
    }

    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        // Its entry `..` changes with the move.
        open_to_owner(parent, name);
        loop {
            let moved = format!(".{}-{}", std::process::id(), self.next).into_bytes();
            self.next += 1;
            match rustix::fs::renameat(parent, name, self.top, &*moved) {
                Ok(()) => self.moved.push(moved),
                Err(Errno::NOENT) => {}
                // Something has that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => continue,
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }
}

fn gone(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory for reading; none when it is gone.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<OwnedFd>> {
    open_to_owner(parent, name);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lets its owner into a directory. Where that fails, opening it or removing what is in it tells.
fn open_to_owner(parent: BorrowedFd<'_>, name: &[u8]) {
    let closed = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_mode & OWNER != OWNER && stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
    if closed {
        let _ = chmod_no_follow(parent, name, OWNER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn files_directories_links_and_nothing_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.is_symlink() && outside.join("kept").exists());
    }

    #[test]
    fn regression_a_tree_deeper_than_descriptors_and_stack_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut below = fs::File::open(&top).map(OwnedFd::from).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&below, "d", Mode::RWXU).unwrap();
            drop(rustix::fs::openat(&below, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
            below = rustix::fs::openat(&below, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(below);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }
}
