//! `run` and `exec`: containers of images, as root, as a user with subordinate ids and as one without.

mod mounts;
mod outside;

use crate::support::{Done, Need, Scene};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

const NEEDS: &[Need] = &[Need::Root, Need::Fuse, Need::UserNamespace, Need::Program("busybox")];

/// Who runs layerfs: root, the plain user with subordinate ids, one the machine knows nothing of.
const ALL: &[Option<u32>] = &[None, Some(0), Some(4321)];

/// A user with a store of his own, in which there is the image `box`.
struct Runner<'a> {
    scene: &'a Scene,
    uid: Option<u32>,
    home: PathBuf,
}

impl<'a> Runner<'a> {
    fn new(scene: &'a Scene, who: Option<u32>) -> Self {
        let uid = who.map(|uid| if uid == 0 { plain_uid() } else { uid });
        let home = scene.dir(format!("home-{}", uid.unwrap_or(0)));
        std::os::unix::fs::chown(&home, uid, uid).expect("chown");
        let runner = Self { scene, uid, home };
        runner.layerfs(
            &[
                "import",
                "-c",
                "ENV FROM_IMAGE=yes",
                "-c",
                "WORKDIR /work",
                "-c",
                "CMD [\"sh\", \"-c\", \"echo default\"]",
            ],
            &image(scene),
        );
        runner
    }

    fn command(&self, arguments: &[&str]) -> crate::support::Run {
        let run = match self.uid {
            None => self.scene.run(self.scene.program()),
            Some(uid) => {
                let ids =
                    [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned(), "--".to_owned()];
                self.scene.run("setpriv").args(ids).arg(self.scene.program())
            }
        };
        let run = run.args(arguments).in_dir(&self.home).env("RUST_BACKTRACE", "0");
        run.env("HOME", &self.home).env("XDG_RUNTIME_DIR", &self.home).env("LAYERFS_ROOT", self.home.join("store"))
    }

    fn layerfs(&self, arguments: &[&str], image: &std::path::Path) {
        self.command(arguments).arg(image).arg("box").ok();
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.command(&["run"]).args(arguments).output()
    }

    /// Starts a container that does what `script` says and waits for its end then, and waits until it has done it.
    fn start(&self, name: &str, script: &str) -> Child {
        let script = format!("{script}; echo up; while :; do sleep 0.1; done");
        let mut command = self.command(&["run", "--name", name, "box", "sh", "-c", &script]).command();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
        let begun = Instant::now();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("read");
        assert_eq!(line, "up\n", "{name} does not start");
        while !self.home.join("store/containers").join(name).join("running.json").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{name} does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }
}

fn plain_uid() -> u32 {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("passwd");
    let line = passwd.lines().find(|line| line.starts_with("layerfs-test:")).expect("the plain user");
    line.split(':').nth(2).expect("a number").parse().expect("a number")
}

/// A tar with busybox and two users.
fn image(scene: &Scene) -> PathBuf {
    let tar = scene.path("box.tar");
    if !tar.exists() {
        let root = scene.dir("box");
        for dir in ["bin", "etc", "tmp"] {
            std::fs::create_dir(root.join(dir)).expect("a directory");
        }
        std::fs::set_permissions(root.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
            .expect("chmod");
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
        scene.run("chroot").arg(&root).args(["/bin/busybox", "--install", "-s", "/bin"]).ok();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n")
            .expect("passwd");
        std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nadm:x:4:web\n").expect("group");
        scene.run("tar").arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cf"]).arg(&tar).arg(".").ok();
    }
    tar
}

fn output(done: &Done) -> (Option<i32>, String) {
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn what_was_asked_for_is_what_runs() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let cases: &[(&[&str], i32, &str)] = &[
            (&["--rm", "box"], 0, "default\n"),
            (&["--rm", "box", "pwd"], 0, "/work\n"),
            (&["--rm", "-w", "/new/dir", "box", "pwd"], 0, "/new/dir\n"),
            (&["--rm", "--entrypoint", "echo", "box", "a", "-b"], 0, "a -b\n"),
            (
                &["--rm", "-e", "A=1", "-e", "FROM_IMAGE=no", "box", "sh", "-c", "echo $A $FROM_IMAGE $HOME"],
                0,
                "1 no /root\n",
            ),
            (
                &["--rm", "-u", "web", "box", "sh", "-c", "id -u; id -g; id -G; echo $HOME"],
                0,
                "33\n34\n34 4\n/var/www\n",
            ),
            (&["--rm", "-u", "web:adm", "box", "sh", "-c", "touch /tmp/x; stat -c %u:%g /tmp/x"], 0, "33:4\n"),
            (&["--rm", "--hostname", "alpha", "box", "sh", "-c", "hostname; cat /etc/hostname"], 0, "alpha\nalpha\n"),
            (&["--rm", "--name", "beta", "-h", "", "box", "hostname"], 0, "beta\n"),
            (&["--rm", "--network", "none", "box", "sh", "-c", "ls /sys/class/net"], 0, "lo\n"),
            (
                &[
                    "--rm",
                    "--read-only",
                    "--tmpfs",
                    "/t",
                    "box",
                    "sh",
                    "-c",
                    "echo >/t/x && ! touch /x 2>/dev/null && echo yes",
                ],
                0,
                "yes\n",
            ),
            (
                &["--rm", "--read-only", "box", "sh", "-c", "echo 2>/dev/null >/etc/hosts || echo refused"],
                0,
                "refused\n",
            ),
            (
                &[
                    "--rm",
                    "--tmpfs",
                    "/t:rw,noexec,nosuid,size=64k",
                    "box",
                    "sh",
                    "-c",
                    "cp /bin/busybox /t/b 2>/dev/null; cp /bin/sh /t/c 2>/dev/null; df -k /t | grep -c ' 64 '",
                ],
                0,
                "1\n",
            ),
            (
                &[
                    "--rm",
                    "--tmpfs",
                    "/t",
                    "--tmpfs",
                    "/x:exec",
                    "box",
                    "sh",
                    "-c",
                    "for d in /t /x; do cp /bin/busybox $d/true; $d/true 2>/dev/null; echo $?; done",
                ],
                0,
                "126\n0\n",
            ),
            (&["--rm", "--tmpfs", "//", "box", "true"], 125, ""),
            (&["--rm", "-v", "/tmp:/", "box", "true"], 125, ""),
            (&["--rm", "box", "sh", "-c", "exit 42"], 42, ""),
            (&["--rm", "box", "sh", "-c", "kill -TERM $$"], 143, ""),
            (&["--rm", "box", "/etc/passwd"], 126, ""),
            (&["--rm", "box", "no-such-program"], 127, ""),
            (&["--rm", "-u", "nobody", "box", "true"], 125, ""),
            (&["--rm", "no-such-image", "true"], 125, ""),
        ];
        for (arguments, code, stdout) in cases {
            let done = runner.run(arguments);
            assert_eq!(output(&done), (Some(*code), (*stdout).to_owned()), "{who:?} {arguments:?}: {done:?}");
        }
        let containers = std::fs::read_dir(runner.home.join("store/containers")).expect("containers").count();
        assert_eq!(containers, 0, "--rm leaves nothing");
    }
}

#[test]
fn volumes_are_what_the_host_has() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let data = runner.home.join("data");
        std::fs::create_dir(&data).expect("a directory");
        std::os::unix::fs::chown(&data, runner.uid, runner.uid).expect("chown");
        std::fs::write(data.join("in"), "from the host").expect("a file");
        let volume = format!("{}:/data", data.display());
        let done = runner.run(&["--rm", "-v", &volume, "box", "sh", "-c", "cat /data/in; echo out >/data/out"]);
        assert_eq!(output(&done), (Some(0), "from the host".to_owned()), "{who:?}: {done:?}");
        assert_eq!(std::fs::read(data.join("out")).expect("written"), b"out\n");
        let done = runner.run(&["--rm", "-v", &format!("{volume}:ro"), "box", "sh", "-c", "echo x >/data/out"]);
        assert_eq!(done.status.code(), Some(1), "{who:?}: {done:?}");
    }
}

#[test]
fn a_named_container_stays_with_its_changes() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let done =
            runner.run(&["--name", "kept", "box", "sh", "-c", "echo new >/made; chown 5:6 /made; rm /etc/group"]);
        assert_eq!(done.status.code(), Some(0), "{who:?}: {done:?}");
        let upper = runner.home.join("store/containers/kept/upper");
        assert_eq!(std::fs::read(upper.join("made")).expect("kept"), b"new\n");
        // Mount points that had to be made are none of the changes.
        let mut names: Vec<_> =
            std::fs::read_dir(&upper).expect("the upper").map(|entry| entry.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["etc", "made", "work"], "{who:?}: the working directory is made");
        assert_eq!(std::fs::read_dir(upper.join("etc")).expect("etc").count(), 1, "{who:?}");
        let again = runner.run(&["--name", "kept", "box", "true"]);
        assert_eq!(again.status.code(), Some(125), "{who:?}: {again:?}");
    }
}

#[test]
fn a_second_command_joins() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let mut child = runner.start("first", "echo here >/mark; export X=1");
        let exec = |arguments: &[&str]| runner.command(&["exec"]).args(arguments).output();
        let script = "until cat /mark 2>/dev/null; do sleep 0.05; done; cat /proc/1/comm; pwd; echo $FROM_IMAGE";
        let done = exec(&["first", "sh", "-c", script]);
        assert_eq!(output(&done), (Some(0), "here\nlayerfs-init\n/work\nyes\n".to_owned()), "{who:?}: {done:?}");
        let done = exec(&["-u", "web", "-w", "/tmp", "-e", "Y=2", "first", "sh", "-c", "id -u; pwd; echo $Y $HOME"]);
        assert_eq!(output(&done), (Some(0), "33\n/tmp\n2 /var/www\n".to_owned()), "{who:?}: {done:?}");
        let done = exec(&["first", "sh", "-c", "touch /tmp/o; chown 3:4 /tmp/o; stat -c %u:%g /tmp/o /etc/passwd"]);
        assert_eq!(output(&done), (Some(0), "3:4\n0:0\n".to_owned()), "{who:?}: {done:?}");
        let done = exec(&["first", "stat", "-c", "%u:%g", "/tmp/o"]);
        assert_eq!(output(&done), (Some(0), "3:4\n".to_owned()), "{who:?}: another one sees it: {done:?}");
        assert_eq!(exec(&["first", "sh", "-c", "exit 9"]).status.code(), Some(9));
        assert_eq!(exec(&["first", "no-such-program"]).status.code(), Some(127));
        assert_eq!(exec(&["nobody", "true"]).status.code(), Some(125));
        let listed = runner.command(&["ps"]).ok().text();
        assert!(
            listed.lines().any(|line| line.starts_with("(running)") && line.contains(" first ")),
            "{who:?}: {listed}"
        );
        for arguments in [&["rm", "first"][..], &["rename", "first", "other"]] {
            runner.command(arguments).output().fails(1, &["it runs", "hint: end its command first"]);
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
            .expect("signalled");
        let status = child.wait().expect("ended");
        assert_eq!(status.code(), Some(143), "{who:?}: the signal is passed on");
        assert_eq!(exec(&["first", "true"]).status.code(), Some(125), "{who:?}: it does not run any more");
    }
    assert_eq!(scene.processes(), []);
}

/// What it has written by then, open files too, without what is there for its own time only; and it goes on.
#[test]
fn a_running_container_is_committed() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let writer = "exec 3>/work/open; echo buffered >&3; chown 5:6 /work/open; i=0; (while :; do i=$((i+1)); \
            echo $i >/work/next; echo $i >>/work/next; mv /work/next /work/whole; done) & \
            until test -e /work/whole; do :; done; echo closed >/work/closed; touch /work/ready";
        let mut child = runner.start("alive", writer);
        let begun = Instant::now();
        while !runner.home.join("store/containers/alive/upper/work/ready").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{who:?}: nothing is written");
            std::thread::sleep(Duration::from_millis(10));
        }
        let diff = runner.command(&["diff", "alive"]).ok().text();
        assert!(diff.contains("A /work/closed\n") && !diff.contains("/proc") && !diff.contains("hosts"), "{diff}");
        for pause in ["--pause", "-p=true"] {
            runner.command(&["commit", pause, "-c", "CMD [\"x\"]", "alive", "alive:1"]).ok();
            let look =
                "cat /work/open /work/closed; stat -c %u:%g /work/open; uniq /work/whole | wc -l; wc -l </work/whole";
            let (code, seen) = output(&runner.run(&["--rm", "alive:1", "sh", "-c", look]));
            assert_eq!(code, Some(0), "{who:?}: {seen}");
            assert!(seen.ends_with("buffered\nclosed\n5:6\n1\n2\n"), "{who:?}: {seen}");
        }
        // Each holds the names in its turn, and none waits for ever.
        let several =
            ["alive:2", "alive:3", "alive:4"].map(|image| runner.command(&["commit", "alive", image]).spawn());
        for mut commit in several {
            assert!(commit.wait().expect("a commit").success(), "{who:?}");
        }
        let listed = runner.command(&["ls", "alive:1:/"]).ok().text();
        assert!(!listed.contains("proc") && !listed.contains("sys"), "{listed}");
        assert!(runner.command(&["exec", "alive", "true"]).output().status.success(), "it goes on");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }
}

/// A limit that nothing enforces is said to be none, once. The group tells what is enforced; eating until someone is killed may take for ever, where
/// programs and what they eat drive each other out of the little memory there is.
#[test]
fn regression_memory_that_is_not_limited_is_told() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let limited = ["run", "--rm", "-i", "-m", "20m", "--name", "small", "box", "cat"];
        let mut command = runner.command(&limited).command();
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let state = runner.home.join("store/containers/small/running.json");
        while !state.exists() {
            std::thread::yield_now();
        }
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state).expect("its state")).expect("JSON");
        let groups = ["memory/layerfs-N/memory.limit_in_bytes", "layerfs-N/memory.max"];
        let limit = |path: &str| {
            let path = path.replace('N', &state["init"].to_string());
            std::fs::read_to_string(std::path::Path::new("/sys/fs/cgroup").join(path)).unwrap_or_default()
        };
        let is_limited = groups.iter().any(|path| limit(path).trim() == "20971520");
        drop(child.stdin.take());
        let done = child.wait_with_output().expect("ended");
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{who:?}: {told}");
        assert_eq!(told.matches("memory is not limited").count(), usize::from(!is_limited), "{who:?}: {told}");
    }
}

/// The death of `run`, however it comes, is the container's.
#[test]
fn nothing_survives_the_runner() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let mut child = runner.start("doomed", "setsid sleep 1000 & true");
        let state = std::fs::read(runner.home.join("store/containers/doomed/running.json")).expect("its state");
        let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let begun = Instant::now();
        while !scene.processes().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{who:?}: {:?}", scene.processes());
            std::thread::sleep(Duration::from_millis(10));
        }
        let groups = ["pids", "memory", ""].map(|part| format!("/sys/fs/cgroup/{part}/layerfs-{}", state["init"]));
        assert!(groups.iter().all(|group| !std::path::Path::new(group).exists()), "{who:?}: {groups:?}");
        // What it wrote is kept, and it can be run over.
        assert!(runner.home.join("store/containers/doomed/upper").is_dir());
        runner.command(&["rm", "doomed"]).ok();
    }
}

/// A command that gives back what it is told, line by line, until it is told no more.
struct Echo {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Echo {
    fn start(run: crate::support::Run) -> Self {
        let mut child = run.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut echo = Self { input: child.stdin.take(), child, output };
        echo.answers();
        echo
    }

    #[track_caller]
    fn answers(&mut self) {
        writeln!(self.input.as_ref().expect("not ended"), "word").expect("written");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("read");
        assert_eq!(line, "word\n");
    }

    #[track_caller]
    fn end(mut self) {
        self.answers();
        self.input = None;
        assert!(self.child.wait().expect("reaped").success());
    }
}

/// What a container may not have, a further command in it cannot take.
#[test]
fn regression_a_second_command_is_under_the_containers_limits() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let limits =
            ["run", "--rm", "-i", "--name", "limited", "--ulimit", "nofile=77", "--pids-limit", "100", "box", "cat"];
        let run = Echo::start(runner.command(&limits));
        while !runner.home.join("store/containers/limited/running.json").exists() {
            std::thread::yield_now();
        }
        let look = "ulimit -n; grep -E ':(pids|memory)?:' /proc/2/cgroup >/tmp/one; grep -E ':(pids|memory)?:' /proc/self/cgroup | cmp - /tmp/one && echo same";
        let done = runner.command(&["exec", "limited", "sh", "-c", look]).output();
        assert_eq!(output(&done), (Some(0), "77\nsame\n".to_owned()), "{who:?}: {done:?}");
        for _ in 0..5 {
            let done = runner.command(&["exec", "-u", "nobody", "limited", "true"]).output();
            done.fails(125, &["no such user in the image: nobody"]);
        }
        runner.command(&["exec", "-m", "1g", "limited", "true"]).output().fails(125, &["unexpected argument '-m'"]);
        run.end();
    }
}

/// Whoever sends one means the command; what nohup(1) has this process ignore is nobody's business.
#[test]
fn regression_signals_are_passed_on_unless_they_are_ignored() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    let wait = |signal: &str| format!("trap 'exit 3' {signal}; echo ready; while :; do sleep 0.01; done");
    let start = |ignoring: &str, signal: &str| {
        let run = runner.command(&["run", "--rm", "box", "sh", "-c", &wait(signal)]).command();
        let script = format!("trap '' {ignoring}; exec \"$@\"");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(run.get_program()).args(run.get_args()).current_dir(&runner.home);
        shell.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("read");
        child
    };
    let send = |child: &Child, signal: i32| {
        let done = scene.run("kill").arg(format!("-{signal}")).arg(child.id().to_string()).output();
        assert!(done.status.success(), "{done:?}");
    };
    for signal in [libc::SIGALRM, libc::SIGCONT, libc::SIGPROF, libc::SIGRTMIN() + 3] {
        let mut child = start("PIPE", &signal.to_string());
        send(&child, signal);
        assert_eq!(child.wait().expect("reaped").code(), Some(3), "signal {signal}");
    }
    let mut child = start("HUP", "USR1");
    send(&child, libc::SIGHUP);
    send(&child, libc::SIGUSR1);
    assert_eq!(child.wait().expect("reaped").code(), Some(3), "the ignored one did not arrive");
}

/// Nothing ran: the name is free for another try.
#[test]
fn regression_what_never_ran_leaves_no_container() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for &who in ALL {
        let runner = Runner::new(&scene, who);
        let hinted = |arguments: &[&str], code, parts: &[&str]| {
            let done = runner.command(arguments).output().fails(code, parts);
            assert!(done.error_text().contains("\nhint: "), "{}", done.error_text());
        };
        hinted(&["run", "--name", "again", "-u", "nobody-here", "box", "true"], 125, &["no such user", "/etc/passwd"]);
        hinted(&["run", "--name", "again", "-v", "name:/x", "box", "true"], 125, &["volume"]);
        hinted(&["run", "--name", "again", "box", "no-such-program"], 127, &["no-such-program"]);
        hinted(&["run", "--name", "again", "box", "/etc/passwd"], 126, &["/etc/passwd"]);
        hinted(&["mount", "--rw", "--name", "again", "box", "/no/such/place"], 1, &["does not exist"]);
        hinted(&["mount", "--rw", "box", "/proc"], 1, &["is in use"]);
        let containers = runner.home.join("store/containers").read_dir().expect("the containers").count();
        assert_eq!(containers, 0, "{who:?}: something is left");
        assert_eq!(
            output(&runner.run(&["--name", "again", "-h", "short", "box", "hostname"])),
            (Some(0), "short\n".into())
        );
        hinted(&["exec", "again", "true"], 125, &["the container again is not running", "layerfs commit again"]);
    }
}

#[test]
fn an_oci_runtime_does_it_as_well() {
    let needs = [Need::Root, Need::Fuse, Need::UserNamespace, Need::Program("busybox"), Need::Program("runc")];
    let Some(scene) = Scene::begin(&needs) else { return };
    for who in [None, Some(0)] {
        let runner = Runner::new(&scene, who);
        let script = "pwd; id -u; hostname; echo $A; chown 3:4 /tmp; stat -c %u:%g /tmp; grep CapEff /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null || echo refused; exit 6";
        let done =
            runner.run(&["--rm", "--runtime", "runc", "--hostname", "oci", "-e", "A=b", "box", "sh", "-c", script]);
        let expected = "/work\n0\noci\nb\n3:4\nCapEff:\t00000000a80425fb\nrefused\n".to_owned();
        assert_eq!(output(&done), (Some(6), expected), "{who:?}: {done:?}");
    }
    let runner = Runner::new(&scene, Some(4321));
    let done = runner.run(&["--rm", "--runtime", "runc", "box", "true"]);
    assert_eq!(done.status.code(), Some(125), "{done:?}");
    assert_eq!(scene.processes(), []);
}

#[test]
fn a_terminal_comes_with_a_container() {
    let Some(scene) =
        Scene::begin(&[Need::Root, Need::Fuse, Need::UserNamespace, Need::Program("busybox"), Need::Program("script")])
    else {
        return;
    };
    let runner = Runner::new(&scene, None);
    let line =
        format!("{} run --rm -it box sh -c 'tty; test -t 0 && echo terminal; stty size'", scene.program().display());
    let done =
        scene.run("script").args(["-qec", &line, "/dev/null"]).env("LAYERFS_ROOT", runner.home.join("store")).ok();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("/dev/pts/0") && text.contains("terminal"), "{text:?}");
}

/// As in Docker: nobody could answer a shell that believes in a terminal.
#[test]
fn a_terminal_is_not_promised_to_whom_has_none() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let runner = Runner::new(&scene, None);
    let expected = ["the input device is not a TTY", "hint: "];
    runner.run(&["-it", "--rm", "box", "sh"]).fails(125, &expected);
    runner.command(&["exec", "-it", "whichever", "sh"]).output().fails(125, &expected);
}
