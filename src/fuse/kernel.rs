//! The running kernel, where its version has to be known because no feature bit tells.

use std::fmt;

/// A kernel version: the three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32, pub u32);

impl KernelVersion {
    /// The version of the running kernel; none when it does not say one that is understood.
    pub fn running() -> Option<Self> {
        Self::parse(&rustix::system::uname().release().to_string_lossy())
    }

    /// The version at the beginning of a release string such as `6.12.48+deb13-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let digits = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..end).and_then(|digits| digits.parse().ok())
        };
        let mut parts = release.splitn(3, '.').map(digits);
        let (major, minor) = (parts.next()??, parts.next()??);
        Some(Self(major, minor, parts.next().flatten().unwrap_or(0)))
    }

    /// Whether files that the server never sees opened can deadlock with read-ahead: memory is reclaimed while it answers,
    /// the inode of the very file is evicted, and eviction waits for the pages being read.
    ///
    /// Came with "fuse: allocate ff->release_args only if release is needed" (6.9, and back into 6.6), went with "fuse: fix
    /// readahead reclaim deadlock" (6.19, and back into the long-term branches in January 2026).
    pub fn zero_message_opens_can_deadlock(self) -> bool {
        match self {
            Self(6, 6, patch) => patch < 120,
            Self(6, 12, patch) => patch < 65,
            Self(6, 18, patch) => patch < 6,
            Self(6, minor, _) => (7..19).contains(&minor),
            _ => false,
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_parsed() {
        let parse = KernelVersion::parse;
        assert_eq!(parse("6.12.48+deb13-amd64"), Some(KernelVersion(6, 12, 48)));
        assert_eq!(parse("5.4.0-216-generic"), Some(KernelVersion(5, 4, 0)));
        assert_eq!(parse("6.19-rc1"), Some(KernelVersion(6, 19, 0)));
        assert_eq!(parse("7.0"), Some(KernelVersion(7, 0, 0)));
        assert_eq!(parse("linux"), None);
    }

    #[test]
    fn the_kernels_that_can_deadlock() {
        let affected = |release| KernelVersion::parse(release).unwrap().zero_message_opens_can_deadlock();
        for release in ["6.6.100", "6.8.0", "6.9.1", "6.12.48", "6.17.9", "6.18.5"] {
            assert!(affected(release), "{release}");
        }
        for release in ["5.4.0", "5.15.200", "6.1.100", "6.6.120", "6.12.65", "6.18.6", "6.19.0", "7.1.0"] {
            assert!(!affected(release), "{release}");
        }
    }
}
