//! What `overlay.redirect` of an object may say.

use super::Refusal;
use crate::model::RelPath;

/// Where the layers below have an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect<'a> {
    /// Under this name in the same directory.
    Beside(&'a [u8]),
    /// At this path from the root.
    At(RelPath),
}

impl<'a> Redirect<'a> {
    /// What `value` says. A name or an absolute path, without empty components, as the kernel demands (`ovl_get_redirect_xattr` in
    /// fs/overlayfs/util.c); that it goes neither up nor leaves a layer is what its lookups demand (`lookup_noperm_common` in fs/namei.c).
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, Refusal> {
        let (path, is_absolute) = match value.strip_prefix(b"/") {
            Some(path) => (path, true),
            None => (value, false),
        };
        let mut components = path.split(|&byte| byte == b'/');
        if components.clone().any(<[u8]>::is_empty) || (!is_absolute && components.clone().count() > 1) {
            return Err(Refusal::Malformed);
        }
        if components.any(|component| component == b"." || component == b"..") {
            return Err(Refusal::Dots);
        }
        if !is_absolute {
            return Ok(Self::Beside(value));
        }
        RelPath::parse(path).map(Self::At).map_err(|_| Refusal::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_a_name_or_an_absolute_path() {
        assert_eq!(Redirect::parse(b"..."), Ok(Redirect::Beside(b"...")));
        assert_eq!(Redirect::parse(b"/a/b"), Ok(Redirect::At(RelPath::parse(b"a/b").unwrap())));
        for value in ["", "/", "a/b", "a/", "//a", "/a//b", "/a/", "../a"] {
            assert_eq!(Redirect::parse(value.as_bytes()), Err(Refusal::Malformed), "{value:?}");
        }
        for value in [".", "..", "/..", "/a/../b", "/./a"] {
            assert_eq!(Redirect::parse(value.as_bytes()), Err(Refusal::Dots), "{value:?}");
        }
    }
}
