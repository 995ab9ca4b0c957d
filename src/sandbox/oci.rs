//! The same specification carried out by an OCI runtime, where one is named.
//!
//! The stage makes the user namespace and the mount of the root as ever, writes a bundle and runs `RUNTIME run` instead of init. The bundle lies in
//! a tmpfs of the stage's own mount namespace: secrets in it never reach a disk, and it is gone with the stage.

use super::init::{tell_mount_points, watch};
use super::protocol::{Failure, Report, Trying, send};
use super::resolve::{RootDir, Stub, TargetKind, remove_stubs};
use super::seccomp::{Policy, as_oci};
use super::spec::{Identity, Mount, Network, Source, Spec};
use crate::sys::mount_lines;
use crate::sys::namespace::{Fork, fork};
use crate::sys::spawn::{close_on_exec_from, reset_signals, signals_as_descriptor};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Name of the container. The runtime's own state lies in the bundle, but its control groups are called so beside those of all others.
fn name() -> String {
    format!("layerfs-{}", std::process::id())
}

/// In the stage: runs the command of `spec` by `runtime`.
pub(super) fn main(runtime: &OsStr, spec: &Spec, control: &OwnedFd) -> Result<i32, Failure> {
    let refused = |what: &str| Failure { what: what.to_owned(), errno: 0, at_exec: false };
    if spec.identity == Identity::Single {
        return Err(refused("run an OCI runtime without subordinate ids (see subuid(5))"));
    }
    if spec.terminal.is_some() {
        return Err(refused("give a terminal to a container of an OCI runtime"));
    }
    let_go(runtime, spec);
    let what = || format!("open the root {}", spec.root.path().display());
    let root = rustix::fs::open(spec.root.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.and_then(RootDir::new).trying(what)?;
    let mut stubs = Vec::new();
    let code = mount_points(&root, spec, &mut stubs)
        .and_then(|()| tell_mount_points(control, &stubs))
        .and_then(|()| carry_out(runtime, spec, control));
    remove_stubs(root.fd(), &stubs);
    code
}

/// Takes off, in the stage's own mount namespace, the host's FUSE mounts that neither the runtime nor the container has to do with: the runtime
/// lives in this namespace as long as the container, and the server of a mount as long as its last copy.
fn let_go(runtime: &OsStr, spec: &Spec) {
    let canonical = |paths: Vec<PathBuf>| -> Vec<PathBuf> {
        // What is not there is not needed.
        paths.iter().filter_map(|path| path.canonicalize().ok()).collect()
    };
    let volumes = spec.mounts.iter().filter_map(|mount| match &mount.source {
        Source::Host(path) => Some(PathBuf::from(path)),
        _ => None,
    });
    let shown = canonical(std::iter::once(PathBuf::from(spec.root.path())).chain(volumes).collect());
    let search = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr", "/etc", "/run", "/dev", "/proc", "/sys"].map(PathBuf::from);
    let own = [PathBuf::from(runtime), std::env::temp_dir()];
    let used = canonical(std::env::split_paths(&search).chain(system).chain(own).collect());
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    for line in mount_lines(&table).filter(|line| line.kind.starts_with("fuse.") || line.kind == "fuse") {
        let point = &line.mount_point;
        // What lies below a directory that is shown is shown as well.
        let needed = shown.iter().chain(&used).any(|path| path.starts_with(point))
            || shown.iter().any(|path| point.starts_with(path));
        if needed {
            continue;
        }
        // In a user namespace the kernel lets nobody take off what came from outside.
        if let Err(error) = rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            log::debug!("{} is kept: {error}", point.display());
        }
    }
}

/// Makes what the runtime would make, so that it is known what has to be taken away.
fn mount_points(root: &RootDir, spec: &Spec, stubs: &mut Vec<Stub>) -> Result<(), Failure> {
    let own = ["/proc", "/dev", "/sys"].map(|path| (OsStr::new(path), TargetKind::Directory));
    let asked = spec.mounts.iter().map(|mount| {
        let directory = match &mount.source {
            Source::Host(path) => Path::new(path).is_dir(),
            Source::Tmpfs { .. } => true,
            Source::Content { .. } => false,
        };
        (mount.target.as_os_str(), if directory { TargetKind::Directory } else { TargetKind::File })
    });
    for (path, kind) in own.into_iter().chain(asked) {
        // What is mounted on one of these lies there only.
        if !path.as_encoded_bytes().starts_with(b"/dev/") {
            root.ensure(path, kind, stubs).trying(|| format!("make {}", path.display()))?;
        }
    }
    Ok(())
}

/// Runs the command in a bundle of its own.
fn carry_out(runtime: &OsStr, spec: &Spec, control: &OwnedFd) -> Result<i32, Failure> {
    let directory = Bundle::new()?;
    let bundle = directory.inside.as_path();
    let config = configuration(spec, bundle)?;
    fs::write(bundle.join("config.json"), config.to_string()).trying(|| "write the bundle".into())?;
    let signals = signals_as_descriptor().trying(|| "block signals".into())?;
    let started = Instant::now();
    // The child has another number.
    let name = name();
    let pid = match fork().trying(|| "fork".into())? {
        Fork::Child => {
            reset_signals();
            close_on_exec_from(3).trying(|| "close what was left open".into())?;
            let error = invocation(runtime, spec, bundle).args(["run", "--bundle"]).arg(bundle).arg(&name).exec();
            return Err(Failure::new(
                format!("run {}", runtime.display()),
                rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
            ));
        }
        Fork::Parent(pid) => pid,
    };
    send(control, &Report::Running, None).trying(|| "report the start".into())?;
    let code = watch(spec, control, &signals, pid, started)?;
    // After a good end there is nothing left of it, and the runtime says so.
    let _ = invocation(runtime, spec, bundle)
        .args(["delete", "--force", &name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    Ok(code)
}

fn invocation(runtime: &OsStr, spec: &Spec, bundle: &Path) -> Command {
    let mut command = Command::new(runtime);
    command.arg("--root").arg(bundle.join("state"));
    let name = Path::new(runtime).file_name().unwrap_or(runtime);
    if spec.identity.is_mapped() && name == "runc" {
        // Inside of a user namespace it takes itself for root and would insist on control groups.
        command.arg("--rootless=true");
    }
    command.env("XDG_RUNTIME_DIR", bundle);
    command
}

/// A directory in a tmpfs that only this mount namespace has; dropped, also the empty directory it is mounted on is gone.
struct Bundle {
    on: PathBuf,
    inside: PathBuf,
}

impl Bundle {
    fn new() -> Result<Self, Failure> {
        let what = || "make a bundle".to_owned();
        let on = std::env::temp_dir().join(format!("layerfs-bundle-{}", std::process::id()));
        rustix::fs::mkdir(&on, Mode::from_raw_mode(0o700)).trying(what)?;
        let bundle = Self { inside: on.join("bundle"), on };
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("layerfs", &bundle.on, "tmpfs", flags, Some(c"mode=700")).trying(what)?;
        fs::create_dir(&bundle.inside).trying(what)?;
        Ok(bundle)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Where the mount failed there is none to take off.
        let _ = rustix::mount::unmount(&self.on, UnmountFlags::DETACH);
        if let Err(error) = fs::remove_dir(&self.on) {
            log::debug!("{}: {error}", self.on.display());
        }
    }
}

/// The runtime's config.json; contents of mounts are written beside it.
pub(super) fn configuration(spec: &Spec, bundle: &Path) -> Result<Value, Failure> {
    let mut mounts = own_mounts(spec);
    for (at, mount) in spec.mounts.iter().enumerate() {
        mounts.push(mount_of(mount, &bundle.join(format!("content-{at}")))?);
    }
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    namespaces.extend((spec.network == Network::None).then_some("network"));
    let capabilities = spec.capabilities.names();
    let mut resources = json!({});
    if !spec.identity.is_mapped() {
        if let Some(limit) = spec.limits.processes {
            resources["pids"] = json!({"limit": limit});
        }
        if let Some(limit) = spec.limits.memory {
            resources["memory"] = json!({"limit": limit});
        }
    }
    let mut linux = json!({
        "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
        "resources": resources,
        "maskedPaths": texts(&spec.masked)?,
        "readonlyPaths": texts(&spec.read_only)?,
    });
    if spec.seccomp {
        let policy = Policy { capabilities: spec.capabilities, notify: &[], notify_creation: &[], restrict: true };
        linux["seccomp"] = as_oci(&policy);
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": {"path": text(spec.root.path())?, "readonly": spec.root_read_only},
        "process": {
            "terminal": false,
            "user": {"uid": spec.user.uid, "gid": spec.user.gid, "additionalGids": spec.user.all_groups(), "umask": spec.umask},
            "args": texts(&spec.argv)?,
            "env": texts(&spec.env)?,
            "cwd": text(&spec.cwd)?,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": spec.no_new_privileges,
            "rlimits": super::limits::as_oci(spec),
        },
        "mounts": mounts,
        "linux": linux,
    }))
}

fn own_mounts(spec: &Spec) -> Vec<Value> {
    let filesystem = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if spec.identity.has_group(5) {
        pts.push("gid=5");
    }
    let sys = if spec.identity.is_mapped() && spec.network == Network::Host {
        json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
    } else {
        filesystem("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    vec![
        filesystem("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        filesystem("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        filesystem("/dev/pts", "devpts", &pts),
        filesystem("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        filesystem("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
    ]
}

fn mount_of(mount: &Mount, content: &Path) -> Result<Value, Failure> {
    let access = if mount.read_only { "ro" } else { "rw" };
    let bind = |source: &OsStr| -> Result<Value, Failure> {
        let options = ["rbind", "nosuid", "nodev", access];
        Ok(json!({"destination": text(&mount.target)?, "type": "bind", "source": text(source)?, "options": options}))
    };
    match &mount.source {
        Source::Host(path) => bind(path),
        Source::Tmpfs { size, mode, executable } => {
            let mut options =
                vec!["nosuid".to_owned(), "nodev".to_owned(), access.to_owned(), format!("mode={mode:o}")];
            options.extend(size.map(|size| format!("size={size}")));
            options.extend((!executable).then(|| "noexec".to_owned()));
            Ok(json!({"destination": text(&mount.target)?, "type": "tmpfs", "source": "tmpfs", "options": options}))
        }
        Source::Content { bytes, mode, uid, gid } => {
            let what = || format!("write {}", mount.target.display());
            fs::write(content, bytes).trying(what)?;
            fs::set_permissions(content, std::os::unix::fs::PermissionsExt::from_mode(*mode)).trying(what)?;
            std::os::unix::fs::chown(content, Some(*uid), Some(*gid)).trying(what)?;
            bind(content.as_os_str())
        }
    }
}

/// The runtime's documents are JSON, which has no other text than UTF-8.
fn text(word: &OsStr) -> Result<&str, Failure> {
    word.to_str().ok_or_else(|| Failure {
        what: format!("tell an OCI runtime of {}: it is not UTF-8", word.display()),
        errno: 0,
        at_exec: false,
    })
}

fn texts(words: &[OsString]) -> Result<Vec<&str>, Failure> {
    words.iter().map(|word| text(word)).collect()
}
