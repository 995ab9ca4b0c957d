//! One component of a path.

use super::printable;
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

/// The longest file name in bytes (`NAME_MAX`, include/uapi/linux/limits.h).
pub const NAME_MAX: usize = 255;

/// A file name: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`. Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No bytes at all.
    #[error("empty name")]
    Empty,
    /// `.` or `..`.
    #[error("name is `.` or `..`")]
    Dots,
    /// Contains `/` or NUL.
    #[error("name contains `/` or NUL")]
    Separator,
    /// Longer than [`NAME_MAX`] bytes.
    #[error("name is longer than 255 bytes")]
    TooLong,
}

impl Name {
    /// Checks `bytes` and makes a name of them.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidName> {
        Self::check(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Whether `bytes` would be a valid name, without allocating.
    pub fn check(bytes: &[u8]) -> Result<(), InvalidName> {
        match bytes {
            [] => Err(InvalidName::Empty),
            b"." | b".." => Err(InvalidName::Dots),
            _ if bytes.len() > NAME_MAX => Err(InvalidName::TooLong),
            _ if bytes.iter().any(|&byte| byte == b'/' || byte == 0) => Err(InvalidName::Separator),
            _ => Ok(()),
        }
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<std::ffi::OsStr> for Name {
    fn as_ref(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(Name::new(b""), Err(InvalidName::Empty));
        assert_eq!(Name::new(b"."), Err(InvalidName::Dots));
        assert_eq!(Name::new(b".."), Err(InvalidName::Dots));
        assert_eq!(Name::new(b"a/b"), Err(InvalidName::Separator));
        assert_eq!(Name::new(b"a\0"), Err(InvalidName::Separator));
        assert_eq!(Name::new(&[b'x'; 256]), Err(InvalidName::TooLong));
        assert!(Name::new(&[b'x'; 255]).is_ok());
        assert!(Name::new(b"\xff\xfe").is_ok());
    }
}
