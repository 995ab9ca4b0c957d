//! The names in a directory, as the kernel lists them.

use rustix::fs::{RawDir, RawDirEntry};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

/// Names are read in pieces of so many bytes, as the C library does.
const BUFFER: usize = 32 * 1024;

/// Calls `visit` with every entry of the directory that is open for reading as `dir`, but `.` and `..`. Each call needs a descriptor
/// that was opened for it: reading goes on where it ended.
pub fn read_names(dir: impl AsFd, mut visit: impl FnMut(&RawDirEntry<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut raw = RawDir::new(dir, &mut buffer);
    while let Some(entry) = raw.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            visit(&entry)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_visited_once_and_an_error_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        // More than one buffer holds.
        let mut expected: Vec<String> = (0..2000).map(|at| format!("{at:0>40}")).collect();
        for name in &expected {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let open = || std::fs::File::open(dir.path()).unwrap();
        let mut found = Vec::new();
        read_names(open(), |entry| {
            found.push(entry.file_name().to_str().unwrap().to_owned());
            Ok(())
        })
        .unwrap();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        let mut seen = 0;
        let stopped = read_names(open(), |_| {
            seen += 1;
            Err(io::Error::other("enough"))
        });
        assert!(stopped.is_err() && seen == 1);
    }
}
