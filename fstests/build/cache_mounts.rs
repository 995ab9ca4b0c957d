//! Directories of `RUN --mount=type=cache`: shared, kept apart, locked, told of and freed.

use super::case::Workshop;
use super::{LIMIT, NEEDS};
use crate::support::{Need, Scene, Who};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

const PLAIN: &[Need] = &[Need::PlainUser, Need::UserNamespace, Need::Program("busybox")];

fn write(context: &Path, name: &str, text: &str) {
    std::fs::write(context.join(name), text).expect("written");
}

/// What lies among the caches, locks left out.
fn kept(workshop: &Workshop<'_>) -> Vec<String> {
    let entries = std::fs::read_dir(workshop.store().join("cache-mounts")).expect("the caches");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let kept = paths.filter(|path| path.extension().is_none_or(|extension| extension != "lock"));
    kept.map(|path| path.display().to_string()).collect()
}

/// Directories of RUN --mount=type=cache are told by `df` and freed by `prune --build-cache`.
#[test]
fn caches_of_commands_are_told_and_freed() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("mounts");
    write(&context, "Dockerfile", "FROM base\nRUN --mount=type=cache,target=/c echo x >>/c/n; wc -l </c/n >/o\n");
    let count = |name: &str| {
        workshop.build(&context, name, &["--no-cache".to_owned()]).ok();
        workshop.tree(name)["/o"].clone()
    };
    assert_eq!((count("one").as_str(), count("two").as_str()), ("644 0:0 =1\\x0a", "644 0:0 =2\\x0a"));
    let told = workshop.layerfs(&["df", "--format", "json"]).ok().json()["CacheMounts"].clone();
    assert_eq!(told, serde_json::json!({"Total": 1, "Size": 4}));
    workshop.layerfs(&["prune", "--build-cache", "--force"]).ok();
    assert_eq!(workshop.layerfs(&["df", "--format", "json"]).ok().json()["CacheMounts"]["Total"], 0);
    assert_eq!(count("three"), "644 0:0 =1\\x0a");
}

/// What a container wrote belongs to numbers that its user has no right over, in directories that nobody may write to.
#[test]
fn regression_a_plain_user_frees_what_others_own() {
    let Some(scene) = Scene::begin_with_limit(PLAIN, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Plain);
    let context = workshop.directory("owned");
    let commands = "mkdir -p /c/a/b && touch /c/a/b/f && chown -R app /c/a && chmod 555 /c/a/b /c/a && chmod 700 /c";
    write(&context, "Dockerfile", &format!("FROM base\nRUN --mount=type=cache,target=/c {commands}\n"));
    workshop.build(&context, "owned", &[]).ok();
    assert_eq!(kept(&workshop).len(), 1);
    workshop.layerfs(&["prune", "--build-cache", "--force"]).ok();
    assert_eq!(kept(&workshop), [] as [&str; 0]);
}

/// The directory is its owner's alone, for a plain user's builds too.
#[test]
fn regression_a_cache_belongs_to_whom_its_mount_says() {
    for who in [Who::Me, Who::Plain] {
        let needs = [NEEDS, PLAIN].concat();
        let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
        let workshop = Workshop::open(&scene, who);
        let context = workshop.directory("given");
        write(
            &context,
            "Dockerfile",
            "FROM base\nUSER app\nRUN --mount=type=cache,target=/c,uid=1000,gid=4,mode=0700 touch /c/f && stat -c '%u:%g %a' /c >/home/app/stat\n",
        );
        workshop.build(&context, "given", &[]).ok();
        assert_eq!(workshop.tree("given")["/home/app/stat"], "644 1000:1000 =1000:4\\x20700\\x0a", "{who:?}");
    }
}

/// Several commands that make the same directory at the same time have the same one.
#[test]
fn regression_a_shared_cache_is_made_once() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("shared");
    write(&context, "begin", "x");
    let stage = |at: u32| {
        // Each waits for the others in the directory they share.
        format!(
            "FROM base AS s{at}\nRUN --mount=type=cache,target=/c,from=begun test -e /c/begin && touch /c/{at} && \
             while [ $(ls /c | wc -l) -lt 6 ]; do sleep 0.02; done; touch /{at}\n"
        )
    };
    let stages = [0, 1, 2, 3].map(stage).concat();
    let copies = [0, 1, 2, 3].map(|at| format!("COPY --from=s{at} /{at} /\n")).concat();
    write(
        &context,
        "Dockerfile",
        &format!("FROM scratch AS begun\nCOPY begin Dockerfile /\n{stages}FROM scratch\n{copies}"),
    );
    workshop.build(&context, "shared", &[]).ok();
    assert_eq!(kept(&workshop).len(), 1);
}

/// Private ones are told apart while both are in use; a locked one is one command's at a time.
#[test]
fn caches_are_kept_apart_or_waited_for() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("apart");
    let stage = |name: &str, other: &str| {
        format!(
            "FROM base AS {name}\nRUN --mount=type=cache,target=/p,sharing=private --mount=type=cache,target=/s \
             touch /p/{name} /s/{name}; until test -e /s/{other}; do sleep 0.02; done; ls /p >/{name}\n\
             RUN --mount=type=cache,target=/l,sharing=locked for i in 1 2 3 4 5; do mkdir /l/alone && sleep 0.01 && rmdir /l/alone || exit 9; done\n"
        )
    };
    let (one, two) = (stage("one", "two"), stage("two", "one"));
    write(&context, "Dockerfile", &format!("{one}{two}FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"));
    workshop.build(&context, "apart", &[]).ok();
    let tree = workshop.tree("apart");
    assert_eq!((tree["/one"].as_str(), tree["/two"].as_str()), ("644 0:0 =one\\x0a", "644 0:0 =two\\x0a"));
    assert_eq!(kept(&workshop).len(), 4);
}

/// One command that names a cache twice does not wait for itself; two that name them in another order not for each other.
#[test]
fn regression_locked_caches_do_not_lock_out_who_has_them() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("twice");
    let mount = |id: &str, target: &str| format!("--mount=type=cache,sharing=locked,id={id},target=/{target}");
    let step = |one: &str, two: &str| format!("RUN {} {} touch /b/f && sleep 0.05\n", mount(one, "a"), mount(two, "b"));
    let (first, second) = (step("x", "y").repeat(5), step("y", "x").repeat(5));
    write(
        &context,
        "Dockerfile",
        &format!(
            "FROM base AS one\nRUN {} {} touch /a/f && test -e /b/f\n{first}FROM base AS two\n{second}RUN touch /f\nFROM one\nCOPY --from=two /f /\n",
            mount("x", "a"),
            mount("x", "b")
        ),
    );
    workshop.build(&context, "twice", &["--no-cache".to_owned()]).ok();
}

/// Whoever waits for a locked one can be interrupted.
#[test]
fn regression_waiting_for_a_cache_can_be_interrupted() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let start = |name: &str, command: &str| {
        let context = workshop.directory(name);
        write(
            &context,
            "Dockerfile",
            &format!("FROM base\nRUN --mount=type=cache,target=/c,sharing=locked {command}\n"),
        );
        let mut command = workshop.layerfs(&["build", "--progress=plain"]).arg(&context).command();
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the build");
        let output = BufReader::new(child.stderr.take().expect("piped"));
        (child, output)
    };
    let until = |output: &mut BufReader<std::process::ChildStderr>, word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(output.read_line(&mut line).expect("output") > 0, "{word} never came");
        }
    };
    let end = |child: &mut std::process::Child, output: &mut BufReader<std::process::ChildStderr>| {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("kill");
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("output");
        assert!(rest.contains("the build was interrupted"), "{rest}");
        assert_eq!(child.wait().expect("the build").code(), Some(1));
    };
    let (mut holder, mut held) = start("holder", "echo ha\"\"ving; sleep 1000");
    until(&mut held, "having");
    let (mut waiter, mut waits) = start("waiter", "true");
    until(&mut waits, "RUN");
    end(&mut waiter, &mut waits);
    workshop.layerfs(&["prune", "--build-cache", "--force"]).ok();
    assert_eq!(kept(&workshop).len(), 1, "it is in use");
    end(&mut holder, &mut held);
    workshop.layerfs(&["prune", "--build-cache", "--force"]).ok();
    assert_eq!(kept(&workshop).len(), 0);
}
