//! How a command begins and ends: errors, signals, limits, terminals; and that nothing stays behind.

use super::NEEDS;
use super::trial::{ALL, Starter, busybox_root, run, run_joining, script, start_driver};
use crate::support::Scene;
use layerfs::sandbox::{Outcome, Sandbox, SandboxError, WindowSize};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn errors_have_dockers_codes() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let root = busybox_root(&scene, Starter::Root, "root");
    std::fs::write(root.join("bin/notes"), "text").expect("a file");
    std::fs::write(root.join("bin/script"), "#!/no/such/interpreter\n").expect("a file");
    scene.run("chmod").arg("755").arg(root.join("bin/script")).ok();
    let cases = [
        ("nonsense", 127),
        ("/bin/nonsense", 127),
        ("notes", 126),
        ("/bin/notes", 126),
        ("/tmp", 126),
        ("script", 127),
    ];
    for (program, code) in cases {
        let mut spec = script(&root, "");
        spec.argv = vec![program.into()];
        let result = run(&scene, Starter::Root, &spec);
        assert_eq!(result.code, code, "{program}: {result:?}");
        assert!(result.error.as_ref().is_some_and(|error| error.contains(program)), "{result:?}");
    }
}

/// The sandbox may have ended before the starter has read that there is a listener.
#[test]
fn regression_a_command_that_cannot_be_started_is_told_however_soon_all_is_over() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let root = busybox_root(&scene, Starter::Single, "root");
    let mut spec = script(&root, "");
    spec.argv = vec!["/etc/passwd".into()];
    let stop = AtomicBool::new(false);
    let codes: Vec<u8> = std::thread::scope(|threads| {
        for _ in 0..6 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let codes = (0..20).map(|_| run(&scene, Starter::Single, &spec).code).collect();
        stop.store(true, Ordering::Relaxed);
        codes
    });
    assert!(codes.iter().all(|code| *code == 126), "{codes:?}");
}

#[test]
fn ends_are_told_as_a_shell_tells_them() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        for (lines, code) in
            [("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("kill -TERM 1; sleep 10", 143)]
        {
            assert_eq!(run(&scene, starter, &script(&root, lines)).code, code, "{starter:?}: {lines}");
        }
    }
}

#[test]
fn signals_are_passed_on() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let root = busybox_root(&scene, Starter::Root, "root");
    let spec = script(&root, "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    let mut running = Sandbox::new(spec).program(scene.program()).stdout(Stdio::piped()).spawn().expect("started");
    let mut stdout = running.stdout.take().expect("piped");
    let mut line = [0; 6];
    stdout.read_exact(&mut line).expect("ready");
    running.handle().signal(15);
    assert_eq!(running.wait().expect("ended"), Outcome::Exited(9));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "caught\n");
}

#[test]
fn what_is_left_running_is_killed() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let lines =
            "for i in 1 2 3; do (trap '' TERM HUP; setsid sleep 1000 >/dev/null 2>&1) & done; sleep 0.1; exit 0";
        let begun = Instant::now();
        assert_eq!(run(&scene, starter, &script(&root, lines)).code, 0, "{starter:?}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(scene.processes(), [], "the pid namespace is gone with the command");
}

#[test]
fn time_runs_out() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let mut spec = script(&root, "trap '' TERM; sleep 1000");
        spec.timeout = Some(Duration::from_millis(300));
        assert_eq!(run(&scene, starter, &spec).code, 124, "{starter:?}");
    }
    assert_eq!(scene.processes(), []);
}

/// The starter dies without a word, in every phase of its container's life.
#[test]
fn the_starters_death_ends_everything() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        for delay in [0, 5, 15, 30, 60, 150] {
            let mut driver = start_driver(&scene, starter, &script(&root, "setsid sleep 1000 & sleep 1000"));
            std::thread::sleep(Duration::from_millis(delay));
            driver.kill().expect("killed");
            driver.wait().expect("reaped");
            let begun = Instant::now();
            while !scene.processes().is_empty() {
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "{starter:?} after {delay} ms: {:?}",
                    scene.processes()
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(!root.join("proc").exists(), "{starter:?}: mount points are cleared");
    }
}

#[test]
fn processes_are_limited() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let mut spec = script(
            &root,
            "bomb() { bomb | bomb & }; (bomb) 2>&1 | head -c 200; i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all",
        );
        spec.limits.processes = Some(25);
        spec.timeout = Some(Duration::from_secs(20));
        let result = run(&scene, starter, &spec);
        assert!(!result.stdout.contains("all"), "{starter:?}: {result:?}");
        assert!(format!("{}{}", result.stdout, result.stderr).contains("fork"), "{starter:?}: {result:?}");
    }
    assert_eq!(scene.processes(), []);
}

#[test]
fn a_terminal_is_a_terminal() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let root = busybox_root(&scene, Starter::Root, "root");
    let mut spec = script(
        &root,
        "tty; stty size; test -t 0 && test -t 1 && echo yes; read line; echo got $line; ls /dev/pts; trap 'echo interrupted; exit 5' INT; echo go; while :; do sleep 0.05; done",
    );
    spec.terminal = Some(WindowSize { columns: 91, rows: 37 });
    let mut running = Sandbox::new(spec)
        .program(scene.program())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut terminal = std::fs::File::from(running.terminal.take().expect("a terminal"));
    terminal.write_all(b"hello\n").expect("typed");
    let (mut seen, mut interrupted) = (String::new(), false);
    let mut buffer = [0; 256];
    // The end of a terminal whose other side is closed is EIO.
    while let Ok(size) = terminal.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(buffer.get(..size).expect("read")));
        if !interrupted && seen.contains("go\r\n") {
            interrupted = true;
            terminal.write_all(b"\x03").expect("typed");
        }
    }
    assert_eq!(running.wait().expect("ended"), Outcome::Exited(5), "{seen}");
    for expected in ["/dev/pts/0\r\n", "37 91\r\n", "yes\r\n", "got hello\r\n", "interrupted"] {
        assert!(seen.contains(expected), "{expected:?} in {seen:?}");
    }
}

#[test]
fn a_root_that_is_not_there_is_told() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let spec = script(&scene.path("nowhere"), "true");
    let error = Sandbox::new(spec).program(scene.program()).spawn().expect_err("no root");
    assert!(matches!(&error, SandboxError::Setup { what, .. } if what.contains("nowhere")), "{error}");
}

#[test]
fn a_second_command_joins_a_running_one() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let lines = "until test -s /tmp/first; do sleep 0.02; done; cat /tmp/first; hostname; id -u; chown 7:8 /tmp/first; \
            stat -c %u:%g /tmp/first; cat /proc/1/comm; grep CapEff /proc/self/status; readlink /proc/$PPID/exe || echo hidden; echo /proc/self/fd/*; exit 4";
        let result = run_joining(&scene, starter, &script(&root, lines));
        assert_eq!((result.code, result.error.as_deref()), (4, None), "{starter:?}: {result:?}");
        let expected = "first\nbox\n0\n7:8\nlayerfs-init\nCapEff:\t00000000a80425fb\nhidden\n/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n";
        assert_eq!(result.stdout, expected, "{starter:?}: {result:?}");
    }
    assert_eq!(scene.processes(), []);
}
