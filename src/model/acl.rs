//! What POSIX ACLs are called among extended attributes (include/uapi/linux/xattr.h).

/// How all of them begin.
pub const PREFIX: &str = "system.posix_acl_";
/// Who may do what with the object.
pub const ACCESS: &str = "system.posix_acl_access";
/// What is made in the directory begins with it.
pub const DEFAULT: &str = "system.posix_acl_default";

/// Whether the extended attribute `name` is an ACL.
pub fn is_acl(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}
