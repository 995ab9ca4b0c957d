//! Benchmarks against the peers: kernel overlayfs, fuse-overlayfs, and for images podman, skopeo and umoci.
//!
//! `cargo bench --bench bench -- [--quick] [--json FILE] [QUESTION…]`; `--render FILE [DOCUMENT…]` for the tables and the plot of such a
//! file, and for its tables in documents that have places for them. One file a question. Every figure is a ratio against a peer measured in the same run, in alternation; what the peers show is compared
//! before it is timed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints what it measured")]

#[path = "../fstests/support/mod.rs"]
mod support;

#[path = "../fstests/registry/server.rs"]
#[expect(dead_code, reason = "the tests need registries with TLS and passwords, too")]
mod server;

mod build;
mod commit;
mod harness;
mod images;
mod loading;
mod machine;
mod mounting;
mod peers;
mod read_only;
mod scaling;
mod table;
mod transfer;
mod work;
mod writable;

use harness::{Bench, Report};
use std::path::{Path, PathBuf};

/// A question: its name, and what answers it.
type Question = (&'static str, fn(&Bench, &mut Report));

/// Of these the peers alone take longer to set up than all the others take when it is to be quick: they have to be asked for then.
const LONG: [&str; 2] = ["commit", "build"];

/// The argument that cargo adds.
const CARGOS_OWN: &str = "--bench";

const QUESTIONS: [Question; 8] = [
    ("read-only", read_only::run),
    ("mounting", mounting::run),
    ("writable", writable::run),
    ("loading", loading::run),
    ("transfer", transfer::run),
    ("commit", commit::run),
    ("build", build::run),
    ("scaling", scaling::run),
];

fn main() {
    let mut quick = false;
    let mut json = None;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--json" => json = arguments.next().map(PathBuf::from),
            "--render" => {
                let path = arguments.next().map(PathBuf::from).expect("--render FILE");
                harness::render(&path);
                let documents = arguments.filter(|argument| argument != CARGOS_OWN);
                return documents.for_each(|document| harness::insert(&path, Path::new(&document)));
            }
            CARGOS_OWN => {}
            name if QUESTIONS.iter().any(|(known, _)| *known == name) => wanted.push(name.to_owned()),
            other => {
                let names: Vec<&str> = QUESTIONS.iter().map(|(name, _)| *name).collect();
                eprintln!("no such question: {other} (there are {})", names.join(", "));
                std::process::exit(2);
            }
        }
    }
    let Some(bench) = Bench::begin(quick) else { std::process::exit(1) };
    let mut report = Report::new(machine::describe(&bench.scene), quick);
    report.print_machine();
    for (name, answer) in QUESTIONS {
        let is_asked =
            if wanted.is_empty() { !quick || !LONG.contains(&name) } else { wanted.iter().any(|one| one == name) };
        if is_asked {
            println!("\n## {name}\n");
            report.begin(name);
            let begun = std::time::Instant::now();
            answer(&bench, &mut report);
            println!("\n{name} took {} s", begun.elapsed().as_secs());
            // After each, so that one that fails takes nothing with it.
            if let Some(path) = &json {
                report.write(path);
            }
        }
    }
    if let Some(path) = json {
        println!("\nwritten to {}, and beside it tables and a plot", path.display());
    }
}
