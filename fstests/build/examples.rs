//! The worked examples under `images/`: built, run, and compared with what their pages say.

use super::LIMIT;
use super::case::Workshop;
use crate::support::run::Done;
use crate::support::{Need, Scene, Who, real};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Fuse,
    Need::Program("busybox"),
    Need::Program("musl-gcc"),
    Need::Program("gcc"),
    Need::Program("xz"),
];

/// A workshop with copies of the examples, their made files among them.
struct Examples<'a> {
    workshop: Workshop<'a>,
    scene: &'a Scene,
}

impl<'a> Examples<'a> {
    fn open(scene: &'a Scene) -> Self {
        let examples = Self { workshop: Workshop::open(scene, Who::Me), scene };
        let genesis = examples.directory("genesis");
        let root = scene.dir("busybox");
        std::fs::create_dir_all(root.join("bin")).expect("bin");
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
        scene.run("chroot").arg(&root).args(["/bin/busybox", "--install", "-s", "/bin"]).ok();
        for name in ["etc", "root", "tmp", "home"] {
            std::fs::create_dir(root.join(name)).expect(name);
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("passwd");
        std::fs::write(root.join("etc/group"), "root:x:0:\n").expect("group");
        scene.run("tar").args(["-cJf"]).arg(genesis.join("rootfs.tar.xz")).arg("-C").arg(&root).arg(".").ok();
        examples.build("genesis", &["-t", "genesis"]).ok();
        examples
    }

    /// A copy of the example, which may be added to.
    fn directory(&self, name: &str) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("images").join(name);
        let copy = self.scene.path(format!("example-{name}"));
        if !copy.exists() {
            self.scene.run("cp").arg("-r").arg(source).arg(&copy).ok();
        }
        copy
    }

    fn build(&self, name: &str, arguments: &[&str]) -> Done {
        self.build_file(name, "Dockerfile", arguments)
    }

    fn build_file(&self, name: &str, file: &str, arguments: &[&str]) -> Done {
        let directory = self.directory(name);
        self.workshop.layerfs(&["build"]).args(arguments).arg("-f").arg(directory.join(file)).arg(&directory).output()
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.workshop.layerfs(&["run", "--rm"]).args(arguments).output()
    }

    fn layers(&self, image: &str) -> usize {
        self.workshop.inspect(image)["RootFS"]["Layers"].as_array().map_or(0, Vec::len)
    }

    fn size(&self, image: &str) -> u64 {
        self.workshop.inspect(image)["Size"].as_u64().expect("a size")
    }
}

#[test]
fn hello_runs_without_anything_else() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let examples = Examples::open(&scene);
    let directory = examples.directory("hello");
    scene.run("musl-gcc").args(["-static", "-o"]).arg(directory.join("hello")).arg(directory.join("hello.c")).ok();
    examples.build("hello", &["-t", "hello"]).ok();
    assert_eq!(examples.run(&["hello"]).ok().text(), "Hello from an image with one file!\n");
    assert_eq!(examples.workshop.tree("hello").len(), 1);
}

#[test]
fn a_glibc_program_needs_glibc() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let examples = Examples::open(&scene);
    let directory = examples.directory("hello-musl");
    let musl = scene.dir("musl");
    for (from, to) in [("/bin/busybox", "bin/busybox"), ("/lib/ld-musl-x86_64.so.1", "lib/ld-musl-x86_64.so.1")] {
        std::fs::create_dir_all(musl.join(to).parent().expect("a directory")).expect("a directory");
        std::fs::copy(from, musl.join(to)).expect("of the packages busybox-static and musl");
    }
    scene.run("tar").args(["-cf"]).arg(scene.path("musl.tar")).arg("-C").arg(&musl).arg(".").ok();
    examples.workshop.layerfs(&["import"]).arg(scene.path("musl.tar")).arg("musl").ok();
    let source = examples.directory("hello").join("hello.c");
    scene.run("gcc").args(["-o"]).arg(directory.join("hello")).arg(source).ok();
    for file in ["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"] {
        let place = directory.join("glibc").join(file);
        std::fs::create_dir_all(place.parent().expect("a directory")).expect("a directory");
        std::fs::copy(Path::new("/").join(file), place).expect("of this machine");
    }
    examples.build("hello-musl", &["-t", "without", "--target", "without"]).ok();
    let failed = examples.run(&["without"]);
    assert!(
        !failed.status.success() && failed.error_text().to_lowercase().contains("no such file or directory"),
        "{failed:?}"
    );
    examples.build("hello-musl", &["-t", "with", "--target", "with"]).ok();
    assert_eq!(examples.run(&["with"]).ok().text(), "Hello from an image with one file!\n");
}

#[test]
fn genesis_workdir_and_user() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let examples = Examples::open(&scene);
    assert!(examples.run(&["genesis", "ls", "/"]).ok().text().contains("bin\n"));
    examples.build("workdir", &["-t", "workdir"]).ok();
    assert_eq!(examples.run(&["workdir"]).ok().text(), "/srv/app/data\n/srv/app\n");
    assert_eq!(examples.run(&["workdir", "cat", "where"]).ok().text(), "/srv/app/data\n");
    examples.build("user", &["-t", "user"]).ok();
    assert_eq!(examples.run(&["user"]).ok().text(), "web\n/home/web/site\nindex.html\nowner\n");
    let tree = examples.workshop.tree("user");
    assert_eq!(tree["/home/web/site"], "755 500:500 /");
    assert!(tree["/home/web/site/index.html"].starts_with("644 500:500 "));
}

#[test]
fn layers_are_found_again_and_failures_resumed() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let examples = Examples::open(&scene);
    examples.build("layers", &["-t", "layers"]).ok();
    assert_eq!(examples.layers("layers"), examples.layers("genesis") + 3);
    let again = examples.build("layers", &["-t", "layers"]).ok();
    assert_eq!(again.error_text().matches("CACHED").count(), 3);
    let broken =
        examples.build_file("layers", "Dockerfile.broken", &[]).fails(1, &["Dockerfile.broken:4:1", "exit code: 1"]);
    assert_eq!(broken.error_text().matches("CACHED").count(), 1);
    let history = examples.workshop.layerfs(&["history", "--no-trunc", "layers"]).ok().text();
    assert!(history.contains("RUN /bin/sh -c touch /two # buildkit"), "{history}");
}

#[test]
fn what_is_removed_in_a_later_step_still_counts() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let examples = Examples::open(&scene);
    examples.build_file("bigfile", "Dockerfile.two", &["-t", "big-two"]).ok();
    examples.build("bigfile", &["-t", "big-one"]).ok();
    assert!(examples.size("big-two") > examples.size("big-one") + (10 << 20));
    examples.build("squash", &["-t", "unsquashed"]).ok();
    examples.build("squash", &["--squash", "-t", "squashed"]).ok();
    assert!(examples.size("unsquashed") > examples.size("squashed") + (10 << 20));
    assert_eq!(examples.layers("squashed"), examples.layers("genesis") + 1);
    assert_eq!(examples.run(&["squashed", "cat", "/small"]).ok().text(), "kept\n");
}

#[test]
fn entry_points_and_commands_go_together_in_four_ways() {
    let Some(scene) = Scene::begin_with_limit(NEEDS, LIMIT) else { return };
    let examples = Examples::open(&scene);
    for (stage, alone, with) in [
        ("cmd", "cmd only\n", "x\n"),
        ("shell", "through /bin/sh\n", "x\n"),
        ("entrypoint", "entrypoint and its arguments\n", "entrypoint echo x\n"),
        ("shell-entrypoint", "the shell takes no arguments\n", "the shell takes no arguments\n"),
    ] {
        examples.build("entrypoint", &["-t", stage, "--target", stage]).ok();
        assert_eq!(examples.run(&[stage]).ok().text(), alone, "{stage}");
        assert_eq!(examples.run(&[stage, "echo", "x"]).ok().text(), with, "{stage}");
    }
}

/// A workshop with one of the bases that are kept in the cache, and the example `name`.
fn based_on<'a>(scene: &'a Scene, base: &str) -> Examples<'a> {
    let examples = Examples { workshop: Workshop::open(scene, Who::Me), scene };
    examples.workshop.layerfs(&["import"]).arg(real::base(base)).arg(base).ok();
    examples
}

#[test]
fn the_compiler_stays_behind() {
    let needs = [NEEDS, &[Need::Base("compiler")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
    let examples = based_on(&scene, "compiler");
    examples.build("multistage", &["-t", "multistage"]).ok();
    assert_eq!(examples.run(&["multistage"]).ok().text(), "compiled in one stage, run in another\n");
    assert_eq!(examples.workshop.tree("multistage").into_keys().collect::<Vec<_>>(), ["/hello"]);
    assert_eq!(examples.layers("multistage"), 1);
}

#[test]
fn a_service_answers_over_loopback() {
    let needs = [NEEDS, &[Need::Base("debian")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
    let examples = based_on(&scene, "debian");
    examples.build("flask", &["-t", "flask"]).ok();
    let config = &examples.workshop.inspect("flask")["Config"];
    assert_eq!(config["ExposedPorts"], serde_json::json!({"5000/tcp": {}}));
    assert_eq!(config["User"], "www-data");
    // With a loopback of its own, so that no other service is in its way.
    let mut service =
        examples.workshop.layerfs(&["run", "--rm", "--name", "web", "--network", "none", "flask"]).command();
    let mut service = service.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the service");
    let mut output = BufReader::new(service.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("Running on http://127.0.0.1:5000") {
        line.clear();
        assert!(output.read_line(&mut line).expect("output") > 0, "the service never began");
    }
    let ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:5000').read().decode(), end='')";
    let answer = examples.workshop.layerfs(&["exec", "web", "python3", "-c", ask]).ok();
    assert_eq!(answer.text(), "Hello from Flask in an image of layers!\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&service), rustix::process::Signal::INT)
        .expect("kill");
    // It writes that it ends.
    std::io::copy(&mut output, &mut std::io::sink()).expect("output");
    service.wait().expect("the service");
}

#[test]
fn one_command_makes_less_than_many() {
    let needs = [NEEDS, &[Need::Base("golang")]].concat();
    let Some(scene) = Scene::begin_with_limit(&needs, LIMIT) else { return };
    let examples = based_on(&scene, "golang");
    examples.build("golang-cross", &["--target", "build", "-t", "one"]).ok();
    examples.build_file("golang-cross", "Dockerfile.many", &["-t", "many"]).ok();
    let base = examples.layers("golang");
    assert_eq!((examples.layers("one") - base, examples.layers("many") - base), (3, 5));
    assert!(examples.size("many") > examples.size("one") + (1 << 20), "the cache is in the layers below");
    let programs = |image| examples.run(&[image, "sha256sum", "/out/hello-amd64", "/out/hello-arm64"]).ok().text();
    assert_eq!(programs("one"), programs("many"), "the same programs");
    examples.build("golang-cross", &["-t", "cross"]).ok();
    assert_eq!(examples.layers("cross"), 1);
    assert_eq!(examples.workshop.tree("cross").into_keys().collect::<Vec<_>>(), ["/hello-amd64", "/hello-arm64"]);
    let native = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let said = examples.run(&["cross", &format!("/hello-{native}")]).ok();
    assert_eq!(said.error_text(), format!("Hello from Go on {native}\n"));
}
