//! Wrong Dockerfiles and failing builds: what is said, and that nothing is left behind.

use super::case::{Case, Workshop};
use super::{LIMIT, NEEDS};
use crate::support::{Scene, Who};

/// Context, Dockerfile, and what the message must hold.
const WRONG: &[(&str, &str, &str)] = &[
    ("", "FROM scratch\nRNU x", "Dockerfile:2:1: unknown instruction: RNU (did you mean RUN?)"),
    ("", "FROM scratch\nCOPY --chmdo=1 a b", "Dockerfile:2:6: unknown flag: --chmdo (did you mean --chmod?)"),
    ("", "FROM nothing-of-that-name:9", "Dockerfile:1:6: "),
    ("", "FROM scratch\nCOPY missing /", "Dockerfile:2:1: \"/missing\": not found"),
    ("", "FROM scratch\nCOPY --from=nowhere:1 a /", "Dockerfile:2:13: "),
    ("", "FROM scratch AS a\nCOPY --from=b / /\nFROM a AS b", "circular dependency detected on stage: a"),
    ("", "FROM scratch\nCOPY ../secret /", "Dockerfile:2:1: \"/secret\": not found"),
    ("", "FROM scratch\nCOPY a/../../b /", "\"/b\": not found"),
    ("", "FROM scratch\nADD ../../etc/passwd /", "\"/etc/passwd\": not found"),
    ("link l ->/etc/hostname", "FROM scratch\nCOPY l /", "\"/l\": not found"),
    ("link d ->/etc", "FROM scratch\nCOPY d/hostname /", "not found"),
    ("file a =1\nfile .dockerignore =a\\x0a", "FROM scratch\nCOPY a /", "\"/a\": not found"),
    ("file a =1\nfile b =2", "FROM scratch\nCOPY a b /x", "the destination must be a directory and end with a /: /x"),
    ("", "FROM scratch\nRUN <<E\nx", "Dockerfile:2:1: unterminated heredoc: \"E\" is missing"),
    (
        "",
        "FROM base\nRUN exit 3",
        "Dockerfile:2:1: process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3",
    ),
    ("", "FROM base\nRUN kill -9 $$", "killed by signal 9"),
    ("", "FROM base\nRUN [\"/no/such\"]", "Dockerfile:2:1: "),
    ("", "FROM scratch\nRUN true", "Dockerfile:2:1: "),
    ("", "FROM base\nUSER nobody-there\nRUN true", "unable to find user nobody-there"),
    ("file a =1", "FROM scratch\nCOPY --chown=who a /", "unable to find user who: no matching entries in /etc/passwd"),
    ("file a =1", "FROM scratch\nCOPY --chmod=99 a /", "invalid chmod parameter: \"99\""),
    ("file a =1", "FROM scratch\nCOPY a /a\nCOPY a /a/b", "/a: not a directory"),
    ("", "FROM scratch\nADD https://example.invalid/x.git /", "sources in git repositories are not supported"),
    ("", "FROM scratch\nCOPY http://127.0.0.1:1/x /", "source can't be a URL for COPY"),
    ("", "FROM scratch\nADD http://127.0.0.1:1/x /", "http://127.0.0.1:1/x: "),
    ("", "FROM base\nRUN --mount=type=secret,id=no,required true", "secret no: not found"),
    ("", "FROM base\nRUN --mount=type=ssh,required true", "no agent is forwarded to --mount=type=ssh"),
    ("", "FROM base\nRUN --security=insecure true", "security.insecure is not allowed"),
    ("", "FROM base\nRUN --mount=type=tmpfs,target=/ true", "invalid mount target \"/\""),
    ("", "FROM base\nRUN --mount=type=tmpfs,target=../.. true", "Dockerfile:2:31: invalid mount target \"/\""),
    ("", "FROM base\nRUN --mount=type=bind,source=nope,target=/x true", "not found"),
    ("", "FROM --platform=linux/s390x base", "platform linux/s390x cannot be built here"),
    ("", "FROM scratch\nENV a=${b:?needed}", "Dockerfile:2:7: b: needed"),
    ("", "FROM scratch\nEXPOSE http", "Dockerfile:2:8: invalid containerPort: http"),
    ("", "", "cannot be empty"),
    ("", "# nothing\n", "file with no instructions"),
    ("file a =1\nfile .dockerignore =[\\x0a", "FROM scratch", "the ignore file is malformed"),
    ("file .wh.x =1", "FROM scratch\nCOPY . /", "a name that begins with `.wh.` cannot stand in an image layer"),
];

#[test]
fn wrong_builds_say_what_is_wrong_and_leave_nothing() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let mut failures = Vec::new();
    for (at, (context, file, expected)) in WRONG.iter().enumerate() {
        let mut case = Case::parse_all(&format!("=== wrong {at}\n{context}\n--- Dockerfile\n")).remove(0);
        (*file).clone_into(&mut case.dockerfile);
        let directory = workshop.directory(&format!("wrong-{at}"));
        case.write_context(&directory);
        let done = workshop.build(&directory, "wrong", &[]);
        let text = done.error_text();
        // A message about a line shows it.
        let shown = expected.strip_prefix("Dockerfile:").map(|place| format!("\n{} | ", &place[..1]));
        if done.status.code() != Some(1)
            || !text.contains(expected)
            || shown.is_some_and(|shown| !text.contains(&shown))
        {
            failures.push(format!("{file:?}: {:?}\n{text}\nlacks {expected:?}", done.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(!workshop.layerfs(&["inspect", "wrong"]).output().status.success(), "no image of a failed build");
    let stage: Vec<_> = std::fs::read_dir(workshop.store().join("stage")).expect("the stage").collect();
    assert!(stage.is_empty(), "{stage:?}");
    assert!(scene.mounts().is_empty());
}

#[test]
fn wrong_arguments_are_refused() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    std::fs::write(context.join("Dockerfile"), "FROM scratch\n").expect("the Dockerfile");
    for (arguments, expected) in [
        (vec!["--platform=linux/s390x"], "only the native platform"),
        (vec!["--target=x"], "target stage \"x\" could not be found"),
        (vec!["-f", "/no/such/file"], "cannot open the Dockerfile /no/such/file"),
        (vec!["--secret=src=x"], "it needs an id"),
    ] {
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let done = workshop.build(&context, "x", &arguments);
        assert!(done.error_text().contains(expected), "{arguments:?}: {}", done.error_text());
        assert_eq!(done.status.code(), Some(1));
    }
    let done = workshop.layerfs(&["build", "https://example.invalid/context.tar"]).output();
    assert!(done.error_text().contains("a context must be a directory or `-`"));
}

#[test]
fn a_missing_image_is_told_as_such() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    let said = |dockerfile: &str, arguments: &[&str]| {
        std::fs::write(context.join("Dockerfile"), dockerfile).expect("the Dockerfile");
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let done = workshop.build(&context, "x", &arguments);
        assert_eq!(done.status.code(), Some(1));
        done.error_text()
    };
    let neither = "127.0.0.1:1/base:9 is neither a stage nor in the store, and its registry was asked: ";
    for dockerfile in ["FROM 127.0.0.1:1/base:9", "FROM scratch\nCOPY --from=127.0.0.1:1/base:9 a /"] {
        let text = said(dockerfile, &["--retry=0"]);
        assert!(text.contains(neither) && text.contains("\nhint: check the name"), "{text}");
    }
    workshop.layerfs(&["tag", "base", "127.0.0.1:1/base:8"]).output().ok();
    let text = said("FROM 127.0.0.1:1/base:9", &["--retry=0"]);
    assert!(text.contains(neither), "{text}");
    assert!(text.contains("\nhint: did you mean 127.0.0.1:1/base:8, which is in the store?"), "{text}");
    let text = said("FROM 127.0.0.1:1/base:8", &["--retry=0", "--pull"]);
    assert!(text.contains("127.0.0.1:1/base:8 cannot be pulled: ") && text.contains("\nhint: "), "{text}");
}

/// A first signal ends the build: the command is killed, nothing is left, and what was done before is in the cache.
#[test]
fn an_interrupted_build_leaves_nothing_but_its_cache() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    std::fs::write(context.join("Dockerfile"), "FROM base\nRUN touch /first\nRUN echo begun; sleep 100\n")
        .expect("the Dockerfile");
    let mut command = workshop.layerfs(&["build", "--progress=plain"]).arg(&context).command();
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("the build");
    let mut output = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("begun\n") || line.contains("RUN") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut output, &mut line).expect("output") > 0, "the command never began");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("kill");
    std::io::Read::read_to_string(&mut output, &mut line).expect("output");
    assert_eq!(child.wait().expect("the build").code(), Some(1), "{line}");
    assert!(line.contains("the build was interrupted"), "{line}");
    let stage: Vec<_> = std::fs::read_dir(workshop.store().join("stage")).expect("the stage").collect();
    assert!(stage.is_empty() && scene.mounts().is_empty(), "{stage:?}");
    std::fs::write(context.join("Dockerfile"), "FROM base\nRUN touch /first\nRUN true\n").expect("the Dockerfile");
    let again = workshop.build(&context, "again", &[]).ok();
    assert_eq!(again.error_text().matches("CACHED").count(), 1, "{}", again.error_text());
}
