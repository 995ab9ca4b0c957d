//! How long from an archive to something that can be mounted?

use crate::harness::{Bench, OURS, Report, seconds};
use crate::images::{OurStore, Peaks, PodmanStore, hash_file, inflate_layers, layout, measure_cold};

const PODMAN: &str = "podman load";
const SKOPEO: &str = "skopeo to podman";
const UMOCI: &str = "umoci unpack";
const INFLATE: &str = "inflate alone";
const HASH: &str = "SHA-256 alone";
/// What an image may take of the time of its slowest part.
const SLOWEST_PART: f64 = 1.0 / 1.3;

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    if !bench.quick {
        same_layers(bench);
    }
    let archive = bench.image.docker_archive();
    let path = archive.to_str().expect("UTF-8");
    let peaks = Peaks::default();
    let peers = bench.peers(&[OURS, PODMAN, HASH], &[PODMAN]);
    let plain = measure_cold(bench, "load a docker-archive (plain layers)", &peers, |peer| match peer {
        OURS => peaks.seconds(peer, OurStore::new(bench).run(&["load", "-q", "-i", path])),
        PODMAN => peaks.seconds(peer, PodmanStore::new(bench).run(&["load", "-q", "-i", path])),
        _ => seconds(|| hash_file(&archive)),
    });
    report.add(&peaks.note(plain.target(PODMAN, 5.0).target(HASH, SLOWEST_PART)));
    let layout = layout(bench);
    let peaks = Peaks::default();
    let peers = bench.peers(&[OURS, SKOPEO, UMOCI, INFLATE], &[SKOPEO, UMOCI]);
    let gzip = measure_cold(bench, "load an OCI layout (gzip layers)", &peers, |peer| match peer {
        OURS => peaks.seconds(peer, OurStore::new(bench).run(&["load", "-q", "-i", &layout])),
        SKOPEO => peaks.seconds(peer, PodmanStore::new(bench).run(&["pull", "-q", &layout])),
        UMOCI => umoci(bench, &peaks),
        _ => seconds(|| inflate_layers(bench)),
    });
    report.add(&peaks.note(gzip.target(SKOPEO, 5.0).target(INFLATE, SLOWEST_PART)));
}

/// Before anything is timed: both make the same layers of the archive.
fn same_layers(bench: &Bench) {
    let archive = bench.image.docker_archive();
    let path = archive.to_str().expect("UTF-8");
    let (ours, podman) = (OurStore::new(bench), PodmanStore::new(bench));
    let text = ours.run(&["load", "-i", path]).ok().text();
    let name = text.lines().find_map(|line| line.strip_prefix("Loaded image").and_then(|rest| rest.split_once(": ")));
    podman.run(&["load", "-q", "-i", path]).ok();
    let layers = ours.layers(name.expect("a name").1);
    assert!(!layers.is_empty());
    assert_eq!(layers, podman.layers(), "different layers");
}

fn umoci(bench: &Bench, peaks: &Peaks) -> f64 {
    let bundle = bench.scene.path("umoci-bundle");
    let image = format!("{}:latest", bench.image.oci().display());
    let elapsed = peaks.seconds(UMOCI, bench.scene.run("umoci").args(["unpack", "--image", &image]).arg(&bundle));
    std::fs::remove_dir_all(bundle).expect("remove what umoci unpacked");
    elapsed
}
