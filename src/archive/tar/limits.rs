//! How much of anything an archive may have.

/// Limits against bombs: an archive beyond one of them is an error before memory or disk is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one archive; of a layer made of it also names, directories that entries only imply among them.
    pub entries: u64,
    /// Bytes of one component of a path; `NAME_MAX` of Linux.
    pub name: usize,
    /// Bytes of a whole path, and of the target of a link.
    pub path: usize,
    /// Bytes of the value of one extended attribute; `XATTR_SIZE_MAX` of Linux.
    pub xattr: usize,
    /// Bytes of the names and values of all extended attributes of one entry.
    pub xattrs: usize,
    /// Bytes of one PAX header, and of all records of global headers together.
    pub pax_header: usize,
    /// Pieces of data of one sparse file. Each costs 24 bytes of memory and at least 4 bytes of archive.
    pub extents: usize,
    /// Pieces of data of all sparse files of one archive.
    pub extents_total: u64,
    /// Bytes of all names, link targets and extended attributes of one archive.
    pub text_total: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            name: crate::model::NAME_MAX,
            path: 32 << 10,
            xattr: 64 << 10,
            xattrs: 1 << 20,
            pax_header: 1 << 20,
            extents: 1 << 20,
            extents_total: 1 << 25,
            text_total: 4 << 30,
        }
    }
}

impl Limits {
    /// No limits but those of the kernel: for what was let in before, under whatever limits it was.
    pub fn none() -> Self {
        Self {
            entries: u64::MAX,
            name: crate::model::NAME_MAX,
            path: usize::MAX,
            xattr: usize::MAX,
            xattrs: usize::MAX,
            // Each is read into memory as a whole.
            pax_header: 1 << 30,
            extents: usize::MAX,
            extents_total: u64::MAX,
            text_total: u64::MAX,
        }
    }
}
