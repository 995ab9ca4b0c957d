//! Programs that people use, on writable mounts: podman and buildah with `layerfs` as their mount program, and dpkg,
//! git, rsync, sqlite and a compiler inside a mount.

use crate::support::{Manifest, Need, Rules, Scene, Who, real};
use std::path::PathBuf;
use std::time::Duration;

/// The program under a name by which it behaves as fuse-overlayfs.
fn mount_program(scene: &Scene) -> PathBuf {
    let link = scene.path("bin/fuse-overlayfs");
    if !link.exists() {
        std::os::unix::fs::symlink(scene.program(), &link).expect("a link to the program");
    }
    link
}

/// Runs `body` with the mount point of a writable union over the layers of the large real image.
fn inside(needs: &[Need], body: impl FnOnce(&Scene, &str)) {
    let needs = [&[Need::Root, Need::Fuse, Need::Image("large")], needs].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(300)) else { return };
    let lower = std::fs::read_to_string(real::image("large").directory.join("layers/lowerdir")).expect("the layers");
    let [upper, work] = ["upper", "work"].map(|name| scene.dir(name));
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.trim(), upper.display(), work.display());
    let mount = scene.mount(["overlay", "-o", &options], "mnt");
    body(&scene, &mount.path().to_string_lossy());
    mount.unmount();
}

#[test]
fn dpkg_installs_and_removes() {
    inside(&[], |scene, mount| {
        let script = format!(
            "cd {mount}
             mkdir -p tmp/pack/DEBIAN tmp/pack/usr/share/hello tmp/pack/etc
             printf 'Package: hello-layerfs\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: nobody <nobody@example.org>\\nDescription: test\\n' >tmp/pack/DEBIAN/control
             printf '/etc/hello.conf\\n' >tmp/pack/DEBIAN/conffiles
             echo conf >tmp/pack/etc/hello.conf
             for i in $(seq 300); do echo $i >tmp/pack/usr/share/hello/$i; done
             ln tmp/pack/usr/share/hello/1 tmp/pack/usr/share/hello/linked
             chroot . dpkg-deb --root-owner-group --build /tmp/pack /tmp/hello.deb
             chroot . dpkg -i /tmp/hello.deb
             chroot . dpkg -V hello-layerfs
             test \"$(chroot . dpkg-query -W -f '${{Status}}' hello-layerfs)\" = 'install ok installed'
             chroot . dpkg -P hello-layerfs
             test ! -e usr/share/hello
             chroot . dpkg --audit"
        );
        scene.sh(script).ok();
    });
}

/// From an archive of packages inside the mount, since a test has no network: two packages, one of which needs the other; an
/// upgrade; a removal.
#[test]
fn apt_get_installs_upgrades_and_removes() {
    inside(&[], |scene, mount| {
        let script = format!(
            "cd {mount}; mkdir -p srv/repo tmp/pack
             package() {{
                 rm -rf tmp/pack; mkdir -p tmp/pack/DEBIAN tmp/pack/usr/share/$1 tmp/pack/usr/bin
                 printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: nobody <nobody@example.org>\\nDescription: test\\n' $1 $2 >tmp/pack/DEBIAN/control
                 test -z \"${{3:-}}\" || echo \"Depends: $3\" >>tmp/pack/DEBIAN/control
                 for i in $(seq 100); do echo $2 $i >tmp/pack/usr/share/$1/$i; done
                 printf '#!/bin/sh\\necho %s %s\\n' $1 $2 >tmp/pack/usr/bin/$1; chmod 755 tmp/pack/usr/bin/$1; ln -s $1 tmp/pack/usr/bin/$1-alias
                 printf '#!/bin/sh\\nchmod 4755 /usr/bin/%s\\n' $1 >tmp/pack/DEBIAN/postinst; chmod 755 tmp/pack/DEBIAN/postinst
                 chroot . dpkg-deb --root-owner-group --build /tmp/pack /srv/repo/$1_$2.deb >/dev/null
             }}
             index() {{
                 for file in srv/repo/*.deb; do
                     chroot . dpkg-deb -f /$file
                     printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' $(basename $file) $(stat -c %s $file) $(sha256sum <$file | cut -d' ' -f1)
                 done >srv/repo/Packages
             }}
             mkdir -p etc/apt/sources.list.d; rm -f etc/apt/sources.list etc/apt/sources.list.d/*
             echo 'deb [trusted=yes] file:/srv/repo ./' >etc/apt/sources.list
             apt() {{ unshare --mount sh -euc 'mount --bind /dev dev; mount -t proc proc proc; DEBIAN_FRONTEND=noninteractive chroot . apt-get -q -y -o APT::Sandbox::User=root \"$@\"' apt \"$@\"; }}
             package base-of-test 1.0; package test-of-layerfs 1.0 base-of-test; index
             apt update; apt install test-of-layerfs
             test \"$(chroot . test-of-layerfs; chroot . base-of-test-alias)\" = 'test-of-layerfs 1.0
base-of-test 1.0'
             test $(stat -c %a usr/bin/test-of-layerfs) = 4755
             package test-of-layerfs 2.0 base-of-test; index; apt update; apt upgrade
             test \"$(chroot . test-of-layerfs)\" = 'test-of-layerfs 2.0'; test \"$(cat usr/share/test-of-layerfs/7)\" = '2.0 7'
             chroot . dpkg -V test-of-layerfs base-of-test; chroot . dpkg --audit
             apt purge test-of-layerfs; apt autoremove; test ! -e usr/share/test-of-layerfs; test ! -e usr/share/base-of-test"
        );
        scene.sh(script).ok();
    });
}

#[test]
fn git_clones_and_collects() {
    inside(&[Need::Program("git")], |scene, mount| {
        let script = format!(
            "cd {mount}/root; export HOME={mount}/root GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
             git init -q -b main origin; cd origin
             for i in $(seq 5); do mkdir -p d$i; for j in $(seq 60); do seq $j $((i * j)) >d$i/$j; done; git add -A; git commit -qm $i; done
             cd ..; git clone -q --no-hardlinks origin clone; cd clone
             git mv d1 moved; git commit -qm moved; git checkout -q HEAD~3; git checkout -q main
             git gc -q --prune=now; git fsck --full --strict; test -z \"$(git status --porcelain)\"
             git clone -q . ../third; git -C ../third log --oneline | wc -l | grep -qx 6"
        );
        scene.sh(script).ok();
    });
}

#[test]
fn rsync_copies_everything() {
    inside(&[Need::Program("rsync"), Need::Program("setfacl")], |scene, mount| {
        let script = format!(
            "cd {mount}; setfacl -m u:1234:rwx,d:g:77:rx usr/local/lib; setfattr -n user.mark -v 1 etc/marked
             mkdir copy; rsync -aHAX etc usr/local odd srv/renamed copy/
             rsync -aHAX --delete --itemize-changes etc usr/local odd srv/renamed copy/ >second; test ! -s second"
        );
        scene.sh(script).ok();
        for part in ["etc", "local", "odd"] {
            let from = if part == "local" { format!("{mount}/usr/local") } else { format!("{mount}/{part}") };
            // Names of one file outside of what was copied are other files in the copy.
            let rules = Rules { without: vec!["nlink"], ..Rules::default() };
            Manifest::of(from).assert_same(&Manifest::of(format!("{mount}/copy/{part}")), &rules);
        }
    });
}

#[test]
fn sqlite_keeps_its_promises_under_wal() {
    inside(&[Need::Program("sqlite3")], |scene, mount| {
        let script = format!(
            "cd {mount}/root; sqlite3 base.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(who INTEGER, n INTEGER);' >/dev/null
             for who in 1 2 3; do
                 (for n in $(seq 40); do sqlite3 -cmd '.timeout 60000' base.db \"BEGIN IMMEDIATE; INSERT INTO t VALUES($who,$n); COMMIT;\" || exit 1; done) & pids=\"${{pids:-}} $!\"
             done
             for pid in $pids; do wait $pid; done
             test \"$(sqlite3 base.db 'SELECT count(*), count(DISTINCT who*1000+n) FROM t')\" = '120|120'
             test \"$(sqlite3 base.db 'PRAGMA integrity_check; PRAGMA wal_checkpoint(TRUNCATE);' | head -n 1)\" = ok
             sqlite3 base.db 'PRAGMA journal_mode=DELETE; DELETE FROM t WHERE n % 2; VACUUM; PRAGMA integrity_check;' | grep -qx ok"
        );
        scene.sh(script).ok();
    });
}

#[test]
fn a_compiler_builds_in_parallel() {
    inside(&[Need::Program("gcc"), Need::Program("make")], |scene, mount| {
        let script = format!(
            "mkdir {mount}/root/project; cd {mount}/root/project
             for i in $(seq 12); do printf 'int f%d(int x) {{ return x + %d; }}\\n' $i $i >f$i.c; done
             {{ for i in $(seq 12); do echo \"int f$i(int);\"; done; echo 'int main(void) {{ int s = 0;'; for i in $(seq 12); do echo \"s += f$i(0);\"; done; echo 'return s != 78; }}'; }} >main.c
             printf 'OBJECTS = main.o $(patsubst %%.c,%%.o,$(wildcard f*.c))\\nall: prog\\nprog: $(OBJECTS)\\n\\t$(CC) -o $@ $^\\nlibf.a: $(OBJECTS)\\n\\tar rcs $@ $^\\n' >Makefile
             make -j2 prog libf.a >/dev/null; ./prog; touch f3.c; make -j2 prog >made; grep -q f3 made; ./prog; make -q prog"
        );
        scene.sh(script).ok();
    });
}

/// The Containerfile of the builds below: changes across layers that only a right union shows.
const CONTAINERFILE: &str = "FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox --install -s /bin; mkdir -p /etc /tmp /srv/one /srv/two; echo one > /srv/one/a; echo two > /srv/two/b; ln /srv/one/a /srv/one/c; chmod 1777 /tmp\"]
RUN rm -r /srv/one && mkdir /srv/one && echo new > /srv/one/new && mv /srv/two /srv/three && chown 5:6 /srv/three/b
RUN echo more >> /srv/three/b && rm /srv/one/new && chmod 4755 /bin/busybox && cat /srv/three/b > /result
";

/// Builds with buildah on layerfs, and returns the tree that was built, through a mount of it.
fn built_by_buildah(scene: &Scene, who: Who) -> Manifest {
    let context = if who == Who::Me { scene.dir("context") } else { scene.plain_dir("context") };
    std::fs::copy(crate::support::needs::find_program("busybox").expect("busybox"), context.join("busybox"))
        .expect("busybox");
    std::fs::write(context.join("Containerfile"), CONTAINERFILE).expect("the Containerfile");
    let home = scene.path(if who == Who::Me { "me" } else { "plain" });
    let option = format!("overlay.mount_program={}", mount_program(scene).display());
    let storage = ["storage", "runroot"].map(|name| home.join(name).to_string_lossy().into_owned());
    let buildah = |arguments: &[&str]| {
        let global =
            ["--root", &storage[0], "--runroot", &storage[1], "--storage-driver", "overlay", "--storage-opt", &option];
        scene.run("buildah").args(global).args(arguments).in_dir(&context).who(who)
    };
    buildah(&["bud", "--isolation", "chroot", "--layers", "--format", "oci", "--tag", "built", "."]).ok();
    let archive = home.join("built.tar");
    buildah(&["push", "built", &format!("docker-archive:{}:built:latest", archive.display())]).ok();
    // A second build takes everything from the cache.
    let again = buildah(&["bud", "--isolation", "chroot", "--layers", "--format", "oci", "--tag", "built", "."]).ok();
    assert!(again.text().contains("Using cache"), "{}", again.text());
    let clean = format!("umount -l '{0}/overlay' 2>/dev/null || true; rm -rf '{0}' '{1}'", storage[0], storage[1]);
    let unshared = if who == Who::Me { scene.sh(clean) } else { buildah(&["unshare", "sh", "-c", &clean]) };
    unshared.ok();
    let reference = scene.load(&archive.to_string_lossy());
    let mount = scene.mount(["mount", &reference], "built");
    let manifest = Manifest::of(mount.path());
    mount.unmount();
    manifest
}

fn check_built(seen: &Manifest) {
    assert!(
        !seen.0.contains_key("srv/one/a") && !seen.0.contains_key("srv/one/new") && !seen.0.contains_key("srv/two")
    );
    assert_eq!((seen.at("srv/three/b").uid, seen.at("srv/three/b").gid, seen.at("srv/three/b").size), (5, 6, 9));
    assert_eq!(seen.at("bin/busybox").mode, 0o4755);
    assert_eq!((seen.at("result").size, seen.at("tmp").mode), (9, 0o1777));
}

const BUILD_NEEDS: [Need; 4] = [Need::Root, Need::Fuse, Need::Program("buildah"), Need::Program("busybox")];

#[test]
fn buildah_builds_as_root() {
    let Some(scene) = Scene::begin_with_limit(&BUILD_NEEDS, Duration::from_secs(300)) else { return };
    check_built(&built_by_buildah(&scene, Who::Me));
}

#[test]
fn buildah_builds_rootless() {
    let needs = [&BUILD_NEEDS as &[Need], &[Need::PlainUser, Need::UserNamespace]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(300)) else { return };
    check_built(&built_by_buildah(&scene, Who::Plain));
}

/// podman imports a root file system, runs a container of it, commits it and runs the result.
#[test]
fn podman_imports_runs_and_commits_as_root() {
    let needs = [&BUILD_NEEDS as &[Need], &[Need::Program("podman"), Need::Program("runc")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(300)) else { return };
    let root = scene.dir("rootfs/bin");
    std::fs::copy(crate::support::needs::find_program("busybox").expect("busybox"), root.join("busybox"))
        .expect("busybox");
    scene.sh("cd rootfs && ln -s busybox bin/sh && mkdir etc tmp proc dev sys opt && echo x >opt/file && tar -c . >../rootfs.tar").ok();
    let option = format!("overlay.mount_program={}", mount_program(&scene).display());
    let podman = |arguments: &[&str]| {
        let global =
            ["--root", "storage", "--runroot", "runroot", "--storage-driver", "overlay", "--storage-opt", &option];
        let global =
            [&global as &[&str], &["--cgroup-manager", "cgroupfs", "--runtime", "runc", "--events-backend", "none"]]
                .concat();
        scene.run("podman").args(global).args(arguments)
    };
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "host"];
    podman(&["import", "rootfs.tar", "imported"]).ok();
    let run = |name: &str, image: &str, script: &str| {
        podman(&[&["run", "--name", name] as &[&str], &limits, &[image, "/bin/sh", "-c", script]].concat()).ok()
    };
    run(
        "first",
        "imported",
        "busybox mkdir /made && echo hello > /made/file && busybox rm -r /tmp && busybox mv /opt /moved",
    );
    podman(&["commit", "-q", "first", "committed"]).ok();
    let seen =
        run("second", "committed", "busybox cat /made/file; busybox ls -d /tmp /opt /moved/file 2>&1 | busybox sort");
    assert!(seen.text().starts_with("hello\n") && seen.text().contains("/moved"), "{}", seen.text());
    assert!(seen.text().matches("No such file").count() == 2, "{}", seen.text());
    // A volume that keeps its changes apart: a mount of its own, over the host's directory.
    std::fs::write(scene.dir("volume").join("file"), "the host's").expect("a file");
    let volume = format!("{}:/volume:O", scene.path("volume").display());
    let script = "busybox cat /volume/file; echo changed >/volume/file; busybox cat /volume/file";
    let own = ["--name", "third", "-v", &volume, "imported", "/bin/sh", "-c", script];
    let seen = podman(&[&["run"] as &[&str], &limits, &own].concat()).ok();
    assert_eq!(seen.text(), "the host'schanged\n");
    assert_eq!(std::fs::read(scene.path("volume/file")).expect("the host's file"), b"the host's");
    podman(&["rm", "-f", "first", "second", "third"]).ok();
    podman(&["rmi", "-f", "committed", "imported"]).ok();
    scene.sh("umount -l storage/overlay 2>/dev/null || true; rm -rf storage runroot").ok();
}

/// A container of what buildah built, in one storage of both.
#[test]
fn podman_runs_what_buildah_built() {
    let needs = [&BUILD_NEEDS as &[Need], &[Need::Program("podman"), Need::Program("runc")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(300)) else { return };
    let context = scene.dir("context");
    std::fs::copy(crate::support::needs::find_program("busybox").expect("busybox"), context.join("busybox"))
        .expect("busybox");
    std::fs::write(context.join("Containerfile"), CONTAINERFILE).expect("the Containerfile");
    let option = format!("overlay.mount_program={}", mount_program(&scene).display());
    let global = ["--root", "storage", "--runroot", "runroot", "--storage-driver", "overlay", "--storage-opt", &option];
    let build = ["bud", "--isolation", "chroot", "--layers", "--tag", "built", "context"];
    scene.run("buildah").args(global).args(build).ok();
    let script =
        "cat /srv/three/b; ls /srv/one | wc -l; echo changed >/srv/three/b; rm -r /srv/one; stat -c %a /bin/busybox";
    let run = ["run", "--runtime", "runc", "--network", "host", "--ulimit", "nofile=1024:1024"];
    let more = ["--ulimit", "nproc=1024:1024", "--name", "first", "built", "/bin/sh", "-c", script];
    let own = ["--cgroup-manager", "cgroupfs", "--events-backend", "none"];
    let seen = scene.run("podman").args(global).args(own).args(run).args(more).ok();
    assert_eq!(seen.text(), "two\nmore\n0\n4755\n");
    let changes = scene.run("podman").args(global).args(own).args(["diff", "first"]).ok().text();
    assert!(changes.contains("C /srv/three/b") && changes.contains("D /srv/one"), "{changes}");
    scene.run("podman").args(global).args(own).args(["rm", "-f", "first"]).ok();
    scene.sh("umount -l storage/overlay 2>/dev/null || true; rm -rf storage runroot").ok();
}

/// Rootless, where this machine starts no containers: import, mount, change, commit, and mount what was committed.
#[test]
fn podman_changes_and_commits_rootless() {
    let needs = [&BUILD_NEEDS as &[Need], &[Need::PlainUser, Need::UserNamespace, Need::Program("podman")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(300)) else { return };
    let base = scene.plain_dir("podman");
    let option = format!("overlay.mount_program={}", mount_program(&scene).display());
    let script = "
        podman() { command podman --root storage --runroot runroot --storage-driver overlay --storage-opt \"$OPTION\" \
            --cgroup-manager cgroupfs --events-backend none \"$@\"; }
        mkdir -p rootfs/bin rootfs/etc rootfs/srv; cp \"$(command -v busybox)\" rootfs/bin/sh; echo one >rootfs/etc/file; echo two >rootfs/srv/gone
        tar -C rootfs -c --owner=0 --group=0 . >rootfs.tar; podman import rootfs.tar first >/dev/null
        change() { podman unshare sh -euc \"at=\\$(command podman --root storage --runroot runroot --storage-driver overlay --storage-opt $OPTION --events-backend none mount $1); cd \\$at; $2\"; }
        podman create --name changed first sh >/dev/null
        change changed 'echo more >>etc/file; rm srv/gone; mkdir new; chown 5:6 new; chmod 4711 bin/sh; ln etc/file etc/linked; stat -c \"%n %u:%g %a %h\" etc/file new bin/sh'
        podman unshare podman --root storage --runroot runroot --storage-driver overlay --storage-opt $OPTION --events-backend none umount changed >/dev/null
        podman commit -q changed second >/dev/null; podman create --name again second sh >/dev/null
        change again 'cat etc/linked; ls srv; stat -c \"%n %u:%g %a\" new bin/sh; mount | grep -c \"overlay/.*fuse.fuse-overlayfs\"'
        podman rm -f -a >/dev/null; podman unshare sh -c 'umount -l storage/overlay 2>/dev/null; rm -rf storage runroot'
        for file in $(find \"$XDG_RUNTIME_DIR\" runroot -name pause.pid 2>/dev/null); do kill -9 $(cat $file); done";
    let done = scene.sh(script).env("OPTION", &option).in_dir(&base).who(Who::Plain).ok();
    let text = done.text();
    let lines: Vec<&str> = text.lines().collect();
    let wanted =
        ["etc/file 0:0 644 2", "new 5:6 755 2", "bin/sh 0:0 4711 1", "one", "more", "new 5:6 755", "bin/sh 0:0 4711"];
    assert_eq!(lines.get(..7), Some(&wanted[..]), "{lines:?}");
}
