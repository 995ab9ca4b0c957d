//! Builds by plain users, with subordinate ids and without.

use super::case::{Case, Workshop, read_tar};
use super::{LIMIT, run_table_as};
use crate::support::{Need, Scene, Who};

const PLAIN: &[Need] = &[Need::PlainUser, Need::UserNamespace, Need::Program("busybox")];
const STRANGER: &[Need] = &[Need::Root, Need::Fuse, Need::Program("busybox"), Need::Program("setpriv")];

/// A user of no name and no subordinate ids.
const NOBODY_KNOWN: &str = "4321";

#[test]
fn commands_are_run_for_a_plain_user() {
    run_table_as(include_str!("table/run.txt"), PLAIN, Who::Plain);
}

#[test]
fn stages_are_built_by_a_plain_user() {
    run_table_as(include_str!("table/stages.txt"), PLAIN, Who::Plain);
}

/// Owners and devices are exact although the kernel knows one number only.
#[test]
fn a_user_without_subordinate_ids_builds_the_same() {
    let Some(scene) = Scene::begin_with_limit(STRANGER, LIMIT) else { return };
    let home = scene.dir("stranger");
    let busybox = home.join("busybox");
    std::fs::copy("/bin/busybox", &busybox).expect("busybox-static");
    let file = "\
FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
RUN touch /a && chown 5:6 /a && chmod 4711 /a && mkdir /d && chown 7:8 /d && mknod /d/n c 1 3 && mv /a /d/b
COPY --chown=9:9 busybox /d/e
USER 12:34
RUN id -u
";
    std::fs::write(home.join("Dockerfile"), file).expect("the Dockerfile");
    scene.run("chown").args(["-R", &format!("{NOBODY_KNOWN}:{NOBODY_KNOWN}")]).arg(&home).ok();
    let program = scene.reachable(&scene.program(), "program");
    let built = scene
        .run("setpriv")
        .args(["--reuid", NOBODY_KNOWN, "--regid", NOBODY_KNOWN, "--clear-groups"])
        .arg(&program)
        .args(["build", "-o", "-"])
        .arg(&home)
        .env("LAYERFS_ROOT", home.join("store"))
        .env("HOME", &home)
        .in_dir(&home)
        .ok();
    let tree = read_tar(&built.stdout);
    assert_eq!(tree["/d"], "755 7:8 /");
    assert_eq!(tree["/d/b"], "4711 5:6 =");
    assert!(tree["/d/n"].contains("CharDevice") && tree["/d/n"].contains("major: 1, minor: 3"), "{}", tree["/d/n"]);
    assert!(tree["/d/e"].starts_with("755 9:9 ="));
    assert!(built.error_text().lines().any(|line| line.ends_with(" 12")), "{}", built.error_text());
}

/// What a plain user builds has the very files that root builds.
#[test]
fn root_and_a_plain_user_build_the_same_image() {
    let Some(scene) = Scene::begin_with_limit(&[Need::Root, Need::PlainUser, Need::UserNamespace], LIMIT) else {
        return;
    };
    let text = "=== same\nfile a =1 0640\n--- Dockerfile\nFROM base\nCOPY --chown=7:8 a /x/\nRUN chown app /x && ln /x/a /x/b && rm /etc/group\n";
    let case = Case::parse_all(text).remove(0);
    let mut trees = Vec::new();
    for who in [Who::Me, Who::Plain] {
        let workshop = Workshop::open(&scene, who);
        let context = workshop.directory("same");
        case.write_context(&context);
        std::fs::set_permissions(context.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("chmod");
        workshop.build(&context, "same", &[]).ok();
        trees.push(workshop.tree("same"));
    }
    assert_eq!(trees[0], trees[1]);
}

/// What a command gives to subordinate numbers in a mount of its own goes away with the build.
#[test]
fn regression_files_of_other_numbers_do_not_keep_the_store_from_being_used() {
    let Some(scene) = Scene::begin_with_limit(PLAIN, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Plain);
    let context = workshop.directory("given");
    let run =
        "RUN --mount=type=bind,rw,target=/m mkdir -p /m/d/e && touch /m/d/e/f && chown -R 5:5 /m/d && chmod 700 /m/d";
    std::fs::write(context.join("Dockerfile"), format!("FROM base\n{run}\n")).expect("the Dockerfile");
    for _ in 0..2 {
        let done = workshop.layerfs(&["build", "--no-cache"]).arg(&context).ok();
        assert!(!done.error_text().contains("prune removes it"), "{}", done.error_text());
    }
    assert!(workshop.layerfs(&["prune", "--format", "json"]).ok().json()["SpaceReclaimed"].as_u64().is_some());
}
