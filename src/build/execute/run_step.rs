//! RUN: a command in a sandbox whose root is the stage with a writable layer on top.

use super::cache::Key;
use super::error::{BuildError, BuildResult, trying};
use super::events::Event;
use super::mounts;
use super::stage::{Made, Work};
use crate::build::copy::{Account, Stat, Tree, resolve_account};
use crate::build::plan::{RunAction, Step};
use crate::commit::capture;
use crate::diff::{Comparison, LayerOptions, Options, Override, add_linked_names, compare, keep_links};
use crate::fs::{LayerFs, Settings};
use crate::layer::dir::{Descriptors, Owners, XattrPrefix};
use crate::layer::upper::{Changes, Ownership, SetTime, Upper, UpperOptions, XattrMode};
use crate::model::{FileKind, RelPath};
use crate::mount::{Inside, MountError};
use crate::oci::Digest;
use crate::sandbox::{self, Network, Outcome, Root, Running, Sandbox, Source, Spec, User};
use crate::union::{Follow, Layer, Stack};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// The name a command finds itself on.
const HOSTNAME: &str = "buildkitsandbox";
const HOSTS: &str = "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n";
/// Descriptors that the writable layer of one command may hold: several commands may run at once.
const DESCRIPTORS: u64 = 256;
/// Lines of output longer than this are told in pieces, in bytes.
const LINE_MAX: u64 = 64 << 10;

/// A command and everything it needs, and the key of its result.
pub(super) struct Prepared<'a> {
    pub(super) key: Digest,
    step: &'a Step,
    action: &'a RunAction,
    account: Account,
    stage: Arc<dyn Tree>,
    shown: Vec<Option<mounts::Shown>>,
}

/// Finds out what the command depends on.
pub(super) fn prepare<'a>(work: &Work<'_>, step: &'a Step, action: &'a RunAction) -> BuildResult<Prepared<'a>> {
    let stage = work.layers.tree()?;
    let account = resolve_account(&*stage, &action.user)?;
    let trees = mounts::trees(work, step, &action.mounts)?;
    let mut key = Key::above(work.layers.chain_id());
    key.text("run");
    key.list(&action.arguments);
    key.list(&action.environment);
    key.list(&[&action.user, &action.workdir, &format!("{:?} {}", network(work, action), action.insecure)]);
    key.text(action.script.as_ref().map_or("", |(_, body)| body));
    if !work.shared.build.options.hosts.is_empty() {
        key.list(&["hosts", &work.shared.build.options.hosts]);
    }
    if !work.shared.build.options.resources.is_empty() {
        key.list(&["limits", &format!("{:?}", work.shared.build.options.resources)]);
    }
    let shown = mounts::add_to_key(&mut key, &action.mounts, trees)?;
    Ok(Prepared { key: key.finish(), step, action, account, stage, shown })
}

fn network(work: &Work<'_>, action: &RunAction) -> Network {
    use crate::build::dockerfile::Network as Asked;
    match action.network {
        Some(Asked::None) => Network::None,
        Some(Asked::Default) | None if work.shared.build.options.no_network => Network::None,
        Some(Asked::Host | Asked::Default) | None => Network::Host,
    }
}

/// Runs the command and captures what it changed.
pub(super) fn run(work: &Work<'_>, prepared: &Prepared<'_>, number: usize, started: Instant) -> BuildResult<Made> {
    let scratch = Scratch::new(work)?;
    let lowers = lowers(work);
    let fs = Arc::new(writable(&scratch, &lowers, &*prepared.stage)?);
    let mounted = mounts::prepare(work, &prepared.action.mounts, &prepared.shown)?;
    let spec = specification(work, prepared, &scratch, mounted.mounts, mounted.variables.as_slice())?;
    // One command at a time uses it: two threads keep one from waiting for the other's disk.
    let serving = Inside::serve(Arc::clone(&fs), &spec.identity, 2).map_err(serve_failed)?;
    let sandbox = Sandbox::new(spec).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sandbox = serving.give_to(sandbox);
    if let Some(program) = &work.shared.build.options.program {
        sandbox = sandbox.program(program);
    }
    let running = sandbox.spawn()?;
    let outcome = watch(work, running, number, started);
    serving.finish().map_err(serve_failed)?;
    check(work, prepared, outcome?)?;
    capture_changes(work, &fs, &lowers)
}

fn serve_failed(error: MountError) -> BuildError {
    trying("serve the root of a command")(std::io::Error::other(error))
}

/// Directories of the session for one command.
struct Scratch {
    upper: PathBuf,
    work: PathBuf,
    root: PathBuf,
    files: PathBuf,
}

impl Scratch {
    fn new(work: &Work<'_>) -> BuildResult<Self> {
        let base = work.shared.build.session.stage_path();
        let make = |name: &str| {
            let path = base.join(name);
            std::fs::create_dir_all(&path).map(|()| path).map_err(trying("make a directory in the store"))
        };
        Ok(Self { upper: make("upper")?, work: make("work")?, root: make("root")?, files: make("files")? })
    }
}

/// The layers below the command; a stack needs at least one.
fn lowers(work: &Work<'_>) -> Vec<Arc<dyn Layer>> {
    let mut lowers = work.layers.opened();
    if lowers.is_empty() {
        lowers.push(super::assemble::nothing());
    }
    lowers
}

fn writable(scratch: &Scratch, lowers: &[Arc<dyn Layer>], stage: &dyn Tree) -> BuildResult<LayerFs> {
    let root = rustix::process::geteuid().is_root();
    let options = UpperOptions {
        prefix: if root { XattrPrefix::Trusted } else { XattrPrefix::User },
        ownership: if root { Ownership::Real } else { Ownership::Override },
        owners: Owners::default(),
        // Nothing of it is needed after a crash.
        volatile: true,
    };
    let descriptors = Arc::new(Descriptors::new(DESCRIPTORS, 2));
    let upper = Upper::open(&scratch.upper, &scratch.work, options, &descriptors)?;
    if let Some(stat) = stage.stat(&RelPath::root()).map_err(trying("read the root of the stage"))? {
        let xattrs = stage.xattrs(&RelPath::root()).map_err(trying("read the root of the stage"))?;
        like_below(&upper, &stat, &xattrs).map_err(crate::union::StackError::from)?;
    }
    let settings = Settings { redirect_dir: true, metacopy: true };
    Ok(LayerFs::new_writable(lowers.to_vec(), upper, settings, Follow::default())?)
}

/// Gives the root of the upper the metadata of the root below: it must not count as a change.
fn like_below(upper: &Upper, stat: &Stat, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), crate::union::LayerError> {
    let time = Some(SetTime::At(stat.mtime));
    let changes = Changes {
        permissions: Some(u32::from(stat.permissions)),
        uid: Some(stat.uid),
        gid: Some(stat.gid),
        size: None,
        atime: time,
        mtime: time,
    };
    for (name, value) in xattrs {
        upper.set_xattr(upper.root(), name, value, XattrMode::Set)?;
    }
    upper.set_attributes(upper.root(), FileKind::Directory, &changes)
}

fn specification(
    work: &Work<'_>,
    prepared: &Prepared<'_>,
    scratch: &Scratch,
    mut mounts: Vec<sandbox::Mount>,
    variables: &[(String, Vec<u8>)],
) -> BuildResult<Spec> {
    let action = prepared.action;
    let root =
        Root::Fuse { at: scratch.root.clone().into(), source: "build".to_owned(), subtype: "layerfs".to_owned() };
    let mut spec = Spec::new(root, action.arguments.iter().map(OsString::from).collect());
    spec.env = action.environment.iter().map(OsString::from).collect();
    let set = |name: &str| action.environment.iter().any(|line| line.split('=').next() == Some(name));
    if !set("HOME") {
        spec.env.push(format!("HOME={}", prepared.account.home).into());
    }
    for (name, value) in action.proxies.iter().filter(|(name, _)| !set(name)) {
        spec.env.push(format!("{name}={value}").into());
    }
    for (name, value) in variables {
        spec.env.push(OsString::from_vec([name.as_bytes(), b"=", value].concat()));
    }
    spec.cwd = action.workdir.clone().into();
    let Account { owner, groups, .. } = &prepared.account;
    spec.user = User { uid: owner.uid, gid: owner.gid, groups: groups.clone() };
    HOSTNAME.clone_into(&mut spec.hostname);
    spec.network = network(work, action);
    spec.mounts = network_files(&spec, &work.shared.build.options.hosts);
    spec.limits.memory = work.shared.build.options.memory;
    spec.limits.resources.clone_from(&work.shared.build.options.resources);
    spec.runtime.clone_from(&work.shared.build.options.runtime);
    if let Some((path, body)) = &action.script {
        mounts.push(script(&scratch.files, path, body)?);
    }
    // What is mounted on a directory above would hide it. The files of the network may be hidden: they are no part of what a
    // command asks to see there, and nothing is to be made in it for them.
    mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
    spec.mounts.extend(mounts);
    if action.insecure {
        spec.seccomp = false;
        spec.masked.clear();
        spec.read_only.clear();
    }
    Ok(spec)
}

/// /etc/resolv.conf and /etc/hosts, which are the host's business and no part of the image.
fn network_files(spec: &Spec, hosts: &str) -> Vec<sandbox::Mount> {
    let file = |target: &str, bytes: Vec<u8>| sandbox::Mount {
        target: target.into(),
        source: Source::Content { bytes, mode: 0o644, uid: 0, gid: 0 },
        read_only: true,
    };
    let mut files = vec![file("/etc/hosts", [HOSTS, hosts].concat().into())];
    if spec.network == Network::Host
        && let Ok(bytes) = std::fs::read("/etc/resolv.conf")
    {
        files.push(file("/etc/resolv.conf", bytes));
    }
    files
}

/// A heredoc that is a program of its own.
fn script(files: &Path, target: &str, body: &str) -> BuildResult<sandbox::Mount> {
    let place = files.join("script");
    std::fs::write(&place, body).map_err(trying("write a script"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&place, mode).map_err(trying("write a script"))?;
    Ok(sandbox::Mount { target: target.into(), source: Source::Host(place.into()), read_only: true })
}

/// Passes the output on until the command ends.
fn watch(work: &Work<'_>, mut running: Running, number: usize, started: Instant) -> BuildResult<Outcome> {
    let watched = work.shared.build.cancel.watch(&running.handle());
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        running.stdout.take().map(|stream| Box::new(stream) as _),
        running.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    let outcome = thread::scope(|scope| {
        for stream in streams.into_iter().flatten() {
            scope.spawn(move || tell(work, BufReader::new(stream), number, started));
        }
        running.wait()
    });
    drop(watched);
    Ok(outcome?)
}

fn tell(work: &Work<'_>, mut stream: impl BufRead, number: usize, started: Instant) {
    loop {
        let mut line = Vec::new();
        match stream.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            // The other end is gone: the command's, or with it the whole sandbox.
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                work.shared.build.reporter.report(number, Event::Output { line, after: started.elapsed() });
            }
        }
    }
}

/// Turns a command that failed into an error.
fn check(work: &Work<'_>, prepared: &Prepared<'_>, outcome: Outcome) -> BuildResult<()> {
    if work.shared.build.cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    if outcome.success() {
        return Ok(());
    }
    let command = prepared.action.arguments.join(" ");
    let how = match outcome {
        Outcome::Exited(code) => format!("exit code: {code}"),
        Outcome::Signaled(signal) => format!("killed by signal {signal}"),
        Outcome::TimedOut => "its time was up".to_owned(),
        Outcome::Killed => "killed".to_owned(),
    };
    let message = format!("process {command:?} did not complete successfully: {how}");
    Err(BuildError::Command { place: Box::new(prepared.step.instruction.diagnostic(message)), code: outcome.code() })
}

/// The layer of what the command changed.
fn capture_changes(work: &Work<'_>, fs: &LayerFs, lowers: &[Arc<dyn Layer>]) -> BuildResult<Made> {
    let old = Stack::new(lowers.to_vec(), None, Follow::default())?;
    let changes = compare(&old, fs.stack(), Options { comparison: Comparison::Sources, parents: true })?;
    let overrides: Vec<Override> = fs.overrides().into_iter().map(|(lower, upper)| Override { lower, upper }).collect();
    let changes = keep_links(add_linked_names(changes, fs.stack(), &overrides)?, fs.stack())?;
    let options = LayerOptions { latest: work.shared.build.options.clock.latest() };
    let captured = capture(work.shared.build.session, &changes, fs.stack(), options)?;
    for skipped in &captured.skipped {
        work.shared.build.reporter.warn(&format!("{}: a socket cannot be part of an image", skipped.path));
    }
    Ok(Made { diff_id: captured.diff_id, size: captured.size })
}
