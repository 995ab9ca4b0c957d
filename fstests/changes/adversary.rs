//! Everything at once that tools which write layers get wrong, in two layers on top of each other, and what layerfs, umoci, skopeo and
//! GNU tar read back: the tree of the mount.

use super::{based_on, changed_by, rules, shown};
use crate::image_tree::{umoci_rules, unpacked_by_umoci};
use crate::support::{Manifest, Need, Rules, Scene};
use std::time::Duration;

/// What the first layer is made of.
const MAKE: &str = r#"
    repeat() { printf "$1%.0s" $(seq "$2"); }
    mkdir -p d/sub tree/a/b mv/sub rec/y d2f d2l swap1 emptyd xdir sticky utf
    echo 1 >d/one; echo 2 >d/two; echo x >d/sub/x; echo deep >tree/a/b/f; echo g >tree/g; chmod 1777 tree sticky
    echo in >mv/in; echo k >mv/sub/k; echo HL >mv/hl; chown 5:6 mv; chmod 2755 mv; chown 7:7 mv/in
    echo same >h1; ln h1 h2; ln h1 d/h3; echo gg >g1; ln g1 g2; ln g1 mv/g3
    echo run >caps; chmod 755 caps; setcap cap_net_raw+ep caps; echo x >xat; setfattr -n user.a -v 1 xat; setfattr -n user.dir -v yes xdir; : >xdir/f
    echo s >setuid; chmod 4755 setuid; echo s >sgid; chown 0:44 sgid; chmod 2711 sgid
    mknod cdev c 1 3; chmod 666 cdev; mknod bdev b 259 1048575; mkfifo fifo; chmod 600 fifo
    echo h >huge; chown 4000000000:2200000 huge; echo o >old; touch -d @-1000000 old; echo o >part; touch -d @1600000000.75 part
    mkdir "$(repeat L 120)" "$(repeat L 120)/$(repeat M 120)"; echo l >"$(repeat L 120)/$(repeat M 120)/$(repeat N 200)"
    ln -s d/one ln; ln -s "$(repeat z 300)" lnlong; ln -s d lndir; printf x >"$(printf 'utf/\377\376')"; printf x >"utf/ünï"
    echo x >rec/x; echo z >rec/y/z; echo f >f2d; : >d2f/i; : >d2l/i; ln -s d l2d; ln -s d l2f; : >f2l; echo s1 >swap1/s; echo s2 >swap2
"#;

/// What the second layer changes of it.
const CHANGE: &str = r#"
    repeat() { printf "$1%.0s" $(seq "$2"); }
    rm d/two; echo new >d/three; rm -rf d2f; echo file >d2f; rm f2d; mkdir f2d; echo in >f2d/in; rm -rf d2l; ln -s d d2l; rm l2d; mkdir l2d; touch -d @5 l2d/k
    echo plain >l2f.new; mv -T l2f.new l2f; rm f2l; ln -s d f2l; mv -T swap1 swap.t; mv -T swap2 swap1; mv -T swap.t swap2
    mv mv moved; echo later >moved/sub/later; rm moved/sub/k; echo more >>moved/in; mkdir mv; echo again >mv/new; chmod 711 moved/sub
    echo changed >>h2; rm g1; ln mv/new mv/new2; ln moved/hl hl-too; rm -rf rec; mkdir rec; echo x2 >rec/x; mkdir -p rec/y/w
    rm -rf tree; mkdir -m 1770 tree; mkdir -p tree/a/b; echo back >tree/a/b/f; rmdir emptyd; mkdir emptyd; rm -rf xdir; mkdir xdir; echo only >xdir/g
    setfattr -x user.a xat; setfattr -n user.c -v 'a=b
c' xat; setfattr -n user.bytes -v 0x00ff0041 d/one; setfattr -n user.big -v "$(repeat q 3000)" d/sub
    setcap cap_net_admin+ep sgid; chmod 4750 sgid; chown 3:4 setuid; chmod 6755 setuid; chown 4294967290:4294967291 d/sub/x; chown -h 77:88 ln
    mknod nod c 5 1; mknod block b 1000 70000; mkfifo -m 622 pipe; rm cdev; echo f >cdev; mv fifo fifo2; mv bdev moved/bdev
    mkdir "$(repeat N 255)"; echo l >"$(repeat N 255)/$(repeat M 255)"; echo more >>"$(repeat L 120)/$(repeat M 120)/$(repeat N 200)"
    printf x >"$(printf 'bad\377\376name')"; ln "$(printf 'bad\377\376name')" "$(printf 'bad\375')"; ln -s "$(repeat '\377' 50)" badlink; ln -s "$(repeat é 120)" longlink
    mkdir "$(repeat é 100)"; echo q >"$(repeat é 100)/q"; printf x >'new
line'; printf x >' lead'; printf x >'trail '; printf x >'back\slash'; printf x >'=eq'; rm "$(printf 'utf/\377\376')"
    touch -d @-1893456000.25 t1; touch -d @-0.5 t2; touch -d @1700000000.999999999 t3; touch -d @8589934592 t4; touch -h -d @-3 ln
    truncate -s 50M sparse; printf end >>sparse; printf middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
    mkdir -p p/q; mv d/sub p/q/sub; mv p/q/sub/x p/x; touch gone; rm gone; chmod 751 .; chown 9:9 .; setfattr -n user.root -v r .; touch -d @1234567890 .
"#;

const EPOCH: &str = "9999999999";

#[test]
fn whatever_tools_get_wrong_is_committed_squashed_and_exported() {
    let needs = ["umoci", "skopeo", "tar", "setcap", "setfattr"].map(Need::Program);
    let needs = [&[Need::Root, Need::Fuse], &needs[..]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(300)) else { return };
    based_on(&scene, "dir . 0755\nfile nothing =x");
    changed_by(&scene, MAKE);
    commit(&scene, "base:1");
    scene.layerfs(["rm", "work"]).ok();
    let seen = changed_by(&scene, CHANGE);
    assert_eq!(commit(&scene, "new:1"), commit(&scene, "new:2"), "two processes, one image");

    scene.layerfs(["commit", "--squash", "work", "flat:1"]).env("SOURCE_DATE_EPOCH", EPOCH).ok();
    for (target, arguments) in
        [("all:1", &["new:1"][..]), ("two:1", &["--last", "2", "new:1"]), ("one:1", &["--last", "1", "new:1"])]
    {
        scene.layerfs(["squash", "--tag", target]).args(arguments).env("SOURCE_DATE_EPOCH", EPOCH).ok();
    }
    scene.layerfs(["export", "new:1", "-o", "export.tar"]).ok();
    scene.layerfs(["export", "work", "-o", "export-of-mount.tar"]).ok();
    scene.sh("cmp export.tar export-of-mount.tar").ok();
    scene.layerfs(["import", "export.tar", "imported:1"]).ok();
    for image in ["new:1", "flat:1", "all:1", "two:1", "one:1", "imported:1"] {
        eprintln!("{image}");
        seen.assert_same(&shown(&scene, image), &rules());
    }
    read_by_others(&scene, &seen);
    scene.layerfs(["fsck"]).ok();
}

fn commit(scene: &Scene, name: &str) -> String {
    scene.layerfs(["commit", "work", name]).env("SOURCE_DATE_EPOCH", EPOCH).ok().text()
}

fn read_by_others(scene: &Scene, seen: &Manifest) {
    // umoci counts the seconds of a file in 32 bits here and there; 2038 is far enough.
    let beyond = |rules: Rules| Rules { no_mtime_of_path: vec![".".into(), "t4".into()], ..rules };
    let umoci = beyond(Rules { whole_seconds: true, ..umoci_rules() });
    for image in ["new:1", "all:1", "two:1"] {
        eprintln!("{image} by umoci");
        let layout = scene.dir("layouts").join(image);
        scene
            .layerfs(["save", image, "-o"])
            .arg(format!("oci:{}:latest", layout.display().to_string().replace(':', "-")))
            .ok();
        seen.assert_same(&unpacked_by_umoci(scene, &layout.with_file_name(image.replace(':', "-"))), &umoci);
    }
    for (format, compress) in [("docker-archive", "none"), ("oci-archive", "gzip")] {
        eprintln!("{format} by skopeo");
        let save = ["save", "new:1", "--format", format, "--compress", compress, "-o", "saved.tar"];
        scene.layerfs(save).ok();
        let copy = format!("rm -rf copied; skopeo --insecure-policy copy -q {format}:saved.tar oci:copied:latest");
        scene.sh(copy).ok();
        seen.assert_same(&unpacked_by_umoci(scene, &scene.path("copied")), &umoci);
    }
    scene.sh("mkdir by-tar; tar --numeric-owner --xattrs --xattrs-include='*' -xpf export.tar -C by-tar").ok();
    seen.assert_same(&Manifest::of(scene.path("by-tar")), &rules());
}

/// An image that is saved in one form and loaded again is the same image, and is saved to the same bytes.
#[test]
fn images_survive_every_format() {
    let Some(scene) = Scene::begin(&[Need::Fuse]) else { return };
    based_on(&scene, "dir . 0755\nfile etc/name =x\nhard etc/other =>etc/name");
    changed_by(&scene, "echo y >etc/name; mkdir new; ln -s etc new/link");
    commit(&scene, "new:1");
    let described = |root: &str, name: &str| {
        let told = scene.layerfs(["inspect", name, "--root", root]).ok().json();
        (told[0]["Id"].clone(), told[0]["RootFS"].clone(), told[0]["Config"].clone())
    };
    let own = scene.path("me/store").display().to_string();
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        for compress in ["none", "gzip", "zstd"] {
            let (file, root) = (format!("{format}-{compress}"), format!("store-{format}-{compress}"));
            let save = |from: &str, to: &str| {
                scene
                    .layerfs(["save", "--format", format, "--compress", compress, "-o", to, "new:1", "--root", from])
                    .ok()
            };
            save(&own, &file);
            scene.layerfs(["load", "-i", &file, "--root", &root]).ok();
            assert_eq!(described(&root, "new:1"), described(&own, "new:1"), "{file}");
            save(&root, "again");
            scene.sh(format!("diff -r {file} again; rm -r again")).ok();
            scene.layerfs(["fsck", "--root", &root]).ok();
        }
    }
}
