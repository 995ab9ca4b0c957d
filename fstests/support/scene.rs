//! The stage of one test: its directory, its watchdog, its end.
//!
//! Problems and what solves them:
//! 1. A hanging mount blocks the test's own thread in the kernel. The [`Watchdog`] is a thread that touches no mount:
//!    at the limit it aborts the FUSE connections and kills the servers, which makes the blocked calls fail.
//! 2. The test process itself may be killed (by its runner, by someone). A guardian process waits for the end of its
//!    standard input, and clears the scene if the test did not say goodbye.
//! 3. A server puts itself into the background and belongs to nobody. Each process of a scene is known by a mark in
//!    its environment, which is inherited.

use super::needs::{self, Need, PLAIN_USER};
use super::reap;
use super::run::{Done, Run, Who};
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a test may take where it does not say. Generous: a whole suite runs beside it on two processors.
const LIMIT: Duration = Duration::from_secs(120);
/// How long servers may take to end after their last mount has gone.
const GRACE: Duration = Duration::from_secs(30);

/// The directory of one test with all that runs in it.
#[derive(Debug)]
pub(crate) struct Scene {
    directory: PathBuf,
    watchdog: Option<Watchdog>,
    guardian: Child,
    namespaces: Mutex<Vec<Child>>,
    /// Held while a program is brought into the scene.
    programs: Mutex<()>,
}

#[derive(Debug)]
struct Watchdog {
    fired: Arc<AtomicBool>,
    stop: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Scene {
    /// A new scene, or nothing where the machine lacks one of `needs`.
    pub(crate) fn begin(needs: &[Need]) -> Option<Self> {
        Self::begin_with_limit(needs, LIMIT)
    }

    /// A new scene whose test may take `limit`, or nothing where the machine lacks one of `needs`.
    pub(crate) fn begin_with_limit(needs: &[Need], limit: Duration) -> Option<Self> {
        if !needs::all_met(needs) {
            return None;
        }
        let directory =
            tempfile::Builder::new().prefix("layerfs-test-").tempdir().expect("a temporary directory").keep();
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        let guardian = guardian(&directory);
        let watchdog = Some(Watchdog::start(directory.clone(), guardian.id(), limit));
        let scene = Self { directory, watchdog, guardian, namespaces: Mutex::default(), programs: Mutex::default() };
        scene.make_homes();
        Some(scene)
    }

    /// The scene's directory, 0755.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in the scene; nothing is created.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// A new directory in the scene.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a directory in the scene");
        path
    }

    /// A new directory in the scene that belongs to the plain user.
    pub(crate) fn plain_dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.dir(name);
        if needs::is_root() {
            self.run("chown").arg(format!("{PLAIN_USER}:")).arg(&path).ok();
        }
        path
    }

    /// The `layerfs` under test, with arguments. Its store is the scene's, one for each [`Who`].
    pub(crate) fn layerfs<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.run(self.program()).args(arguments)
    }

    /// A program in this scene, found in `PATH` or among the cached tools.
    pub(crate) fn run(&self, program: impl AsRef<OsStr>) -> Run {
        Run::new(self, program)
    }

    /// A shell script in this scene, ended by its first failing command.
    pub(crate) fn sh(&self, script: impl AsRef<OsStr>) -> Run {
        self.run("sh").arg("-euc").arg(script)
    }

    /// The `layerfs` under test, at a path that every user can reach.
    pub(crate) fn program(&self) -> PathBuf {
        self.reachable(Path::new(env!("CARGO_BIN_EXE_layerfs")), "layerfs")
    }

    /// A copy (or another name) of `file` in the scene, where every user can reach and execute it.
    pub(crate) fn reachable(&self, file: &Path, name: &str) -> PathBuf {
        let there = self.directory.join("bin").join(name);
        // One at a time: a copy over another name of the same file would empty it, for every test.
        let _one = self.lock_programs();
        if !there.exists() && std::fs::hard_link(file, &there).is_err() {
            std::fs::copy(file, &there).expect("copy a program into the scene");
        }
        there
    }

    /// Loads an archive or `oci:DIR:TAG` into the store, and returns the reference that it is known by there.
    #[track_caller]
    pub(crate) fn load(&self, source: &str) -> String {
        self.load_as(Who::Me, source)
    }

    /// As [`Scene::load`], run by someone else.
    #[track_caller]
    pub(crate) fn load_as(&self, who: Who, source: &str) -> String {
        let done = self.layerfs(["load", "-i", source]).who(who).ok();
        let text = done.text();
        let line =
            text.lines().find(|line| line.starts_with("Loaded image")).expect("a line that names what was loaded");
        line.split_once(": ").expect("a name after the colon").1.trim().to_owned()
    }

    /// Runs `layerfs` with `arguments` and a new directory `name` as the mount point after them, and returns the
    /// mount.
    #[track_caller]
    pub(crate) fn mount<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, name: &str) -> Mounted<'_> {
        self.mount_as(Who::Me, arguments, name)
    }

    /// As [`Scene::mount`], run by someone else.
    #[track_caller]
    pub(crate) fn mount_as<A: AsRef<OsStr>>(
        &self,
        who: Who,
        arguments: impl IntoIterator<Item = A>,
        name: &str,
    ) -> Mounted<'_> {
        let point = if who == Who::Me { self.dir(name) } else { self.plain_dir(name) };
        self.layerfs(arguments).arg(&point).who(who).ok();
        Mounted { scene: self, who, point, live: true }
    }

    /// A new user and mount namespace of the plain user, whose root has his subordinate ids. It lives as long as the
    /// scene; programs enter it through [`Who::Namespace`].
    pub(crate) fn namespace(&self) -> Who {
        let ready = self.plain_dir("namespaces").join(format!("{}", self.lock_namespaces().len()));
        let script = format!("touch {}; exec sleep infinity", ready.display());
        let child = self
            .run("unshare")
            .args(["--user", "--mount", "--map-root-user", "--map-auto", "--", "sh", "-c", &script])
            .who(Who::Plain)
            .spawn();
        let pid = child.id();
        self.lock_namespaces().push(child);
        while !ready.exists() {
            assert!(!self.watchdog_fired(), "no user namespace came up");
            std::thread::sleep(Duration::from_millis(5));
        }
        Who::Namespace(pid)
    }

    /// The mounts that this scene has now, in the test's own mount namespace.
    pub(crate) fn mounts(&self) -> Vec<reap::MountLine> {
        reap::mounts_of("self", &self.directory)
    }

    /// The processes that this scene has now, user namespaces' holders left out.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let holders: Vec<u32> = self.lock_namespaces().iter().map(Child::id).collect();
        let mut found = reap::processes(&self.directory, Some(self.guardian.id()));
        found.retain(|(pid, _)| !holders.contains(pid));
        found
    }

    fn lock_programs(&self) -> std::sync::MutexGuard<'_, ()> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_namespaces(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watchdog_fired(&self) -> bool {
        self.watchdog.as_ref().is_some_and(|watchdog| watchdog.fired.load(Ordering::SeqCst))
    }

    /// Homes, run-time directories and the place of programs.
    fn make_homes(&self) {
        self.dir("bin");
        for home in ["me", "plain"] {
            for part in ["", "run", "data", "config", "cache"] {
                let path = self.dir(Path::new(home).join(part));
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
            }
        }
        let plain = self.path("plain");
        let user_exists = std::fs::read_to_string("/etc/passwd").unwrap_or_default().contains(PLAIN_USER);
        if needs::is_root() && user_exists {
            self.run("chown").args(["-R", &format!("{PLAIN_USER}:")]).arg(&plain).ok();
        }
    }

    /// What is left that should not be, in words.
    fn leaks(&self) -> Vec<String> {
        let mounts = self.mounts();
        let patience = if mounts.is_empty() { GRACE } else { Duration::ZERO };
        let processes = reap::wait_for_end(&self.directory, Some(self.guardian.id()), patience);
        let mounts = mounts.iter().map(|mount| format!("mount {} ({})", mount.point.display(), mount.kind));
        mounts.chain(processes.iter().map(|(pid, command)| format!("process {pid}: {command}"))).collect()
    }

    /// Removes the scene's files; what cannot be removed is told.
    fn remove_files(&self) -> Result<(), String> {
        if std::fs::remove_dir_all(&self.directory).is_ok() {
            return Ok(());
        }
        let script = "chmod -R u+rwX \"$1\" 2>/dev/null; rm -rf --one-file-system \"$1\"";
        let output = Command::new("sh").args(["-c", script, "sh"]).arg(&self.directory).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for holder in self.lock_namespaces().iter_mut() {
            // Ended already, then.
            let _ = holder.kill();
            let _ = holder.wait();
        }
        let fired = self.watchdog.take().is_some_and(Watchdog::stop);
        let leaks = if std::thread::panicking() { Vec::new() } else { self.leaks() };
        reap::clear(&self.directory, Some(self.guardian.id()));
        let processes = reap::wait_for_end(&self.directory, Some(self.guardian.id()), GRACE);
        let removed = self.remove_files();
        if let Some(mut pipe) = self.guardian.stdin.take() {
            // Without the word it clears what is no longer there.
            let _ = std::io::Write::write_all(&mut pipe, b"done\n");
        }
        let _ = self.guardian.wait();
        if std::thread::panicking() {
            return;
        }
        assert!(!fired, "the test hung: its limit passed, its mounts were aborted");
        assert!(leaks.is_empty(), "the test left behind:\n{}", leaks.join("\n"));
        assert!(processes.is_empty(), "these cannot be killed: {processes:?}");
        removed.expect("remove the files of the scene");
    }
}

impl Watchdog {
    fn start(directory: PathBuf, guardian: u32, limit: Duration) -> Self {
        let fired = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = mpsc::channel();
        let shared = Arc::clone(&fired);
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let watch = move || {
            if stopped.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            shared.store(true, Ordering::SeqCst);
            eprintln!(
                "watchdog: {test} did not end within {limit:?}; its connections, aborted now, and its processes:"
            );
            for (connection, waiting) in reap::abort_connections(&directory) {
                eprintln!("watchdog:   connection {connection}: {waiting} requests without an answer");
            }
            for (pid, command) in reap::processes(&directory, Some(guardian)) {
                eprintln!("watchdog:   {pid} {command}");
            }
            reap::clear(&directory, Some(guardian));
            if stopped.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {test} goes on after its mounts were aborted; ending the process");
                std::process::exit(101);
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(watch).expect("a thread");
        Self { fired, stop, thread }
    }

    /// Ends it, and tells whether it had to act.
    fn stop(self) -> bool {
        // It may have ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
        self.fired.load(Ordering::SeqCst)
    }
}

fn guardian(directory: &Path) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(include_str!("guardian.sh"))
        .arg("guardian")
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start the guardian")
}

/// A mount of the `layerfs` under test. Dropped without [`Mounted::unmount`] it stays, and the scene's end reports it.
#[derive(Debug)]
pub(crate) struct Mounted<'a> {
    scene: &'a Scene,
    who: Who,
    point: PathBuf,
    live: bool,
}

impl Mounted<'_> {
    /// The mount point.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// A path below the mount point.
    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.point.join(path)
    }

    /// Unmounts with `layerfs umount`, which must succeed and leave no server.
    #[track_caller]
    pub(crate) fn unmount(mut self) -> Done {
        self.live = false;
        self.scene.layerfs(["umount"]).arg(&self.point).who(self.who).ok()
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.live && std::thread::panicking() {
            eprintln!("still mounted: {}", self.point.display());
        }
    }
}
