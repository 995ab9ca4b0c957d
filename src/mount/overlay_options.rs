//! The options of `layerfs overlay`: those of the kernel's overlayfs, of fuse-overlayfs and of mount(8).

use super::{MountError, MountOptions};
use crate::layer::dir::{IdMap, Owners};
use crate::union::MAX_LOWERS;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Whether directories of lower layers can be renamed (`redirect_dir=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redirect {
    /// They are renamed, and what was renamed before is found.
    On,
    /// What was renamed before is found.
    #[default]
    Follow,
    /// A directory that was renamed before is an error.
    NoFollow,
}

/// What is to be united, and how.
#[derive(Debug, Clone, Default)]
pub struct OverlayOptions {
    /// The lower directories, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The upper directory; none for a read-only mount.
    pub upper: Option<PathBuf>,
    /// The work directory.
    pub work: Option<PathBuf>,
    /// Whether directories of lower layers can be renamed.
    pub redirect: Redirect,
    /// Whether a change of metadata copies no data.
    pub metacopy: bool,
    /// Overlay's attributes are `user.` ones, also for root.
    pub userxattr: bool,
    /// How stored owners are shown.
    pub owners: Owners,
    /// Owners and modes are kept in `override_stat`.
    pub override_stat: bool,
    /// Nothing is synced to disk.
    pub volatile: bool,
    /// There are no ACLs.
    pub noacl: bool,
    /// The rest.
    pub mount: MountOptions,
}

impl OverlayOptions {
    /// No layers, and the defaults of fuse-overlayfs.
    pub fn new() -> Self {
        let mount = MountOptions { suid: true, read_only: false, nonempty: true, ..MountOptions::default() };
        Self { mount, ..Self::default() }
    }

    /// Applies one `-o` argument: options separated by commas; a backslash takes a comma its meaning.
    pub fn apply(&mut self, list: &[u8]) -> Result<(), MountError> {
        let options = split(list, b',');
        options.iter().filter(|option| !option.is_empty()).try_for_each(|option| self.apply_one(option))
    }

    fn apply_one(&mut self, option: &[u8]) -> Result<(), MountError> {
        let shown = String::from_utf8_lossy(option).into_owned();
        let bad = |problem| MountError::BadOption { option: shown.clone(), problem };
        let (key, value) = match option.iter().position(|&byte| byte == b'=') {
            Some(at) => (option.get(..at).unwrap_or_default(), option.get(at + 1..)),
            None => (option, None),
        };
        let text = value.map(String::from_utf8_lossy);
        match (key, value, text.as_deref()) {
            (b"lowerdir", Some(value), _) => {
                self.lowers = split(value, b':').iter().map(|path| to_path(path)).collect();
                if self.lowers.iter().any(|path| path.as_os_str().is_empty()) {
                    return Err(bad("has an empty path"));
                }
            }
            (b"lowerdir+", Some(value), _) => self.lowers.push(to_path(value)),
            (b"upperdir", Some(value), _) => self.upper = Some(to_path(value)),
            (b"workdir", Some(value), _) => self.work = Some(to_path(value)),
            (b"redirect_dir", _, Some(value)) => {
                self.redirect = match value {
                    "on" => Redirect::On,
                    "off" | "follow" => Redirect::Follow,
                    "nofollow" => Redirect::NoFollow,
                    _ => return Err(bad("is on, off, follow or nofollow")),
                };
            }
            (b"metacopy", _, Some(value)) => self.metacopy = switch(value).ok_or_else(|| bad("is on or off"))?,
            (b"userxattr", None, _) => self.userxattr = true,
            (b"uidmapping", _, Some(value)) => self.owners.uids = id_map(value).ok_or_else(|| bad(MAPPING))?,
            (b"gidmapping", _, Some(value)) => self.owners.gids = id_map(value).ok_or_else(|| bad(MAPPING))?,
            (b"squash_to_root", ..) => {
                self.owners.squash_uid = Some(0);
                self.owners.squash_gid = Some(0);
            }
            (b"squash_to_uid", _, Some(value)) => {
                self.owners.squash_uid = Some(value.parse().map_err(|_| bad("is a user ID"))?);
            }
            (b"squash_to_gid", _, Some(value)) => {
                self.owners.squash_gid = Some(value.parse().map_err(|_| bad("is a group ID"))?);
            }
            (b"xattr_permissions", _, value) => {
                self.override_stat = match value {
                    None | Some("1" | "2") => true,
                    Some("0") => false,
                    Some(_) => return Err(bad("is 0, 1 or 2")),
                };
            }
            (b"volatile", ..) => self.volatile = true,
            (b"noacl", ..) => self.noacl = true,
            (b"context" | b"fscontext" | b"defcontext" | b"rootcontext", _, Some(value)) => {
                self.mount.context = Some(format!("{}={value}", String::from_utf8_lossy(key)));
            }
            (b"rw", ..) => self.mount.read_only = false,
            // What is so in any case: our index is always there, directories always have one link, inode numbers never
            // change, and caches never expire.
            (b"index" | b"xino", _, Some("on" | "off" | "auto"))
            | (b"nfs_export", _, Some("off"))
            | (b"uuid", _, Some("on" | "off" | "null" | "auto"))
            | (b"static_nlink" | b"lazytime" | b"nolazytime" | b"silent" | b"loud" | b"diratime" | b"nodiratime", ..) =>
                {}
            (b"timeout", _, Some(value)) => {
                value.parse::<f64>().map_err(|_| bad("is a number of seconds"))?;
            }
            _ => self.mount.apply_one(&shown)?,
        }
        Ok(())
    }

    /// Checks what belongs together.
    pub fn check(&self) -> Result<(), MountError> {
        if self.lowers.is_empty() {
            return Err(MountError::NoLower);
        }
        if self.lowers.len() > MAX_LOWERS {
            return Err(crate::union::StackError::TooMany(self.lowers.len()).into());
        }
        match (&self.upper, &self.work) {
            (Some(_), None) => Err(MountError::NoWork),
            (None, Some(_)) => Err(MountError::NoUpper),
            _ => Ok(()),
        }
    }
}

const MAPPING: &str = "is a list of CONTAINER:HOST:LENGTH";

fn id_map(text: &str) -> Option<IdMap> {
    IdMap::parse(text).ok()
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// The parts between separators that no backslash stands before. The backslashes stay.
fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut escaped = false;
    for &byte in text {
        if byte == separator && !escaped {
            parts.push(Vec::new());
            continue;
        }
        escaped = byte == b'\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(byte);
        }
    }
    parts
}

/// The path that an option's value means: a backslash stands for the byte behind it.
fn to_path(value: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.clone().next()) {
            (b'\\', Some(&next)) => {
                path.push(next);
                bytes.next();
            }
            _ => path.push(byte),
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(lists: &[&str]) -> Result<OverlayOptions, MountError> {
        let mut options = OverlayOptions::new();
        lists.iter().try_for_each(|list| options.apply(list.as_bytes()))?;
        options.check()?;
        Ok(options)
    }

    #[test]
    fn layers_are_split_and_escapes_undone() {
        let options = parse(&[r"lowerdir=/a\:b:/c\,d:/e\\f", "upperdir=/u,workdir=/w"]).unwrap();
        assert_eq!(options.lowers, ["/a:b", "/c,d", r"/e\f"].map(PathBuf::from));
        assert_eq!(options.upper.as_deref(), Some(Path::new("/u")));
        let options = parse(&["lowerdir+=/1,lowerdir+=/2:x"]).unwrap();
        assert_eq!(options.lowers, ["/1", "/2:x"].map(PathBuf::from));
    }

    #[test]
    fn options_of_the_peers_are_understood() {
        let options = parse(&[
            "lowerdir=/l,upperdir=/u,workdir=/w,uidmapping=0:1000:1:1:100000:65536,squash_to_gid=5,volatile,noacl",
            "xattr_permissions=2,static_nlink,timeout=0,allow_other,default_permissions,index=off,nfs_export=off",
            "redirect_dir=on,metacopy=on,userxattr,xino=off,lazytime,noatime,ro,nodev,fsync=0",
        ]);
        assert_eq!(options.unwrap_err().to_string(), "unknown mount option `fsync=0`");
        let options = parse(&["lowerdir=/l,uidmapping=0:1000:1,squash_to_root,redirect_dir=on,suid"]).unwrap();
        assert_eq!((options.owners.squash_uid, options.redirect), (Some(0), Redirect::On));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (list, message) in [
            ("upperdir=/u,workdir=/w", "no lowerdir given"),
            ("lowerdir=/l,upperdir=/u", "upperdir needs a workdir"),
            ("lowerdir=/l,workdir=/w", "workdir without an upperdir"),
            ("lowerdir=/l,colour=red", "unknown mount option `colour=red`"),
            ("lowerdir=/l,redirect_dir=maybe", "mount option `redirect_dir=maybe`: is on, off, follow or nofollow"),
            ("lowerdir=/l::/m", "mount option `lowerdir=/l::/m`: has an empty path"),
        ] {
            assert_eq!(parse(&[list]).unwrap_err().to_string(), message, "{list}");
        }
        let many = vec!["/l"; 501].join(":");
        let message = "501 layers are more than the 500 that one mount can have";
        assert_eq!(parse(&[&format!("lowerdir={many}")]).unwrap_err().to_string(), message);
    }
}
