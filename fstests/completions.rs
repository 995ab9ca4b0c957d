//! `make install` into a directory, and what it installs in real shells: completions of images, mounts and paths in images.

use crate::support::{Image, Need, Scene, Terminal};
use std::path::PathBuf;

/// An image and a named mount in the store, and all that `make install` installs below `root/usr`.
fn installed(shell: &'static str) -> Option<Scene> {
    let scene = Scene::begin(&[Need::Program("make"), Need::Program("tmux"), Need::Program(shell)])?;
    Image::new()
        .layer("dir etc\nfile etc/passwd =x\nfile etc/profile.d/one =x\nfile home/it's =x\nfile home/two\\x20words =x\nfile home/cost$s =x")
        .write_oci(&scene.path("layout"), "known:1");
    scene.layerfs(["load", "layout"]).ok();
    scene.layerfs(["mount", "--rw", "--name", "work", "known:1"]).arg(scene.dir("mnt")).ok();
    scene.layerfs(["umount", "work"]).ok();
    // The program under test stands for what a build would make.
    let built = scene.dir("built/release");
    std::fs::copy(env!("CARGO_BIN_EXE_layerfs"), built.join("layerfs")).expect("a copy of the program");
    let variables = ["CARGO=true".to_owned(), format!("CARGO_TARGET_DIR={}", scene.path("built").display())];
    let place = ["PREFIX=/usr".to_owned(), format!("DESTDIR={}", scene.path("root").display())];
    scene.run("make").args(["-C", env!("CARGO_MANIFEST_DIR"), "install"]).args(variables).args(place).ok();
    Some(scene)
}

fn usr(scene: &Scene, name: &str) -> PathBuf {
    scene.path("root/usr").join(name)
}

#[test]
fn everything_is_installed() {
    let Some(scene) = installed("sh") else { return };
    let version = scene.run(usr(&scene, "bin/layerfs")).arg("--version").ok().text();
    assert!(version.starts_with("layerfs "), "{version}");
    for link in ["sbin/mount.layerfs", "sbin/mount.fuse.layerfs"] {
        assert_eq!(std::fs::canonicalize(usr(&scene, link)).expect(link), usr(&scene, "bin/layerfs"));
    }
    let manual = |verb: &str| std::fs::read_to_string(usr(&scene, &format!("share/man/man1/{verb}.1"))).expect(verb);
    assert!(manual("layerfs").contains(".TH"));
    for verb in ["mount", "analyze", "explore", "ls", "diff", "commit", "completions"] {
        assert!(manual(&format!("layerfs-{verb}")).contains(".SH"), "{verb}");
        assert!(!usr(&scene, &format!("share/man/man1/layerfs-help-{verb}.1")).exists(), "{verb}");
    }
}

/// A shell that completes, with the program in its PATH.
fn shell<'a>(scene: &'a Scene, command: &str) -> Terminal<'a> {
    let root = scene.path("me/store");
    let command = format!("PATH={}:$PATH LAYERFS_ROOT={} {command}", usr(scene, "bin").display(), root.display());
    Terminal::open(scene, 100, 30, &command)
}

/// What every shell does with a name begun: the rest of it is typed, by Tab.
fn completes(terminal: &Terminal<'_>) {
    typed(
        terminal,
        &[
            ("layerfs whe", "layerfs whence"),
            ("layerfs history kno", "layerfs history known:1"),
            ("layerfs commit wo", "layerfs commit work"),
            ("layerfs cat known:1:/etc/pass", "layerfs cat known:1:/etc/passwd"),
            ("layerfs ls known:1:/et", "layerfs ls known:1:/etc/"),
            ("layerfs ls known:1:/etc/prof", "layerfs ls known:1:/etc/profile.d/"),
        ],
    );
}

#[test]
fn bash_completes() {
    let Some(scene) = installed("bash") else { return };
    let script = usr(&scene, "share/bash-completion/completions/layerfs");
    scene.sh("ln -s me/store 'a store'").ok();
    let terminal = shell(&scene, "bash --norc --noprofile");
    terminal.press(&["-l", &format!("source {}; PS1='ready> '", script.display())]);
    terminal.press(&["Enter"]);
    terminal.until("\nready>");
    completes(&terminal);
    completes_quoted(&terminal);
}

/// Words in quotes and with escapes, before the word and in it; what is behind an open quote stays in it.
fn completes_quoted(terminal: &Terminal<'_>) {
    typed(
        terminal,
        &[
            ("layerfs cat 'known:1:/etc/pass", "layerfs cat 'known:1:/etc/passwd'"),
            ("layerfs cat \"known:1:/etc/pass", "layerfs cat \"known:1:/etc/passwd\""),
            ("layerfs --root 'a store' history 'kno", "history 'known:1'"),
            ("layerfs cat known:1:/home/it", "layerfs cat known:1:/home/it\\'s"),
            ("layerfs cat known:1:/home/it\\'", "layerfs cat known:1:/home/it\\'s"),
            ("layerfs cat 'known:1:/home/it", "layerfs cat 'known:1:/home/it'\\''s'"),
            ("layerfs cat \"known:1:/home/it", "layerfs cat \"known:1:/home/it's\""),
            ("layerfs cat known:1:/home/two\\ w", "layerfs cat known:1:/home/two\\ words"),
            ("layerfs cat 'known:1:/home/two w", "layerfs cat 'known:1:/home/two words'"),
            ("layerfs cat known:1:/home/co", "layerfs cat known:1:/home/cost\\$s"),
            ("layerfs cat \"known:1:/home/co", "layerfs cat \"known:1:/home/cost\\$s\""),
            ("layerfs images --format=js", "layerfs images --format=json"),
        ],
    );
}

/// Types each beginning and a Tab, and waits for what has to stand there then.
fn typed(terminal: &Terminal<'_>, lines: &[(&str, &str)]) {
    for (begun, whole) in lines {
        terminal.press(&["C-u"]);
        terminal.press(&["-l", begun]);
        terminal.press(&["Tab"]);
        terminal.until(whole);
    }
}

#[test]
fn zsh_completes() {
    let Some(scene) = installed("zsh") else { return };
    let functions = usr(&scene, "share/zsh/site-functions");
    scene.sh("ln -s me/store 'a store'").ok();
    let terminal = shell(&scene, "zsh -f");
    let line = format!("fpath=({} $fpath); autoload -U compinit; compinit -u -D; PS1='ready> '", functions.display());
    terminal.press(&["-l", &line]);
    terminal.press(&["Enter"]);
    terminal.until("\nready>");
    completes(&terminal);
    typed(
        &terminal,
        &[
            ("layerfs cat 'known:1:/etc/pass", "layerfs cat 'known:1:/etc/passwd'"),
            ("layerfs cat \"known:1:/etc/pass", "layerfs cat \"known:1:/etc/passwd\""),
            ("layerfs cat known:1:/home/it", "layerfs cat known:1:/home/it\\'s"),
            ("layerfs cat known:1:/home/two\\ w", "layerfs cat known:1:/home/two\\ words"),
            ("layerfs cat 'known:1:/home/two w", "layerfs cat 'known:1:/home/two words'"),
            ("layerfs --root 'a store' history 'kno", "history 'known:1'"),
        ],
    );
}

#[test]
fn fish_completes() {
    let Some(scene) = installed("fish") else { return };
    let script = usr(&scene, "share/fish/vendor_completions.d/layerfs.fish");
    let asked = |line: &str| {
        let command = format!("source {}; complete -C '{line}'", script.display());
        let path = format!("{}:{}", usr(&scene, "bin").display(), std::env::var("PATH").unwrap_or_default());
        let told = scene.run("fish").args(["--no-config", "-c", &command]).env("PATH", path).ok().text();
        told.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(asked("layerfs whe"), ["whence"]);
    assert_eq!(asked("layerfs history kno"), ["known:1"]);
    assert_eq!(asked("layerfs commit wo"), ["work"]);
    // Offered is what a verb can use: this mount is not mounted, and nothing runs in it.
    assert_eq!(asked("layerfs rm wo"), ["work"]);
    assert_eq!(asked("layerfs rename wo"), ["work"]);
    assert!(asked("layerfs umount wo").is_empty() && asked("layerfs exec wo").is_empty());
    let point = scene.path("mnt").display().to_string();
    scene.layerfs(["mount", "--rw", "--name", "work", "known:1"]).arg(&point).ok();
    assert_eq!(asked("layerfs umount wo"), ["work"]);
    assert!(asked(&format!("layerfs umount {}", &point[..point.len() - 1])).contains(&point));
    assert!(asked("layerfs rm wo").is_empty());
    scene.layerfs(["umount", "work"]).ok();
    assert_eq!(asked("layerfs run kno"), ["known:1"]);
    assert_eq!(asked("layerfs push kno"), ["known:1"]);
    assert_eq!(asked("layerfs cat kno"), ["known:1:/"]);
    assert_eq!(asked("layerfs ls kno"), ["known:1", "known:1:/"]);
    assert_eq!(asked("layerfs cat known:1:/etc/"), ["known:1:/etc/passwd", "known:1:/etc/profile.d/"]);
    assert_eq!(asked("layerfs ls known:1:/ho"), ["known:1:/home/"]);
    assert_eq!(asked("layerfs cat \"known:1:/home/two w"), ["known:1:/home/two words"]);
    assert_eq!(asked("layerfs cat known:1:/home/two\\\\ w"), ["known:1:/home/two words"]);
    assert_eq!(asked("layerfs history \"kno"), ["known:1"]);
}
