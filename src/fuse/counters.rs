//! How many requests of each kind have been answered.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($name:ident $text:literal),* $(,)?) => {
        /// A kind of request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the requests of the protocol, each by its name")]
        pub enum Operation { $($name),* }

        const NAMES: &[&str] = &[$($text),*];
    };
}

operations! {
    Lookup "lookup", Forget "forget", Getattr "getattr", Setattr "setattr", Readlink "readlink", Symlink "symlink",
    Mknod "mknod", Mkdir "mkdir", Unlink "unlink", Rmdir "rmdir", Rename "rename", Link "link", Open "open", Read "read",
    Write "write", Statfs "statfs", Release "release", Fsync "fsync", Setxattr "setxattr", Getxattr "getxattr",
    Listxattr "listxattr", Removexattr "removexattr", Flush "flush", Opendir "opendir", Readdir "readdir",
    Releasedir "releasedir", Fsyncdir "fsyncdir", Access "access", Create "create", Ioctl "ioctl", Fallocate "fallocate",
    Readdirplus "readdirplus", Lseek "lseek", CopyFileRange "copy_file_range", Store "store",
}

/// How often each kind of request has come. `store` counts what was pushed without being asked.
#[derive(Debug)]
pub struct Counters([AtomicU64; NAMES.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; NAMES.len()])
    }
}

impl Counters {
    /// Counts one request; returns how many of its kind there have been.
    pub fn count(&self, operation: Operation) -> u64 {
        self.0.get(operation as usize).map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The names of the requests that have come, and how often.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        NAMES.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_name() {
        let counters = Counters::default();
        counters.count(Operation::Lookup);
        counters.count(Operation::Store);
        assert_eq!(counters.count(Operation::Store), 2);
        assert_eq!(counters.snapshot(), [("lookup", 1), ("store", 2)]);
    }
}
