//! How long does a mount take, and does it grow with files or layers?

use crate::harness::{Bench, OURS, Report, Row, seconds};
use crate::support::Image;
use crate::support::image::Packing;

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let images = ["bench-1", "bench-200", "large"];
    load(bench, 1, images[0]);
    load(bench, 200, images[1]);
    bench.scene.layerfs(["load", "-i"]).arg(bench.image.docker_archive()).ok();
    let cases =
        [(images[0], "one layer", 30.0), (images[2], "the large image", 30.0), (images[1], "200 layers", 100.0)];
    for (image, what, milliseconds) in cases {
        let reference = format!("{image}:latest");
        let point = bench.scene.dir("mnt/mounting");
        let row = Row::measure(&format!("mount of {what}"), &[OURS], bench.rounds(15), |_| {
            let elapsed = seconds(|| {
                bench.scene.layerfs(["mount", &reference]).arg(&point).ok();
                std::fs::read_dir(&point).expect("the mount answers");
            });
            bench.scene.layerfs(["umount"]).arg(&point).ok();
            elapsed
        });
        report.add(&row.note("to stay under, milliseconds", milliseconds));
    }
}

/// Loads an image of `count` layers with ten files each.
pub(crate) fn load(bench: &Bench, count: usize, name: &str) {
    let mut image = Image::new().packing(Packing::Plain);
    for layer in 0..count {
        let lines: Vec<String> = (0..10).map(|file| format!("file d{file}/l{layer} =x")).collect();
        image = image.layer(&lines.join("\n"));
    }
    let archive = image.write_docker_archive(&bench.scene.path(format!("{name}.tar")), &format!("{name}:latest"));
    bench.scene.layerfs(["load", "-i"]).arg(archive).ok();
}
