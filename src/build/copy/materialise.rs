//! A part of a tree as real files, for a command to be shown.

use super::error::{CopyError, CopyResult, reading};
use super::tree::{Stat, Tree};
use crate::model::{FileKind, RelPath};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes a copy of `path` of `tree` at `place`, where nothing is and which nobody else writes to. Owners are kept where that is
/// allowed; devices and sockets are left out.
pub fn materialise(tree: &dyn Tree, path: &RelPath, place: &Path) -> CopyResult<()> {
    let Some(stat) = tree.stat(path).map_err(reading(path))? else { return Ok(()) };
    make(tree, path, &stat, place).map_err(reading(path))?;
    if stat.kind.is_directory() {
        for (name, _) in tree.list(path).map_err(reading(path))? {
            let below = place.join(OsStr::from_bytes(&name));
            materialise(tree, &path.join(name), &below)?;
        }
    }
    set_metadata(&stat, place).map_err(reading(path))
}

/// Copies what is in the directory `path` of `tree` into the directory `place`, which may have something in it: directories are merged,
/// files and links replaced, and no symlink there is followed. `place` itself stays as it is.
pub fn materialise_into(tree: &dyn Tree, path: &RelPath, place: &Path) -> CopyResult<()> {
    for (name, stat) in tree.list(path).map_err(reading(path))? {
        let (below, there) = (path.join(name.clone()), place.join(OsStr::from_bytes(&name)));
        let merged = make_room(&stat, &there).map_err(|source| CopyError::Place { path: there.clone(), source })?;
        if merged {
            materialise_into(tree, &below, &there)?;
            set_metadata(&stat, &there).map_err(reading(&below))?;
        } else {
            materialise(tree, &below, &there)?;
        }
    }
    Ok(())
}

/// Takes away what an object cannot stand beside; whether a directory is there that a directory is merged with.
fn make_room(stat: &Stat, place: &Path) -> io::Result<bool> {
    let there = match std::fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    match (there.is_dir(), stat.kind) {
        (true, FileKind::Directory) => Ok(true),
        // Whatever it holds is more than what would take its place.
        (true, _) => Err(io::ErrorKind::IsADirectory.into()),
        (false, FileKind::CharDevice | FileKind::BlockDevice | FileKind::Socket) => Ok(false),
        (false, _) => std::fs::remove_file(place).map(|()| false),
    }
}

fn make(tree: &dyn Tree, path: &RelPath, stat: &Stat, place: &Path) -> io::Result<()> {
    match stat.kind {
        FileKind::Directory => std::fs::create_dir(place),
        FileKind::File => io::copy(&mut tree.open(path)?, &mut File::create_new(place)?).map(drop),
        FileKind::Symlink => std::os::unix::fs::symlink(OsStr::from_bytes(&tree.read_link(path)?), place),
        FileKind::Fifo => Ok(rustix::fs::mknodat(CWD, place, rustix::fs::FileType::Fifo, 0o600.into(), 0)?),
        FileKind::CharDevice | FileKind::BlockDevice | FileKind::Socket => Ok(()),
    }
}

fn set_metadata(stat: &Stat, place: &Path) -> io::Result<()> {
    if matches!(stat.kind, FileKind::CharDevice | FileKind::BlockDevice | FileKind::Socket) {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
        rustix::fs::chownat(CWD, place, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if stat.kind != FileKind::Symlink {
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(u32::from(stat.permissions)))?;
    }
    let time = Timespec { tv_sec: stat.mtime.seconds, tv_nsec: i64::from(stat.mtime.nanoseconds) };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
