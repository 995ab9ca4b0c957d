//! What comes in and goes out by other ways: standard input, URLs, archives, directories.

use super::case::{Workshop, read_tar};
use super::{LIMIT, NEEDS};
use crate::support::{Need, Scene, Who};
use std::io::{Read, Write};
use std::net::TcpListener;

#[test]
fn the_result_goes_where_it_is_wanted() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY --chown=5:6 <<E /x/y\ntext\nE\nCMD [\"a\"]\n")
        .expect("written");
    let build = |arguments: &[&str]| workshop.layerfs(&["build"]).args(arguments).arg(&context).ok();
    let path = |name: &str| scene.path(name).display().to_string();
    build(&["-o", &path("files")]);
    assert_eq!(std::fs::read_to_string(scene.path("files/x/y")).expect("written"), "text\n");
    build(&["-o", &format!("type=tar,dest={}", path("files.tar"))]);
    let tree = read_tar(&std::fs::read(scene.path("files.tar")).expect("written"));
    assert_eq!(tree["/x/y"], "644 5:6 =text\\x0a");
    for (kind, name) in [("oci", "image.oci"), ("docker", "image.docker")] {
        build(&["-t", "named", "-o", &format!("type={kind},dest={}", path(name))]);
        workshop.layerfs(&["rmi", "named"]).ok();
        workshop.layerfs(&["load", "-i", &path(name)]).ok();
        assert_eq!(workshop.inspect("named")["Config"]["Cmd"][0], "a", "{kind}");
    }
    let id = build(&["-q", "--iidfile", &path("id")]).text();
    assert_eq!(std::fs::read_to_string(scene.path("id")).expect("written"), id.trim());
    workshop.layerfs(&["inspect", id.trim()]).ok();
    build(&["-t", "one", "-t", "two:2", "--provenance=false", "--sbom=false", "--metadata-file", &path("facts")]);
    let facts: serde_json::Value =
        serde_json::from_slice(&std::fs::read(scene.path("facts")).expect("written")).expect("JSON");
    assert_eq!(facts["image.name"], "docker.io/library/one:latest,docker.io/library/two:2");
    assert_eq!(facts["containerimage.config.digest"], workshop.inspect("one")["Id"]);
    assert_eq!(facts["containerimage.digest"], facts["containerimage.descriptor"]["digest"]);
    let refused = workshop.layerfs(&["build", "--provenance=true"]).arg(&context).output();
    assert_eq!(refused.status.code(), Some(2), "{}", refused.error_text());
}

#[test]
fn contexts_come_from_standard_input() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    for (name, text) in [("Dockerfile", "FROM scratch\nCOPY . /x/\n"), ("a", "1"), ("b", "2"), (".dockerignore", "b\n")]
    {
        std::fs::write(context.join(name), text).expect("written");
    }
    for flag in ["-cf", "-czf"] {
        let tar = scene.run("tar").args([flag, "-", "-C"]).arg(&context).arg(".").ok();
        workshop.layerfs(&["build", "-t", "piped", "-"]).stdin(tar.stdout).ok();
        let tree = workshop.tree("piped");
        assert!(tree["/x/a"].ends_with(" 0:0 =1") && !tree.contains_key("/x/b"), "{tree:?}");
    }
    workshop.layerfs(&["build", "-t", "alone", "-"]).stdin("FROM scratch\nCOPY <<E /y\nE\n").ok();
    assert!(workshop.tree("alone").contains_key("/y"));
    let done = workshop.layerfs(&["build", "-t", "alone", "-"]).stdin("FROM scratch\nCOPY a /y\n").output();
    assert!(done.error_text().contains("\"/a\": not found"), "{}", done.error_text());
    workshop.layerfs(&["build", "-t", "f", "-f", "-"]).arg(&context).stdin("FROM scratch\nCOPY a /z\n").ok();
    assert_eq!(workshop.tree("f").len(), 1);
}

/// Serves one file to whoever asks.
fn serve(content: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\nConnection: close\r\n\r\n",
                content.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(content));
        }
    });
    format!("http://{address}")
}

#[test]
fn files_are_fetched_by_url() {
    let Some(scene) = Scene::begin_with_limit(&[Need::Root, Need::Fuse, Need::Program("busybox")], LIMIT) else {
        return;
    };
    let workshop = Workshop::open(&scene, Who::Me);
    let url = serve(b"fetched");
    let digest = crate::support::image::digest(b"fetched");
    let context = workshop.directory("context");
    let build = |file: &str| {
        std::fs::write(context.join("Dockerfile"), file).expect("written");
        workshop.build(&context, "fetched", &[])
    };
    build(&format!(
        "FROM scratch\nADD {url}/dir/name?query /x/\nADD --checksum={digest} --chmod=644 {url}/b /y\nADD {url} /z/\n"
    ))
    .ok();
    let tree = workshop.tree("fetched");
    assert_eq!(tree["/x/name"], "600 0:0 =fetched");
    assert_eq!(tree["/y"], "644 0:0 =fetched");
    assert_eq!(tree["/z/__unnamed__"], "600 0:0 =fetched");
    let wrong = digest.replace(&digest[7..9], "zz").replace("zz", if &digest[7..9] == "00" { "11" } else { "00" });
    let failed = build(&format!("FROM scratch\nADD --checksum={wrong} {url}/b /y\n"));
    assert!(failed.error_text().contains("digest mismatch"), "{}", failed.error_text());
}

#[test]
fn an_oci_runtime_runs_the_commands() {
    let needs = [NEEDS, &[Need::Program("runc")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("runtime");
    let commands = "RUN --mount=type=secret,id=s --network=none id -u >/id && chown 3:4 /id && cat /run/secrets/s >/secret && ls /sys/class/net >/net\n";
    std::fs::write(context.join("s"), "told").expect("a secret");
    std::fs::write(context.join("Dockerfile"), format!("FROM base\nUSER root\n{commands}")).expect("the Dockerfile");
    let arguments = |runtime: &str| {
        ["--runtime", runtime, "--no-cache", "--secret", "id=s,src=CONTEXT/s"].map(str::to_owned).to_vec()
    };
    workshop.build(&context, "by-runtime", &arguments("runc")).ok();
    let tree = workshop.tree("by-runtime");
    let expected = [("/id", "644 3:4 =0\\x0a"), ("/secret", "644 0:0 =told"), ("/net", "644 0:0 =lo\\x0a")];
    for (path, what) in expected {
        assert_eq!(tree[path], what, "{path}");
    }
    assert!(!tree.contains_key("/run/secrets"), "mount points are taken away");
    workshop.build(&context, "by-nobody", &arguments("/no/such/runtime")).fails(1, &["/no/such/runtime"]);
    assert!(scene.mounts().is_empty() && scene.processes().is_empty());
}

/// Also as a plain user, within limits: a limit that cannot be kept is told.
#[test]
fn an_oci_runtime_keeps_limits() {
    let needs = [NEEDS, &[Need::Program("runc"), Need::PlainUser, Need::UserNamespace]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
    for who in [Who::Me, Who::Plain] {
        let workshop = Workshop::open(&scene, who);
        let context = workshop.directory("limits");
        let build = |commands: &str, arguments: &[&str]| {
            std::fs::write(
                context.join("Dockerfile"),
                format!("FROM base\n{commands}\nUSER app\nRUN id -u >/tmp/id\n"),
            )
            .expect("the Dockerfile");
            let all = [&["--runtime", "runc", "--no-cache"], arguments].concat();
            let done = workshop.build(&context, "limits", &all.into_iter().map(str::to_owned).collect::<Vec<_>>()).ok();
            (workshop.tree("limits"), done.error_text().matches("memory is not limited").count())
        };
        let eat = "RUN head -c 50000000 /dev/zero | tail -c 45000000 | wc -c >/eaten; chown 3:4 /eaten";
        let (tree, told) = build(eat, &["-m", "20m"]);
        assert!(tree["/eaten"].starts_with("644 3:4 "), "{who:?}: {tree:?}");
        assert_eq!(tree["/tmp/id"], "644 1000:1000 =1000\\x0a");
        assert_eq!(told, usize::from(tree["/eaten"].contains("45000000")), "{who:?}");
        let fork =
            "RUN (i=0; while [ $i -lt 2100 ]; do sleep 1000 & i=$((i+1)); done; echo all >/all); ulimit -n >/files";
        let (tree, _) = build(fork, &["--ulimit=nofile=100"]);
        assert!(!tree.contains_key("/all"), "{who:?}: {tree:?}");
        assert_eq!(tree["/files"], "644 0:0 =100\\x0a");
    }
    assert!(scene.mounts().is_empty() && scene.processes().is_empty());
}

#[test]
fn regression_a_result_goes_into_a_directory_that_has_files() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY <<E /d/made\nnew\nE\n").expect("written");
    let out = scene.dir("out");
    std::fs::create_dir(out.join("d")).expect("made");
    std::fs::write(out.join("d/made"), "old").expect("written");
    std::fs::write(out.join("d/mine"), "kept").expect("written");
    for _ in 0..2 {
        workshop.layerfs(&["build", "-o"]).arg(&out).arg(&context).ok();
        assert_eq!(std::fs::read(out.join("d/made")).expect("made"), b"new\n");
        assert_eq!(std::fs::read(out.join("d/mine")).expect("mine"), b"kept");
    }
}

/// Of the context everything is copied but what the build itself puts there.
#[test]
fn regression_a_store_in_the_context_is_not_copied_into_itself() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    let file = "FROM scratch\nCOPY <<E /x\nE\nCOPY . /all/\n";
    std::fs::write(context.join("Dockerfile"), file).expect("written");
    std::os::unix::net::UnixListener::bind(context.join("socket")).expect("a socket");
    let store = context.join("store");
    let done = workshop.layerfs(&["build", "-o", "-"]).arg(&context).env("LAYERFS_ROOT", &store).ok();
    let tree = read_tar(&done.stdout);
    assert!(tree.contains_key("/all/Dockerfile") && !tree.keys().any(|path| path.starts_with("/all/store/stage")));
    assert!(done.error_text().contains("/socket: a socket cannot be part of an image"), "{}", done.error_text());
}

#[test]
fn regression_empty_standard_input_is_named() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let workshop = Workshop::open(&scene, Who::Me);
    let context = workshop.directory("context");
    let empty = |arguments: &[&str]| workshop.layerfs(&["build"]).args(arguments).stdin("").output();
    empty(&["-"]).fails(1, &["standard input is empty", "hint: pipe a tar or a Dockerfile in"]);
    empty(&["-f", "-", context.to_str().expect("UTF-8")]).fails(1, &["standard input is empty", "hint: pipe it in"]);
}
