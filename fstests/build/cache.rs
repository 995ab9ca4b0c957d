//! The cache: what is done again, and what is not.

use super::case::Workshop;
use super::{LIMIT, NEEDS};
use crate::support::{Scene, Who};
use std::path::Path;

const FILE: &str = "\
FROM base AS one
COPY a /a
RUN cp /a /b
FROM base
RUN touch /before
COPY b /b
COPY --from=one /b /c
RUN cat /b /c > /d
";

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).expect("a file of the context");
}

/// The titles of the steps that ran, without their numbers.
fn ran(workshop: &Workshop<'_>, context: &Path, arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let text = workshop.build(context, "cached", &arguments).ok().error_text();
    let mut titles = std::collections::BTreeMap::new();
    let mut ran = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
        let (number, rest) = line.split_once(' ').expect("a step");
        if let Some((_, title)) = rest.split_once("] ").filter(|_| rest.starts_with('[')) {
            titles.insert(number.to_owned(), title.to_owned());
        } else if rest.starts_with("DONE") {
            ran.push(titles[number].clone());
        }
    }
    ran.sort();
    ran
}

#[test]
fn exactly_what_depends_on_a_change_is_done_again() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    write(&context, "Dockerfile", FILE);
    write(&context, "a", "1");
    write(&context, "b", "2");
    write(&context, "unused", "3");
    assert_eq!(ran(&workshop, &context, &[]).len(), 6);
    assert!(ran(&workshop, &context, &[]).is_empty(), "nothing has changed");
    let first = workshop.inspect("cached")["Id"].clone();
    write(&context, "unused", "4");
    write(&context, "b", "2");
    write(&context, "Dockerfile", &format!("# a comment\n{FILE}CMD [\"x\"]\n"));
    assert!(ran(&workshop, &context, &[]).is_empty(), "neither times nor other files nor metadata count");
    write(&context, "Dockerfile", FILE);
    assert!(ran(&workshop, &context, &[]).is_empty());
    assert_eq!(workshop.inspect("cached")["Id"], first, "what is found is the same image");
    write(&context, "b", "5");
    assert_eq!(ran(&workshop, &context, &[]), ["COPY --from=one /b /c", "COPY b /b", "RUN cat /b /c > /d"]);
    write(&context, "a", "6");
    assert_eq!(
        ran(&workshop, &context, &[]),
        ["COPY --from=one /b /c", "COPY a /a", "RUN cat /b /c > /d", "RUN cp /a /b"]
    );
    std::fs::set_permissions(context.join("b"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    assert_eq!(ran(&workshop, &context, &[]).len(), 3, "modes count");
    assert_eq!(ran(&workshop, &context, &["--no-cache"]).len(), 6);
    assert!(ran(&workshop, &context, &[]).is_empty());
}

#[test]
fn a_failed_build_resumes_behind_its_last_good_step() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    write(&context, "Dockerfile", "FROM base\nRUN touch /1\nRUN false\nRUN touch /3\n");
    workshop.build(&context, "cached", &[]).fails(1, &["exit code: 1"]);
    write(&context, "Dockerfile", "FROM base\nRUN touch /1\nRUN true\nRUN touch /3\n");
    assert_eq!(ran(&workshop, &context, &[]), ["RUN touch /3", "RUN true"]);
}

#[test]
fn arguments_and_environment_count_where_they_are_seen() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    write(&context, "Dockerfile", "FROM base\nRUN echo before\nARG v\nRUN echo $v\n");
    assert_eq!(ran(&workshop, &context, &["--build-arg=v=1"]).len(), 2);
    assert_eq!(ran(&workshop, &context, &["--build-arg=v=2"]), ["RUN echo $v"]);
    assert!(ran(&workshop, &context, &["--build-arg=v=1"]).is_empty());
    assert!(
        ran(&workshop, &context, &["--build-arg=v=1", "--build-arg=HTTP_PROXY=http://p"]).is_empty(),
        "proxies do not"
    );
}

#[test]
fn results_of_an_image_are_used_where_the_cache_is_gone() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    write(&context, "Dockerfile", "FROM base\nRUN touch /1\nCOPY Dockerfile /2\n");
    assert_eq!(ran(&workshop, &context, &[]).len(), 2);
    for entry in std::fs::read_dir(workshop.store().join("cache")).expect("the cache") {
        std::fs::remove_file(entry.expect("a record").path()).expect("removed");
    }
    assert!(ran(&workshop, &context, &["--cache-from=cached"]).is_empty());
    assert_eq!(ran(&workshop, &context, &["--no-cache"]).len(), 2);
}

#[test]
fn builds_are_the_same_when_time_stands_still() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    write(&context, "Dockerfile", "FROM scratch\nWORKDIR /w\nCOPY <<E f Dockerfile /x/\ntext\nE\nENV a=1\n");
    write(&context, "f", "1");
    let id = |_: u32| {
        ran(&workshop, &context, &["--no-cache", "--build-arg=SOURCE_DATE_EPOCH=1000000000"]);
        workshop.inspect("cached")["Id"].clone()
    };
    assert_eq!(id(1), id(2));
    assert_eq!(workshop.inspect("cached")["Created"], "2001-09-09T01:46:40Z");
}

#[test]
fn the_cache_is_pruned_from_its_old_end() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    let file = |size: u32| format!("FROM scratch\nCOPY <<E Dockerfile /{size}/\n{}E\n", "x\n".repeat(500_000));
    for size in [1, 2] {
        write(&context, "Dockerfile", &file(size));
        ran(&workshop, &context, &[]);
    }
    workshop.layerfs(&["rmi", "cached"]).ok();
    let records = || std::fs::read_dir(workshop.store().join("cache")).expect("the cache").count();
    let before = records();
    workshop.layerfs(&["prune", "--force", "--build-cache", "--keep-storage=3m"]).ok();
    assert!(records() < before);
    assert!(ran(&workshop, &context, &[]).is_empty(), "the last used one is kept");
    workshop.layerfs(&["prune", "--force", "--build-cache"]).ok();
    assert_eq!(records(), 0);
    write(&context, "Dockerfile", &file(1));
    assert_eq!(ran(&workshop, &context, &[]).len(), 1);
}

#[test]
fn regression_squash_keeps_links_to_what_moved_with_its_directory() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    let build = |file: &str, name: &str, arguments: &[&str]| {
        write(&context, "Dockerfile", file);
        workshop.build(&context, name, &arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).ok();
    };
    build("FROM base\nRUN mkdir /d && echo x >/d/one && ln /d/one /other\n", "linked", &[]);
    build("FROM linked\nRUN mv /d /e\nRUN touch /more\n", "moved", &["--squash"]);
    build("FROM moved\nRUN stat -c %h /e/one /other >/links && echo y >/other && cat /e/one >>/links\n", "seen", &[]);
    assert_eq!(workshop.tree("seen")["/links"], "644 0:0 =2\\x0a2\\x0ay\\x0a");
}

#[test]
fn a_stage_is_built_afresh() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    write(
        &context,
        "Dockerfile",
        "FROM base AS one\nRUN touch /1\nFROM base AS Two\nRUN touch /2\nFROM one\nCOPY --from=two /2 /\n",
    );
    assert_eq!(ran(&workshop, &context, &[]).len(), 3);
    assert_eq!(ran(&workshop, &context, &["--no-cache-filter=two"]), ["RUN touch /2"]);
    assert_eq!(ran(&workshop, &context, &["--no-cache-filter=2,ONE"]), ["COPY --from=two /2 /", "RUN touch /1"]);
    assert!(ran(&workshop, &context, &["--rm", "--force-rm=true", "--load"]).is_empty());
    let again = ran(&workshop, &context, &["--add-host=h:1.2.3.4"]);
    assert_eq!(again.iter().filter(|step| step.starts_with("RUN")).count(), 2, "names of hosts count: {again:?}");
    let again = ran(&workshop, &context, &["--ulimit=nofile=1000"]);
    assert_eq!(again.iter().filter(|step| step.starts_with("RUN")).count(), 2, "limits count: {again:?}");
}
