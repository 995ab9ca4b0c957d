//! The mounts of the container: its root, /proc, /sys, /dev, what was asked for, and what is hidden.
//!
//! Owns the mount namespace of the container. Every mount is made detached, restricted, and only then put on a target that was resolved
//! inside the root: nothing is ever reached by a path that the image could bend.
//!
//! The problems, and what solves them:
//! 1. There may be no control group for devices, and root in a container may mknod: the root and every mount in it is `nodev`; the few devices
//!    of /dev are bind mounts of the host's, one by one. The same serves where mknod is not allowed at all.
//! 2. A bind mount may hold setuid programs of the host: every one is `nosuid`.
//! 3. A content that is no file of the host (secrets, resolv.conf) must not reach a disk: it lies in a tmpfs that nothing else refers to.
//! 4. /proc, /sys and /dev decide what is hidden: their targets may not lead through symbolic links.

use super::protocol::{Failure, Trying};
use super::resolve::{RootDir, Stub, TargetKind, fd_path};
use super::spec::{Mount, Network, Source, Spec};
use crate::sys::namespace::{MountAttributes, add_mount_attributes};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

type Done<T = ()> = Result<T, Failure>;

const NOSUID_NODEV: MountAttributes = MountAttributes::NOSUID.union(MountAttributes::NODEV);
const NOTHING_BUT_DATA: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// The devices every container has.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

const DEVICE_LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// Size of /dev/shm in bytes, as Docker's.
const SHM_SIZE: u64 = 64 << 20;
/// The group of terminals, where the container has it.
const TTY_GROUP: u32 = 5;

/// Makes the mounts and moves into the new root. The calling process has a mount namespace of its own, of which nothing reaches the host's, and is
/// the first of its pid namespace.
///
/// `stubs` gets the mount points that had to be made in the root, also on failure.
pub(super) fn enter(spec: &Spec, stubs: &mut Vec<Stub>) -> Done {
    let sources = spec.mounts.iter().map(open_source).collect::<Done<Vec<_>>>()?;
    let devices = DEVICES.iter().map(|name| clone_tree(format!("/dev/{name}"))).collect::<Done<Vec<_>>>()?;
    let root = mount_root(spec)?;
    Container { root: &root, stubs }.fill(spec, sources, devices)?;
    // While the root can still be written. What is in the way is told when the command is to enter it.
    let _ = root.ensure(&spec.cwd, TargetKind::Directory, &mut Vec::new());
    if spec.root_read_only {
        restrict(&root.fd(), MountAttributes::READ_ONLY, false)?;
    }
    pivot(&root)
}

/// Puts the slave side of a terminal at /dev/console of the root this process is in.
pub(super) fn bind_console(slave: &OwnedFd) -> Done {
    let what = || "bind /dev/console".to_owned();
    let path = rustix::termios::ttyname(slave, Vec::new()).trying(what)?;
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let console = rustix::fs::open("/dev/console", flags, Mode::from_raw_mode(0o600)).trying(what)?;
    attach(&clone_tree(OsStr::from_bytes(path.to_bytes()))?, &console).trying(what)
}

/// The root in a mount that lies nowhere, for who is to reach it from outside when the container has ended.
pub(super) fn clone_root(spec: &Spec) -> Done<OwnedFd> {
    let path = spec.root.path();
    let tree =
        clone_tree(path).map_err(|failure| Failure { what: format!("open the root {}", path.display()), ..failure })?;
    match rustix::fs::fstat(&tree).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Directory) => Ok(tree),
        Ok(_) => Err(Failure::new(format!("open the root {}", path.display()), Errno::NOTDIR)),
        Err(error) => Err(Failure::new(format!("look at the root {}", path.display()), error)),
    }
}

/// A copy of the mount tree at the root's directory, put on top of it: pivot_root(2) wants a mount.
fn mount_root(spec: &Spec) -> Done<RootDir> {
    let path = spec.root.path();
    let what = || format!("mount the root {}", path.display());
    let tree = clone_tree(path)?;
    restrict(&tree.as_fd(), MountAttributes::NODEV, true)?;
    let below =
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).trying(what)?;
    attach(&tree, &below).trying(what)?;
    RootDir::new(tree).trying(what)
}

/// The old root goes to where the new one is, on top of it, and is taken off from there.
fn pivot(root: &RootDir) -> Done {
    rustix::process::fchdir(root.fd()).trying(|| "enter the root".into())?;
    rustix::process::pivot_root(".", ".").trying(|| "change the root".into())?;
    unmount(".", UnmountFlags::DETACH).trying(|| "leave the host's root".into())?;
    rustix::process::chdir("/").trying(|| "enter the new root".into())
}

/// What a bind mount shows, opened while the host's tree can still be seen.
fn open_source(mount: &Mount) -> Done<Option<OwnedFd>> {
    let Source::Host(path) = &mount.source else { return Ok(None) };
    let tree = clone_tree(path)?;
    let attributes = if mount.read_only { NOSUID_NODEV | MountAttributes::READ_ONLY } else { NOSUID_NODEV };
    restrict(&tree.as_fd(), attributes, true)?;
    Ok(Some(tree))
}

fn clone_tree(path: impl AsRef<OsStr>) -> Done<OwnedFd> {
    let path = path.as_ref();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).trying(|| format!("bind {}", path.display()))
}

fn restrict(mount: &impl AsFd, attributes: MountAttributes, recursive: bool) -> Done {
    add_mount_attributes(mount.as_fd(), attributes, recursive).map_err(|error| match error {
        Errno::NOSYS => {
            Failure::new("restrict a mount (this needs Linux 5.12; an OCI runtime can be named instead)", error)
        }
        _ => Failure::new("restrict a mount", error),
    })
}

fn attach(tree: &impl AsFd, target: &impl AsFd) -> rustix::io::Result<()> {
    move_mount(tree, "", target, "", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

/// A new file system of a type, detached.
fn new_filesystem(kind: &str, options: &[(&str, String)], attributes: MountAttrFlags) -> Done<OwnedFd> {
    let what = || format!("make a {kind}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).trying(what)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, value.as_str())
            .trying(|| format!("set {key}={value} of a {kind}"))?;
    }
    fsconfig_create(context.as_fd()).trying(what)?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).trying(what)
}

fn tmpfs(size: Option<u64>, mode: u32, attributes: MountAttrFlags) -> Done<OwnedFd> {
    let mut options = vec![("mode", format!("{mode:o}"))];
    options.extend(size.map(|size| ("size", size.to_string())));
    new_filesystem("tmpfs", &options, attributes)
}

struct Container<'a> {
    root: &'a RootDir,
    stubs: &'a mut Vec<Stub>,
}

impl Container<'_> {
    fn fill(&mut self, spec: &Spec, sources: Vec<Option<OwnedFd>>, devices: Vec<OwnedFd>) -> Done {
        self.proc()?;
        self.sys(spec)?;
        self.dev(spec, devices)?;
        let contents = self.contents(&spec.mounts)?;
        for ((mount, source), content) in spec.mounts.iter().zip(sources).zip(contents) {
            self.mount(mount, source, content)?;
        }
        self.hide(spec)
    }

    fn proc(&mut self) -> Done {
        let proc = new_filesystem("proc", &[], NOTHING_BUT_DATA)?;
        self.attach_plain(&proc, "/proc")
    }

    /// A sysfs shows the network namespace of whoever mounts it and takes rights over that: with the host's network in a user namespace
    /// there are none, and the host's sysfs is bound.
    fn sys(&mut self, spec: &Spec) -> Done {
        let attributes = NOTHING_BUT_DATA | MountAttrFlags::MOUNT_ATTR_RDONLY;
        if spec.network == Network::None || !spec.identity.is_mapped() {
            return self.attach_plain(&new_filesystem("sysfs", &[], attributes)?, "/sys");
        }
        let sys = clone_tree("/sys")?;
        restrict(&sys, NOSUID_NODEV | MountAttributes::NOEXEC | MountAttributes::READ_ONLY, true)?;
        self.attach_plain(&sys, "/sys")?;
        // The host's control groups are none of the container's business.
        let Ok(groups) = self.root.open_plain(OsStr::new("/sys/fs/cgroup")) else { return Ok(()) };
        attach(&tmpfs(None, 0o555, attributes)?, &groups).trying(|| "hide /sys/fs/cgroup".into())
    }

    fn dev(&mut self, spec: &Spec, devices: Vec<OwnedFd>) -> Done {
        let dev = tmpfs(Some(SHM_SIZE), 0o755, NOTHING_BUT_DATA)?;
        self.attach_plain(&dev, "/dev")?;
        for (name, device) in DEVICES.iter().zip(devices) {
            let file = self.in_dev(name, TargetKind::File)?;
            attach(&device, &file).trying(|| format!("bind /dev/{name}"))?;
        }
        for (target, name) in DEVICE_LINKS {
            rustix::fs::symlinkat(*target, &dev, *name).trying(|| format!("link /dev/{name}"))?;
        }
        let mut pts = vec![("ptmxmode", "0666".to_owned()), ("mode", "0620".to_owned())];
        if spec.identity.has_group(TTY_GROUP) {
            pts.push(("gid", TTY_GROUP.to_string()));
        }
        let executable_nothing = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        self.attach_in_dev(&new_filesystem("devpts", &pts, executable_nothing)?, "pts")?;
        self.attach_in_dev(&new_filesystem("mqueue", &[], NOTHING_BUT_DATA)?, "mqueue")?;
        self.in_dev("shm", TargetKind::Directory).map(drop)
    }

    fn in_dev(&mut self, name: &str, kind: TargetKind) -> Done<OwnedFd> {
        let path = OsString::from(format!("/dev/{name}"));
        self.root.ensure(&path, kind, &mut Vec::new()).trying(|| format!("make /dev/{name}"))
    }

    fn attach_in_dev(&mut self, tree: &OwnedFd, name: &str) -> Done {
        let target = self.in_dev(name, TargetKind::Directory)?;
        attach(tree, &target).trying(|| format!("mount /dev/{name}"))
    }

    fn attach_plain(&mut self, tree: &OwnedFd, target: &str) -> Done {
        let what = || format!("mount {target} of the container");
        let path = OsStr::new(target);
        match self.root.open_plain(path) {
            Err(Errno::NOENT) => drop(self.root.ensure(path, TargetKind::Directory, self.stubs).trying(what)?),
            other => drop(other.trying(what)?),
        }
        let directory = self.root.open_plain(path).trying(what)?;
        attach(tree, &directory).trying(what)
    }

    /// A mount of one file for every mount with content, and /dev/shm, under which the files lie only as long as this function runs.
    fn contents(&mut self, mounts: &[Mount]) -> Done<Vec<Option<OwnedFd>>> {
        let files = tmpfs(None, 0o700, NOTHING_BUT_DATA)?;
        self.attach_in_dev(&files, "shm")?;
        let mut trees = Vec::with_capacity(mounts.len());
        for (at, mount) in mounts.iter().enumerate() {
            trees.push(match &mount.source {
                Source::Content { bytes, mode, uid, gid } => {
                    let name = at.to_string();
                    write_content(&files, &name, bytes, (*mode, *uid, *gid))
                        .trying(|| format!("write {}", mount.target.display()))?;
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    Some(
                        open_tree(&files, name.as_str(), flags)
                            .trying(|| format!("bind {}", mount.target.display()))?,
                    )
                }
                _ => None,
            });
        }
        unmount(fd_path(&files), UnmountFlags::DETACH).trying(|| "put away the files' own mount".into())?;
        self.attach_in_dev(&tmpfs(Some(SHM_SIZE), 0o1777, NOTHING_BUT_DATA)?, "shm")?;
        Ok(trees)
    }

    fn mount(&mut self, mount: &Mount, source: Option<OwnedFd>, content: Option<OwnedFd>) -> Done {
        let what = || format!("mount {}", mount.target.display());
        let tree = match (&mount.source, source, content) {
            (Source::Tmpfs { size, mode, executable }, ..) => {
                let data = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                tmpfs(*size, *mode, if *executable { data } else { NOTHING_BUT_DATA })?
            }
            (_, Some(tree), _) | (_, None, Some(tree)) => tree,
            (_, None, None) => return Err(Failure::new(what(), Errno::INVAL)),
        };
        if mount.read_only && !matches!(mount.source, Source::Host(_)) {
            restrict(&tree, MountAttributes::READ_ONLY, false)?;
        }
        let stat = rustix::fs::fstat(&tree).trying(what)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let kind = if directory { TargetKind::Directory } else { TargetKind::File };
        let target = self.root.ensure(&mount.target, kind, self.stubs).trying(what)?;
        attach(&tree, &target).trying(what)
    }

    fn hide(&mut self, spec: &Spec) -> Done {
        for path in &spec.read_only {
            let what = || format!("make {} read-only", path.display());
            let Some(target) = self.present(path).trying(what)? else { continue };
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
            let tree = open_tree(&target, "", flags | OpenTreeFlags::AT_EMPTY_PATH).trying(what)?;
            restrict(&tree, MountAttributes::READ_ONLY, true)?;
            attach(&tree, &target).trying(what)?;
        }
        for path in &spec.masked {
            let what = || format!("hide {}", path.display());
            let Some(target) = self.present(path).trying(what)? else { continue };
            let stat = rustix::fs::fstat(&target).trying(what)?;
            let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                tmpfs(None, 0o555, NOTHING_BUT_DATA | MountAttrFlags::MOUNT_ATTR_RDONLY)?
            } else {
                clone_tree("/dev/null")?
            };
            attach(&cover, &target).trying(what)?;
        }
        Ok(())
    }

    fn present(&self, path: &OsStr) -> rustix::io::Result<Option<OwnedFd>> {
        match self.root.open_plain(path) {
            Ok(target) => Ok(Some(target)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn write_content(dir: &OwnedFd, name: &str, bytes: &[u8], (mode, uid, gid): (u32, u32, u32)) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = rest.get(written..).ok_or(Errno::IO)?;
    }
    if (uid, gid) != (0, 0) {
        match rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            // With a single number there is nobody else to own it.
            Err(Errno::INVAL | Errno::PERM) => {}
            other => other?,
        }
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
}
