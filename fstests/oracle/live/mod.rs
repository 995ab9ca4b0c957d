//! Operation by operation beside the kernel.
//!
//! Richer than the sequences of [`super`], which are played one after the other: each operation is done in both mounts
//! before the next, by several users with groups of their own, on paths of all shapes, with all the flags that there are,
//! on layers with ACLs, capabilities and set-ids. Result, error, and now and then the whole trees must be the same, and at
//! the end what the kernel and a second mount of ours see in the upper.
//!
//! What differs and is meant to (docs/semantics.md) is in [`meant_to_differ`] and [`is_left_out`], nothing else is.

mod plan;
mod player;

use super::operations::{Outcome, Random};
use super::{Contents, Mode, PLAIN, REDIRECTING, Stage, compare_trees, linked_numbers, number, same, show, unmount};
use crate::support::{Manifest, Need, Rules, Scene};
use plan::{OnName, OnSlot, Operation, Step, fill, random_step};
use player::Player;
use rustix::io::Errno;
use std::time::Duration;

/// Operations of one sequence.
const LENGTH: usize = 300;
/// Operations between two looks at the whole trees.
const LOOK: usize = 50;
/// Operations between two mounts of ours.
const REMOUNT: usize = 150;
/// Sequences of [`super`] for one of these, which take longer.
const SHARE: u64 = 4;

const MODES: [Mode; 3] = [
    Mode {
        name: "live-plain",
        options: ",dev,suid",
        kernel_options: ",index=on,redirect_dir=off,metacopy=off",
        contents: Contents::Rich,
        ..PLAIN
    },
    Mode {
        name: "live-redirecting",
        options: ",dev,suid,redirect_dir=on",
        kernel_options: ",index=on,redirect_dir=on,metacopy=off",
        contents: Contents::Rich,
        ..REDIRECTING
    },
    Mode {
        name: "live-metadata-only",
        options: ",dev,suid,redirect_dir=on,metacopy=on",
        kernel_options: ",index=on,redirect_dir=on,metacopy=on",
        contents: Contents::Rich,
        ..REDIRECTING
    },
];

/// Whether the two differ in this as they shall.
fn meant_to_differ(step: &Step, ours: &Outcome, theirs: &Outcome, player: &Player) -> bool {
    match &step.operation {
        // FUSE does not carry it.
        Operation::Name(_, OnName::Temporary) => *ours == Err(Errno::OPNOTSUPP),
        // An ACL that is not there can be removed from what is in the upper, to which operations that failed may have copied.
        Operation::Name(_, OnName::RemoveXattr("system.posix_acl_access" | "system.posix_acl_default")) => {
            let none = |outcome: &Outcome| *outcome == Err(Errno::NODATA);
            none(ours) && theirs.is_ok() || ours.is_ok() && none(theirs)
        }
        // The kernel with its index cannot copy up what has no name any more.
        Operation::Slot(..) if ours.is_ok() && *theirs == Err(Errno::EXIST) => true,
        // It goes on showing the lower file where a descriptor was opened for reading before the copy-up.
        Operation::Slot(slot, _) => ours.is_ok() && theirs.is_ok() && player.only_reads(*slot),
        _ => false,
    }
}

/// Whether a step would carry into a file what is meant to differ: a copy of what an old descriptor shows.
fn is_left_out(step: &Step, player: &Player) -> bool {
    match &step.operation {
        Operation::Slot(slot, OnSlot::CopyTo(..) | OnSlot::SendTo(..)) => player.only_reads(*slot),
        _ => false,
    }
}

/// Times are those of two moments, so they are compared at the end only.
fn look(stage: &Stage<'_>) -> Result<(), String> {
    let rules = Rules { without: vec!["mtime"], ..Rules::default() };
    let (ours, theirs) = (Manifest::of(stage.mount_point()), Manifest::of(stage.kernel_point()));
    same("kernel's tree → ours", &theirs, &ours, &rules)
}

/// Plays a whole sequence; the difference when there is one.
fn play(scene: &Scene, stage: &Stage<'_>, random: &mut Random, length: usize) -> Result<(), String> {
    let linked = linked_numbers(&stage.mount_point());
    let (mut ours, mut theirs) = (Player::new(&stage.mount_point()), Player::new(&stage.kernel_point()));
    let told = number("LAYERFS_ORACLE_SEED").is_some();
    for position in 1..=length {
        let mut step = random_step(random);
        if let Operation::Slot(slot, _) = step.operation
            && !theirs.holds(slot)
        {
            step.operation = fill(random, slot);
        }
        if is_left_out(&step, &theirs) {
            continue;
        }
        let (one, two) = (ours.play(&step), theirs.play(&step));
        if told {
            eprintln!("{position}: {step:?} → {}", show(&one));
        }
        if one != two && !meant_to_differ(&step, &one, &two, &theirs) {
            return Err(format!("step {position}: {step:?}: layerfs {}, kernel {}", show(&one), show(&two)));
        }
        if let (Ok(_), Err(_), Operation::Slot(_, OnSlot::Reopen(_, slot))) = (&one, &two, &step.operation) {
            ours.empty(*slot);
            theirs.empty(*slot);
        }
        if position % REMOUNT == 0 {
            ours.leave();
            theirs.leave();
            // Ours alone: what the kernel's shows does not change by that, and it refuses an upper that any namespace still has.
            scene.layerfs(["umount"]).arg(stage.mount_point()).ok();
            stage.mount();
        }
        if position % LOOK == 0 {
            look(stage).map_err(|difference| format!("after step {position}: {difference}"))?;
        }
    }
    ours.leave();
    theirs.leave();
    compare_trees(scene, stage, &linked)
}

/// One sequence; whether it was the same.
fn sequence(scene: &Scene, seed: u64, length: usize) -> bool {
    let mut random = Random(seed);
    let mode = MODES[(seed % MODES.len() as u64) as usize];
    let stage = Stage::new(scene, mode, &format!("{}-{seed}", mode.name), &mut random);
    stage.mount();
    stage.mount_kernel(false);
    let result = play(scene, &stage, &mut random, length);
    rustix::process::chdir("/").expect("the root directory");
    for path in [stage.mount_point(), stage.kernel_point()] {
        if scene.mounts().iter().any(|mount| mount.point == path) {
            unmount(scene, &path);
        }
    }
    if let Err(difference) = &result {
        eprintln!("seed {seed} ({}): {difference}", mode.name);
    }
    result.is_ok()
}

/// In a process of its own: the umask and the working directory are those of the process.
#[test]
fn each_operation_beside_the_kernel() {
    let limit = Duration::from_secs(3600);
    let needs = [Need::Root, Need::Fuse, Need::KernelOverlay];
    let Some(scene) = Scene::begin_with_limit(&needs, limit) else { return };
    let mut run = scene.run(std::env::current_exe().expect("the test's own program")).args([
        "--exact",
        "oracle::live::in_a_process_of_its_own",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    for name in ["LAYERFS_ORACLE_SEQUENCES", "LAYERFS_ORACLE_SEED", "LAYERFS_ORACLE_LENGTH"] {
        if let Some(value) = std::env::var_os(name) {
            run = run.env(name, value);
        }
    }
    let done = run.output();
    eprintln!("{}{}", done.text(), done.error_text());
    assert!(done.status.success() && done.text().contains("1 passed"), "operations differ from the kernel's");
}

/// Run by the test above.
#[test]
#[ignore = "changes the umask and the working directory of its process"]
fn in_a_process_of_its_own() {
    let count = number("LAYERFS_ORACLE_SEQUENCES").unwrap_or(super::FEW).div_ceil(SHARE);
    let limit = Duration::from_secs(120 + 4 * count);
    let Some(scene) = Scene::begin_with_limit(&[Need::Root, Need::Fuse, Need::KernelOverlay], limit) else { return };
    let first = number("LAYERFS_ORACLE_SEED").unwrap_or(1);
    let length = number("LAYERFS_ORACLE_LENGTH").map_or(LENGTH, |length| length as usize);
    let failed: Vec<u64> = (first..first + count).filter(|seed| !sequence(&scene, *seed, length)).collect();
    assert!(failed.is_empty(), "{} of {count} sequences differ; seeds {failed:?}", failed.len());
}
