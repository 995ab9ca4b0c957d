//! The explorer in a real terminal: keys go in through tmux, screens come out.

use crate::support::{Image, Need, Scene, Terminal, real};
use std::time::{Duration, Instant};

/// Two layers: one text changed, one file removed, one added, and a name that would colour a terminal.
fn known() -> Option<Scene> {
    let scene = Scene::begin(&[Need::Program("tmux")])?;
    Image::new()
        .layer(
            "file etc/conf =one\\x0atwo\\x0athree\\x0a\nfile etc/old #2000\nfile usr/lib/large #9000\nfile usr/lib/small #10
             file \\x1b]0;title\\x07 =x\nlink bin ->usr/bin\nfile readme =a\\x0a\\x1b[31mred\\x0a",
        )
        .layer("file etc/conf =one\\x0aTWO\\x0athree\\x0a\nwhiteout etc/old\nfile etc/added =new")
        .write_oci(&scene.path("layout"), "known:1");
    scene.layerfs(["load", "layout"]).ok();
    Some(scene)
}

fn explore(scene: &Scene) -> Terminal<'_> {
    let terminal = Terminal::open(scene, 80, 24, &format!("{} explore known:1", scene.program().display()));
    terminal.until("Tree at layer 1");
    terminal
}

/// A screen without the blanks at the ends of its lines.
fn trimmed(screen: &str) -> String {
    screen.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_first_screen_is_complete_in_80_by_24() {
    let Some(scene) = known() else { return };
    let terminal = explore(&scene);
    let screen = terminal.until("q quit");
    assert_eq!(trimmed(&screen), FIRST);
}

const FIRST: &str = "\
┌Layers─────────────────────┐┌Tree at layer 1──────────────────────────────────┐
│  0    11kB a test         ││        1B   \\u{1b}]0;title\\u{7}                 │
│  1     17B a test         ││        0B   bin@                                │
│                           ││       17B ▸ etc/                                │
│                           ││       11B   readme                              │
│                           ││    9.01kB ▸ usr/                                │
│                           ││                                                 │
│                           ││                                                 │
│                           ││                                                 │
│                           ││                                                 │
│                           ││                                                 │
│                           ││                                                 │
│                           ││                                                 │
└───────────────────────────┘│                                                 │
┌Layer 1────────────────────┐│                                                 │
│files   17B                ││                                                 │
│hidden  0B                 ││                                                 │
│+1 ~1 -1                   ││                                                 │
│                           ││                                                 │
│image   11.1kB             ││                                                 │
│efficiency 81.8 %          ││                                                 │
└───────────────────────────┘└─────────────────────────────────────────────────┘
/\\u{1b}]0;title\\u{7}
? help  Tab pane  / filter  c changes  s size  v view  d diff  e extract  q quit
";

#[test]
fn layers_are_walked_and_their_changes_signed() {
    let Some(scene) = known() else { return };
    let terminal = explore(&scene);
    terminal.press(&["c"]);
    let screen = terminal.until("changes only");
    assert!(screen.contains('~') && !screen.contains("readme"), "{screen}");
    terminal.press(&["j", "Enter"]);
    let screen = terminal.until("added");
    for (sign, name) in [('+', "added"), ('~', "conf"), ('-', "old")] {
        let line =
            screen.lines().find(|line| line.ends_with(&format!(" {name}│")) || line.contains(&format!("  {name} ")));
        let line = line.unwrap_or_else(|| panic!("no line of {name}: {screen}"));
        assert!(line.contains(&format!("│{sign}")), "{sign}: {line}");
    }
    terminal.press(&["c", "["]);
    let screen = terminal.until("Tree at layer 0");
    assert!(screen.contains("old") && !screen.contains("added"), "{screen}");
    terminal.press(&["Tab", "Down"]);
    terminal.until("Tree at layer 1");
}

#[test]
fn names_are_filtered_sorted_and_collapsed() {
    let Some(scene) = known() else { return };
    let terminal = explore(&scene);
    terminal.press(&["/", "lib/[ls]m?a", "Enter"]);
    let screen = terminal.until("Tree at layer 1, /lib/[ls]m?a");
    assert!(screen.contains("large") && screen.contains("small") && !screen.contains("conf"), "{screen}");
    let position = |screen: &str, name: &str| screen.find(&format!(" {name} ")).expect("the name");
    assert!(position(&screen, "large") < position(&screen, "small"));
    terminal.press(&["Escape"]);
    terminal.until("readme");
    terminal.press(&["/", "(", "Enter"]);
    let screen = terminal.until(", /(");
    assert!(!screen.contains("readme"), "no regular expression is taken as text: {screen}");
    terminal.press(&["Escape"]);
    terminal.until("readme");
    terminal.press(&["s"]);
    let screen = terminal.until("by size");
    assert!(position(&screen, "usr/") < position(&screen, "etc/"), "{screen}");
    terminal.press(&["g", "Right"]);
    terminal.until("lib/");
    terminal.press(&["z"]);
    terminal.until_it("usr closed", |screen| !screen.contains("lib/"));
}

#[test]
fn files_are_viewed_compared_extracted_and_their_paths_copied() {
    let Some(scene) = known() else { return };
    let terminal = explore(&scene);
    terminal.press(&["/", "readme", "Enter", "v"]);
    let screen = terminal.until("\\u{1b}[31mred");
    assert!(screen.contains("/readme  2/2"), "{screen}");
    terminal.press(&["q", "x"]);
    terminal.until("00000000  61 0a 1b 5b");
    terminal.press(&["q", "/"]);
    terminal.press(&["BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "etc/conf", "Enter", "G", "d"]);
    let screen = terminal.until("against the layer below");
    let shown: Vec<&str> = screen.lines().map(|line| line.trim_matches(['│', ' '])).collect();
    assert_eq!(shown[1..6], ["@@ -1,3 +1,3 @@", "one", "-two", "+TWO", "three"], "{screen}");
    terminal.press(&["q", "e"]);
    terminal.until("extract to: ./conf");
    terminal.press(&["BSpace", "2", "Enter"]);
    terminal.until("written to ./con2");
    assert_eq!(std::fs::read(scene.path("con2")).expect("the extracted file"), b"one\nTWO\nthree\n");
    terminal.press(&["y"]);
    terminal.until("copied /etc/conf");
    assert_eq!(terminal.tmux(&["show-buffer"]), "/etc/conf");
}

#[test]
fn it_helps_resizes_and_quits_cleanly() {
    let Some(scene) = known() else { return };
    let terminal = explore(&scene);
    terminal.press(&["?"]);
    let screen = terminal.until("copy the path to the clipboard");
    assert!(screen.contains("+ added   ~ changed   - removed"), "{screen}");
    terminal.press(&["?"]);
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    let width = |screen: &str| screen.lines().next().map_or(0, |line| line.chars().count());
    terminal.until_it("40 lines of 120", |screen| screen.contains("q quit") && width(screen) == 120);
    terminal.tmux(&["resize-window", "-x", "20", "-y", "5"]);
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    terminal.until_it("24 lines of 80", |screen| screen.contains("q quit") && width(screen) == 80);
    terminal.press(&["q"]);
    assert_eq!(terminal.until("ended with").trim(), "ended with 0", "the screen is as it was before");
    terminal.press(&["echoed", "Enter"]);
    let screen = terminal.until("echoed\nechoed");
    assert!(!screen.contains("Tree"), "{screen}");
}

/// A signal from outside, as a closed session or an administrator sends it.
#[test]
fn regression_signals_give_the_terminal_back() {
    let Some(scene) = known() else { return };
    let terminal = Terminal::open(&scene, 80, 24, "true");
    let (file, program) = (scene.path("pid"), scene.program());
    let begin = format!("sh -c 'echo $$ >{}; exec {} explore known:1'", file.display(), program.display());
    for (name, code) in [("HUP", 129), ("INT", 130), ("QUIT", 131), ("TERM", 143)] {
        terminal.tmux(&["respawn-pane", "-k", &format!("{begin}; echo ended with $?; exec cat")]);
        terminal.until("q quit");
        let pid = std::fs::read_to_string(&file).expect("the process");
        scene.run("kill").args(["-s", name, pid.trim()]).ok();
        let screen = terminal.until("ended with");
        assert_eq!(screen.trim(), format!("ended with {code}"), "the screen is as it was before");
        assert_eq!(terminal.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
        terminal.press(&["echoed", "Enter"]);
        terminal.until("echoed\nechoed");
    }
}

#[test]
fn no_name_reaches_the_terminal_raw() {
    let Some(scene) = known() else { return };
    let terminal = explore(&scene);
    let screen = terminal.until("\\u{1b}]0;title\\u{7}");
    assert!(!screen.contains(['\u{1b}', '\u{7}']), "{screen}");
    assert_ne!(terminal.tmux(&["display-message", "-p", "#{pane_title}"]).trim(), "title");
}

/// From the start to the first screen. The time is told, and only an answer that takes far too long fails: machines differ.
#[test]
fn a_real_image_opens_at_once() {
    let Some(scene) = Scene::begin(&[Need::Program("tmux"), Need::Image("large")]) else {
        return;
    };
    scene.load(&format!("oci:{}:latest", real::image("large").oci().display()));
    scene.layerfs(["tag", "oci:latest", "example"]).ok();
    let program = scene.program().display().to_string();
    let terminal = Terminal::open(&scene, 80, 24, &format!("{program} explore example"));
    terminal.until("Tree at layer");
    terminal.press(&["q"]);
    terminal.until("ended with 0");
    let begun = Instant::now();
    terminal.tmux(&["respawn-pane", "-k", &format!("{program} explore example; exec cat")]);
    terminal.until("Tree at layer");
    let taken = begun.elapsed();
    eprintln!("the large image was on the screen after {taken:?}");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    terminal.press(&["q"]);
}
