//! Records that the kernel's overlayfs, or somebody by hand, left in layers: what is followed, what is refused, and by which number.

use crate::support::{Need, Scene};

const NEEDS: &[Need] = &[Need::Root, Need::Fuse, Need::KernelOverlay, Need::Program("setfattr")];

/// Lays `make` out in a directory with the empty `l`, `u` and `w`, mounts these with `options` as the kernel and as layerfs do, and runs
/// `look` in either mount: its output is the same. Returns it.
fn as_the_kernel(scene: &Scene, make: &str, options: &str, look: &str) -> String {
    let seen = ["kernel", "layerfs"].map(|who| {
        let at = scene.dir(who);
        let sh = |script: &str| scene.sh(format!("cd \"$1\"; {script}")).arg("sh").arg(&at);
        sh(&format!("mkdir l u w m; mark() {{ setfattr -n trusted.overlay.$1 -v \"$2\" \"$3\"; }}; {make}")).ok();
        let options = format!("lowerdir={0}/l,upperdir={0}/u,workdir={0}/w{options}", at.display());
        let mount = at.join("m");
        if who == "kernel" {
            scene.run("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&mount).ok();
        } else {
            scene.layerfs(["overlay", "-o", &format!("{options},dev,suid")]).arg(&mount).ok();
        }
        let text = sh(&format!("cd m; exec 2>&1; set +e; {look}")).output().text();
        if who == "kernel" {
            scene.run("umount").arg(&mount).ok();
        } else {
            scene.layerfs(["umount"]).arg(&mount).ok();
        }
        std::fs::remove_dir_all(&at).expect("remove");
        text
    });
    assert_eq!(seen[0], seen[1], "kernel and layerfs, with {options:?} after {make}");
    seen[1].clone()
}

/// Attributes come with a listing. Those of one entry, which could not be had, took all that follows with them.
#[test]
fn regression_one_unreadable_entry_leaves_the_others_listed() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let look = "ls; stat b; cat a c; ls; touch new; ls";
    let make = "echo a >l/a; echo c >l/c; touch u/b; mark metacopy '' u/b; mark impure y u";
    let text = as_the_kernel(&scene, make, ",redirect_dir=on,metacopy=on", look);
    assert!(text.starts_with("a\nc\n") && text.contains("Input/output error"), "{text}");
    let make = "echo a >l/a; echo c >l/c; mkdir l/d u/b; mark redirect d u/b; mark impure y u";
    let text = as_the_kernel(&scene, make, ",redirect_dir=nofollow", look);
    assert!(text.starts_with("a\nc\nd\n") && text.contains("Operation not permitted"), "{text}");
}

/// Whoever does not ask for metadata-only copies gets none, be they in the upper or below.
#[test]
fn regression_metadata_only_copies_are_followed_on_request() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let make = "echo low >l/f; echo low >l/g; truncate -s 4 u/h; mark redirect g u/h; mark metacopy '' u/h; truncate -s 4 u/f; mark metacopy '' u/f";
    let look = "cat f; stat -c %s f; cat h; mv h i; cat g";
    let text = as_the_kernel(&scene, make, ",metacopy=on,redirect_dir=on", look);
    assert_eq!(text, "low\n4\nlow\nlow\n");
    for options in ["", ",metacopy=off", ",metacopy=off,redirect_dir=on"] {
        let text = as_the_kernel(&scene, make, options, look);
        assert_eq!(text.matches("Operation not permitted").count(), 4, "{text}");
    }
}

/// Below the lowest layer lies nothing: what a redirect there says does not matter.
#[test]
fn regression_redirects_are_read_where_something_lies_below() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let make = "mkdir -p l/a/b u/n/p u/o u/q l/o; touch l/a/b/f l/z u/n/p/g u/o/h u/q/i; mark opaque y u/o; mark redirect x u/o
        mark redirect /x l/a; mark redirect a u/n/p; mark redirect gone u/q; mark impure y u";
    for options in [",redirect_dir=nofollow", ",redirect_dir=follow", ",redirect_dir=on"] {
        let text = as_the_kernel(&scene, make, options, "ls; ls a/b n n/p o q; touch a/b/new; ls a/b");
        assert!(text.contains("a/b:\nf\n") && text.contains("n/p:\ng\n"), "{text}");
    }
}

/// A redirect is a name or an absolute path. Another one was followed as far as it led, and `..` out of the layer.
#[test]
fn regression_redirects_that_overlayfs_never_writes_are_refused() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (redirect, number) in [
        ("o", ""),
        ("/o", ""),
        ("gone", ""),
        ("/gone/sub", ""),
        ("o/sub", "Invalid argument"),
        ("/", "Invalid argument"),
        ("//o", "Invalid argument"),
        ("/o/", "Invalid argument"),
        ("/o//sub", "Invalid argument"),
        (".", "Permission denied"),
        ("..", "Permission denied"),
        ("/o/..", "Permission denied"),
        ("/o/../o", "Permission denied"),
    ] {
        let make = format!(
            "mkdir -p l/o/sub l/a/low u/a/b; touch l/o/sub/f; mark redirect '{redirect}' u/a; mark redirect '{redirect}' l/o"
        );
        let text = as_the_kernel(&scene, &make, ",redirect_dir=on", "ls a");
        assert!(text.contains(number) && text.contains("b\n") == number.is_empty(), "{redirect}: {text}");
    }
}

/// The entry in the index is a name of the copy, which whoever looks into the upper sees counted, with the kernel's index as with ours.
#[test]
fn names_in_an_upper_are_those_that_an_index_makes() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let text = as_the_kernel(
        &scene,
        "echo H >l/a; ln l/a l/b; echo I >l/c",
        ",index=on",
        "echo 1 >>a; echo 1 >>c; stat -c %h a b c ../u/a ../u/c",
    );
    assert_eq!(text, "2\n2\n1\n2\n1\n");
}
