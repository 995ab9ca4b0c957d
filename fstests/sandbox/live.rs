//! A container whose root is a writable layerfs, served by the starter and mounted inside.

use super::NEEDS;
use super::trial::{ALL, Result, Starter, busybox_root, driver_command, script, to_the_end, uid};
use crate::support::Scene;
use layerfs::fs::{LayerFs, Settings};
use layerfs::layer::dir::{Descriptors, DirLayer, DirOptions, Owners, XattrPrefix};
use layerfs::layer::upper::{Ownership, Upper, UpperOptions};
use layerfs::mount::Inside;
use layerfs::sandbox::{Identity, Root, Sandbox, Spec};
use layerfs::union::{Follow, Ino, Layer};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs `spec` with a layerfs over its root and `DIR-upper`, and then looks up `paths`.
pub(super) fn drive(mut spec: Spec, program: &OsString, paths: &str) -> Result {
    let root = PathBuf::from(spec.root.path());
    let beside = |suffix: &str| PathBuf::from(format!("{}-{suffix}", root.display()));
    let fs = Arc::new(writable(&root, &beside("upper"), &beside("work"), &spec.identity));
    let inside = Inside::serve(Arc::clone(&fs), &spec.identity, 2).expect("served");
    spec.root = Root::Fuse { at: beside("root").into(), source: "test".into(), subtype: "layerfs".into() };
    let done = to_the_end(inside.give_to(Sandbox::new(spec).program(program)));
    inside.finish().expect("the session's end");
    let records = paths.split_whitespace().filter_map(|path| look_up(&fs, path)).collect();
    match done {
        Ok((code, stdout, stderr)) => Result { code, stdout, stderr, error: None, records },
        Err(error) => Result {
            code: error.exit_code(),
            stdout: String::new(),
            stderr: String::new(),
            error: Some(error.to_string()),
            records,
        },
    }
}

fn writable(lower: &Path, upper: &Path, work: &Path, identity: &Identity) -> LayerFs {
    let host = *identity == Identity::Host;
    let (prefix, ownership) =
        if host { (XattrPrefix::Trusted, Ownership::Real) } else { (XattrPrefix::User, Ownership::Override) };
    let descriptors = Arc::new(Descriptors::for_this_process(2));
    let lower = DirLayer::open(lower, DirOptions::new(prefix), &descriptors).expect("the lower");
    let options = UpperOptions { prefix, ownership, owners: Owners::default(), volatile: true };
    let upper = Upper::open(upper, work, options, &descriptors).expect("the upper");
    let settings = Settings { redirect_dir: true, metacopy: true };
    let lowers: Vec<Arc<dyn Layer>> = vec![Arc::new(lower)];
    LayerFs::new_writable(lowers, upper, settings, Follow::default()).expect("a stack")
}

fn look_up(fs: &LayerFs, path: &str) -> Option<(String, u32, u32, Option<u64>)> {
    let mut ino = Ino::ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        ino = fs.lookup(ino, name.as_bytes()).expect("looked up")?.ino;
    }
    let meta = fs.getattr(ino).expect("attributes").meta;
    let device = (meta.device.major, meta.device.minor);
    Some((path.to_owned(), meta.uid, meta.gid, (device != (0, 0)).then(|| rustix::fs::makedev(device.0, device.1))))
}

/// The same script gives the same tree, whoever starts it.
#[test]
fn a_writable_root_keeps_owners_and_devices_for_everyone() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let lines = r"set -e
        cd /tmp; chmod 1777 .; touch a; chown 33:44 a; ln -s a link; chown -h 5:6 link; mkdir -p d; chown 12:13 d
        cp a b; chown 7:8 b; chmod 4755 b; DEVICES; mkfifo fifo; chown 3 fifo
        chown 50:51 /etc/group; rm -r /var; mv /root /moved; ln b hard
        su user -c 'touch mine; mkdir dir; ln -s x sym; echo hi >new; rm -f /tmp/none; chmod 600 mine'
        stat -c '%n %u:%g %a %F %t:%T' a link d b hard NODES fifo mine dir sym new /etc/group /bin /moved
    ";
    let expected = "a 33:44 644 regular empty file 0:0\nlink 5:6 777 symbolic link 0:0\nd 12:13 755 directory 0:0\n\
        b 7:8 4755 regular empty file 0:0\nhard 7:8 4755 regular empty file 0:0\ndev 0:0 644 character special file 5:1\n\
        blk 0:0 644 block special file 8:10\nfifo 3:0 644 fifo 0:0\nmine 1000:1000 600 regular empty file 0:0\n\
        dir 1000:1000 755 directory 0:0\nsym 1000:1000 777 symbolic link 0:0\nnew 1000:1000 644 regular file 0:0\n\
        /etc/group 50:51 644 regular file 0:0\n/bin 0:0 755 directory 0:0\n/moved 0:0 755 directory 0:0\n";
    for (at, &starter) in ALL.iter().enumerate() {
        let name = format!("root{at}");
        // With the numbers of the container, which a copy-up takes along.
        let root = busybox_root(&scene, Starter::Root, &name);
        for suffix in ["upper", "work", "root"] {
            let dir = scene.dir(format!("{name}-{suffix}"));
            std::os::unix::fs::chown(dir, uid(starter), None).expect("chown");
        }
        // In a user namespace the kernel lets nobody make devices, and with ranges nobody answers for it.
        let devices = starter != Starter::Ranges;
        let make = if devices { "mknod dev c 5 1; mknod blk b 8 16" } else { "! mknod dev c 5 1 2>/dev/null" };
        let nodes = if devices { "dev blk" } else { "" };
        let expected: Vec<&str> = expected.lines().filter(|line| devices || !line.contains("special")).collect();
        let expected = expected.join("\n") + "\n";
        let spec = script(&root, &lines.replace("DEVICES", make).replace("NODES", nodes));
        let paths = "/tmp/a /tmp/dev /tmp/blk /tmp/mine /tmp/sym /tmp/link /etc/group";
        let mut command = driver_command(&scene, starter, &spec);
        let output = command.env("LAYERFS_TEST_LIVE", paths).output().expect("the driver");
        let answer = std::fs::read(scene.path("answer")).expect("the answer");
        let result: Result = serde_json::from_slice(&answer)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(
            (result.code, result.stdout.as_str(), result.stderr.as_str()),
            (0, expected.as_str(), ""),
            "{starter:?}: {result:?}"
        );
        let has = |path: &str, uid, gid, device| result.records.contains(&(path.to_owned(), uid, gid, device));
        assert!(has("/tmp/a", 33, 44, None));
        assert!(!devices || has("/tmp/dev", 0, 0, Some(0x501)) && has("/tmp/blk", 0, 0, Some(0x810)));
        assert!(
            has("/tmp/mine", 1000, 1000, None) && has("/tmp/sym", 1000, 1000, None) && has("/etc/group", 50, 51, None)
        );
        assert!(root.join("var").exists() && !root.join("tmp/a").exists(), "the lower is untouched");
    }
}
