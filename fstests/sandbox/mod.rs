//! Commands in a sandbox: what they see, what they can do, and what they cannot.

mod isolation;
mod life;
mod live;
mod trial;

use crate::support::{Need, Scene};
use trial::{ALL, Starter, busybox_root, run, script};

const NEEDS: &[Need] = &[Need::Root, Need::UserNamespace, Need::Program("busybox")];

#[test]
fn a_command_runs_for_everyone() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let lines = "id -u; pwd; hostname; echo bad >&2; echo *; cat /proc/1/comm; exit 7";
        let result = run(&scene, starter, &script(&root, lines));
        assert_eq!(result.error, None, "{starter:?}");
        assert_eq!((result.code, result.stderr.as_str()), (7, "bad\n"), "{starter:?}");
        let lines: Vec<&str> = result.stdout.lines().collect();
        assert_eq!(lines, ["0", "/", "box", "bin dev etc proc root sys tmp var", "layerfs-init"], "{starter:?}");
        // The mount points that were made are gone again.
        assert!(!root.join("proc").exists() && !root.join("dev").exists() && !root.join("sys").exists());
    }
}

/// With a single number the kernel knows nobody but root: everything else is on the supervisor's books.
#[test]
fn owners_and_devices_are_kept_for_who_has_a_single_number() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let root = busybox_root(&scene, Starter::Single, "root");
    let lines = r"set -e
        cd /tmp
        touch a; chown 33:44 a; stat -c '%u:%g %a' a
        ln -s a link; chown -h 5:6 link; stat -c %u:%g link; stat -L -c %u:%g link
        cp a b; chown 7:8 b; chmod 4755 b; stat -c '%u:%g %a' b; chown 9 b; stat -c '%u:%g %a' b
        mknod dev c 5 1; stat -c '%F %t:%T' dev; mknod blk b 8 16; mknod fifo p; stat -c %F fifo
        ! mknod white c 0 0 2>/dev/null
        mkdir -p deep/er; cd deep; chown 12:13 ../deep/er ./er; stat -c %u:%g /tmp/deep/er; cd ..
        chown 14:15 /proc/self/fd/0 </etc/passwd; stat -c %u:%g /etc/passwd
        su user -c 'id -u; id -g; touch mine; mkdir dir; ln -s x sym; echo hi > new; stat -c %u:%g mine dir sym new; chown 0 mine 2>/dev/null || echo refused'
        id -u
        ls -ln mine | cut -c1-10
    ";
    let result = run(&scene, Starter::Single, &script(&root, lines));
    assert_eq!((result.code, result.error.as_deref(), result.stderr.as_str()), (0, None, ""), "{}", result.stdout);
    let expected = "33:44 644\n5:6\n33:44\n7:8 4755\n9:8 755\ncharacter special file 5:1\nfifo\n12:13\n14:15\n\
        1000\n1000\n1000:1000\n1000:1000\n1000:1000\n1000:1000\nrefused\n0\n-rw-r--r--\n";
    assert_eq!(result.stdout, expected);
    let has = |path: &str, uid, gid, device| result.records.contains(&(path.to_owned(), uid, gid, device));
    assert!(
        has("/tmp/a", 33, 44, None) && has("/tmp/dev", 0, 0, Some(0x501)) && has("/tmp/blk", 0, 0, Some(0x810)),
        "{:?}",
        result.records
    );
    assert!(has("/tmp/mine", 1000, 1000, None) && has("/tmp/sym", 1000, 1000, None), "{:?}", result.records);
}
