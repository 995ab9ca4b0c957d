//! What a copy would add, as one digest: the key of the cache.

use super::destination::{Content, Destination, NewKind};
use super::error::{CopyResult, reading};
use super::tree::Tree;
use super::write::Data;
use crate::model::RelPath;
use crate::oci::{Digest, Hasher};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// A digest of what is added to `destination`: paths, types, owners, modes, extended attributes, contents; no times, so that a
/// fresh checkout of the same files counts as the same.
pub fn fingerprint(destination: &Destination<'_>, data: Data<'_>) -> CopyResult<Digest> {
    let mut hasher = Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (path, entry) in destination.entries() {
        field(&path.to_bytes());
        field(format!("{} {} {:o}", entry.owner.uid, entry.owner.gid, entry.permissions).as_bytes());
        match &entry.kind {
            NewKind::Directory { .. } => field(b"directory"),
            NewKind::HardLink(target) => {
                field(b"link");
                field(&target.to_bytes());
            }
            NewKind::Symlink(target) => {
                field(b"symlink");
                field(target);
            }
            NewKind::CharDevice(device) => field(format!("char {} {}", device.major, device.minor).as_bytes()),
            NewKind::BlockDevice(device) => field(format!("block {} {}", device.major, device.minor).as_bytes()),
            NewKind::Fifo => field(b"fifo"),
            NewKind::File { size, content } => {
                field(format!("file {size}").as_bytes());
                field(content_digest(path, content, data)?.as_bytes());
            }
        }
        for (name, value) in &entry.xattrs {
            field(name);
            field(value);
        }
    }
    Ok(hasher.finish().0)
}

fn content_digest(path: &RelPath, content: &Content, data: Data<'_>) -> CopyResult<Digest> {
    match content {
        Content::Inline(bytes) => Ok(Digest::of(bytes)),
        Content::Tree { tree, path: source } => {
            let Some(tree) = data.trees.get(*tree) else { return Ok(Digest::of(b"")) };
            tree_digest(*tree, source)
        }
        Content::Archive { archive, extents } => {
            let mut hasher = Hasher::new();
            let mut buffer = vec![0; 128 << 10];
            for extent in extents {
                hasher.update(&extent.file_offset.to_le_bytes());
                if let Some(file) = data.archives.get(*archive) {
                    hash_range(file, extent.archive_offset, extent.length, &mut buffer, &mut hasher)
                        .map_err(reading(path))?;
                }
            }
            Ok(hasher.finish().0)
        }
    }
}

fn tree_digest(tree: &dyn Tree, path: &RelPath) -> CopyResult<Digest> {
    let mut hasher = Hasher::new();
    let mut input = tree.open(path).map_err(reading(path))?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish().0),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(path)(error)),
        }
    }
}

fn hash_range(file: &File, mut at: u64, mut length: u64, buffer: &mut [u8], hasher: &mut Hasher) -> io::Result<()> {
    while length > 0 {
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        at += count as u64;
        length -= count as u64;
    }
    Ok(())
}
