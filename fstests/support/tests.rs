//! Tests of the helpers themselves: what guards everything else is seen to bite.

use super::manifest::WALKED;
use super::tree::{Notation, parse, to_directory, to_tar};
use super::{Image, Manifest, Need, Rules, Scene, Who, needs, reap};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// No test: the process that walks a tree for [`Manifest::of_as`].
#[test]
#[ignore = "run by Manifest::of_as, as another user"]
fn walker_for_other_users() {
    let root = std::env::var_os("LAYERFS_WALK").expect("LAYERFS_WALK names the tree");
    let manifest = serde_json::to_string(&Manifest::of(root)).expect("a manifest in JSON");
    writeln!(std::io::stdout(), "\n{WALKED}{manifest}").expect("standard output");
}

const TREE: &str = "
    dir  . 0755 @1000
    dir  etc 0750 0:0 @1000
    file etc/name =hello 0640 0:0 @1234567890.5 +user.colour=red
    hard etc/second =>etc/name
    link etc/alias ->na\\x20me @-5
    fifo etc/pipe 0600
    file \\xff\\xfe #70000
    dir  etc/sub
    file etc/sub/empty
";

#[test]
fn a_tree_as_tar_and_as_directory_is_the_same() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Program("tar")]) else { return };
    let nodes = parse(TREE);
    to_directory(&nodes, &scene.path("one"), Notation::Aufs);
    std::fs::write(scene.path("tree.tar"), to_tar(&nodes)).unwrap();
    let two = scene.dir("two");
    scene
        .run("tar")
        .args(["--xattrs", "--xattrs-include=*", "--delay-directory-restore", "-xpf"])
        .arg(scene.path("tree.tar"))
        .arg("-C")
        .arg(two)
        .ok();
    let one = Manifest::of(scene.path("one"));
    assert_eq!(one.at("etc/second").first_name, "etc/name");
    assert_eq!(one.at("etc/alias").target, "na me");
    assert_eq!(one.at("etc/name").xattrs["user.colour"], "red");
    assert_eq!(one.at("\\xff\\xfe").size, 70000);
    one.assert_same(&Manifest::of(scene.path("two")), &Rules::default());
}

#[test]
fn differences_of_trees_are_told() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let one = "file a =x\nfile b =x\ndir d\nfile d/f =1\nfile s =same";
    let two = "file a =y\nfile c =x\ndir d 0700\nfile d/f =1 @5\nfile s =same";
    to_directory(&parse(one), &scene.path("one"), Notation::Aufs);
    to_directory(&parse(two), &scene.path("two"), Notation::Aufs);
    let (one, two) = (Manifest::of(scene.path("one")), Manifest::of(scene.path("two")));
    let rules = Rules { no_mtime_of_path: vec![".".into()], ..Rules::default() };
    let lines = one.differences(&two, &rules);
    let starts: Vec<&str> = lines.iter().map(|line| line.split_once(' ').map_or("", |parts| parts.0)).collect();
    assert_eq!(starts, ["a:", "b:", "c:", "d:", "d/f:"], "{lines:#?}");
    let rules = Rules { except: vec!["a".into(), "b".into(), "c".into(), "d".into()], ..rules };
    assert!(one.differences(&two, &rules).is_empty());
}

#[test]
fn an_image_is_read_by_umoci_and_skopeo() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Program("umoci"), Need::Program("skopeo")]) else { return };
    let image = Image::new().layer(TREE).layer("whiteout etc/name\nfile new =new");
    let oci = image.write_oci(&scene.path("oci"), "latest");
    let archive = image.write_docker_archive(&scene.path("archive.tar"), "example/image:latest");
    scene.run("umoci").arg("unpack").arg("--image").arg(&oci).arg(scene.path("bundle")).ok();
    let seen = Manifest::of(scene.path("bundle/rootfs"));
    assert_eq!((seen.at("etc/second").size, seen.at("etc/second").nlink), (5, 1));
    assert!(!seen.0.contains_key("etc/name") && seen.0.contains_key("new"));
    let done = scene.run("skopeo").arg("inspect").arg(format!("docker-archive:{}", archive.display())).ok();
    assert_eq!(done.json()["Layers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_walk_as_another_user_sees_what_that_user_may() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::PlainUser, Need::UserNamespace]) else { return };
    to_directory(&parse("dir open\nfile open/file =x 1000:1000"), &scene.path("tree"), Notation::Aufs);
    let mine = Manifest::of(scene.path("tree"));
    mine.assert_same(&Manifest::of_as(&scene, Who::Plain, scene.path("tree")), &Rules::default());
    let inside = Manifest::of_as(&scene, scene.namespace(), scene.path("tree"));
    assert_eq!(inside.at("open").uid, 65534, "root of the machine is nobody in the namespace");
}

/// Runs `body` in a scene with a short limit and returns how it panicked.
fn failure_of(needs: &[Need], limit: Duration, body: impl FnOnce(&Scene)) -> Option<String> {
    let scene = Scene::begin_with_limit(needs, limit)?;
    let result = catch_unwind(AssertUnwindSafe(move || {
        body(&scene);
        drop(scene);
    }));
    let panic = result.expect_err("the scene should have failed");
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).to_owned()))
}

#[test]
fn what_is_left_mounted_is_told_and_cleared() {
    let mut directory = None;
    let message = failure_of(&[Need::Root], Duration::from_secs(60), |scene| {
        let point = scene.dir("mnt");
        scene.run("mount").args(["-t", "tmpfs", "none"]).arg(&point).ok();
        directory = Some(scene.directory().to_owned());
    });
    let Some(message) = message else { return };
    let directory = directory.unwrap();
    assert!(message.contains("left behind") && message.contains("tmpfs"), "{message}");
    assert!(reap::mounts_of("self", &directory).is_empty() && !directory.exists());
}

#[test]
fn what_is_left_running_is_told_and_killed() {
    let mut child = None;
    let message = failure_of(&[], Duration::from_secs(60), |scene| {
        child = Some(scene.sh("(setsid sleep 1000 &) ; exec sleep 1000").spawn());
        while scene.processes().len() < 2 {
            std::thread::yield_now();
        }
    });
    assert!(message.unwrap().contains("sleep 1000"));
    child.unwrap().wait().unwrap();
}

#[test]
fn a_hanging_mount_is_aborted() {
    // A FUSE connection that nobody answers: each access to it sleeps in the kernel until it is aborted.
    let message = failure_of(&[Need::Root, Need::Fuse, Need::Program("python3")], Duration::from_secs(2), |scene| {
        let point = scene.dir("mnt");
        let script = "import os,sys,ctypes,time\n\
            fd=os.open('/dev/fuse',os.O_RDWR)\n\
            data=f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()\n\
            libc=ctypes.CDLL(None,use_errno=True)\n\
            assert libc.mount(b'hang',sys.argv[1].encode(),b'fuse.hang',0,data)==0\n\
            time.sleep(1000)\n";
        let mut child = scene.run("python3").arg("-c").arg(script).arg(&point).spawn();
        while scene.mounts().is_empty() {
            std::thread::yield_now();
        }
        let error = std::fs::metadata(&point).expect_err("nobody answers");
        assert!(matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED | libc::EINTR)), "{error}");
        child.wait().unwrap();
    });
    let Some(message) = message else { return };
    assert!(message.contains("hung"), "{message}");
}

#[test]
fn the_guardian_clears_a_killed_test() {
    let Some(scene) = Scene::begin(&[Need::Root]) else { return };
    let victim = scene.dir("victim");
    std::fs::create_dir(victim.join("mnt")).unwrap();
    let mount = scene.run("mount").args(["-t", "tmpfs", "none"]).arg(victim.join("mnt"));
    mount.ok();
    let sleeper = scene.run("sleep").arg("1000").env(reap::MARK, &victim).spawn();
    let script = include_str!("guardian.sh");
    scene.run("sh").arg("-c").arg(script).arg("guardian").arg(&victim).ok();
    let mut sleeper = sleeper;
    assert!(!sleeper.wait().unwrap().success());
    assert!(scene.mounts().is_empty() && !victim.exists());
}

#[test]
fn missing_needs_are_named() {
    assert!(needs::find_program("no-such-program-of-layerfs").is_none());
    assert!(needs::find_program("sh").is_some());
}

/// A copy of a file over another name of it empties it: here, the program under test for all tests that follow.
#[test]
fn regression_a_program_brought_in_by_many_at_once_stays_whole() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let program = scene.path("program");
    std::fs::write(&program, "#!/bin/true\n").unwrap();
    for round in 0..200 {
        let ready = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    ready.wait();
                    scene.reachable(&program, &format!("name{round}"));
                });
            }
        });
    }
    assert_eq!(std::fs::read(&program).unwrap(), b"#!/bin/true\n");
}
