//! What other tools make of committed images, and what is made of theirs.

use super::{based_on, changed_by, shown};
use crate::image_tree::{umoci_rules, unpacked_by_umoci};
use crate::support::{Manifest, Need, Rules, Scene};

const BASE: &str = "
    dir . 0755
    dir d 0750 5:6
    file d/one =1 4755
    file d/two =2 0644 1000:1000
    file linked =same
    hard other =>linked
    link l ->d/one
    fifo pipe
    file deep/er/x =x +user.colour=red
";

const SCRIPT: &str =
    "echo changed >linked; rm d/two; mkdir new; echo text >new/file; ln new/file new/again; chmod 600 d/one
    mv deep moved; ln -s moved/er sym; rm pipe; mkdir -p pipe/is/dir; printf %s \"$(seq 100000)\" >new/long";

fn committed(needs: &[Need]) -> Option<(Scene, Manifest)> {
    let scene = Scene::begin(needs)?;
    based_on(&scene, BASE);
    let seen = changed_by(&scene, SCRIPT);
    scene.layerfs(["commit", "work", "new:1"]).ok();
    Some((scene, seen))
}

fn rules() -> Rules {
    Rules { whole_seconds: true, ..umoci_rules() }
}

#[test]
fn umoci_and_skopeo_read_what_is_committed() {
    let Some((scene, seen)) = committed(&[Need::Root, Need::Fuse, Need::Program("umoci"), Need::Program("skopeo")])
    else {
        return;
    };
    scene.layerfs(["save", "new:1", "-o", "oci:saved:latest"]).ok();
    unpacked_by_umoci(&scene, &scene.path("saved")).assert_same(&seen, &rules());
    scene.layerfs(["save", "new:1", "-o", "docker.tar"]).ok();
    scene.sh("skopeo copy -q docker-archive:docker.tar oci:copied:latest").ok();
    unpacked_by_umoci(&scene, &scene.path("copied")).assert_same(&seen, &rules());
}

#[test]
fn podman_loads_what_is_committed() {
    let Some((scene, seen)) = committed(&[Need::Root, Need::Fuse, Need::Program("podman")]) else { return };
    scene.layerfs(["save", "new:1", "-o", "docker.tar"]).ok();
    let script =
        "printf '[storage]\\ndriver = \"vfs\"\\nrunroot = \"%s/run\"\\ngraphroot = \"%s/storage\"\\n' $PWD $PWD > conf
        export CONTAINERS_STORAGE_CONF=$PWD/conf
        podman image mount $(podman load -q -i docker.tar | sed 's/.*: //')";
    let loaded = scene.sh(script).output();
    let place = loaded.text();
    assert!(!place.trim().is_empty(), "{}", loaded.error_text());
    Manifest::of(place.trim()).assert_same(&seen, &rules());
    scene.sh("CONTAINERS_STORAGE_CONF=$PWD/conf podman image unmount -a").ok();
}

/// An image of umoci's is changed here, committed, changed by umoci and loaded again.
#[test]
fn images_go_back_and_forth() {
    let Some((scene, seen)) = committed(&[Need::Root, Need::Fuse, Need::Program("umoci")]) else { return };
    scene.layerfs(["save", "new:1", "-o", "oci:saved:latest"]).ok();
    scene.sh("umoci unpack --image saved:latest bundle; echo umoci >bundle/rootfs/by-umoci; rm bundle/rootfs/sym").ok();
    scene.sh("umoci repack --image saved:latest bundle").ok();
    scene.layerfs(["load", "oci:saved:latest"]).ok();
    let back = scene.layerfs(["load", "oci:saved:latest"]).ok().text();
    let name = back.trim().split_once(": ").expect("a name").1.to_owned();
    let mut expected = seen;
    expected.0.remove("sym");
    let mut there = shown(&scene, &name);
    assert!(there.0.remove("by-umoci").is_some(), "umoci's change is there");
    let rules = Rules { no_mtime_of_path: vec![".".into()], ..rules() };
    there.assert_same(&expected, &rules);
}

/// As a plain user, who keeps owners without the right to give files away.
#[test]
fn a_plain_user_commits_owners() {
    use crate::support::Who;
    let Some(scene) = Scene::begin(&[Need::Fuse, Need::PlainUser]) else { return };
    crate::support::Image::new().layer(BASE).write_oci(&scene.path("base-layout"), "base:1");
    scene.sh("chmod -R a+rX base-layout").ok();
    scene.layerfs(["load", "base-layout"]).who(Who::Plain).ok();
    let mount = scene.mount_as(Who::Plain, ["mount", "--rw", "--name", "work", "base:1"], "mnt");
    let change = "echo more >>d/one; echo new >added; mv linked renamed";
    scene.sh(format!("cd {}; {change}", mount.path().display())).who(Who::Plain).ok();
    let seen = Manifest::of_as(&scene, Who::Plain, mount.path());
    scene.layerfs(["commit", "work", "new:1"]).who(Who::Plain).ok();
    mount.unmount();
    let mount = scene.mount_as(Who::Plain, ["mount", "new:1"], "look");
    let there = Manifest::of_as(&scene, Who::Plain, mount.path());
    mount.unmount();
    seen.assert_same(&there, &Rules { whole_seconds: true, ..Rules::default() });
    assert_eq!((there.at("d/one").uid, there.at("d").gid), (0, 6), "owners stay those of the image");
}
