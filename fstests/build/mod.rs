//! Building images: a table of small Dockerfiles with what they come to, wrong ones, the cache, and other builders.

mod bad;
mod cache;
mod cache_mounts;
mod case;
mod examples;
mod hostile;
mod io;
mod peer;
mod rootless;

use crate::support::{Need, Scene, Who};
use case::{Case, Workshop};
use std::time::Duration;

const NEEDS: &[Need] = &[Need::Root, Need::Fuse, Need::Program("busybox")];
const LIMIT: Duration = Duration::from_secs(300);

/// Runs every case of a table; tells of all that fail.
fn run_table(text: &str) {
    run_table_as(text, NEEDS, Who::Me);
}

fn run_table_as(text: &str, needs: &[Need], who: Who) {
    let Some(scene) = Scene::begin_with_limit(needs, LIMIT) else { return };
    let workshop = Workshop::open(&scene, who);
    let cases = Case::parse_all(text);
    let failures: Vec<String> = cases.iter().filter_map(|case| workshop.check(case).err()).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn files_are_copied() {
    run_table(include_str!("table/copy.txt"));
}

#[test]
fn the_configuration_is_what_the_instructions_say() {
    run_table(include_str!("table/config.txt"));
}

#[test]
fn commands_are_run() {
    run_table(include_str!("table/run.txt"));
}

#[test]
fn stages_are_built_as_they_are_needed() {
    run_table(include_str!("table/stages.txt"));
}

#[test]
fn tricky_files_are_understood() {
    run_table(include_str!("table/tricky.txt"));
}

#[test]
fn the_table_is_large_enough() {
    let tables = [
        include_str!("table/copy.txt"),
        include_str!("table/config.txt"),
        include_str!("table/run.txt"),
        include_str!("table/stages.txt"),
        include_str!("table/tricky.txt"),
    ];
    let cases: Vec<Case> = tables.iter().flat_map(|text| Case::parse_all(text)).collect();
    assert!(cases.len() >= 120, "{} cases", cases.len());
    assert!(cases.iter().filter(|case| case.buildah).count() * 2 >= cases.len(), "half are compared with buildah");
}
