//! A real terminal: keys go in through tmux, screens come out.

use super::Scene;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a screen is waited for. Generous: a whole suite runs beside it on two processors.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal in which a command runs; `cat` keeps it open afterwards.
pub(crate) struct Terminal<'a> {
    scene: &'a Scene,
    socket: PathBuf,
}

impl<'a> Terminal<'a> {
    /// A terminal of `width` by `height` that runs a line of shell.
    pub(crate) fn open(scene: &'a Scene, width: u32, height: u32, command: &str) -> Self {
        let terminal = Self { scene, socket: scene.path("tmux.sock") };
        let (width, height) = (width.to_string(), height.to_string());
        // What the program puts into the clipboard ends in a buffer of tmux.
        let script = format!("{command}; echo ended with $?; exec cat");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, "exec cat"]);
        terminal.tmux(&["set-option", "-g", "set-clipboard", "on"]);
        terminal.tmux(&["respawn-pane", "-k", &script]);
        terminal
    }

    /// Gives tmux a command and returns what it says.
    pub(crate) fn tmux(&self, arguments: &[&str]) -> String {
        self.scene.run("tmux").arg("-S").arg(&self.socket).args(arguments).ok().text()
    }

    /// Presses keys, named as tmux names them; other words are typed.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// The screen, as soon as it shows `wanted`.
    #[track_caller]
    pub(crate) fn until(&self, wanted: &str) -> String {
        self.until_it(wanted, |screen| screen.contains(wanted))
    }

    /// The screen, as soon as it is as `wanted` says, which is called `what`.
    #[track_caller]
    pub(crate) fn until_it(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if wanted(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "the screen does not show {what:?}:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.scene.run("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}
