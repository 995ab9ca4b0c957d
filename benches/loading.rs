//! How long from an archive to something that can be mounted?

use crate::harness::{Bench, OURS, Report, Row, drop_caches, fresh, seconds};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

const PODMAN: &str = "podman load";
const SKOPEO: &str = "skopeo to podman";
const UMOCI: &str = "umoci unpack";
const INFLATE: &str = "inflate alone";
const HASH: &str = "SHA-256 alone";

pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let rounds = bench.rounds(3);
    let plain = Row::measure("load a docker-archive (plain layers)", &[OURS, PODMAN, HASH], rounds, |peer| {
        drop_caches();
        match peer {
            OURS => ours(bench, &bench.image.docker_archive()),
            PODMAN => podman(bench, &["load", "-q", "-i"], bench.image.docker_archive()),
            _ => seconds(|| hash_file(&bench.image.docker_archive())),
        }
    });
    report.add(&plain.target(PODMAN, 5.0));
    let gzip = Row::measure("load an OCI layout (gzip layers)", &[OURS, SKOPEO, UMOCI, INFLATE], rounds, |peer| {
        drop_caches();
        match peer {
            OURS => ours(bench, &PathBuf::from(format!("oci:{}:latest", bench.image.oci().display()))),
            SKOPEO => podman(bench, &["pull", "-q"], format!("oci:{}:latest", bench.image.oci().display()).into()),
            UMOCI => umoci(bench),
            _ => seconds(|| inflate_layers(bench)),
        }
    });
    report.add(&gzip);
}

/// Loads into an empty store; done when the image could be mounted.
fn ours(bench: &Bench, source: &std::path::Path) -> f64 {
    let root = fresh(bench, "load-store");
    let elapsed = seconds(|| {
        bench.scene.layerfs(["--root"]).arg(&root).args(["load", "-i"]).arg(source).ok();
    });
    std::fs::remove_dir_all(root).expect("remove a store");
    elapsed
}

fn podman(bench: &Bench, verb: &[&str], source: PathBuf) -> f64 {
    let root = fresh(bench, "podman-store");
    let run = fresh(bench, "podman-run");
    let podman = || bench.scene.run("podman").arg("--root").arg(&root).arg("--runroot").arg(&run);
    let elapsed = seconds(|| podman().args(["--storage-driver", "overlay"]).args(verb).arg(source).ok());
    // Podman leaves its store mounted onto itself.
    bench
        .scene
        .sh(format!("umount -l '{0}/overlay' 2>/dev/null || true; rm -rf '{0}' '{1}'", root.display(), run.display()))
        .ok();
    elapsed
}

fn umoci(bench: &Bench) -> f64 {
    let bundle = bench.scene.path("umoci-bundle");
    let elapsed = seconds(|| {
        let image = format!("{}:latest", bench.image.oci().display());
        bench.scene.run("umoci").args(["unpack", "--image", &image]).arg(&bundle).ok();
    });
    std::fs::remove_dir_all(bundle).expect("remove what umoci unpacked");
    elapsed
}

fn hash_file(path: &std::path::Path) {
    let mut file = File::open(path).expect("open");
    let mut hash = Sha256::new();
    copy(&mut file, |part| hash.update(part));
    std::hint::black_box(hash.finalize());
}

/// Inflates every layer of the OCI layout, one after the other in one thread.
fn inflate_layers(bench: &Bench) {
    for entry in std::fs::read_dir(bench.image.oci().join("blobs/sha256")).expect("blobs").flatten() {
        let mut file = File::open(entry.path()).expect("a blob");
        let mut magic = [0; 2];
        if file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
            let file = File::open(entry.path()).expect("a blob");
            copy(&mut flate2::read::MultiGzDecoder::new(std::io::BufReader::with_capacity(1 << 17, file)), |part| {
                std::hint::black_box(part);
            });
        }
    }
}

fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let length = from.read(&mut buffer).expect("read");
        if length == 0 {
            return;
        }
        to(&buffer[..length]);
    }
}
