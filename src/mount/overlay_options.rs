//! The options of `layerfs overlay`: those of the kernel's overlayfs, of fuse-overlayfs and of mount(8).

use super::{MountError, MountOptions};
use crate::layer::dir::{IdMap, Owners};
use crate::union::MAX_LOWERS;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

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
            (b"fsync", _, Some(value)) => self.volatile = !flag(value).ok_or_else(|| bad(FLAG))?,
            (b"static_nlink", ..) => self.mount.static_nlink = true,
            (b"writeback", _, Some(value)) => self.mount.writeback = flag(value).ok_or_else(|| bad(FLAG))?,
            (b"timeout", _, Some(value)) => {
                let seconds = value.parse().ok().and_then(seconds).ok_or_else(|| bad("is a number of seconds"))?;
                self.mount.timeout = Some(seconds);
            }
            (b"noacl", ..) => self.noacl = true,
            (b"context" | b"fscontext" | b"defcontext" | b"rootcontext", _, Some(_)) => {
                // With the quotes that podman puts around it: the kernel takes them off.
                let contexts = self.mount.context.take().map(|others| others + ",").unwrap_or_default();
                self.mount.context = Some(contexts + &shown);
            }
            (b"rw", ..) => self.mount.read_only = false,
            (b"noxattrs", _, Some(value)) if flag(value) == Some(true) => {
                return Err(bad("is not supported: owners and whiteouts need extended attributes"));
            }
            (b"plugins", ..) => return Err(bad("is not supported: layers are directories")),
            (b"nfs_export", _, Some("on")) => {
                return Err(bad("is not supported: a FUSE server has no file handles that outlive it"));
            }
            // What is so in any case, whatever is asked for; docs/semantics.md says of each why.
            (b"index" | b"xino", _, Some("on" | "off" | "auto"))
            | (b"nfs_export" | b"verity", _, Some("off"))
            | (b"uuid", _, Some("on" | "off" | "null" | "auto"))
            | (
                b"threaded" | b"fast_ino" | b"fast_ino_check" | b"noxattrs" | b"max_write" | b"max_threads"
                | b"max_idle_threads",
                _,
                Some(_),
            )
            | (
                b"clone_fd" | b"kernel_cache" | b"splice_read" | b"splice_write" | b"splice_move" | b"private"
                | b"rprivate" | b"shared" | b"rshared" | b"slave" | b"rslave" | b"unbindable" | b"runbindable",
                None,
                _,
            ) => {}
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

const MAPPING: &str = "is a list of DISK:MOUNT:LENGTH";
const FLAG: &str = "is 0 or 1";

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

fn flag(value: &str) -> Option<bool> {
    value.parse().ok().map(|number: i64| number != 0)
}

/// A time as the option `timeout` gives it; more than the kernel can count is for ever.
fn seconds(number: f64) -> Option<Duration> {
    let whole = number.is_finite() && number >= 0.0;
    whole.then(|| Duration::from_secs_f64(number.min(f64::from(u32::MAX))))
}

/// The parts between separators that no backslash stands before, and that are not in a value between double quotes. The
/// backslashes and quotes stay.
fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let (mut escaped, mut quoted) = (false, false);
    let mut before = None;
    for &byte in text {
        let last = before.replace(byte);
        if byte == b'"' && !escaped {
            quoted = !quoted && last == Some(b'=');
        }
        if byte == separator && !escaped && !quoted {
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

    /// What podman and buildah pass (containers/storage, drivers/overlay/overlay.go): layers, options of storage.conf, SELinux label,
    /// ID maps with a colon before the first number, `xattr_permissions`.
    #[test]
    fn options_of_podman_are_understood() {
        let options = parse(&[concat!(
            "lowerdir=/l/A:/l/B:/l/B/../diff1,upperdir=/u/diff,workdir=/u/work,fsync=0,metacopy=on,volatile,",
            r#"context="system_u:object_r:container_file_t:s0:c1,c2","#,
            "uidmapping=:0:1000:1:1:100000:65536,gidmapping=:0:1000:1:1:100000:65536,xattr_permissions=2",
        )]);
        let options = options.unwrap();
        assert_eq!(options.lowers, ["/l/A", "/l/B", "/l/B/../diff1"].map(PathBuf::from));
        let context = r#"context="system_u:object_r:container_file_t:s0:c1,c2""#;
        assert_eq!(options.mount.context.as_deref(), Some(context));
        assert!(options.volatile && options.metacopy && options.override_stat);
        assert_eq!(
            (options.owners.to_mount(0, 5), options.owners.to_disk(1000, 100_004)),
            ((1000, 100_004), Some((0, 5)))
        );
        let options = parse(&["lowerdir=/l,squash_to_uid=1000,squash_to_gid=100"]).unwrap();
        assert_eq!(options.owners.to_mount(5, 6), (1000, 100));
        // Volumes with `:O` (containers/common, pkg/overlay).
        parse(&["lowerdir=/volume,upperdir=/o/upper,workdir=/o/work,private"]).unwrap();
        let options = parse(&["lowerdir=/d:/l/A"]).unwrap();
        assert_eq!((options.upper, options.lowers.len()), (None, 2));
    }

    #[test]
    fn options_of_fuse_overlayfs_are_understood() {
        let options =
            parse(&["lowerdir=/l,upperdir=/u,workdir=/w,squash_to_root,static_nlink,noacl,timeout=2.5"]).unwrap();
        assert_eq!(options.owners.to_mount(5, 6), (0, 0));
        assert!(options.mount.static_nlink && options.noacl && options.mount.writeback && !options.volatile);
        assert_eq!(options.mount.timeout, Some(Duration::from_millis(2500)));
        let timeout =
            |value: &str| parse(&[&format!("lowerdir=/l,timeout={value}")]).map(|options| options.mount.timeout);
        assert_eq!(timeout("0").unwrap(), Some(Duration::ZERO));
        assert_eq!(timeout("1e30").unwrap(), Some(Duration::from_secs(u32::MAX.into())));
        for wrong in ["-1", "inf", "nan", "soon", ""] {
            let message = format!("mount option `timeout={wrong}`: is a number of seconds");
            assert_eq!(timeout(wrong).unwrap_err().to_string(), message);
        }
        let options =
            parse(&["lowerdir=/l,writeback=0,threaded=1,fast_ino=1,noxattrs=0,fsync=1,redirect_dir=off"]).unwrap();
        assert!(!options.mount.writeback && !options.volatile);
        for (value, kept) in [("", true), ("=0", false), ("=1", true), ("=2", true)] {
            assert_eq!(
                parse(&[&format!("lowerdir=/l,xattr_permissions{value}")]).unwrap().override_stat,
                kept,
                "{value}"
            );
        }
        parse(&["allow_other,default_permissions,kernel_cache,max_write=131072,splice_read", "lowerdir=/l"]).unwrap();
    }

    #[test]
    fn options_of_the_kernel_and_of_mount_are_understood() {
        let lists = [
            "redirect_dir=on,metacopy=on,userxattr,index=off,nfs_export=off,uuid=null,verity=off",
            "redirect_dir=nofollow,metacopy=off,index=on,xino=auto,uuid=on",
            "rw,suid,dev,exec,relatime,async,lazytime,diratime,silent,iversion,group,user=me,_netdev,nofail,x-a.b=c",
            "ro,nosuid,nodev,noexec,noatime,nodiratime,sync,dirsync,loud,noiversion,nolazytime,norelatime,comment=c",
        ];
        for list in lists {
            parse(&[list, "lowerdir=/l"]).unwrap_or_else(|error| panic!("{list}: {error}"));
        }
        let options = parse(&["lowerdir=/l,redirect_dir=on,metacopy=on,userxattr"]).unwrap();
        assert_eq!((options.redirect, options.metacopy, options.userxattr), (Redirect::On, true, true));
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
            ("lowerdir=/l,index=maybe", "unknown mount option `index=maybe`"),
            (
                "lowerdir=/l,nfs_export=on",
                "mount option `nfs_export=on`: is not supported: a FUSE server has no file handles that outlive it",
            ),
            ("lowerdir=/l,uidmapping=0:1", "mount option `uidmapping=0:1`: is a list of DISK:MOUNT:LENGTH"),
            ("lowerdir=/l,squash_to_uid=me", "mount option `squash_to_uid=me`: is a user ID"),
            ("lowerdir=/l,xattr_permissions=3", "mount option `xattr_permissions=3`: is 0, 1 or 2"),
            ("lowerdir=/l,writeback=no", "mount option `writeback=no`: is 0 or 1"),
            ("lowerdir=/l,plugins=a", "mount option `plugins=a`: is not supported: layers are directories"),
        ] {
            assert_eq!(parse(&[list]).unwrap_err().to_string(), message, "{list}");
        }
        let many = vec!["/l"; 501].join(":");
        let message = "501 layers are more than the 500 that one mount can have";
        assert_eq!(parse(&[&format!("lowerdir={many}")]).unwrap_err().to_string(), message);
    }
}
