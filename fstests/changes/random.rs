//! Random changes: what is committed shows what was there, and the same changes give the same image.

use super::{based_on, rules, shown};
use crate::support::{Manifest, Need, Scene};
use std::fmt::Write;
use std::time::Duration;

/// How many rounds; `LAYERFS_COMMIT_ROUNDS` says otherwise.
const ROUNDS: u64 = 12;
/// Operations of a round.
const OPERATIONS: usize = 60;

/// Numbers that look random and follow from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    /// A path of one to three of the names a to d.
    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let names: Vec<String> = (0..depth).map(|_| char::from(b'a' + self.below(4) as u8).to_string()).collect();
        names.join("/")
    }
}

/// A base of random objects, parents implied.
fn base(random: &mut Random) -> String {
    let mut text = "dir . 0755\n".to_owned();
    let mut files: Vec<String> = Vec::new();
    for _ in 0..20 {
        let path = random.path();
        let clash = |file: &String| {
            *file == path || path.starts_with(&format!("{file}/")) || file.starts_with(&format!("{path}/"))
        };
        if files.iter().any(clash) {
            continue;
        }
        let _ = match random.below(5) {
            0 => writeln!(text, "link {path} ->a/b"),
            1 if !files.is_empty() => {
                writeln!(text, "hard {path} =>{}", files[random.below(files.len() as u64) as usize])
            }
            _ => writeln!(
                text,
                "file {path} #{} 0{} {}:{}",
                random.below(9000),
                600 + random.below(2) * 44,
                random.below(3),
                random.below(3)
            ),
        };
        files.push(path);
    }
    text
}

/// One random command; those that fail change nothing, which is as good.
fn command(random: &mut Random) -> String {
    let (a, b, number) = (random.path(), random.path(), random.below(1000));
    match random.below(13) {
        0 => format!("mkdir -p {a}"),
        1 => format!("echo {number} >{a}"),
        2 => format!("echo {number} >>{a}"),
        3 => format!("rm -rf {a}"),
        4 => format!("mv -T {a} {b}"),
        5 => format!("ln {a} {b}"),
        6 => format!("ln -s {b} {a}"),
        7 => format!("chmod 7{}{} {a}", number % 8, number % 5),
        8 => format!("rmdir {a} && mkdir {a}"),
        9 => format!("rm -rf {a} && mkdir -p {a} && echo {number} >{a}/a"),
        10 => format!("truncate -s {number} {a}"),
        11 => format!("touch -d @{} {a}", 1_500_000_000 + number),
        _ => format!("mkfifo {a}"),
    }
}

fn round(seed: u64) {
    let Some(scene) = Scene::begin_with_limit(&[Need::Root, Need::Fuse], Duration::from_secs(240)) else { return };
    let mut random = Random(seed);
    based_on(&scene, &base(&mut random));
    let script: String = (0..OPERATIONS).map(|_| command(&mut random) + "\n").collect();
    let mount = scene.mount(["mount", "--rw", "--name", "work", "base:1"], "mnt");
    let _ = scene.run("sh").args(["-c", &script]).in_dir(mount.path()).output();
    let seen = Manifest::of(mount.path());
    let commit =
        |name: &str| scene.layerfs(["commit", "work", name]).env("SOURCE_DATE_EPOCH", "4000000000").ok().text();
    let live = commit("live:1");
    mount.unmount();
    assert_eq!(live, commit("later:1"), "seed {seed}: in use or not, the same changes give the same image");
    seen.assert_same(&shown(&scene, "live:1"), &rules());
    scene.layerfs(["commit", "--squash", "work", "flat:1"]).ok();
    seen.assert_same(&shown(&scene, "flat:1"), &rules());
    let again = scene.mount(["mount", "--rw", "--name", "work", "base:1"], "mnt");
    seen.assert_same(&Manifest::of(again.path()), &rules());
    again.unmount();
}

#[test]
fn whatever_is_changed_is_committed() {
    let rounds = std::env::var("LAYERFS_COMMIT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let first = std::env::var("LAYERFS_COMMIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for seed in first..first + rounds {
        eprintln!("seed {seed}");
        round(seed);
    }
}
