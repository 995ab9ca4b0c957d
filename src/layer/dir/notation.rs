//! The notations in which a directory says "deleted" and "opaque": device numbers, names, extended attributes.
//!
//! Owns the names of overlay's extended attributes, and what of them a user sees (fs/overlayfs/xattrs.c). Must not
//! know descriptors or system calls.

use std::borrow::Cow;

/// The start of aufs' whiteouts and metadata.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The start of aufs' metadata, which never stand for a deleted name.
const AUFS_METADATA_PREFIX: &[u8] = b".wh..wh.";
/// The file that makes the directory it lies in opaque.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// Which namespace of extended attributes holds overlay's records. One a mount: honouring both would let a user
/// forge what only root may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrPrefix {
    /// `trusted.overlay.`: the mounts of root.
    Trusted,
    /// `user.overlay.`, and what fuse-overlayfs writes: everyone else, and `userxattr`.
    User,
}

/// One of overlay's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// `y`: nothing shows through; `x`: whiteouts in this directory are marked by [`Record::Whiteout`].
    Opaque,
    /// Where lower layers have the object.
    Redirect,
    /// The data are those of the layer below.
    Metacopy,
    /// An empty file that stands for a deleted name.
    Whiteout,
    /// Where the object was copied up from, as the kernel writes it; never written here.
    Origin,
    /// The inode number that the object had before it was copied up.
    Ino,
    /// How many names an object has in lower layers that are not in the upper yet.
    LowerNames,
}

impl XattrPrefix {
    /// Everything that starts so is overlay's own.
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// The name of the attribute that holds `record`.
    pub fn record(self, record: Record) -> &'static [u8] {
        match (self, record) {
            (Self::Trusted, Record::Opaque) => b"trusted.overlay.opaque",
            (Self::Trusted, Record::Redirect) => b"trusted.overlay.redirect",
            (Self::Trusted, Record::Metacopy) => b"trusted.overlay.metacopy",
            (Self::Trusted, Record::Whiteout) => b"trusted.overlay.whiteout",
            (Self::Trusted, Record::Origin) => b"trusted.overlay.origin",
            (Self::Trusted, Record::Ino) => b"trusted.overlay.layerfs.ino",
            (Self::Trusted, Record::LowerNames) => b"trusted.overlay.layerfs.names",
            (Self::User, Record::Opaque) => b"user.overlay.opaque",
            (Self::User, Record::Redirect) => b"user.overlay.redirect",
            (Self::User, Record::Metacopy) => b"user.overlay.metacopy",
            (Self::User, Record::Whiteout) => b"user.overlay.whiteout",
            (Self::User, Record::Origin) => b"user.overlay.origin",
            (Self::User, Record::Ino) => b"user.overlay.layerfs.ino",
            (Self::User, Record::LowerNames) => b"user.overlay.layerfs.names",
        }
    }

    /// The name under which a user sees the attribute `stored`; none for what is overlay's own. What a user stored
    /// under overlay's prefix was escaped by a second `overlay.`.
    pub fn shown(self, stored: &[u8]) -> Option<Cow<'_, [u8]>> {
        if self == Self::User && is_fuse_overlayfs(stored) || is_override_stat(stored) {
            return None;
        }
        let Some(rest) = stored.strip_prefix(self.as_bytes()) else { return Some(Cow::Borrowed(stored)) };
        rest.strip_prefix(b"overlay.").map(|name| Cow::Owned([self.as_bytes(), name].concat()))
    }

    /// The name under which the attribute that a user calls `name` is stored.
    pub fn stored(self, name: &[u8]) -> Cow<'_, [u8]> {
        match name.strip_prefix(self.as_bytes()) {
            Some(rest) => Cow::Owned([self.as_bytes(), b"overlay.", rest].concat()),
            None => Cow::Borrowed(name),
        }
    }

    /// Whether a user may not set the attribute `name`: it would be overlay's own.
    pub fn is_refused(self, name: &[u8]) -> bool {
        is_override_stat(name)
            || match self {
                Self::Trusted => name.starts_with(Self::Trusted.as_bytes()),
                Self::User => is_fuse_overlayfs(name),
            }
    }
}

fn is_fuse_overlayfs(name: &[u8]) -> bool {
    name.starts_with(b"user.fuseoverlayfs.")
}

fn is_override_stat(name: &[u8]) -> bool {
    name == super::owners::CONTAINERS_OVERRIDE
        || name == super::owners::PRIVILEGED_OVERRIDE
        || name == super::owners::FUSE_OVERLAYFS_OVERRIDE
}

/// What a name means in a directory that may hold aufs' notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameMeaning<'a> {
    /// An object.
    Object,
    /// A whiteout of this name.
    Whiteout(&'a [u8]),
    /// The mark of an opaque directory.
    Opaque,
    /// Metadata of aufs.
    Ignored,
}

/// What `name` means.
pub fn meaning(name: &[u8]) -> NameMeaning<'_> {
    if name == OPAQUE_NAME {
        return NameMeaning::Opaque;
    }
    if name.starts_with(AUFS_METADATA_PREFIX) {
        return NameMeaning::Ignored;
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        Some([]) => NameMeaning::Ignored,
        Some(hidden) => NameMeaning::Whiteout(hidden),
        None => NameMeaning::Object,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_meaning_aufs_gave_them() {
        assert_eq!(meaning(b"a"), NameMeaning::Object);
        assert_eq!(meaning(b".wh.a"), NameMeaning::Whiteout(b"a"));
        assert_eq!(meaning(b".wh..wh..opq"), NameMeaning::Opaque);
        assert_eq!(meaning(b".wh..wh.plnk"), NameMeaning::Ignored);
        assert_eq!(meaning(b".wh."), NameMeaning::Ignored);
        assert_eq!(meaning(b".whx"), NameMeaning::Object);
    }

    #[test]
    fn own_attributes_are_hidden_and_those_of_the_user_escaped() {
        let user = XattrPrefix::User;
        assert_eq!(user.shown(b"user.overlay.opaque"), None);
        assert_eq!(user.shown(b"user.overlay.overlay.opaque").as_deref(), Some(&b"user.overlay.opaque"[..]));
        assert_eq!(user.stored(b"user.overlay.opaque").as_ref(), b"user.overlay.overlay.opaque");
        assert_eq!(user.shown(b"user.fuseoverlayfs.opaque"), None);
        assert_eq!(user.shown(b"trusted.overlay.opaque").as_deref(), Some(&b"trusted.overlay.opaque"[..]));
        let trusted = XattrPrefix::Trusted;
        assert_eq!(trusted.shown(b"trusted.overlay.opaque"), None);
        assert_eq!(trusted.shown(b"user.overlay.opaque").as_deref(), Some(&b"user.overlay.opaque"[..]));
        assert!(trusted.is_refused(b"trusted.overlay.opaque"));
        assert!(!user.is_refused(b"user.overlay.opaque"));
        assert!(user.is_refused(b"user.containers.override_stat"));
    }
}
