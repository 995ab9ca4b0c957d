//! Test suites of others, on a writable mount.

use crate::support::{Need, Scene};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A mount of an empty upper over a lower directory, whose path has the length that the kernel's below has too.
fn overlay(scene: &Scene, options: &str) -> String {
    for part in ["lower", "upper", "work", "mnt1", "mnt2", "upper2", "work2"] {
        scene.dir(part);
    }
    let at = |part: &str| scene.path(part).display().to_string();
    format!("lowerdir={},upperdir={},workdir={}{options}", at("lower"), at("upper"), at("work"))
}

const PJDFSTEST: &str = "
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"], [\"bin\", \"bin\"]]
";

/// The tests that fail on a directory.
fn pjdfstest_failures(scene: &Scene, directory: &Path) -> BTreeSet<String> {
    let configuration = scene.path("pjdfstest.toml");
    std::fs::write(&configuration, PJDFSTEST).expect("a configuration");
    let done = scene.run("pjdfstest").arg("-c").arg(configuration).arg("-p").arg(directory).output();
    let text = done.text();
    let ended: BTreeSet<&str> = text.lines().filter(|line| line.ends_with(" ok") || line.contains(" FAILED")).collect();
    assert!(ended.len() > 300, "pjdfstest ended early: {}\n{text}{}", done.status, done.error_text());
    let failed = text.lines().filter(|line| line.contains(" FAILED"));
    failed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// No failure that kernel overlayfs does not have. It has those with a character device 0/0, which is a whiteout.
#[test]
fn pjdfstest_fails_nowhere_but_where_the_kernel_does() {
    let needs = [Need::Root, Need::Fuse, Need::KernelOverlay, Need::Program("pjdfstest")];
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(600)) else { return };
    let options = overlay(&scene, ",dev,suid");
    scene.layerfs(["overlay", "-o", &options]).arg(scene.path("mnt1")).ok();
    let ours = pjdfstest_failures(&scene, &scene.path("mnt1"));
    scene.layerfs(["umount"]).arg(scene.path("mnt1")).ok();
    let at = |part: &str| scene.path(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper2"), at("work2"));
    scene.run("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(scene.path("mnt2")).ok();
    let kernel = pjdfstest_failures(&scene, &scene.path("mnt2"));
    scene.run("umount").arg(scene.path("mnt2")).ok();
    let only_ours: Vec<_> = ours.difference(&kernel).collect();
    assert!(only_ours.is_empty(), "fail on layerfs only: {only_ours:?}");
    let without_reason: Vec<_> = ours.iter().filter(|name| !name.ends_with("::char")).collect();
    assert!(without_reason.is_empty(), "fail for another reason than the device 0/0: {without_reason:?}");
}

const FSX: &str = "
flen = 262144
[opsize]
min = 1
max = 65536
[weights]
read = 10
write = 10
mapread = 10
mapwrite = 10
truncate = 5
fsync = 1
fdatasync = 1
punch_hole = 3
copy_file_range = 5
close_open = 1
invalidate = 1
";

/// Files that begin in the upper and in a lower layer, the latter held open for reading by another process, at the same time.
///
/// The file is short, so that operations meet more often. The upper is on a tmpfs: each write to a map is followed by msync(2), and on a disk the sync of the upper takes nearly all of the
/// time.
#[test]
fn fsx_finds_no_wrong_byte() {
    let needs = [Need::Root, Need::Fuse, Need::Program("fsx")];
    let count = number("LAYERFS_FSX_OPERATIONS", 3000);
    let Some(scene) = Scene::begin_with_limit(&needs, Duration::from_secs(120 + count / 100)) else { return };
    let (changes, point) = (scene.dir("changes"), scene.dir("mnt1"));
    scene.run("mount").args(["-t", "tmpfs", "changes"]).arg(&changes).ok();
    let at = |part: &str| scene.dir(part).display().to_string();
    let (lower, upper, work) = (at("lower"), at("changes/upper"), at("changes/work"));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    std::fs::write(scene.dir("goods").join("fsx.toml"), FSX).expect("a configuration");
    for (opens, count) in [("zero-message", count), ("answered", count.div_ceil(10))] {
        let names = ["low", "up"].map(|name| format!("{name}-{opens}"));
        let content: Vec<u8> = (0..250_000_u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(scene.path("lower").join(&names[0]), &content).expect("a lower file");
        scene.layerfs(["overlay", "-o", &format!("{options},opens={opens}")]).arg(&point).ok();
        let held = std::fs::File::open(point.join(&names[0])).expect("the lower file");
        std::thread::scope(|scope| {
            for name in &names {
                let (scene, count, file) = (&scene, count.to_string(), point.join(name));
                scope.spawn(move || {
                    let run = scene
                        .run("fsx")
                        .arg("-f")
                        .arg(scene.path("goods/fsx.toml"))
                        .args(["-N", &count, "-S", "7", "-q"]);
                    run.arg("-P").arg(scene.path("goods")).arg(file).ok();
                });
            }
        });
        drop(held);
        scene.layerfs(["umount"]).arg(&point).ok();
        assert!(std::fs::read(scene.path("lower").join(&names[0])).expect("the lower file") == content);
    }
    scene.run("umount").arg(&changes).ok();
}

#[test]
fn stress_ng_verifies() {
    let needs = [Need::Root, Need::Fuse, Need::Program("stress-ng")];
    let seconds = number("LAYERFS_STRESS_SECONDS", 2);
    let stressors = [
        "access",
        "chmod",
        "chown",
        "dentry",
        "dir",
        "dirdeep",
        "fallocate",
        "fstat",
        "getdent",
        "hdd",
        "link",
        "rename",
        "seek",
        "symlink",
        "touch",
        "utime",
        "xattr",
    ];
    let limit = Duration::from_secs(60 + 3 * seconds * stressors.len() as u64);
    let Some(scene) = Scene::begin_with_limit(&needs, limit) else { return };
    let options = overlay(&scene, "");
    scene.layerfs(["overlay", "-o", &options]).arg(scene.path("mnt1")).ok();
    for stressor in stressors {
        let run = scene.run("stress-ng").args(["--verify", "--timeout", &format!("{seconds}s"), "--temp-path"]);
        let mut run = run.arg(scene.path("mnt1")).args([&format!("--{stressor}"), "2"]);
        if stressor == "hdd" || stressor == "fallocate" {
            run = run.args([&format!("--{stressor}-bytes"), "16m"]);
        }
        run.ok();
    }
    scene.layerfs(["umount"]).arg(scene.path("mnt1")).ok();
}
