//! The server dies, the disk fills, descriptors run out: the old or the new state of each operation, and no hang.

use crate::oracle::operations::{NAMES, Operation, Outcome, Random, Subject, random_operation};
use crate::oracle::{Stage, inode_numbers, linked_numbers, names_of, same, stage_of_directories};
use crate::support::{Manifest, Need, Rules, Scene};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Operations prepared for one instant; more than any server lives to see.
const PREPARED: usize = 3000;

fn kill_server(scene: &Scene) {
    for (pid, command) in scene.processes() {
        if command.contains("overlay") && command.contains("layerfs") {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
            kill_process(pid, Signal::KILL).expect("kill the server");
        }
    }
}

/// Whether an error says that the server is gone.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOTCONN | Errno::CONNABORTED | Errno::IO)
}

/// Applies operations until the server is gone; returns what those told that were acknowledged.
fn work_until_killed(at: &Path, operations: &[Operation]) -> Vec<Outcome> {
    let mut subject = Subject::new(at);
    let mut told = Vec::new();
    for operation in operations {
        let outcome = subject.apply(operation);
        if matches!(outcome, Err(error) if is_gone(error)) {
            break;
        }
        // Data are written at the close, whose error nobody hears here. A server that answers now has answered that too.
        if rustix::fs::statfs(at).is_err() {
            break;
        }
        told.push(outcome);
    }
    told
}

/// Kills the server after `delay`, mounts the upper again, and compares it with what kernel overlayfs shows after the
/// operations that were acknowledged, or after one more, of which a write may have come to the end of a page: the file
/// system below looks for a deadly signal after each (`generic_perform_write` in mm/filemap.c), as it does for the
/// kernel's overlayfs.
fn one_instant(scene: &Scene, seed: u64) -> Result<(), String> {
    let mut random = Random(seed);
    let stage = stage_of_directories(scene, &format!("kill-{seed}"), seed, &mut random);
    let operations: Vec<Operation> = std::iter::repeat_with(|| random_operation(&mut random, NAMES))
        .filter(|operation| operation.is_complete() && (seed.is_multiple_of(2) || operation.takes_steps()))
        .take(PREPARED)
        .collect();
    stage.mount();
    let at = stage.mount_point();
    let linked = linked_numbers(&at);
    let delay = Duration::from_micros(500 + random.below(120_000));
    let told = std::thread::scope(|scope| {
        let worker = scope.spawn(|| work_until_killed(&at, &operations));
        // The instant is the point of the test: it has to be a matter of time.
        std::thread::sleep(delay);
        kill_server(scene);
        worker.join().expect("the worker")
    });
    scene.run("umount").arg("-l").arg(&at).ok();
    stage.mount();
    let ours = Manifest::of(&at);
    let theirs = Rules { only_existence: names_of(&inode_numbers(&at), &linked, &at), ..Rules::default() };
    scene.layerfs(["umount"]).arg(&at).ok();
    let result = compare_with_replay(&stage, &operations, &told, &ours, &theirs);
    result.map_err(|difference| format!("seed {seed}, killed after {} operations: {difference}", told.len()))
}

/// Does what was acknowledged, which must tell the same.
fn replay(subject: &mut Subject, operations: &[Operation], told: &[Outcome]) -> Result<(), String> {
    let mut result = Ok(());
    for (step, (operation, told)) in operations.iter().zip(told).enumerate() {
        let theirs = subject.apply(operation);
        if theirs != *told && result.is_ok() {
            result = Err(format!("step {step}: {operation}: layerfs {told:?}, kernel {theirs:?}"));
        }
    }
    result
}

/// What a rename, a link or a copy-up of a hard link of lower layers does to its count is written down before it is done: after a kill in
/// between one object may have a name less than it has, and nothing else may differ.
fn same_but_for_one_count(what: &str, kernel: &Path, ours: &Manifest) -> Result<(), String> {
    let rules = Rules { without: vec!["mtime"], ..Rules::default() };
    let theirs = Manifest::of(kernel);
    same(what, &theirs, ours, &rules).or_else(|difference| {
        let uncounted = Rules { without: vec!["mtime", "nlink"], ..Rules::default() };
        let pairs = theirs.0.iter().filter_map(|(path, record)| Some((record, ours.0.get(path)?)));
        let counted_anew: Vec<_> = pairs.filter(|(theirs, ours)| theirs.nlink != ours.nlink).collect();
        let name = counted_anew.first().map(|(theirs, _)| &theirs.first_name);
        let is_one = counted_anew
            .iter()
            .all(|(theirs, ours)| theirs.nlink == ours.nlink + 1 && Some(&theirs.first_name) == name);
        let is_same = same(what, &theirs, ours, &uncounted).is_ok();
        if is_one && is_same { Ok(()) } else { Err(difference) }
    })
}

/// Looks for `ours` before the operation under way, and after each part of it.
fn same_before_or_after(
    subject: &mut Subject,
    kernel: &Path,
    under_way: Option<&Operation>,
    ours: &Manifest,
) -> Result<(), String> {
    let mut result = same_but_for_one_count("before the operation under way", kernel, ours);
    if let (Err(first), Some(operation)) = (&result, under_way) {
        let mut told = format!("{operation}\n{first}");
        for step in operation.steps(kernel) {
            let _ = subject.apply(&step);
            result = same_but_for_one_count(&format!("after {step}"), kernel, ours);
            let Err(difference) = &result else { break };
            told.push('\n');
            told.push_str(difference);
        }
        result = result.map_err(|_| told);
    }
    result
}

fn compare_with_replay(
    stage: &Stage<'_>,
    operations: &[Operation],
    told: &[Outcome],
    ours: &Manifest,
    theirs: &Rules,
) -> Result<(), String> {
    let kernel = stage.mount_kernel(false);
    let mut subject = Subject::new(&kernel);
    let result = replay(&mut subject, operations, told)
        .and_then(|()| same_before_or_after(&mut subject, &kernel, operations.get(told.len()), ours));
    subject.close();
    stage.unmount_kernel();
    result?;
    let kernel = stage.mount_kernel(true);
    let seen = Manifest::of(&kernel);
    stage.unmount_kernel();
    same("the kernel's view of the upper", ours, &seen, theirs)
}

#[test]
fn killed_at_any_instant_each_operation_is_done_or_not() {
    let count = number("LAYERFS_CRASH_INSTANTS", 10);
    let needs = [Need::Root, Need::Fuse, Need::KernelOverlay];
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(120 + 5 * count)) else { return };
    let first = number("LAYERFS_CRASH_SEED", 1);
    let failed: Vec<String> = (first..first + count).filter_map(|seed| one_instant(&scene, seed).err()).collect();
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n\n"));
}

fn mount_over(scene: &Scene, lower: &Path, changes: &Path, options: &str) {
    for part in ["upper", "work"] {
        std::fs::create_dir_all(changes.join(part)).expect("a directory");
    }
    let at = |part: &str| changes.join(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}{options}", lower.display(), at("upper"), at("work"));
    scene.layerfs(["overlay", "-o", &options]).arg(scene.dir("mnt")).ok();
}

/// A metadata-only copy that is cut off gets its data first, whole: its mark and its size never disagree with what is below.
#[test]
fn regression_a_kill_while_a_metadata_only_copy_is_cut_off_leaves_the_old_file() {
    let needs = [Need::Root, Need::Fuse, Need::KernelOverlay, Need::Program("strace")];
    let Some(scene) = Scene::begin(&needs) else { return };
    let lower = scene.dir("lower");
    let changes = scene.dir("changes");
    std::fs::write(lower.join("file"), [9; 6000]).expect("a lower file");
    mount_over(&scene, &lower, &changes, ",metacopy=on");
    let at = scene.path("mnt");
    std::fs::set_permissions(at.join("file"), PermissionsExt::from_mode(0o600)).expect("chmod");
    let (server, _) = scene.processes().into_iter().find(|(_, command)| command.contains("overlay")).expect("a server");
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:signal=SIGKILL", "-p"];
    let mut tracer = scene.run("strace").args(strace).arg(server.to_string()).spawn();
    let is_traced = |thread: std::fs::DirEntry| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.lines().any(|line| line == "TracerPid:\t0")
    };
    let threads = || std::fs::read_dir(format!("/proc/{server}/task")).expect("threads").flatten();
    while !threads().all(is_traced) {
        assert!(tracer.try_wait().expect("a state").is_none(), "strace ended at once");
    }
    let cut = std::fs::OpenOptions::new().write(true).open(at.join("file")).and_then(|file| file.set_len(3303));
    assert!(cut.is_err(), "the server was not killed");
    tracer.wait().expect("strace");
    scene.run("umount").arg("-l").arg(&at).ok();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},metacopy=on",
        lower.display(),
        changes.join("upper").display(),
        changes.join("work").display()
    );
    let whole = |what: &str| {
        let size = std::fs::metadata(at.join("file")).expect("a file").size();
        assert_eq!((size, std::fs::read(at.join("file")).expect("a file").len()), (6000, 6000), "{what}");
    };
    scene.run("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&at).ok();
    whole("the kernel");
    scene.run("umount").arg(&at).ok();
    mount_over(&scene, &lower, &changes, ",metacopy=on");
    whole("layerfs");
    scene.layerfs(["umount"]).arg(&at).ok();
}

#[test]
fn a_full_disk_fails_the_one_operation() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let lower = scene.dir("lower");
    std::fs::write(lower.join("large"), vec![7; 6 << 20]).expect("a lower file");
    let small = scene.dir("small");
    scene.run("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&small).ok();
    mount_over(&scene, &lower, &small, "");
    let at = scene.path("mnt");
    let appended = std::fs::OpenOptions::new().append(true).open(at.join("large"));
    let error = appended.and_then(|mut file| std::io::Write::write_all(&mut file, b"x").and_then(|()| file.sync_all()));
    assert!(error.is_err(), "a copy of 6 MiB fits into 4 MiB");
    let filled = std::fs::File::create(at.join("new"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, &vec![1; 8 << 20]).and_then(|()| file.sync_all()));
    assert!(filled.is_err(), "8 MiB fit into 4 MiB");
    std::fs::remove_file(at.join("new")).expect("remove a file from a full disk");
    // The space of a removed file is free when the kernel has forgotten it, which nobody waits for.
    let fits = || {
        let mut file = std::fs::File::create(at.join("small"))?;
        std::io::Write::write_all(&mut file, b"fits")?;
        file.sync_all()
    };
    assert!((0..1000).any(|_| fits().is_ok()), "nothing fits after the large file went");
    assert_eq!(std::fs::read(at.join("small")).expect("the small file"), b"fits");
    // The kernel keeps the size that it promised to the writer, whatever the server says, until it forgets the file.
    assert!(std::fs::read(at.join("large")).expect("the lower file").starts_with(&vec![7; 6 << 20]));
    assert!(!small.join("upper/large").exists(), "half a copy has appeared");
    scene.layerfs(["umount"]).arg(&at).ok();
    assert_eq!(std::fs::read_dir(small.join("work/layerfs/stage")).expect("the stage").count(), 0);
    mount_over(&scene, &lower, &small, "");
    assert!(std::fs::read(at.join("large")).expect("the lower file") == vec![7; 6 << 20]);
    scene.layerfs(["umount"]).arg(&at).ok();
    scene.run("umount").arg(&small).ok();
}

#[test]
fn few_descriptors_are_enough() {
    let Some(scene) = Scene::begin(&[Need::Root, Need::Fuse]) else { return };
    let lower = scene.dir("lower");
    for directory in 0..30 {
        let directory = lower.join(format!("d{directory}"));
        std::fs::create_dir(&directory).expect("a directory");
        for file in 0..20 {
            std::fs::write(directory.join(format!("f{file}")), "low").expect("a file");
        }
    }
    let at = |part: &str| scene.dir(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let script = format!("ulimit -n 64; exec {} overlay -o {options} {}", scene.program().display(), at("mnt"));
    scene.sh(script).ok();
    let mount = scene.path("mnt");
    for directory in 0..30 {
        let directory = mount.join(format!("d{directory}"));
        for file in 0..20 {
            let path = directory.join(format!("f{file}"));
            assert_eq!(std::fs::read(&path).expect("a lower file"), b"low");
            std::fs::write(&path, "new").expect("a change");
        }
    }
    for directory in 0..30 {
        for file in 0..20 {
            assert_eq!(std::fs::read(mount.join(format!("d{directory}/f{file}"))).expect("a file"), b"new");
        }
    }
    scene.layerfs(["umount"]).arg(&mount).ok();
}

/// The file system under the upper is shut down in the middle, as by a power loss; what was synced has to be there.
#[test]
fn what_was_synced_survives_a_power_loss() {
    let count = number("LAYERFS_POWER_LOSSES", 2);
    let needs = [Need::Root, Need::Fuse, Need::Program("mkfs.ext4"), Need::Program("losetup")];
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(120 + 10 * count)) else { return };
    let lower = scene.dir("lower");
    let disk = scene.dir("disk");
    for loss in 0..count {
        std::fs::write(lower.join("low"), vec![9; 300_000]).expect("a lower file");
        let image = scene.path("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image of a disk");
        scene.run("mkfs.ext4").args(["-q", "-F"]).arg(&image).ok();
        scene.run("mount").args(["-o", "loop"]).arg(&image).arg(&disk).ok();
        mount_over(&scene, &lower, &disk, "");
        let at = scene.path("mnt");
        let mut synced = Vec::new();
        for file in 0..(3 + loss % 7) {
            let name = format!("f{file}");
            std::fs::write(at.join(&name), name.repeat(2000)).expect("a file");
            std::fs::File::open(at.join(&name)).and_then(|file| file.sync_all()).expect("sync");
            synced.push(name);
        }
        let mut changed = std::fs::OpenOptions::new().write(true).open(at.join("low")).expect("the lower file");
        std::io::Write::write_all(&mut changed, b"changed").expect("a change");
        if loss % 2 == 0 {
            changed.sync_all().expect("sync");
        }
        std::fs::write(at.join("unsynced"), "perhaps").expect("a file");
        shut_down(&disk);
        drop(changed);
        scene.run("umount").arg("-l").arg(&at).ok();
        kill_server(&scene);
        scene.run("umount").arg("-l").arg(&disk).ok();
        // A copy: whoever has the mount in a namespace of their own keeps the file system that was shut down, and mounting the same
        // image would show that one again.
        let after = scene.path("image-after");
        std::fs::copy(&image, &after).expect("a copy of the disk");
        scene.run("mount").args(["-o", "loop"]).arg(&after).arg(&disk).ok();
        mount_over(&scene, &lower, &disk, "");
        for name in &synced {
            assert_eq!(std::fs::read(at.join(name)).expect("a synced file"), name.repeat(2000).as_bytes());
        }
        let low = std::fs::read(at.join("low")).expect("the lower file");
        assert_eq!(low.len(), 300_000, "loss {loss}: half a copy");
        assert!(low.starts_with(b"changed") || loss % 2 != 0 && low[0] == 9, "loss {loss}: what was synced is lost");
        assert!(low[7..].iter().all(|byte| *byte == 9));
        scene.layerfs(["umount"]).arg(&at).ok();
        scene.run("umount").arg(&disk).ok();
        // Others may have them attached still: the next are new files.
        for left in [&image, &after] {
            std::fs::remove_file(left).expect("remove an image");
        }
    }
    assert_eq!(std::fs::metadata(lower.join("low")).expect("the lower file").size(), 300_000);
}

/// `EXT4_IOC_SHUTDOWN` without flushing the journal (fs/ext4/ext4.h).
pub(crate) fn shut_down(disk: &Path) {
    let script = "import fcntl, os, struct, sys\n\
        fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
    let done = std::process::Command::new("python3").args(["-c", script]).arg(disk).status();
    assert!(done.expect("python3").success(), "the file system was not shut down");
}
