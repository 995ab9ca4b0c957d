//! The same script on layerfs and on the kernel's overlayfs: the same output, the same tree, and the same tree once more
//! where the kernel mounts the upper that layerfs wrote.

use crate::support::{Manifest, Need, Rules, Scene};
use std::path::Path;

const NEEDS: &[Need] =
    &[Need::Root, Need::Fuse, Need::KernelOverlay, Need::Program("python3"), Need::Program("setfacl")];

/// The lower layer of all scripts, made by a script too: trees as text know neither ACLs nor capabilities.
const LOWER: &str = "cd \"$1\"; umask 022; mkdir -p d/s pub sgid; seq 2000 >f; echo a >d/a; echo b >d/b; echo c >d/s/c
    cp f suid; chmod 6755 suid; cp f cap; setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 cap
    echo o >pub/o; chown 1234:1234 pub/o; chmod 666 pub/o; chmod 1777 pub; chgrp 77 sgid; chmod 2777 sgid
    ln -s d/a sym; mkfifo fifo; mknod null c 1 3; truncate -s 1M sparse; echo middle | dd of=sparse bs=1 seek=500000 conv=notrunc status=none
    setfattr -n user.a -v 1 f; setfattr -n trusted.t -v 2 f; setfattr -n user.d -v 1 d
    setfacl -m u:1234:rw,g:55:r f; setfacl -m d:u:1234:rwx,d:g:55:rx,d:o::- d
    find . -exec touch -h -d @1000000000.5 {} +";

/// What scripts have besides the shell's own: `as_user COMMAND` runs it as nobody special.
const PRELUDE: &str =
    "as_user() { setpriv --reuid 1234 --regid 1234 --clear-groups sh -c \"$1\" 2>&1 || echo \"exit $?\"; }
    cd \"$1\"; exec 2>&1
    ";

fn output_of(scene: &Scene, script: &str, at: &Path) -> String {
    let text = scene.sh(format!("set +e; {PRELUDE}{script}")).arg("sh").arg(at).output().text();
    text.replace(&at.display().to_string(), "MOUNT")
}

/// Runs `script` in both mounts; `rules` say what of the trees is not compared.
fn beside_the_kernel(scene: &Scene, options: &str, script: &str, rules: &Rules) -> String {
    for part in ["lower", "upper", "work", "upper2", "work2", "mnt1", "mnt2"] {
        scene.dir(part);
    }
    scene.sh(LOWER).arg("sh").arg(scene.path("lower")).ok();
    let at = |part: &str| scene.path(part).display().to_string();
    let layers = |upper: &str, work: &str| {
        format!("lowerdir={},upperdir={},workdir={}{options}", at("lower"), at(upper), at(work))
    };
    let ours = scene.path("mnt1");
    scene.layerfs(["overlay", "-o", &format!("{},suid,dev", layers("upper", "work"))]).arg(&ours).ok();
    let our_text = output_of(scene, script, &ours);
    let our_tree = Manifest::of(&ours);
    scene.layerfs(["umount"]).arg(&ours).ok();
    let kernel = scene.path("mnt2");
    let mount = |options: &str| scene.run("mount").args(["-t", "overlay", "overlay", "-o", options]).arg(&kernel).ok();
    mount(&layers("upper2", "work2"));
    let kernel_text = output_of(scene, script, &kernel);
    let kernel_tree = Manifest::of(&kernel);
    scene.run("umount").arg(&kernel).ok();
    for (number, (mine, its)) in our_text.lines().zip(kernel_text.lines()).enumerate() {
        assert_eq!(mine, its, "line {} of the output, with {options:?}:\n{our_text}", number + 1);
    }
    assert_eq!(our_text.lines().count(), kernel_text.lines().count(), "{our_text}---\n{kernel_text}");
    our_tree.assert_same(&kernel_tree, rules);
    mount(&layers("upper", "work"));
    our_tree.assert_same(&Manifest::of(&kernel), rules);
    scene.run("umount").arg(&kernel).ok();
    for part in ["lower", "upper", "work", "upper2", "work2"] {
        // Scripts may have made something immutable.
        scene.sh("chattr -R -ia \"$1\" 2>/dev/null || true; rm -rf \"$1\"").arg("sh").arg(scene.path(part)).ok();
    }
    our_text
}

/// Runs `script` beside the kernel with its own defaults and with all that layerfs can do.
fn compare(script: &str) {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let rules = Rules { without: vec!["mtime"], ..Rules::default() };
    for options in ["", ",redirect_dir=on,metacopy=on"] {
        let text = beside_the_kernel(&scene, options, script, &rules);
        assert!(text.ends_with("end\n"), "the script did not reach its end:\n{text}");
    }
}

#[test]
fn rule_19_acls_are_inherited_as_by_the_kernel() {
    compare(
        "for mask in 0 022 077; do umask $mask
            mkdir d/dir$mask p$mask; mkdir -m 700 d/private$mask; touch d/file$mask pf$mask; mkfifo d/fifo$mask
            python3 -c 'import os,socket,sys; os.close(os.open(\"d/open\"+sys.argv[1], os.O_CREAT|os.O_WRONLY, 0o640)); socket.socket(socket.AF_UNIX).bind(\"d/sock\"+sys.argv[1])' $mask
        done
        umask 022; rm d/a d/b; touch d/a; mkdir d/b d/b/deep; touch d/b/deep/file
        for path in d d/* p* d/b/deep d/b/deep/file; do getfacl -cp $path; done
        as_user 'setfacl -m u:5:r pub/o && getfacl -cp pub/o; wc -l <f; setfacl -m u:5:r f'
        chmod 600 f; getfacl -cp f; as_user 'wc -l <f'; chmod 664 f; getfacl -cp f; as_user 'wc -l <f'
        setfacl -b f; getfacl -cp f; setfacl -k d; mkdir d/later; getfacl -cp d/later
        as_user 'touch pub/q; chmod 2755 pub/q; setfacl -m u:9:r pub/q; stat -c %a pub/q'
        setfattr -n system.posix_acl_access -v 0x02000000ff f; echo end",
    );
}

#[test]
fn rule_19_setgid_directories_give_their_group() {
    compare(
        "mkdir sgid/d; touch sgid/f; ln -s x sgid/l; mkfifo sgid/p
        as_user 'cd sgid; umask 0; mkdir ud; touch uf; mkdir -m 2777 ue; touch ux; chmod 2755 ux; stat -c \"%n %a %u %g\" *'
        mv sgid/f moved; mkdir sgid/d/deep; stat -c '%n %a %g' sgid/d/deep moved
        rm -r sgid/d; mkdir sgid/d; stat -c '%n %a %g' sgid/d; echo end",
    );
}

#[test]
fn rule_18_changes_take_privileges_away() {
    compare(
        "getfattr -n security.capability -e hex cap; chmod 777 cap; getfattr -n security.capability -e hex cap
        chown 1:1 cap; getfattr -n security.capability -e hex cap
        for way in 'echo x >>FILE' ': >FILE' 'truncate -s 1 FILE' 'fallocate -p -o 0 -l 4096 FILE' 'fallocate -l 100000 FILE' \\
            'python3 -c \"import os; a=os.open(\\\"f\\\",0); b=os.open(\\\"FILE\\\",1); os.copy_file_range(a,b,100)\"'; do
            for file in suid new; do
                cp f new; cp f low; chmod 6777 new suid
                setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 new
                as_user \"$(echo \"$way\" | sed s/FILE/$file/)\"; stat -c '%n %a' $file; getfattr -n security.capability -e hex $file
            done
        done
        chmod 6755 suid; chown 5:6 suid; stat -c %a suid; mkdir both; chmod 6777 both; chown 1:1 both; stat -c %a both
        chmod 6755 suid; python3 -c 'import os; os.chown(\"suid\", -1, -1)'; stat -c %a suid
        as_user 'touch pub/mine; chmod 4755 pub/mine; chgrp 1234 pub/mine; stat -c %a pub/mine'; echo end",
    );
}

/// Copied up in one piece and by metadata alone, capabilities stay: they go with a change of owner, which a copy is not.
#[test]
fn regression_capabilities_survive_a_copy_up() {
    compare(
        "touch -c -d @5 cap; getfattr -n security.capability -e hex cap; cp cap copy; mv cap moved
        getfattr -n security.capability -e hex moved; ln f link; setfattr -n user.x -v 1 moved
        getfattr -n security.capability -e hex moved; echo end",
    );
}

#[test]
fn rule_19_attributes_of_inodes() {
    compare(
        "show() { for path in new f d .; do lsattr -d $path | cut -c-20; done; }
        touch new; show; chattr +A new f d; show; chattr +a new d; rm new; echo x >d/more; show
        chattr -a new d; chattr +i f; chmod 600 f; mv f g; rm f; ln f g; chattr -i f; chmod 600 f; show
        as_user 'chattr +A pub/o; chattr +i pub/o; lsattr pub/o'; echo end",
    );
}

#[test]
fn rule_8_attributes_that_are_not_for_everyone() {
    compare(
        "for path in f d new sym fifo null; do touch -h new; for name in user.k trusted.k security.k user.overlay.opaque system.k bogus.k user.; do
            setfattr -h -n $name -v v $path; getfattr -h -n $name $path; done; getfattr -h -m - $path; setfattr -h -x trusted.k $path; done
        as_user 'getfattr -m - f; setfattr -n user.x -v 1 pub/o; setfattr -n trusted.x -v 1 pub/o; setfattr -n user.x -v 1 f; setfattr -n user.q -v 1 pub'
        python3 -c 'import os
for flags in (os.XATTR_CREATE, os.XATTR_REPLACE):
    for path in (\"f\", \"pub/o\"):
        for name in (\"user.a\", \"user.none\"):
            try: os.setxattr(path, name, b\"v\", flags); print(path, name, flags)
            except OSError as error: print(path, name, flags, error.errno)'
        echo end",
    );
}
