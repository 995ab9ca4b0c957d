//! The options given with `-o`.

use super::MountError;
use crate::fuse::OpenMode;
use rustix::mount::MountFlags;
use std::time::Duration;

/// How a mount is to behave.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Other users may enter; the kernel checks their permissions.
    pub allow_other: bool,
    /// setuid and setgid bits count.
    pub suid: bool,
    /// Device nodes can be opened.
    pub dev: bool,
    /// Programs can be run.
    pub exec: bool,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Access times are kept.
    pub atime: bool,
    /// Writes wait for the disk.
    pub sync: bool,
    /// Changes of directories wait for the disk.
    pub dirsync: bool,
    /// The mount point may have content, which then is hidden.
    pub nonempty: bool,
    /// Nothing is synced to disk.
    pub volatile: bool,
    /// ACLs count, where the kernel checks permissions.
    pub acl: bool,
    /// The SELinux context option, `context=...`, passed on to the kernel.
    pub context: Option<String>,
    /// How long the kernel may keep names and attributes without asking again; none is for ever.
    pub timeout: Option<Duration>,
    /// Every directory has a link count of 1.
    pub static_nlink: bool,
    /// The kernel gathers writes before it passes them on.
    pub writeback: bool,
    /// The mount's source as it is shown, instead of the image.
    pub source: Option<String>,
    /// The type shown behind `fuse.`.
    pub subtype: String,
    /// Whether the kernel asks about opens; none is the best for the running kernel.
    pub open_mode: Option<OpenMode>,
    /// Threads that answer; none is the default.
    pub threads: Option<usize>,
    /// Threads wait awake for a moment before they sleep, and processors are kept from halting meanwhile.
    pub spin: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            allow_other: false,
            suid: false,
            dev: false,
            exec: true,
            read_only: true,
            atime: false,
            sync: false,
            dirsync: false,
            nonempty: false,
            volatile: false,
            acl: true,
            context: None,
            timeout: None,
            static_nlink: false,
            writeback: true,
            source: None,
            subtype: "layerfs".to_owned(),
            open_mode: None,
            threads: None,
            spin: true,
        }
    }
}

impl MountOptions {
    /// Applies one `-o` argument: options separated by commas.
    pub fn apply(&mut self, list: &str) -> Result<(), MountError> {
        list.split(',').filter(|option| !option.is_empty()).try_for_each(|option| self.apply_one(option))
    }

    /// Applies one option.
    pub fn apply_one(&mut self, option: &str) -> Result<(), MountError> {
        let bad = |problem| MountError::BadOption { option: option.to_owned(), problem };
        match option {
            "allow_other" => self.allow_other = true,
            "suid" => self.suid = true,
            "nosuid" => self.suid = false,
            "dev" => self.dev = true,
            "nodev" => self.dev = false,
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "ro" => self.read_only = true,
            "rw" if self.read_only => return Err(bad("an image is mounted read-only; --rw makes a writable mount")),
            "atime" | "strictatime" | "relatime" => self.atime = true,
            "noatime" | "norelatime" | "nostrictatime" => self.atime = false,
            "sync" => self.sync = true,
            "async" => self.sync = false,
            "dirsync" => self.dirsync = true,
            "volatile" if !self.read_only => self.volatile = true,
            "spin" => self.spin = true,
            "nospin" => self.spin = false,
            "nonempty" => self.nonempty = true,
            // What mount(8) passes on from fstab, and what is so in any case.
            "rw"
            | "default_permissions"
            | "auto"
            | "noauto"
            | "user"
            | "nouser"
            | "users"
            | "owner"
            | "group"
            | "nomand"
            | "iversion"
            | "noiversion"
            | "lazytime"
            | "nolazytime"
            | "silent"
            | "loud"
            | "diratime"
            | "nodiratime"
            | "nofail"
            | "_netdev"
            | "defaults" => {}
            _ => match option.split_once('=') {
                // Written by mount(8) itself, for umount(8).
                Some(("user" | "comment", _)) => {}
                Some(("fsname" | "source", value)) => self.source = Some(value.to_owned()),
                Some(("subtype", value)) => value.clone_into(&mut self.subtype),
                Some(("opens", "zero-message")) => self.open_mode = Some(OpenMode::ZeroMessage),
                Some(("opens", "answered")) => self.open_mode = Some(OpenMode::Answered),
                Some(("opens", _)) => return Err(bad("is `zero-message` or `answered`")),
                Some(("threads", value)) => {
                    let threads = value.parse().ok().filter(|threads| (1..=64).contains(threads));
                    self.threads = Some(threads.ok_or_else(|| bad("is a number from 1 to 64"))?);
                }
                Some((key, _)) if key.starts_with("x-") || key.starts_with("X-") => {}
                None if option.starts_with("x-") || option.starts_with("X-") => {}
                _ => return Err(MountError::UnknownOption(option.to_owned())),
            },
        }
        Ok(())
    }

    /// The flags for mount(2).
    pub(super) fn flags(&self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, !self.suid);
        flags.set(MountFlags::NODEV, !self.dev);
        flags.set(MountFlags::NOEXEC, !self.exec);
        flags.set(MountFlags::NOATIME, !self.atime);
        flags.set(MountFlags::SYNCHRONOUS, self.sync);
        flags.set(MountFlags::DIRSYNC, self.dirsync);
        flags
    }

    /// The same as words, for the helper program; which makes `nosuid,nodev` of its own accord.
    pub(super) fn words(&self) -> Vec<&'static str> {
        let mut words = vec![if self.read_only { "ro" } else { "rw" }];
        words.extend((!self.exec).then_some("noexec"));
        words.extend((!self.atime).then_some("noatime"));
        words.extend(self.sync.then_some("sync"));
        words.extend(self.dirsync.then_some("dirsync"));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_applied_in_order() {
        let mut options = MountOptions::default();
        options.apply("suid,dev,noexec,nosuid,,allow_other").unwrap();
        assert!(!options.suid && options.dev && !options.exec && options.allow_other);
        assert_eq!(options.flags(), MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NOATIME);
    }

    #[test]
    fn an_unknown_option_is_named() {
        let mut options = MountOptions::default();
        for (list, message) in [
            ("ro,frobnicate", "unknown mount option `frobnicate`"),
            ("colour=red", "unknown mount option `colour=red`"),
            ("opens=never", "mount option `opens=never`: is `zero-message` or `answered`"),
            ("threads=0", "mount option `threads=0`: is a number from 1 to 64"),
            ("rw", "mount option `rw`: an image is mounted read-only; --rw makes a writable mount"),
        ] {
            assert_eq!(options.apply(list).unwrap_err().to_string(), message);
        }
        options.apply("defaults,nofail,x-systemd.automount,x-gvfs-name=a,user=me,comment=x,lazytime,group").unwrap();
    }
}
