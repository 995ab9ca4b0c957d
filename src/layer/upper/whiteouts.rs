//! Whiteouts: names of one inode.
//!
//! Making an inode is what a deletion in a lower layer would cost most: a file system has to find a free one, and ext4 passes by those
//! that were freed a moment ago one after the other (`recently_deleted`, fs/ext4/ialloc.c). So all whiteouts of an upper are hard
//! links to one in the workdir, as the kernel has it (`ovl_whiteout`, fs/overlayfs/dir.c).

use super::Upper;
use super::names::link;
use super::probe::remove;
use crate::layer::dir::Object;
use rustix::fs::{AtFlags, FileType, Mode};
use std::io;

/// How often somebody else may replace the shared inode meanwhile before a whiteout gets one of its own.
const TRIES: u32 = 4;

impl Upper {
    /// Makes a whiteout at `target`, where nothing is.
    pub(super) fn make_whiteout(&self, target: &Object) -> io::Result<()> {
        let shared = self.staging.whiteout();
        for _ in 0..TRIES {
            let Err(error) = link(shared, target) else { return Ok(()) };
            match error.raw_os_error() {
                Some(libc::ENOENT) => {}
                // It has as many names as an inode may have.
                Some(libc::EMLINK) => unless(libc::ENOENT, remove(shared, AtFlags::empty()))?,
                Some(libc::EEXIST) => return Err(error),
                // A file system without hard links, or one that refuses them for devices.
                _ => break,
            }
            unless(libc::EEXIST, make_inode(shared))?;
        }
        make_inode(target)
    }
}

/// Makes a whiteout with an inode of its own.
pub(super) fn make_inode(object: &Object) -> io::Result<()> {
    Ok(rustix::fs::mknodat(&object.dir, &*object.name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// The result, when it is not the error `expected`: another thread was faster.
fn unless(expected: i32, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(expected) => Ok(()),
        result => result,
    }
}
