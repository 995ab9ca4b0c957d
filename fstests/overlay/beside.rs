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
    cd \"$1\"; exec 2>&1; PATH=/usr/bin:/bin:$PATH
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

/// The workdir has an ACL and a group for what is made in it; what is made there on its way into the upper has nothing of them.
#[test]
fn regression_nothing_comes_from_the_workdir() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let rules = Rules { without: vec!["mtime"], ..Rules::default() };
    for options in ["", ",redirect_dir=on,metacopy=on"] {
        let prepare = "mkdir work work2; chgrp 77 work work2; chmod g+s work work2; setfacl -m u:1234:rwx,d:u:1234:rwx work work2";
        scene.sh(prepare).in_dir(scene.directory()).ok();
        let script = "chmod 640 f sparse; echo x >>f; echo x >>sparse; touch d/s/c; mv d/s renamed; rm -r pub; mkdir pub; rm sym; ln -s t sym
            rm cap; echo new >cap; rm fifo; mkfifo fifo; mkdir sgid/d; as_user 'cat sparse renamed/c'
            stat -c '%n %A %g' f sparse renamed pub sym cap fifo sgid/d; getfacl -cp sparse pub cap renamed renamed/c; echo end";
        let text = beside_the_kernel(&scene, options, script, &rules);
        assert!(text.ends_with("end\n"), "the script did not reach its end:\n{text}");
    }
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

/// Copied up in one piece, by metadata alone, and when the data come after these, capabilities stay: they go with a change of owner and
/// with a write, which a copy is not.
#[test]
fn regression_capabilities_survive_a_copy_up() {
    compare(
        "touch -c -d @5 cap; getfattr -n security.capability -e hex cap; cp cap copy; mv cap moved
        getfattr -n security.capability -e hex moved; ln f link; setfattr -n user.x -v 1 moved
        getfattr -n security.capability -e hex moved; chattr +A moved; getfattr -n security.capability -e hex moved
        python3 -c 'import os; os.close(os.open(\"moved\", os.O_RDWR))'; getfattr -n security.capability -e hex moved; echo end",
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

/// Writes by one way and reads by the other, on a lower file, on one of the upper, and on one that is mapped while it is copied up.
const MAPPED: &str = r"
import hashlib, mmap, os, sys
def show(*what): print(*what)
open('up', 'wb').write(b'u' * 20000)
for name in ('f', 'up', 'cap'):
    os.chmod(name, 0o666)
    file, other = os.open(name, os.O_RDWR), os.open(name, os.O_RDONLY)
    size = os.fstat(file).st_size
    mapped = mmap.mmap(file, size)
    seen = mmap.mmap(other, size, prot=mmap.PROT_READ)
    private = mmap.mmap(file, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    private[20:27] = b'private'
    mapped[0:5] = b'MMAP!'
    show(name, os.pread(other, 8, 0), seen[0:8], private[20:27], os.pread(file, 7, 20))
    os.pwrite(file, b'written', 4090)
    show(mapped[4088:4100], seen[4088:4100])
    mapped.flush()
    show(open(name, 'rb').read()[0:8])
    os.ftruncate(file, 50)
    show(os.pread(other, 100, 40))
    os.ftruncate(file, 9000 if size > 9000 else size)
    show(mapped[45:60], os.pread(other, 15, 45))
    mapped[60:64] = b'last'
    for one in (mapped, seen, private): one.close()
    os.close(file); os.close(other)
    show(hashlib.sha256(open(name, 'rb').read()).hexdigest())
reader = os.open('d/a', os.O_RDONLY)
before = mmap.mmap(reader, 2, prot=mmap.PROT_READ)
child = os.fork()
if child == 0:
    mine = os.open('d/b', os.O_RDWR)
    shared = mmap.mmap(mine, 2)
    shared[0:1] = b'C'
    os._exit(0)
os.waitpid(child, 0)
show(open('d/b', 'rb').read(), before[0:2])
";

#[test]
fn rule_17_mapped_files_and_reads_and_writes_agree() {
    compare(&format!("python3 - <<'END'\n{MAPPED}\nEND\nsha256sum f up cap d/b; echo end"));
}

/// Every mode that FUSE carries gives what the upper's file system gives; the two that it does not are refused and change nothing.
#[test]
fn rule_19_space_is_allocated_and_freed() {
    compare(
        "show() { echo \"$1: $2 $(stat -c %s $3) $(sha256sum <$3)\"; }
        for file in f sparse new; do
            seq 30000 >new
            for how in '-l 100000' '-n -l 300000' '-p -o 4096 -l 8192' '-p -o 5 -l 7' '-z -o 8192 -l 5000' '-z -n -o 400000 -l 4096' \\
                '-p -o 1 -l 10000000' '-x -l 50000' '-l 0' '-o 9223372036854775807 -l 9'; do
                fallocate $how $file >/dev/null 2>&1; show \"$how\" $? $file
            done
        done
        fallocate -l 10 d 2>/dev/null; echo $?; fallocate -l 10 fifo 2>/dev/null; echo $?; echo end",
    );
    let Some(scene) = Scene::begin(NEEDS) else { return };
    let overlay = super::Overlay::new(&scene, &["file low #20000"], "");
    let before = std::fs::read(overlay.path("low")).expect("the lower file");
    for how in ["-c", "-i"] {
        let refused = scene.run("fallocate").args([how, "-o", "4096", "-l", "4096"]).arg(overlay.path("low")).output();
        refused.fails(1, &["not supported"]);
        assert!(std::fs::read(overlay.path("low")).expect("read") == before);
    }
    overlay.unmount();
}

/// What kinds of errors there are, and which comes first, on files of a lower layer and of the upper.
#[test]
fn regression_extended_attributes_fail_as_in_the_kernel() {
    compare(
        "touch new; mkdir dnew; python3 -c 'import os
def attempt(what, *arguments):
    try: print(what.__name__, arguments, what(*arguments))
    except OSError as error: print(what.__name__, arguments, error.errno)
names = [\"user.a\", \"user.none\", \"user.\", \"trusted.\", \"security.\", \"system.k\", \"bogus.k\", \"nonsense\", \"user.\" + \"x\" * 250]
for path in (\"f\", \"d\", \"new\", \"dnew\", \"pub/o\"):
    for acl in (\"system.posix_acl_access\", \"system.posix_acl_default\"): attempt(os.removexattr, path, acl)
    for acl in (\"system.posix_acl_access\", \"system.posix_acl_default\"): attempt(os.removexattr, path, acl)
    for name in names:
        for flags in (os.XATTR_REPLACE, os.XATTR_CREATE, 0): attempt(os.setxattr, path, name, b\"v\", flags)
        attempt(os.removexattr, path, name)'
        setfacl -b pub/o new d; setfacl -k d; getfacl -cp pub/o new d; echo end",
    );
}

/// Who is not in the group of a setgid file takes the bit away by writing to it also where the group may not execute it, by giving it an
/// ACL, and by giving it to another group.
#[test]
fn regression_setgid_goes_with_who_is_not_of_the_group() {
    compare(
        "as_member() { setpriv --reuid 1234 --regid 1234 --groups 77 sh -c \"$1\" 2>&1 || echo \"exit $?\"; }
        for file in suid new; do for way in 'echo x >>FILE' ': >FILE' 'truncate -s 1 FILE' 'fallocate -l 100000 FILE' 'setfacl -m u:9:r FILE' \\
            'chown :1234 FILE' 'python3 -c \"import os; a=os.open(\\\"f\\\",0); b=os.open(\\\"FILE\\\",1); os.copy_file_range(a,b,100)\"'; do
            for who in as_user as_member; do for mode in 2766 2776 6666; do
                touch $file; chown 1234:77 $file; chmod $mode $file
                $who \"$(echo \"$way\" | sed s/FILE/$file/)\"; stat -c \"$who $mode $way: %a %g\" $file; setfacl -b $file
            done; done
        done; done
        mkdir dir; chown 1234:77 dir; chmod 2777 dir; as_member 'setfacl -m u:9:r dir'; stat -c %a dir; as_user 'setfacl -m u:8:r dir'; stat -c %a dir
        chown 1234:77 null; chmod 6777 null; chown -h 5:5 null; stat -c %a null; chmod 6777 null
        python3 -c 'import os; os.chown(\"null\", -1, -1)'; stat -c %a null; echo end",
    );
}

/// Changing no owner takes setuid away, which only the owner may have done: a stranger is refused. A write by root takes capabilities alone.
/// To the server both begin alike.
#[test]
fn regression_setuid_goes_with_no_stranger() {
    compare(
        "nothing() { setpriv --reuid $1 --regid $1 --groups 77 python3 -c 'import os, sys; os.chown(sys.argv[1], -1, -1)' $2 2>&1 | tail -n 1; }
        cp suid new; mkfifo pipe
        for file in suid new pipe; do for mode in 4644 2755 2745 755; do for who in 1234 5 0; do
            chown 5:77 $file; chmod $mode $file; nothing $who $file; stat -c \"%n $mode $who %a\" $file
            chgrp 88 $file; chmod $mode $file; nothing $who $file; stat -c \"%n $mode $who %a\" $file
        done; done; done
        for file in suid new cap; do
            for way in 'echo x >>FILE' 'truncate -s 1 FILE' 'fallocate -l 100000 FILE' ': >FILE' 'python3 -c \"import os; os.write(os.open(\\\"FILE\\\", 1), b\\\"x\\\")\"'; do
                chmod 6755 $file; setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 $file
                sh -c \"$(echo \"$way\" | sed s/FILE/$file/)\"; stat -c \"$way %n %a\" $file; getfattr -n security.capability -e hex $file
            done
        done
        echo end",
    );
}

#[test]
fn rule_20_times_of_directories_follow_what_happens_in_them() {
    compare(
        "look() { if [ $(stat -c %Y \"$1\") = 1000000000 ]; then echo \"$2: $1 as before\"; else echo \"$2: $1 changed\"; fi; }
        try() { touch -h -d @1000000000 d .; sh -c \"$1\"; look d \"$1\"; look . \"$1\"; }
        try 'touch d/new'; try 'mkdir d/dir'; try 'rm d/a'; try 'ln -s x d/link'; try 'ln d/b d/hard'; try 'mv d/b d/c'
        try 'mv d/c out'; try 'mv out d/back'; try 'chmod 600 d/back'; try 'echo x >>d/back'; try 'mkfifo d/p'; try 'rmdir d/dir'
        try 'setfattr -n user.x -v 1 d/back'; try 'chmod 711 d/s'; try 'echo x >>d/s/c'; try 'rm -r d/s'; try 'mkdir d/s'
        try 'mv d/back d/new'; try 'chmod 700 d'; try 'touch -c d/p'; try 'cat d/new >/dev/null'
        for path in f sym fifo; do touch -h -d @1000000000 $path; ln $path linked; chown -h 1:1 $path; look $path 'link and chown'; rm linked; done
        touch -d @-5.25 f; stat -c %.9Y f; touch -d @5000000000.000000001 f; stat -c %.9Y f; touch -a -d @7 f; touch -m -d @8 f; stat -c '%X %Y' f
        as_user 'touch pub/o; touch -d @9 pub/o; touch f; touch -d @9 f; chmod 600 f'; echo end",
    );
}

#[test]
fn rule_24_permissions_are_checked_for_everyone() {
    compare(
        "as_user 'cat f | wc -l; echo x >f; echo x >d/a; ls d; mkdir x; rm -f pub/o; mv pub/o pub/mine; rmdir pub; echo q >pub/new; cat pub/new'
        touch pub/root; as_user 'rm -f pub/root; mv pub/root pub/stolen; ln f pub/link; ln -s /etc pub/sym; ls pub'
        chmod 711 d; as_user 'ls d; cat d/a'; chmod 700 d; as_user 'ls d; cat d/a; stat d/a'; setfacl -m u:1234:r-x d; as_user 'ls d; cat d/a'
        setfacl -b d; chgrp 4321 d; chmod 770 d
        setpriv --reuid 1234 --regid 1234 --groups 4321 sh -c 'ls d; touch d/theirs; stat -c \"%u %g\" d/theirs; mkdir d/s/no' 2>&1
        as_user 'mknod pub/device c 1 3; mkfifo pub/pipe; stat -c \"%F %u\" pub/pipe; chown 0 pub/pipe; chmod 640 pub/pipe; ls /proc/self/cwd/d'
        cp /usr/bin/id id; chmod 4755 id; as_user './id -u'; echo end",
    );
}

/// What is mounted in a lower layer has one number, be it listed or looked up first, and what lies on it another one than the rest.
#[test]
fn regression_a_mount_inside_a_lower_has_one_number() {
    use std::os::unix::fs::{DirEntryExt, MetadataExt};
    let Some(scene) = Scene::begin(super::ROOT) else { return };
    let inside = scene.dir("lower/inside");
    scene.run("mount").args(["-t", "tmpfs", "none"]).arg(&inside).ok();
    std::fs::create_dir_all(inside.join("deep/deeper")).expect("mkdir");
    let options = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", scene.dir(part).display())).join(",");
    for listed_first in [true, false] {
        let mount = scene.mount(["overlay", "-o", &options], "mnt");
        let number = |path: &str| std::fs::symlink_metadata(mount.join(path)).expect("stat").ino();
        let before = (!listed_first).then(|| number("inside"));
        let listed: Vec<u64> =
            std::fs::read_dir(mount.path()).expect("list").map(|entry| entry.expect("an entry").ino()).collect();
        assert_eq!(listed, [number("inside")]);
        assert_eq!(before.unwrap_or(listed[0]), listed[0]);
        assert_ne!(number("inside/deep"), number("inside/deep/deeper"));
        mount.unmount().ok();
    }
    scene.run("umount").arg(&inside).ok();
}
