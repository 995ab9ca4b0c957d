//! What a command cannot do: see or change anything outside its root.

use super::NEEDS;
use super::trial::{ALL, Starter, busybox_root, run, script};
use crate::support::Scene;
use layerfs::sandbox::{Mount, Source};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn bind(source: impl Into<std::ffi::OsString>, target: &str, read_only: bool) -> Mount {
    Mount { target: target.into(), source: Source::Host(source.into()), read_only }
}

#[test]
fn nothing_of_the_host_can_be_reached() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    // Each line must fail; the number of those that did not is the exit code, and they are told.
    let attempts = r"
        mount -t tmpfs none /tmp
        unshare -r true
        nsenter -t 1 -m true
        umount /proc/kcore
        umount /proc
        mount -o remount,rw /sys
        echo 1 >/proc/sys/kernel/panic
        echo b >/proc/sysrq-trigger
        echo x >/sys/kernel/uevent_helper
        test -s /proc/kcore
        test -s /proc/timer_list
        ls /proc/1/root/
        cat /proc/1/environ | grep -q .
        readlink /proc/1/fd/3
        readlink /proc/1/exe
        echo x >>/proc/1/exe
        kill -9 1 && ! kill -0 1
        swapoff -a
        hostname other
        date -s 2001-01-01; [ $(date +%Y) = 2001 ]
        insmod /etc/passwd
        losetup /dev/loop0 /etc/passwd
        chroot / mount -t proc proc /tmp
        ls /sys/fs/cgroup/* 2>/dev/null | grep -q tasks
        mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk | grep -q .
        mknod /dev/disk b 254 0 && head -c 1 /dev/disk | grep -q .
        mknod /dev/shm/mem c 1 1 && head -c 1 /dev/shm/mem | grep -q .
        cd /../../../../../.. && ls | grep -q work
    ";
    let count = attempts.lines().filter(|line| !line.trim().is_empty()).count();
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        std::fs::write(root.join("attempts"), attempts).expect("the attempts");
        let lines = "tried=0; bad=0; while read -r line; do [ -z \"$line\" ] && continue; tried=$((tried+1)); \
            if (eval \"$line\") >/dev/null 2>&1 </dev/null; then echo \"$line\"; bad=$((bad+1)); fi; done </attempts; echo $tried; exit $bad";
        let result = run(&scene, starter, &script(&root, lines));
        assert_eq!(
            (result.code, result.stdout, result.error),
            (0, format!("{count}\n"), None),
            "{starter:?}: {}",
            result.stderr
        );
    }
}

#[test]
fn only_its_own_processes_and_descriptors_are_there() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let result = run(
            &scene,
            starter,
            &script(&root, "echo /proc/[0-9]*; cd /proc/self/fd; echo *; cat /proc/self/cgroup | wc -l"),
        );
        let lines: Vec<&str> = result.stdout.lines().collect();
        assert_eq!(lines.first(), Some(&"/proc/1 /proc/2"), "{starter:?}: {result:?}");
        assert_eq!(lines.get(1), Some(&"0 1 2 3"), "{starter:?}: 3 is the listing's own");
    }
}

/// The driver is started with a descriptor open on a directory of the host.
#[test]
fn leaked_descriptors_are_closed() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let root = busybox_root(&scene, Starter::Root, "root");
    let host = std::fs::File::open("/").expect("the host's root");
    rustix::io::fcntl_setfd(&host, rustix::io::FdFlags::empty()).expect("leaked");
    let result = run(&scene, Starter::Root, &script(&root, "for fd in /proc/self/fd/*; do readlink $fd; done; true"));
    assert!(result.stdout.lines().all(|line| line != "/"), "{result:?}");
    assert_eq!(result.code, 0);
}

#[test]
fn targets_of_mounts_stay_inside() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let outside = scene.dir(format!("outside{at}"));
        let source = scene.dir(format!("source{at}"));
        std::fs::write(source.join("file"), "from the host").expect("a file");
        symlink(&outside, root.join("absolute")).expect("a link");
        symlink("../../../../../../../..", root.join("tmp/up")).expect("a link");
        symlink("/proc/1/root", root.join("magic")).expect("a link");
        for (target, seen) in [
            ("/absolute/x".to_owned(), format!("{}/x/file", outside.display())),
            (format!("/tmp/up{}/y", outside.display()), format!("{}/y/file", outside.display())),
            ("/tmp/../../../etc/z".to_owned(), "/etc/z/file".to_owned()),
        ] {
            let mut spec = script(&root, &format!("cat {seen}"));
            spec.mounts.push(bind(&source, &target, true));
            let result = run(&scene, starter, &spec);
            assert_eq!(result.stdout, "from the host", "{starter:?} {target}: {result:?}");
            assert_eq!(std::fs::read_dir(&outside).expect("listing").count(), 0, "{starter:?} {target}");
        }
        let mut spec = script(&root, "true");
        spec.mounts.push(bind(&source, "/magic/tmp", false));
        assert!(run(&scene, starter, &spec).error.is_some(), "{starter:?}: a magic link is not followed");
    }
}

/// A directory that is to hide something may not be a link of the image.
#[test]
fn proc_may_not_be_a_link() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for name in ["proc", "sys", "dev"] {
        let root = busybox_root(&scene, Starter::Root, &format!("root-{name}"));
        symlink("/tmp", root.join(name)).expect("a link");
        let result = run(&scene, Starter::Root, &script(&root, "true"));
        assert!(result.error.as_ref().is_some_and(|error| error.contains(name)), "{result:?}");
    }
}

#[test]
fn bind_mounts_give_no_rights() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let root = busybox_root(&scene, Starter::Root, "root");
    let source = scene.dir("source");
    std::fs::copy("/bin/busybox", source.join("id")).expect("busybox");
    std::fs::set_permissions(source.join("id"), std::fs::Permissions::from_mode(0o4755)).expect("chmod");
    let mut spec = script(
        &root,
        "/data/id -u; touch /ro/x 2>/dev/null || echo read-only; mknod /data/mem c 1 1; head -c1 /data/mem || echo no device",
    );
    spec.user = layerfs::sandbox::User { uid: 1000, gid: 1000, groups: vec![] };
    spec.mounts = vec![bind(&source, "/data", false), bind(&source, "/ro", true)];
    let result = run(&scene, Starter::Root, &spec);
    assert_eq!(result.stdout, "1000\nread-only\nno device\n", "{result:?}");
    spec.user = layerfs::sandbox::User::default();
    let result = run(&scene, Starter::Root, &spec);
    assert_eq!(result.stdout, "0\nread-only\nno device\n", "{result:?}");
}

/// In a setuid program of the image itself the bit counts, as in Docker.
#[test]
fn setuid_works_inside() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for starter in [Starter::Root, Starter::Ranges] {
        let root = busybox_root(&scene, starter, &format!("{starter:?}"));
        let lines =
            "cp /bin/busybox /bin/suid; chmod 4755 /bin/suid; ln -s suid /bin/x; su user -c '/bin/suid id -u; id -u'";
        let mut spec = script(&root, lines);
        spec.cwd = "/new/place".into();
        let result = run(&scene, starter, &spec);
        // busybox drops the rights of applets that need none: what counts is that the bit was seen at all.
        assert_eq!(result.code, 0, "{result:?}");
        assert!(root.join("new/place").is_dir());
        assert_eq!(std::fs::metadata(root.join("bin/suid")).expect("there").mode() & 0o7777, 0o4755);
    }
}

#[test]
fn contents_and_memory_leave_no_trace() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let mut spec = script(
            &root,
            "cat /run/secrets/key; echo >/cache/x; touch /y 2>/dev/null || echo sealed; stat -c '%a %s' /run/secrets/key; df -k /cache | tail -1 | grep -c 1024",
        );
        spec.root_read_only = true;
        spec.mounts = vec![
            Mount {
                target: "/run/secrets/key".into(),
                source: Source::Content { bytes: b"secret\n".to_vec(), mode: 0o400, uid: 0, gid: 0 },
                read_only: true,
            },
            Mount {
                target: "/cache".into(),
                source: Source::Tmpfs { size: Some(1 << 20), mode: 0o755, executable: true },
                read_only: false,
            },
        ];
        let result = run(&scene, starter, &spec);
        assert_eq!(result.stdout, "secret\nsealed\n400 7\n1\n", "{starter:?}: {result:?}");
        assert!(!root.join("run").exists() && !root.join("cache").exists());
    }
}

#[test]
fn without_a_network_there_is_a_loopback() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let mut spec =
            script(&root, "tail -n +3 /proc/net/dev | cut -d: -f1; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo hi");
        spec.network = layerfs::sandbox::Network::None;
        let result = run(&scene, starter, &spec);
        assert_eq!(result.stdout, "    lo\nhi\n", "{starter:?}: {result:?}");
    }
}
