//! What a container, and a step of a build, keeps of the host's mounts: none.

use super::{ALL, Echo, NEEDS, Runner};
use crate::support::{Need, Scene};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A mount of the host that was there before a container is none of its business: it ends when it is unmounted.
struct Other<'a> {
    host: Runner<'a>,
    point: PathBuf,
}

impl<'a> Other<'a> {
    fn new(scene: &'a Scene) -> Self {
        let other = Self { host: Runner::new(scene, None), point: scene.dir("mnt") };
        other.mount();
        other
    }

    #[track_caller]
    fn mount(&self) {
        self.host.command(&["mount", "--rw", "--name", "other", "box"]).arg(&self.point).ok();
    }

    /// The end of the server is waited for, and an upper that is still used would be refused.
    #[track_caller]
    fn unmounts_and_mounts(&self) {
        let done = self.host.command(&["umount"]).arg(&self.point).ok();
        assert_eq!(done.error_text(), "", "the server has ended");
        self.mount();
    }
}

#[test]
fn regression_a_container_keeps_no_mount_of_the_host() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let other = Other::new(&scene);
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let run = Echo::start(runner.command(&["run", "--rm", "-i", "--name", "holder", "box", "cat"]));
        while !runner.home.join("store/containers/holder/running.json").exists() {
            std::thread::yield_now();
        }
        let exec = Echo::start(runner.command(&["exec", "-i", "holder", "cat"]));
        other.unmounts_and_mounts();
        exec.end();
        run.end();
    }
    other.host.command(&["umount"]).arg(&other.point).ok();
}

#[test]
fn regression_a_build_keeps_no_mount_of_the_host() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let other = Other::new(&scene);
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let context = runner.home.join("context");
        std::fs::create_dir(&context).expect("a directory");
        std::fs::write(context.join("Dockerfile"), "FROM box\nRUN mkfifo /f; echo wait''ing; cat /f\n")
            .expect("written");
        let mut command = runner.command(&["build", "-t", "built"]).arg(&context).command();
        let mut build = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        let told = BufReader::new(build.stderr.take().expect("piped"));
        let waiting = |line: std::io::Result<String>| line.expect("read").contains("waiting");
        assert!(told.lines().any(waiting), "{who:?}: the step has ended");
        other.unmounts_and_mounts();
        assert!(build.try_wait().expect("a state").is_none(), "{who:?}: the step goes on");
        build.kill().expect("killed");
        build.wait().expect("reaped");
    }
    other.host.command(&["umount"]).arg(&other.point).ok();
    let left = Instant::now();
    while !scene.processes().is_empty() {
        assert!(left.elapsed() < Duration::from_secs(20), "{:?}", scene.processes());
        std::thread::yield_now();
    }
}

#[test]
fn regression_an_oci_runtime_of_roots_keeps_no_mount_of_the_host() {
    let needs = [Need::Root, Need::Fuse, Need::Program("busybox"), Need::Program("runc")];
    let Some(scene) = Scene::begin(&needs) else { return };
    let other = Other::new(&scene);
    let run = Echo::start(other.host.command(&["run", "--rm", "-i", "--runtime", "runc", "box", "cat"]));
    other.unmounts_and_mounts();
    run.end();
    other.host.command(&["umount"]).arg(&other.point).ok();
}
