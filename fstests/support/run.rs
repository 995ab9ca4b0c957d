//! Runs programs in a scene: `layerfs` under test and others, as oneself, as a plain user, in a user namespace.

use super::needs::{self, PLAIN_USER};
use super::scene::Scene;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Who runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Who {
    /// Whoever runs the tests.
    #[default]
    Me,
    /// A plain user: [`PLAIN_USER`] when the tests run as root, oneself otherwise.
    Plain,
    /// Root of the user namespace that the process of this number lives in ([`Scene::namespace`]).
    Namespace(u32),
}

/// One program to be run in a scene.
#[derive(Debug)]
pub(crate) struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    who: Who,
    directory: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    scene: PathBuf,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) stderr: Vec<u8>,
    /// The command, for messages.
    pub(crate) command: String,
}

impl Run {
    pub(super) fn new(scene: &Scene, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let found = program.to_str().filter(|name| !name.contains('/')).and_then(needs::find_program);
        Self {
            program: found.map_or_else(|| program.to_owned(), PathBuf::into_os_string),
            arguments: Vec::new(),
            environment: Vec::new(),
            who: Who::Me,
            directory: None,
            stdin: None,
            scene: scene.directory().to_owned(),
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Runs it as someone else.
    pub(crate) fn who(mut self, who: Who) -> Self {
        self.who = who;
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes a variable out of the environment.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.environment.push((name.into(), None));
        self
    }

    /// Runs it in a directory.
    pub(crate) fn in_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Gives it bytes on standard input; without this it is empty.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs it to its end.
    pub(crate) fn output(mut self) -> Done {
        let stdin = self.stdin.take();
        let mut command = self.command();
        let line = shown(&command);
        eprintln!("+ {line}");
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let writer = stdin.zip(child.stdin.take()).map(|(bytes, mut pipe)| {
            std::thread::spawn(move || {
                // A program that stops reading early closes the pipe: its own business.
                let _ = pipe.write_all(&bytes);
            })
        });
        let output = child.wait_with_output().expect("wait for a program");
        if let Some(writer) = writer {
            writer.join().expect("the writer of standard input");
        }
        Done { status: output.status, stdout: output.stdout, stderr: output.stderr, command: line }
    }

    /// Runs it and expects success.
    #[track_caller]
    pub(crate) fn ok(self) -> Done {
        self.output().ok()
    }

    /// Starts it and leaves it running; its output goes to the test's. The scene's end kills it.
    pub(crate) fn spawn(self) -> Child {
        let mut command = self.command();
        eprintln!("+ {} &", shown(&command));
        command.stdin(Stdio::null());
        command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The command as `std` has it: for pipes and other special wishes.
    pub(crate) fn command(self) -> Command {
        let mut command = match self.who {
            Who::Me => Command::new(&self.program),
            Who::Plain => self.plain(),
            Who::Namespace(pid) => self.namespace(pid),
        };
        let home = self.scene.join(if self.who == Who::Me { "me" } else { "plain" });
        command.args(&self.arguments);
        command.current_dir(self.directory.as_ref().unwrap_or(&self.scene));
        command.env(super::reap::MARK, &self.scene).env("LC_ALL", "C.UTF-8");
        command.env("HOME", &home).env("XDG_DATA_HOME", home.join("data")).env("XDG_RUNTIME_DIR", home.join("run"));
        command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_CACHE_HOME", home.join("cache"));
        command.env("LAYERFS_ROOT", home.join("store"));
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    fn plain(&self) -> Command {
        if !needs::is_root() {
            return Command::new(&self.program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", PLAIN_USER, "--regid", PLAIN_USER, "--init-groups", "--inh-caps=-all", "--"]);
        command.arg(&self.program);
        command
    }

    fn namespace(&self, pid: u32) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--user", "--mount", "--setuid", "0", "--setgid", "0", "--"]);
        command.arg(&self.program);
        command
    }
}

/// A command without its environment.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

impl Done {
    /// Itself.
    ///
    /// # Panics
    /// When the program did not succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "{}", self.report("should have succeeded"));
        self
    }

    /// Itself.
    ///
    /// # Panics
    /// When the exit code is not `code`, or standard error lacks one of `parts`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.report("has another exit code"));
        for part in parts {
            assert!(self.error_text().contains(part), "{}", self.report(&format!("does not say {part:?}")));
        }
        self
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub(crate) fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{}", self.report(&format!("{error}"))))
    }

    fn report(&self, what: &str) -> String {
        format!("{} {what}: {}\n{}{}", self.command, self.status, self.text(), self.error_text())
    }
}
