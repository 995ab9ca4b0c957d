//! Builds that mean harm or meet with it: full disks, fork bombs, processes left behind, interruptions, links that lead out. What is
//! said, what is left, and that the cache is as good as before.

use super::case::Workshop;
use super::{LIMIT, NEEDS};
use crate::support::{Need, Scene, Terminal, Who};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

/// Nothing staged, nothing mounted, nothing running.
#[track_caller]
fn assert_nothing_left(workshop: &Workshop<'_>) {
    let stage: Vec<_> = std::fs::read_dir(workshop.store().join("stage")).expect("the stage").collect();
    assert!(stage.is_empty(), "{stage:?}");
    let ours = |line: &String| line.contains("fuse");
    let mounts: Vec<String> = workshop.scene.mounts().iter().map(|line| format!("{line:?}")).filter(ours).collect();
    assert_eq!(mounts, [] as [String; 0]);
    // A terminal that is closed takes its time to end; it is not the build's.
    let mut processes = workshop.scene.processes();
    processes.retain(|(_, command)| ["sandbox-init", "sleep", "build"].iter().any(|word| command.contains(word)));
    assert_eq!(processes, []);
}

fn write_dockerfile(context: &Path, text: &str) {
    std::fs::write(context.join("Dockerfile"), text).expect("the Dockerfile");
}

#[test]
fn a_full_disk_is_told_and_costs_that_step_only() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let store = scene.dir("workshop/store");
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=40m", "store"]).arg(&store).ok();
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    std::fs::File::create(context.join("large")).expect("a file").set_len(60 << 20).expect("its size");
    let used = || std::process::Command::new("du").arg("-sk").arg(&store).output().expect("du").stdout;
    write_dockerfile(&context, "FROM base\nRUN touch /first\n");
    workshop.build(&context, "first", &[]).ok();
    let before = used();
    for (step, expected) in [
        // The command sees it and fails.
        ("RUN dd if=/dev/zero of=/big bs=1M count=100", "did not complete successfully: exit code: 1"),
        // The command does not care, and what it leaves does not fit beside the layer that is made of it.
        ("RUN dd if=/dev/zero of=/big bs=1M count=100 || true", "No space left on device"),
        ("RUN dd if=/dev/zero of=/big bs=1M count=25", "No space left on device"),
        ("COPY large /", "No space left on device"),
        ("RUN --mount=type=bind,target=/context true", "No space left on device"),
    ] {
        write_dockerfile(&context, &format!("FROM base\nRUN touch /first\n{step}\nRUN touch /last\n"));
        let done =
            workshop.build(&context, "full", &[]).fails(1, &["Dockerfile:3:1: ", expected, &format!("3 | {step}")]);
        assert_eq!(done.error_text().matches("CACHED").count(), 1, "{}", done.error_text());
        assert_nothing_left(&workshop);
        assert_eq!(used(), before, "{step} takes its room with it");
    }
    workshop.layerfs(&["fsck"]).ok();
    write_dockerfile(&context, "FROM base\nRUN touch /first\nRUN touch /last\n");
    let done = workshop.build(&context, "full", &[]).ok();
    assert_eq!(done.error_text().matches("CACHED").count(), 1, "{}", done.error_text());
    scene.run("umount").arg(&store).ok();
}

#[test]
fn a_command_that_forks_without_end_is_stopped() {
    let needs = [NEEDS, &[Need::PlainUser, Need::UserNamespace]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
    for who in [Who::Me, Who::Plain] {
        let workshop = Workshop::open(&scene, who);
        let context = workshop.directory("bomb");
        // Far more than a container may have; whoever gets them all would say so.
        let bomb = "i=0; while [ $i -lt 3000 ]; do sleep 1000 & i=$((i+1)); done; echo \"all\"of them";
        write_dockerfile(&context, &format!("FROM base\nRUN touch /first\nRUN {bomb}\n"));
        let done = workshop.build(&context, "bomb", &[]).fails(1, &["Dockerfile:3:1: ", "can't fork"]);
        assert!(!done.error_text().contains("allof them"), "{who:?}: {}", done.error_text());
        assert_nothing_left(&workshop);
        write_dockerfile(&context, "FROM base\nRUN touch /first\nRUN true\n");
        let done = workshop.build(&context, "bomb", &[]).ok();
        assert_eq!(done.error_text().matches("CACHED").count(), 1, "{}", done.error_text());
    }
}

/// What a step leaves running ends with it, also when it holds the step's output open, and the next step does not see it.
#[test]
fn processes_end_with_their_step() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("left");
    write_dockerfile(
        &context,
        "FROM base\nRUN (trap '' HUP TERM INT; setsid sleep 1000 &) ; (sleep 1001 &) ; echo told\nRUN ls -d /proc/[0-9]* | wc -l >/count\n",
    );
    let done = workshop.build(&context, "left", &[]).ok();
    assert!(done.error_text().contains(" told\n"));
    assert_nothing_left(&workshop);
    // Init, the shell, ls and wc.
    assert_eq!(workshop.tree("left")["/count"], "644 0:0 =4\\x0a");
}

/// Ctrl-C reaches the whole group of a terminal; commands that ignore it are ended all the same.
#[test]
fn control_c_ends_a_build() {
    let needs = [NEEDS, &[Need::Program("tmux")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    write_dockerfile(
        &context,
        "FROM base\nRUN touch /first\nRUN trap '' INT TERM HUP; (setsid sleep 1000 &); echo be\"\"gun; sleep 1000\n",
    );
    let (program, store) = (scene.program(), workshop.store());
    let command =
        format!("LAYERFS_ROOT={} {} build -t stopped {}", store.display(), program.display(), context.display());
    let terminal = Terminal::open(&scene, 100, 30, &command);
    terminal.until("begun");
    terminal.press(&["C-c"]);
    let screen = terminal.until("ended with");
    assert!(screen.contains("the build was interrupted") && screen.contains("ended with 1"), "{screen}");
    drop(terminal);
    assert_nothing_left(&workshop);
    assert!(!workshop.layerfs(&["inspect", "stopped"]).output().status.success());
    write_dockerfile(&context, "FROM base\nRUN touch /first\nRUN true\n");
    let done = workshop.build(&context, "again", &[]).ok();
    assert_eq!(done.error_text().matches("CACHED").count(), 1, "{}", done.error_text());
}

/// A copy of something without end stops when the build is to end.
#[test]
fn regression_copies_are_interrupted_as_commands_are() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    write_dockerfile(&context, &format!("FROM scratch\nADD http://127.0.0.1:{port}/endless /\n"));
    let command =
        workshop.layerfs(&["build", "--progress=plain"]).arg(&context).command().stderr(Stdio::piped()).spawn();
    let mut child = command.expect("the build");
    let (mut stream, _) = listener.accept().expect("a connection");
    let _ = stream.read(&mut [0; 4096]);
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").expect("a head");
    // More than pipes and sockets hold: the build is in the middle of it.
    stream.write_all(&vec![0; 32 << 20]).expect("it reads");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("kill");
    // It ends the connection.
    while stream.write_all(&[0; 4096]).is_ok() {}
    let mut text = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_to_string(&mut text).expect("output");
    assert_eq!(child.wait().expect("the build").code(), Some(1), "{text}");
    assert!(text.contains("the build was interrupted"), "{text}");
    assert_nothing_left(&workshop);
}

/// Names in the context change places with links that lead out of it while they are copied.
#[test]
fn links_that_appear_while_copying_lead_nowhere() {
    const ROUNDS: usize = 25;
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let outside = scene.dir("outside");
    for name in ["file", "secret"] {
        std::fs::write(outside.join(name), "of the host").expect("a file");
    }
    let context = workshop.directory("context");
    for at in 0..40 {
        std::fs::create_dir(context.join(format!("d{at:02}"))).expect("a directory");
        std::fs::write(context.join(format!("d{at:02}/file")), "of the context").expect("a file");
    }
    let swapped = [(context.join("d20"), context.join("d20-link")), (context.join("d30/file"), scene.path("link"))];
    symlink(&outside, &swapped[0].1).expect("a link");
    symlink(outside.join("secret"), &swapped[1].1).expect("a link");
    write_dockerfile(&context, "FROM scratch\nCOPY d* /all/\nCOPY . /whole/\nCOPY d20/file d30/file /two/\n");
    let stop = AtomicBool::new(false);
    let mut outcomes = [0, 0];
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in &swapped {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchanged");
                }
            }
        });
        for _ in 0..ROUNDS {
            let done = workshop.build(&context, "raced", &["--no-cache".to_owned()]);
            outcomes[usize::from(done.status.success())] += 1;
            if !done.status.success() {
                assert!(done.error_text().contains("Dockerfile:"), "{}", done.error_text());
                continue;
            }
            let tree = workshop.tree("raced");
            let leaked: Vec<_> = tree
                .iter()
                .filter(|(_, what)| what.contains("of the host") || what.contains("=of\\x20the\\x20host"))
                .collect();
            assert!(leaked.is_empty(), "{leaked:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(outcomes.iter().sum::<usize>(), ROUNDS);
    assert_nothing_left(&workshop);
}

/// Links of the image are followed in the image, wherever they seem to lead.
#[test]
fn links_of_the_image_do_not_lead_out_of_it() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let outside = scene.dir("outside");
    let context = workshop.directory("context");
    std::fs::write(context.join("file"), "x").expect("a file");
    scene.run("tar").args(["-cf", "a.tar", "file"]).in_dir(&context).ok();
    symlink(&outside, context.join("link")).expect("a link");
    std::fs::write(outside.join("there"), "of the host").expect("a file");
    let place = outside.display().to_string();
    write_dockerfile(
        &context,
        &format!(
            "FROM base\nRUN mkdir /in && ln -s {place} /absolute && ln -s ../../../../../../..{place} /in/up && ln -s /proc/1/root{place} /magic\n\
             COPY file /absolute/copied\nCOPY file /in/up/up-copied\nADD a.tar /absolute/unpacked/\nWORKDIR /in/up/work\n\
             RUN --mount=type=bind,target=/absolute/bound --mount=type=cache,target=/in/up/cache \
             ls /absolute/bound >/list; echo x >/absolute/run\nCOPY file /magic/m\n\
             COPY --from=0 /absolute/copied /again\n"
        ).replace("--from=0", "--from=base --parents").replace("/absolute/copied /again", "/bin/busybox /again/"),
    );
    workshop.build(&context, "inside", &[]).ok();
    let tree = workshop.tree("inside");
    for name in ["copied", "up-copied", "unpacked/file", "work", "run"] {
        assert!(tree.contains_key(&format!("{place}/{name}")), "{name}: {tree:?}");
    }
    assert!(tree.contains_key(&format!("/proc/1/root{place}/m")), "{tree:?}");
    assert!(!tree["/list"].contains("there"), "{}", tree["/list"]);
    let host: Vec<_> =
        std::fs::read_dir(&outside).expect("listing").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(host, ["there"], "nothing came out");
    // What a pattern finds in no place of the context is nothing, as with BuildKit.
    write_dockerfile(&context, "FROM scratch\nCOPY link/* /x/\n");
    workshop.build(&context, "out", &[]).ok();
    assert!(workshop.tree("out").keys().all(|path| !path.contains("there")));
    for step in ["COPY link/there /", "ADD link/there /", "RUN --mount=type=bind,source=link,target=/m cat /m/there"] {
        write_dockerfile(&context, &format!("FROM base\n{step}\n"));
        let done = workshop.build(&context, "out", &[]).fails(1, &["Dockerfile:2:1: "]);
        assert!(!done.error_text().contains("of the host"), "{}", done.error_text());
    }
}

/// Programs in mounts have no more rights than who runs them, whatever their bits say.
#[test]
fn setuid_programs_of_mounts_give_no_rights() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    std::fs::copy("/bin/busybox", context.join("su")).expect("busybox");
    scene.run("chmod").arg("4755").arg(context.join("su")).ok();
    write_dockerfile(
        &context,
        "FROM base\nRUN cp /bin/busybox /su && chmod 4755 /su && mkdir -m 777 /out\n\
         RUN --mount=type=cache,target=/c cp /bin/busybox /c/su && chmod 4755 /c/su\nUSER app\n\
         RUN --mount=type=cache,target=/c --mount=type=bind,target=/b \
         for su in /su /b/su /c/su; do $su -c id </dev/null 2>&1 | grep -c 'must be suid' >>/out/answers; done; test -u /b/su && test -u /c/su\n",
    );
    workshop.build(&context, "setuid", &[]).ok();
    // The image's own program has its rights, as in Docker.
    assert_eq!(workshop.tree("setuid")["/out/answers"], "644 1000:1000 =0\\x0a1\\x0a1\\x0a");
}

/// Nobody waits for the other end of a pipe.
#[test]
fn pipes_in_the_context_are_copied_and_not_read() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    scene.run("mkfifo").arg(context.join("pipe")).ok();
    write_dockerfile(&context, "FROM base\nCOPY . /x/\nADD pipe /y\nRUN --mount=type=bind,target=/b test -p /b/pipe\n");
    workshop.build(&context, "pipes", &[]).ok();
    let tree = workshop.tree("pipes");
    assert!(tree["/x/pipe"].ends_with("fifo") && tree["/y"].ends_with("fifo"), "{tree:?}");
}

/// An archive that would write outside of where it is unpacked is refused by the name of its entry, and not taken for a mere file.
#[test]
fn regression_archives_that_lead_out_are_refused() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    std::fs::write(workshop.directory("").join("evil"), "x").expect("a file");
    scene.run("tar").args(["-P", "-cf", "a.tar", "../evil"]).in_dir(&context).ok();
    scene.run("gzip").args(["-k", "a.tar"]).in_dir(&context).ok();
    for name in ["a.tar", "a.tar.gz"] {
        write_dockerfile(&context, &format!("FROM base\nADD {name} /dst/\n"));
        workshop.build(&context, "evil", &[]).fails(1, &["Dockerfile:2:1: ", "../evil"]);
    }
    // Through a link of its own it stays inside the image, as a container would see it.
    scene
        .sh("ln -s /etc l && tar -cf a.tar l && rm l && mkdir l && echo x >l/evil && tar -rf a.tar l/evil")
        .in_dir(&context)
        .ok();
    write_dockerfile(&context, "FROM base\nADD a.tar /dst/\n");
    workshop.build(&context, "evil", &[]).ok();
    assert!(workshop.tree("evil").contains_key("/etc/evil"));
    assert!(!Path::new("/etc/evil").exists());
}
