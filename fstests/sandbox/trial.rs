//! One command in a sandbox, started by root, by a user with subordinate ids or by one without.
//!
//! The starter must be that user: the test program runs itself again as him, with a test that is a driver in truth.

use super::live;
use crate::support::{Scene, needs};
use layerfs::sandbox::{Identity, MapSink, Root, Sandbox, SandboxError, Spec};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Who starts the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Starter {
    Root,
    /// A plain user with subordinate ids.
    Ranges,
    /// A plain user that the machine knows nothing of.
    Single,
}

pub(super) const ALL: &[Starter] = &[Starter::Root, Starter::Ranges, Starter::Single];

/// A user of no name and no subordinate ids.
const NOBODY_KNOWN: u32 = 4321;

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Result {
    /// The exit code as `layerfs run` would give it.
    pub(super) code: u8,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// Why it could not be run.
    pub(super) error: Option<String>,
    /// What the supervisor recorded: path, owner, device.
    pub(super) records: Vec<(String, u32, u32, Option<u64>)>,
}

/// A root directory with busybox under all its names, owned by the starter.
pub(super) fn busybox_root(scene: &Scene, starter: Starter, name: &str) -> PathBuf {
    let root = scene.dir(name);
    for dir in ["bin", "etc", "tmp", "root", "var"] {
        std::fs::create_dir(root.join(dir)).expect("a directory of the root");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
    scene.run("chroot").arg(&root).args(["/bin/busybox", "--install", "-s", "/bin"]).ok();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
        .expect("passwd");
    std::fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("group");
    if let Some(owner) = uid(starter) {
        scene.run("chown").args(["-hR", &format!("{owner}:{owner}")]).arg(&root).ok();
    }
    root
}

pub(super) fn uid(starter: Starter) -> Option<u32> {
    match starter {
        Starter::Root => None,
        Starter::Ranges => {
            let passwd = std::fs::read_to_string("/etc/passwd").expect("passwd");
            let line = passwd
                .lines()
                .find(|line| line.starts_with(&format!("{}:", needs::PLAIN_USER)))
                .expect("the plain user");
            Some(line.split(':').nth(2).expect("a number").parse().expect("a number"))
        }
        Starter::Single => Some(NOBODY_KNOWN),
    }
}

/// A specification of a shell script in `root`.
pub(super) fn script(root: &Path, script: &str) -> Spec {
    let argv = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
    let mut spec = Spec::new(Root::Directory(root.into()), argv);
    spec.hostname = "box".into();
    spec
}

/// Runs `spec` as the starter would, whose identity it gets.
pub(super) fn run(scene: &Scene, starter: Starter, spec: &Spec) -> Result {
    let output = start_driver(scene, starter, spec).wait_with_output().expect("the driver");
    let answer = std::fs::read(scene.path("answer")).expect("the answer");
    serde_json::from_slice(&answer)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// As [`run`], in a container that runs already.
pub(super) fn run_joining(scene: &Scene, starter: Starter, spec: &Spec) -> Result {
    let output = driver_command(scene, starter, spec).env("LAYERFS_TEST_JOINING", "yes").output().expect("the driver");
    let answer = std::fs::read(scene.path("answer")).expect("the answer");
    serde_json::from_slice(&answer)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Starts the driver that runs `spec`.
pub(super) fn start_driver(scene: &Scene, starter: Starter, spec: &Spec) -> Child {
    driver_command(scene, starter, spec).spawn().expect("the driver")
}

pub(super) fn driver_command(scene: &Scene, starter: Starter, spec: &Spec) -> Command {
    let driver = scene.reachable(&std::env::current_exe().expect("this program"), "driver");
    let order = scene.path("order");
    std::fs::write(&order, serde_json::to_vec(spec).expect("JSON")).expect("the order");
    let answer = scene.path("answer");
    std::fs::write(&answer, "").expect("the answer");
    std::fs::set_permissions(&answer, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("chmod");
    let mut command = Command::new(driver);
    command.args(["--exact", "sandbox::trial::driver", "--ignored", "--nocapture"]);
    command.env("LAYERFS_TEST_ORDER", &order).env("LAYERFS_TEST_ANSWER", &answer);
    command.env("LAYERFS_TEST_PROGRAM", scene.program());
    command.env(crate::support::reap::MARK, scene.directory()).current_dir("/");
    if let Some(uid) = uid(starter) {
        command.uid(uid).gid(uid);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Not a test: what [`run`] starts as another user.
#[test]
#[ignore = "a part of other tests, run by them"]
fn driver() {
    let Some(order) = std::env::var_os("LAYERFS_TEST_ORDER") else { return };
    let variable = |name| std::env::var_os(name).expect("set by the test");
    let mut spec: Spec = serde_json::from_slice(&std::fs::read(order).expect("the order")).expect("JSON");
    if spec.identity == Identity::Host {
        spec.identity = Identity::detect();
    }
    let result = drive(spec, &variable("LAYERFS_TEST_PROGRAM"));
    std::fs::write(variable("LAYERFS_TEST_ANSWER"), serde_json::to_vec(&result).expect("JSON")).expect("the answer");
}

fn drive(spec: Spec, program: &OsString) -> Result {
    let sink = Arc::new(MapSink::default());
    if let Some(paths) = std::env::var_os("LAYERFS_TEST_LIVE") {
        return live::drive(spec, program, &paths.to_string_lossy());
    }
    let joining = std::env::var("LAYERFS_TEST_JOINING").is_ok_and(|value| value == "yes");
    let done = if joining { join(spec, program, &sink) } else { complete(spec, program, Arc::clone(&sink)) };
    match done {
        Ok((code, stdout, stderr)) => Result { code, stdout, stderr, error: None, records: sink.records() },
        Err(error) => Result {
            code: error.exit_code(),
            stdout: String::new(),
            stderr: String::new(),
            error: Some(error.to_string()),
            records: sink.records(),
        },
    }
}

/// Runs `spec` in a container that is running already.
fn join(
    mut spec: Spec,
    program: &OsString,
    sink: &Arc<MapSink>,
) -> std::result::Result<(u8, String, String), SandboxError> {
    let mut first = spec.clone();
    first.argv = ["/bin/sh", "-c", "echo first >/tmp/first; exec sleep 1000"].map(OsString::from).to_vec();
    first.terminal = None;
    let first =
        Sandbox::new(first).program(program).stdin(Stdio::null()).ownership(Arc::<MapSink>::clone(sink)).spawn()?;
    spec.root = Root::Running { init: first.init().expect("it runs") };
    complete(spec, program, Arc::clone(sink))
}

fn complete(
    spec: Spec,
    program: &OsString,
    sink: Arc<MapSink>,
) -> std::result::Result<(u8, String, String), SandboxError> {
    to_the_end(Sandbox::new(spec).program(program).ownership(sink))
}

/// Runs a command to its end and gives its exit code and its output.
pub(super) fn to_the_end(sandbox: Sandbox) -> std::result::Result<(u8, String, String), SandboxError> {
    let mut running = sandbox.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (running.stdout.take().expect("piped"), running.stderr.take().expect("piped"));
    let drain = |mut pipe: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).expect("the pipe");
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (stdout, stderr) = (drain(Box::new(stdout)), drain(Box::new(stderr)));
    let code = running.wait()?.code();
    Ok((code, stdout.join().expect("reader"), stderr.join().expect("reader")))
}
