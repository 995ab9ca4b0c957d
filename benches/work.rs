//! The workloads: one definition for all file systems.

use crate::support::Scene;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Stats everything, by `find`.
pub(crate) fn find(scene: &Scene, tree: &Path) {
    shell(scene, "find \"$1\" -printf '%p %s %m %T@\\n' >/dev/null", tree);
}

/// Archives everything. Through a pipe: tar reads nothing when it sees that its output is /dev/null.
pub(crate) fn tar(scene: &Scene, tree: &Path) {
    shell(scene, "tar c -C \"$1\" . 2>/dev/null | cat >/dev/null", tree);
}

/// Searches everything for what is nowhere.
pub(crate) fn grep(scene: &Scene, tree: &Path) {
    shell(scene, "grep -rq --devices=skip 'no file has this line, not even this one' \"$1\" || [ $? = 1 ]", tree);
}

fn shell(scene: &Scene, script: &str, tree: &Path) {
    let status = scene.run("sh").args(["-c", script, "sh"]).arg(tree).command().status().expect("a shell");
    assert!(status.success(), "{script} in {}: {status}", tree.display());
}

/// Reads every file below `tree` in the order of its directories, and returns their number and bytes.
pub(crate) fn read_all(tree: &Path) -> (u64, u64) {
    let mut buffer = vec![0; 64 * 1024];
    let mut todo = vec![tree.to_owned()];
    let (mut files, mut bytes) = (0, 0);
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).expect("list").map(|entry| entry.expect("an entry")) {
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                bytes += read(&entry.path(), &mut buffer);
            }
        }
    }
    (files, bytes)
}

/// Reads a file from beginning to end.
pub(crate) fn read(path: &Path, buffer: &mut [u8]) -> u64 {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut total = 0;
    loop {
        let length = file.read(buffer).expect("read");
        total += length as u64;
        if length == 0 {
            return total;
        }
    }
}

/// Paths of up to `count` files below `tree`, relative to it, in the order of the directories.
pub(crate) fn some_files(tree: &Path, count: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(directory) = todo.pop() {
        let listed = std::fs::read_dir(tree.join(&directory)).expect("list");
        let mut names: Vec<(OsString, std::fs::FileType)> = listed
            .map(|entry| entry.expect("an entry"))
            .map(|entry| (entry.file_name(), entry.file_type().expect("a type")))
            .collect();
        names.sort_by(|one, two| one.0.cmp(&two.0));
        for (name, kind) in names {
            let path = directory.join(name);
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() {
                found.push(path);
                if found.len() == count {
                    return found;
                }
            }
        }
    }
    found
}

/// Calls `operation` on every path, with a buffer, `passes` times, in each of `threads` threads.
pub(crate) fn repeat<R>(
    paths: &[PathBuf],
    passes: usize,
    threads: usize,
    operation: impl Fn(&Path, &mut [u8]) -> R + Sync,
) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; 16 * 1024];
                for path in (0..passes).flat_map(|_| paths) {
                    std::hint::black_box(operation(path, &mut buffer));
                }
            });
        }
    });
}
