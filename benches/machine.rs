//! What the figures were measured on, and with which versions.

use crate::support::Scene;
use serde_json::{Map, Value};

/// The machine and the versions of all peers.
pub(crate) fn describe(scene: &Scene) -> Value {
    let mut facts = Map::new();
    let mut fact = |name: &str, value: String| drop(facts.insert(name.to_owned(), Value::String(value)));
    fact("kernel", first_line(&std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()));
    fact("processor", processor());
    let threads = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    fact("threads", threads.to_string());
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    fact("memory", first_line(&memory).trim_start_matches("MemTotal:").trim().to_owned());
    fact(
        "file system",
        scene.run("stat").args(["-f", "-c", "%T"]).arg(scene.directory()).output().text().trim().to_owned(),
    );
    let program = scene.program();
    fact("layerfs", version(scene, &program.to_string_lossy()));
    fact("fuse-overlayfs 2", version(scene, "fuse-overlayfs"));
    fact("fuse-overlayfs 1", version(scene, "/usr/bin/fuse-overlayfs"));
    for peer in ["podman", "skopeo", "umoci", "buildah"] {
        fact(peer, version(scene, peer));
    }
    Value::Object(facts)
}

fn version(scene: &Scene, program: &str) -> String {
    if program.contains('/') && !std::path::Path::new(program).exists() {
        return "not there".to_owned();
    }
    let text = scene.run(program).arg("--version").output().text();
    let name = std::path::Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    text.lines().find(|line| line.contains(&name)).map_or_else(|| first_line(&text), str::to_owned)
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name")).unwrap_or(": unknown");
    line.split(':').nth(1).unwrap_or_default().trim().to_owned()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}
