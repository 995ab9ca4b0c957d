//! The life of a mount: from a filesystem and a mount point to its end.

use super::attach::{Attached, attach, detach};
use super::registry::absolute;
use super::{MountError, MountOptions, MountRecord, Registry, background, control, tuning};
use crate::fs::LayerFs;
use crate::fuse::{Server, ServerOptions};
use crate::model::acl;
use crate::sys::{SignalSet, mount_lines};
use log::{info, warn};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest source that is shown: `/proc/mounts` gives a line no more than a page.
const MAX_SOURCE: usize = 1024;

/// How long a server that was told to end waits for those who still use its mount.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// What is mounted where, and how.
#[derive(Debug, Clone)]
pub struct MountPlan {
    /// The mount's source as it is shown.
    pub source: String,
    /// Where.
    pub mount_point: PathBuf,
    /// The name of a named mount.
    pub name: Option<String>,
    /// The directory of a named mount in its store.
    pub container: Option<PathBuf>,
    /// How.
    pub options: MountOptions,
}

impl MountPlan {
    /// Checks the mount point: a directory, empty and not in use unless `nonempty` says that this does not matter.
    /// Returns its path without symlinks.
    fn check_mount_point(&self) -> Result<PathBuf, MountError> {
        let given = &self.mount_point;
        let place = absolute(given);
        if !self.options.nonempty
            && let Some(kind) = mounted_on(&place)
        {
            return Err(MountError::Busy { path: given.clone(), kind });
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => MountError::NoMountPoint(given.clone()),
            io::ErrorKind::NotADirectory => MountError::NotDirectory(given.clone()),
            _ => MountError::MountPoint { path: given.clone(), source },
        };
        let place = given.canonicalize().map_err(failed)?;
        let mut entries = std::fs::read_dir(&place).map_err(failed)?;
        if !self.options.nonempty && entries.next().is_some() {
            return Err(MountError::NotEmpty(given.clone()));
        }
        Ok(place)
    }
}

/// The type of what is mounted on `place`.
fn mounted_on(place: &Path) -> Option<String> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    mount_lines(&table).filter(|line| line.mount_point == place).last().map(|line| line.kind)
}

/// Mounts `fs` as `plan` says and serves it until it is unmounted or a signal says that it should end.
///
/// In the background process (see [`background`]) the other one is told as soon as the mount answers. The caller starts no
/// thread before.
pub fn serve(fs: LayerFs, plan: &MountPlan) -> Result<(), MountError> {
    let place = plan.check_mount_point()?;
    let signals = block_signals()?;
    let registry = Registry::open()?;
    let source = shown_source(plan.options.source.as_deref().unwrap_or(&plan.source));
    let attached = attach(&place, &source, &plan.options)?;
    let served = serve_attached(fs, plan, &place, attached, signals, &registry);
    registry.remove(std::process::id());
    if served.is_err() {
        // The mount is of no use without its server; that it cannot be removed is the smaller of the two errors.
        let _ = detach(&place, true);
    }
    served
}

fn serve_attached(
    fs: LayerFs,
    plan: &MountPlan,
    place: &Path,
    attached: Attached,
    signals: SignalSet,
    registry: &Registry,
) -> Result<(), MountError> {
    let acl = plan.options.acl
        && attached.permissions_checked
        && (!plan.options.read_only || fs.stack().may_have_xattrs(acl::PREFIX.as_bytes()));
    let mut options = ServerOptions { acl, spin: plan.options.spin, ..ServerOptions::default() };
    options.open_mode = plan.options.open_mode.unwrap_or(options.open_mode);
    options.threads = plan.options.threads.unwrap_or(options.threads);
    options.timeout = plan.options.timeout;
    options.static_nlink = plan.options.static_nlink;
    options.writeback = plan.options.writeback;
    let fs = Arc::new(fs);
    let server = Server::new(Arc::clone(&fs), attached.device, options)?;
    tuning::raise_read_ahead(place);
    let pid = std::process::id();
    let failed = |context: &str| {
        let context = context.to_owned();
        move |source| MountError::Io { context, source }
    };
    let socket = registry.socket_path(pid);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("cannot remove a stale socket")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(failed("cannot make the control socket"))?;
    let services = control::Services { counters: server.counters(), fs };
    control::answer(listener, services).map_err(failed("cannot start a thread"))?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    registry.write(&MountRecord {
        pid,
        mount_point: place.to_owned(),
        source: plan.source.clone(),
        name: plan.name.clone(),
        container: plan.container.as_deref().map(absolute),
        writable: !plan.options.read_only,
        since,
    })?;
    unmount_on_signal(signals, place.to_owned(), registry.clone()).map_err(failed("cannot start a thread"))?;
    if background::is_background() {
        background::ready(&registry.log_path(pid)).map_err(failed("cannot go into the background"))?;
    }
    info!("mounted {} on {}", plan.source, place.display());
    server.run()?;
    info!("unmounted {}", place.display());
    Ok(())
}

/// Cuts a source that would not fit into a line of `/proc/mounts`.
fn shown_source(source: &str) -> String {
    if source.len() <= MAX_SOURCE {
        return source.to_owned();
    }
    let end = (0..=MAX_SOURCE - 3).rev().find(|&end| source.is_char_boundary(end)).unwrap_or(0);
    format!("{}...", source.get(..end).unwrap_or_default())
}

/// The signals that end a server. The terminal's hang-up ends one in the foreground only: those in the background have
/// left it.
fn block_signals() -> Result<SignalSet, MountError> {
    SignalSet::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT])
        .map_err(|source| MountError::Io { context: "cannot block signals".to_owned(), source })
}

/// Has the kernel hand over what has been written to the mount and not yet to the server.
fn write_back(place: &Path) {
    let synced = std::fs::File::open(place).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
    if let Err(error) = synced {
        warn!("what has been written to {} may be lost: {error}", place.display());
    }
}

/// Unmounts `place`, at the worst for the eyes of everyone only.
fn take_away(place: &Path) {
    write_back(place);
    match detach(place, false) {
        Ok(()) => return,
        Err(MountError::StillUsed(_)) => warn!("{} is in use: detaching it", place.display()),
        Err(error) => warn!("{error}"),
    }
    if let Err(error) = detach(place, true) {
        warn!("{error}");
    }
}

/// Starts the thread that unmounts when a signal comes. The session then ends by itself.
fn unmount_on_signal(signals: SignalSet, place: PathBuf, registry: Registry) -> io::Result<()> {
    let device = tuning::device_of(&place);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        info!("signal {signal}: unmounting {}", place.display());
        // Somebody may have unmounted it here, and mounted something else, while others go on using it.
        if tuning::device_of(&place) == device {
            take_away(&place);
        }
        // The session ends with the last user, and the process with it. One of them may be another mount namespace, which
        // has a mount of its own; a server that was told to end does end.
        std::thread::sleep(LAST_PATIENCE);
        registry.remove(std::process::id());
        std::process::exit(0);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mount_point: PathBuf) -> MountPlan {
        MountPlan {
            source: "image".to_owned(),
            mount_point,
            name: None,
            container: None,
            options: MountOptions::default(),
        }
    }

    #[test]
    fn mount_points_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("empty")).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        let check = |mount_point: PathBuf| plan(mount_point).check_mount_point();
        assert!(check(path.join("empty")).is_ok());
        assert!(matches!(check(path.join("gone")), Err(MountError::NoMountPoint(_))));
        assert!(matches!(check(path.join("file")), Err(MountError::NotDirectory(_))));
        assert!(matches!(check(path.to_owned()), Err(MountError::NotEmpty(_))));
        assert!(matches!(check("/proc".into()), Err(MountError::Busy { .. })));
        let mut over = plan(path.to_owned());
        over.options.nonempty = true;
        assert!(over.check_mount_point().is_ok());
    }

    #[test]
    fn long_sources_are_cut() {
        assert_eq!(shown_source("short"), "short");
        let cut = shown_source(&"ä".repeat(2000));
        assert!(cut.len() <= MAX_SOURCE && cut.ends_with("ä..."));
    }
}
