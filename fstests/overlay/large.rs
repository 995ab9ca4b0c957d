//! Large files, whose data partly go past the page cache of the file system below.

use super::limits::{DISK, disk_of, mount_over};
use crate::support::Scene;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

const MEBIBYTE: usize = 1 << 20;
/// Past what goes through the page cache always, and no multiple of anything.
const SIZE: usize = 80 * MEBIBYTE + 12_345;

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31 + at / 4096 + seed * 97) % 251) as u8).collect()
}

/// Bytes of `file` in the page cache.
fn cached(scene: &Scene, file: &Path) -> u64 {
    let text = scene.run("fincore").args(["-b", "-n", "-o", "res"]).arg(file).ok();
    String::from_utf8_lossy(&text.stdout).trim().parse().expect("a number of bytes")
}

#[test]
fn rule_16_a_large_file_keeps_its_data_and_its_time_whichever_way_they_went() {
    let Some(scene) = Scene::begin(DISK) else { return };
    let changes = disk_of(&scene, "changes", 256 << 20);
    let lower = scene.dir("lower");
    let at = mount_over(&scene, &lower, &changes);
    let mut model = pattern(1, SIZE);
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(at.join("large")).expect("create");
    for part in model.chunks(MEBIBYTE) {
        file.write_all(part).expect("write");
    }
    file.sync_all().expect("fsync");
    assert!(cached(&scene, &changes.join("upper/large")) < SIZE as u64, "some of it went past the page cache");
    // Across the places where one way ends and the other begins, small and large, in order and not.
    let patches = [
        (64 * MEBIBYTE - 3, 10),
        (70 * MEBIBYTE + 1, 4095),
        (64 * MEBIBYTE - 4096, 2 * MEBIBYTE),
        (72 * MEBIBYTE, MEBIBYTE),
        (72 * MEBIBYTE + 512, 1024),
        (71 * MEBIBYTE, 3 * MEBIBYTE + 7),
        (SIZE - 5, 100_000),
    ];
    for (seed, (offset, length)) in patches.into_iter().enumerate() {
        let data = pattern(seed + 2, length);
        file.write_all_at(&data, offset as u64).expect("a patch");
        model.resize(model.len().max(offset + length), 0);
        model[offset..offset + length].copy_from_slice(&data);
        if seed % 2 == 0 {
            file.sync_data().expect("fdatasync");
        }
    }
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    file.set_times(FileTimes::new().set_modified(time)).expect("a time");
    file.sync_all().expect("fsync");
    drop(file);
    let same = |path: &Path| {
        assert_eq!(fs::metadata(path).expect("stat").modified().expect("a time"), time, "{}", path.display());
        assert!(fs::read(path).expect("read") == model, "{} differs", path.display());
    };
    same(&at.join("large"));
    scene.layerfs(["umount"]).arg(&at).ok();
    same(&changes.join("upper/large"));
    let at = mount_over(&scene, &lower, &changes);
    same(&at.join("large"));
    scene.layerfs(["umount"]).arg(&at).ok();
    scene.run("umount").arg(&changes).ok();
}

#[test]
fn rule_27_a_large_file_that_does_not_fit_is_an_error_and_what_was_written_stays() {
    let Some(scene) = Scene::begin(DISK) else { return };
    let changes = disk_of(&scene, "changes", 120 << 20);
    let at = mount_over(&scene, &scene.dir("lower"), &changes);
    let mut file = File::create(at.join("large")).expect("create");
    let part = pattern(3, MEBIBYTE);
    let mut synced = 0;
    let failed = (0..200).find_map(|_| {
        let written = file.write_all(&part).and_then(|()| file.sync_data());
        synced += usize::from(written.is_ok());
        written.err()
    });
    let failed = failed.expect("200 MiB do not fit");
    assert_eq!(failed.raw_os_error(), Some(libc::ENOSPC), "{failed}");
    assert!(synced > 64, "{synced} MiB did fit");
    drop(file);
    let kept = File::open(at.join("large")).expect("open");
    let mut read = vec![0; MEBIBYTE];
    for number in 0..synced {
        kept.read_exact_at(&mut read, (number * MEBIBYTE) as u64).expect("read");
        assert!(read == part, "mebibyte {number} differs");
    }
    assert!(fs::metadata(at.join("large")).expect("stat").size() >= (synced * MEBIBYTE) as u64);
    drop(kept);
    scene.layerfs(["umount"]).arg(&at).ok();
    scene.run("umount").arg(&changes).ok();
}
