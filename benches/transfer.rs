//! How long does an image take from and to a registry on loopback?

use crate::harness::{Bench, OURS, Report, fresh, seconds};
use crate::images::{OurStore, Peaks, PodmanStore, inflate_layers, layout, measure_cold};
use crate::server::Registry;
use crate::support::needs::find_program;

const PODMAN_PULL: &str = "podman pull";
const SKOPEO: &str = "skopeo copy";
const INFLATE: &str = "inflate alone";
const PODMAN_PUSH: &str = "podman push";
const OURS_ZSTD: &str = "layerfs, zstd";
/// What an image may take of the time of its slowest part.
const SLOWEST_PART: f64 = 1.0 / 1.3;

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    for program in ["docker-registry", "skopeo", "podman"] {
        if find_program(program).is_none() {
            println!("left out: there is no {program}");
            return;
        }
    }
    pull(bench, report);
    push(bench, report);
}

fn skopeo(bench: &Bench, from: &str, to: &str) -> crate::support::Run {
    let run = bench.scene.run("skopeo").args(["--insecure-policy", "copy", "-q"]);
    run.args(["--src-tls-verify=false", "--dest-tls-verify=false", from, to])
}

fn pull(bench: &Bench, report: &mut Report) {
    let registry = Registry::start(&bench.scene);
    let name = format!("{}/large:1", registry.name());
    let remote = format!("docker://{name}");
    skopeo(bench, &layout(bench), &remote).ok();
    if !bench.quick {
        let (ours, podman) = (OurStore::new(bench), PodmanStore::new(bench));
        ours.run(&["pull", "-q", &name]).ok();
        podman.run(&["pull", "-q", "--tls-verify=false", &name]).ok();
        let layers = ours.layers(&name);
        assert!(!layers.is_empty());
        assert_eq!(layers, podman.layers(), "different layers");
    }
    let peaks = Peaks::default();
    let peers = bench.peers(&[OURS, PODMAN_PULL, SKOPEO, INFLATE], &[PODMAN_PULL]);
    let row = measure_cold(bench, "pull into an empty store (gzip layers)", &peers, |peer| match peer {
        OURS => peaks.seconds(peer, OurStore::new(bench).run(&["pull", "-q", &name])),
        PODMAN_PULL => peaks.seconds(peer, PodmanStore::new(bench).run(&["pull", "-q", "--tls-verify=false", &name])),
        SKOPEO => {
            let copy = fresh(bench, "skopeo-copy");
            peaks.seconds(peer, skopeo(bench, &remote, &format!("oci:{}:latest", copy.display())))
        }
        _ => seconds(|| inflate_layers(bench)),
    });
    report.add(&peaks.note(row.target(PODMAN_PULL, 5.0).target(INFLATE, SLOWEST_PART)));
    end(bench, registry);
}

fn push(bench: &Bench, report: &mut Report) {
    let archive = bench.image.docker_archive();
    let path = archive.to_str().expect("UTF-8");
    let peers = bench.peers(&[OURS, PODMAN_PUSH, OURS_ZSTD], &[PODMAN_PUSH]);
    let podman = PodmanStore::new(bench);
    if peers.contains(&PODMAN_PUSH) {
        podman.run(&["load", "-q", "-i", path]).ok();
    }
    let peaks = Peaks::default();
    let mut sizes = serde_json::Map::new();
    let row = measure_cold(bench, "push plain layers to an empty registry, compressed", &peers, |peer| {
        let registry = Registry::start(&bench.scene);
        let name = format!("{}/large:1", registry.name());
        let elapsed = if peer == PODMAN_PUSH {
            let remote = format!("docker://{name}");
            let image = podman.only_image();
            peaks.seconds(peer, podman.run(&["push", "-q", "--tls-verify=false", &image, &remote]))
        } else {
            // A store remembers what it has compressed.
            let store = OurStore::new(bench);
            store.run(&["load", "-q", "-i", path]).ok();
            store.run(&["tag", "large:latest", &name]).ok();
            crate::harness::drop_caches();
            let format = if peer == OURS { "gzip" } else { "zstd" };
            peaks.seconds(peer, store.run(&["push", "-q", "--compression-format", format, &name]))
        };
        sizes.insert(peer.to_owned(), pushed(bench, &name).into());
        end(bench, registry);
        elapsed
    });
    let row = row.note("MiB sent", serde_json::Value::Object(sizes));
    report.add(&peaks.note(row.target(PODMAN_PUSH, 2.0)));
}

/// The size of what was pushed as `name`, in MiB. It has the layers of the image.
fn pushed(bench: &Bench, name: &str) -> u64 {
    let inspect = |what: &[&str]| {
        let run = bench.scene.run("skopeo").args(["inspect", "--tls-verify=false"]).args(what);
        run.arg(format!("docker://{name}")).ok().json()
    };
    let expected = bench.scene.run("skopeo").args(["inspect", "--config", &layout(bench)]).ok().json();
    assert_eq!(inspect(&["--config"])["rootfs"], expected["rootfs"], "different layers");
    let manifest = inspect(&["--raw"]);
    let sizes = manifest["layers"].as_array().into_iter().flatten().filter_map(|layer| layer["size"].as_u64());
    sizes.sum::<u64>() >> 20
}

/// Ends a registry and removes what it kept.
fn end(bench: &Bench, registry: Registry) {
    drop(registry);
    bench.scene.sh("rm -rf registry-*").in_dir(bench.scene.directory()).ok();
}
